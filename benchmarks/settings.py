"""What a run of a suite is asked for."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.dataset import DataSet


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """`only` holds keys of metrics, empty means all. `work` is a directory on a disk."""

    clients: tuple[str, ...]
    only: frozenset[str]
    rounds: int
    large_bytes: int
    small_files: int
    names: int
    random_seconds: float
    work: Path
    small_bytes: int = 100 * 1024

    def wants(self, *keys: str) -> bool:
        """Whether any of the metrics is to be measured."""
        return not self.only or bool(self.only.intersection(keys))

    def data(self, *, small: bool, names: bool) -> DataSet:
        """The large file, and the small ones and the names where they are needed."""
        return DataSet(
            large_bytes=self.large_bytes,
            small_files=self.small_files if small else 0,
            small_bytes=self.small_bytes,
            names=self.names if names else 0,
        )

    def facts(self) -> dict[str, object]:
        """As JSON types."""
        return {**asdict(self), "work": str(self.work), "only": sorted(self.only)}
