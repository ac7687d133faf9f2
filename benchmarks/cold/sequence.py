"""The order in which a mounted client is measured in one round, with its cache emptied or filled as each step needs."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.clients.base import BenchError, MountedClient
from benchmarks.dataset import sha256_of
from benchmarks.metric import Results
from benchmarks.processes import MemoryPeak, cpu_seconds
from benchmarks.reading import drop_caches
from benchmarks.settings import Settings

GIB = 1024**3
MIB = 1024**2
# What one mount with the large file gives, from empty cache to full.
_LARGE = (
    "sequential_cold",
    "sequential_disk",
    "cpu_cold",
    "cpu_disk",
    "memory_private",
    "memory_resident",
)


def measure_mounted(client: MountedClient, settings: Settings, *, verify: bool) -> Results:
    """One round. A step that fails gives its metrics the reason and leaves the others alone.

    With `verify` the large file is also compared with its source once it is cached, outside all times.
    """
    results: Results = {}
    round_ = _Round(client, settings, results)
    round_.step(("find_cold",), round_.names)
    round_.step(_LARGE, lambda: round_.large(verify=verify))
    round_.step(("random_cold",), round_.random_cold)
    round_.step(("small_cold", "small_disk"), round_.small)
    if not client.has_processes:
        for key in ("cpu_cold", "cpu_disk", "memory_private", "memory_resident"):
            results.pop(key, None)
    return results


class _Round:
    def __init__(self, client: MountedClient, settings: Settings, results: Results) -> None:
        self._client = client
        self._data = client.bench.data
        self._settings = settings
        self._results = results

    def step(self, keys: tuple[str, ...], run: Callable[[], None]) -> None:
        if not self._settings.wants(*keys):
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
        drop_caches()
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
            root = self._client.root / "names"
            self._results["find_cold"] = self._client.reader.find(root, expected=self._data.names)

    def large(self, *, verify: bool) -> None:
        path = self._client.root / self._data.large_key
        with self._fresh():
            self._results["sequential_cold"], self._results["cpu_cold"] = self._timed_with_cpu(path)
            drop_caches()
            self._results["sequential_disk"], self._results["cpu_disk"] = self._timed_with_cpu(path)
            if verify and sha256_of(path) != sha256_of(self._client.bench.local / self._data.large_key):
                raise ValueError("the file that was read is not the file that was stored")

    def random_cold(self) -> None:
        path = self._client.root / self._data.large_key
        with self._fresh():
            self._results["random_cold"] = self._client.reader.random(
                path, readers=1, seconds=self._settings.random_seconds
            )

    def small(self) -> None:
        with self._fresh():
            for key in ("small_cold", "small_disk"):
                self._results[key] = self._client.reader.small_files(self._client.root, self._data.small_keys)
                drop_caches()

    def _timed_with_cpu(self, path: Path) -> tuple[float, float]:
        """MB/s of a sequential read, and the client's CPU seconds per GiB of it."""
        pids = self._client.processes()
        before = cpu_seconds(pids)
        bytes_per_s = self._client.reader.sequential(path)
        used = cpu_seconds(self._client.processes()) - before
        return bytes_per_s / 1e6, used / (self._data.large_bytes / GIB)
