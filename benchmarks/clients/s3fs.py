"""s3fs-fuse with its disk cache, and more parallel requests than by default."""

from __future__ import annotations

from benchmarks.clients.base import MountedClient, first_line, program


class S3fs(MountedClient):
    """s3fs of Debian."""

    name = "s3fs"

    def command(self) -> list[str]:
        """`notsup_compat_dir` saves the requests for directory markers of other clients, of which there are none."""
        options = {
            "url": self.bench.server.endpoint_url,
            "endpoint": self.bench.server.region,
            "use_cache": str(self.cache),
            "parallel_count": "16",
            "multireq_max": "100",
            "max_stat_cache_size": "300000",
            **({"stat_cache_expire": str(self.bench.names_ttl_s)} if self.bench.names_ttl_s else {}),
        }
        flags = ["ro", "use_path_request_style", "notsup_compat_dir"]
        joined = ",".join([*flags, *(f"{name}={value}" for name, value in options.items())])
        return [self._program(), self.bench.bucket, str(self.mountpoint), "-f", "-o", joined]

    def version(self) -> str:
        """As `s3fs --version` says it."""
        return first_line(self._program(), "--version")

    def _program(self) -> str:
        return program("s3fs", person=self.person, install="apt-get install s3fs")
