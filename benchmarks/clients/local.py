"""The local disk: the limit of everything that is cached on it."""

from __future__ import annotations

from pathlib import Path

from benchmarks.clients.base import MountedClient, first_line


class Local(MountedClient):
    """The same files without any client."""

    name = "local disk"
    has_processes = False

    def command(self) -> list[str]:
        """Nothing is mounted."""
        return []

    def version(self) -> str:
        """The kernel, which is all there is."""
        return first_line("uname", "-sr")

    @property
    def root(self) -> Path:
        """The files themselves."""
        return self.bench.local

    def mount(self) -> None:
        """The files are there already."""

    def unmount(self) -> None:
        """The files stay."""
