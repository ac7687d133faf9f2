"""fluidfs, with its defaults."""

from __future__ import annotations

import sys

from benchmarks.clients.base import MountedClient
from fluidfs.version import VERSION


class Fluidfs(MountedClient):
    """fluidfs of this checkout."""

    name = "fluidfs"

    def command(self) -> list[str]:
        """Only what says where things are."""
        return [
            sys.executable,
            "-m",
            "fluidfs",
            "mount",
            f"s3://{self.bench.bucket}",
            str(self.mountpoint),
            "--foreground",
            f"--endpoint-url={self.bench.server.endpoint_url}",
            f"--cache={self.cache}",
        ]

    def version(self) -> str:
        """The package's version."""
        return f"fluidfs {VERSION}"
