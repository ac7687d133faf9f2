"""The order in which a mounted client is measured in one round, with its cache emptied or filled as each step needs."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import reading
from benchmarks.clients.base import BenchError, MountedClient
from benchmarks.dataset import sha256_of
from benchmarks.metrics import Results
from benchmarks.processes import MemoryPeak, cpu_seconds

GIB = 1024**3
MIB = 1024**2
# What one mount with the large file gives, from empty cache to full.
_LARGE = (
    "sequential_cold",
    "sequential_warm",
    "sequential_ram",
    "random_warm_1",
    "random_warm_4",
    "cpu_cold",
    "cpu_warm",
    "memory_private",
    "memory_resident",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to measure and how long. `only` holds keys of metrics, empty means all."""

    only: frozenset[str]
    random_seconds: float

    def wants(self, *keys: str) -> bool:
        """Whether any of the metrics is to be measured."""
        return not self.only or bool(self.only.intersection(keys))


def measure_mounted(client: MountedClient, plan: Plan, *, verify: bool) -> Results:
    """One round. A step that fails gives its metrics the reason and leaves the others alone.

    With `verify` the large file is also compared with its source once it is cached, outside all times.
    """
    results: Results = {}
    round_ = _Round(client, plan, results)
    round_.step(("find_cold",), round_.names)
    round_.step(_LARGE, lambda: round_.large(verify=verify))
    round_.step(("random_cold",), round_.random_cold)
    round_.step(("small_cold", "small_warm"), round_.small)
    if not client.has_processes:
        for key in ("cpu_cold", "cpu_warm", "memory_private", "memory_resident"):
            results.pop(key, None)
    return results


class _Round:
    def __init__(self, client: MountedClient, plan: Plan, results: Results) -> None:
        self._client = client
        self._data = client.bench.data
        self._plan = plan
        self._results = results

    def step(self, keys: tuple[str, ...], run: Callable[[], None]) -> None:
        if not self._plan.wants(*keys):
            return
        try:
            run()
        except (BenchError, OSError, ValueError, subprocess.SubprocessError) as error:
            for key in keys:
                self._results.setdefault(key, f"{type(error).__name__}: {error}")

    @contextmanager
    def _fresh(self) -> Iterator[None]:
        """A mount with an empty cache; the memory of its processes is watched while it lasts."""
        self._client.clear_cache()
        reading.drop_all_page_cache()
        self._client.mount()
        try:
            with MemoryPeak(self._client.processes) as peak:
                yield
        finally:
            self._client.unmount()
        for key, value in (("memory_private", peak.private_bytes), ("memory_resident", peak.resident_bytes)):
            before = self._results.get(key, 0.0)
            self._results[key] = max(before if isinstance(before, float) else 0.0, value / MIB)

    def names(self) -> None:
        with self._fresh():
            self._results["find_cold"] = reading.find(self._client.root / "names", expected=self._data.names)

    def large(self, *, verify: bool) -> None:
        path = self._client.root / self._data.large_key
        with self._fresh():
            self._results["sequential_cold"], self._results["cpu_cold"] = self._timed_with_cpu(path)
            reading.drop_all_page_cache()
            self._results["sequential_warm"], self._results["cpu_warm"] = self._timed_with_cpu(path)
            if not self._client.cache_is_page_cache:
                reading.drop_page_cache_of(path)
            self._results["sequential_ram"] = reading.sequential(path) / 1e6
            for key, readers in (("random_warm_1", 1), ("random_warm_4", 4)):
                if self._plan.wants(key):
                    self._results[key] = self._random(path, readers=readers)
            if verify and sha256_of(path) != sha256_of(self._client.bench.local / self._data.large_key):
                raise ValueError("the file that was read is not the file that was stored")

    def random_cold(self) -> None:
        path = self._client.root / self._data.large_key
        with self._fresh():
            self._results["random_cold"] = self._random(path, readers=1)

    def small(self) -> None:
        with self._fresh():
            self._results["small_cold"] = reading.small_files(self._client.root, self._data.small_keys)
            reading.drop_all_page_cache()
            self._results["small_warm"] = reading.small_files(self._client.root, self._data.small_keys)

    def _random(self, path: Path, *, readers: int) -> float:
        forget_first = not self._client.cache_is_page_cache
        return reading.random_reads(path, readers=readers, seconds=self._plan.random_seconds, forget_first=forget_first)

    def _timed_with_cpu(self, path: Path) -> tuple[float, float]:
        """MB/s of a sequential read, and the client's CPU seconds per GiB of it."""
        pids = self._client.processes()
        before = cpu_seconds(pids)
        bytes_per_s = reading.sequential(path)
        used = cpu_seconds(self._client.processes()) - before
        return bytes_per_s / 1e6, used / (self._data.large_bytes / GIB)
