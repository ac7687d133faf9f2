"""How long reads take while something else goes on: measured by a process of its own, and said in one line."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.accounts import Account

READ_BYTES = 4096

# Reads at random places, each time from the daemon or its cache file and not from pages that the kernel kept, until
# SIGTERM; then prints the seconds that each read took. It rests between reads: what is wanted is how long a read takes
# at any moment, not how many there can be.
_MEASURE = """
import json, os, random, signal, sys, time
path, size = sys.argv[1], int(sys.argv[2])
ended = []
signal.signal(signal.SIGTERM, lambda number, frame: ended.append(number))
fd = os.open(path, os.O_RDONLY)
os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
blocks = os.fstat(fd).st_size // size
taken = []
while not ended:
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    began = time.perf_counter()
    data = os.pread(fd, size, random.randrange(blocks) * size)
    taken.append(time.perf_counter() - began)
    assert len(data) == size
    if len(taken) == 1:
        print("reading", flush=True)
    time.sleep(0.001)
print(json.dumps(taken))
"""


@dataclass(frozen=True, slots=True)
class Latency:
    """Of `count` reads, in seconds."""

    count: int
    median_s: float
    p99_s: float
    longest_s: float

    def __str__(self) -> str:
        return (
            f"{self.count} reads of {READ_BYTES} bytes: median {self.median_s * 1e6:.0f} µs, "
            f"p99 {self.p99_s * 1e3:.2f} ms, longest {self.longest_s * 1e3:.1f} ms"
        )


@contextmanager
def measuring(account: Account, path: Path) -> Iterator[Callable[[], Latency]]:
    """Reads the file at `path` from here on; yields what ends that and gives its result, to be called once."""
    process = account.popen(account.python, "-c", _MEASURE, path, f"{READ_BYTES}")

    def result() -> Latency:
        process.terminate()
        out, err = process.communicate(timeout=30)
        assert process.returncode == 0, err
        taken = sorted(json.loads(out))
        return Latency(len(taken), taken[len(taken) // 2], taken[len(taken) * 99 // 100], taken[-1])

    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "reading\n", process.communicate()
        yield result
    finally:
        process.kill()
        with process:
            pass
