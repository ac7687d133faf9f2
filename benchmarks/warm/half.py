"""A file of which every other piece is cached: what a mount gives that must fetch and answer at the same time."""

from __future__ import annotations

import os

from benchmarks.clients.base import Bench, BenchError
from benchmarks.clients.fluidfs import Fluidfs
from benchmarks.metric import Results
from benchmarks.warm.rows import LEVEL

PIECE_BYTES = 16 * 1024**2
READ_BYTES = 1024**2
# Of what is to be cached; sub-blocks at the seams of pieces may come along.
TOLERANCE = 0.02


class HalfCached:
    """A cache of its own, filled anew for each measurement by a mount that reads nothing ahead."""

    name = "fluidfs half"

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._filler = Fluidfs(bench, name=f"{self.name} filler", level=LEVEL, flags=("--readahead=0",))
        self._client = Fluidfs(bench, name=self.name, level=LEVEL)
        self._client.cache = self._filler.cache

    def prepare(self) -> None:
        """Called once, before the first measurement."""
        self._filler.prepare()
        self._client.prepare()

    def finish(self) -> None:
        """Called once, after the last; removes the cache."""
        self._client.finish()
        self._filler.finish()

    def measure(self, seconds: float) -> Results:
        """Random reads for so many seconds in the pieces that are cached, then the whole file in order."""
        self._fill()
        self._client.mount()
        try:
            path = self._client.root / self._bench.data.large_key
            random = self._client.reader.random(path, readers=1, seconds=seconds, how="direct", every_other=PIECE_BYTES)
            whole = self._client.reader.sequential(path) / 1e6
        finally:
            self._client.unmount()
        return {"half_random": random, "half_sequential": whole}

    def _fill(self) -> None:
        self._filler.clear_cache()
        self._filler.mount()
        size = self._bench.data.large_bytes
        wanted = 0
        try:
            descriptor = os.open(self._filler.root / self._bench.data.large_key, os.O_RDONLY)
            try:
                for start in range(0, size, 2 * PIECE_BYTES):
                    end = min(start + PIECE_BYTES, size)
                    wanted += end - start
                    # The kernel reads nothing ahead of a stretch that it was told is read at random.
                    os.posix_fadvise(descriptor, start, PIECE_BYTES, os.POSIX_FADV_RANDOM)
                    for offset in range(start, end, READ_BYTES):
                        os.pread(descriptor, READ_BYTES, offset)
            finally:
                os.close(descriptor)
        finally:
            self._filler.unmount()
        cached = self._filler.cached_bytes()
        if abs(cached - wanted) > TOLERANCE * size:
            raise BenchError(f"{cached:,} B are cached where it should be every other piece: {wanted:,}")
