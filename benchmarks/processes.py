"""What a client's processes cost: CPU seconds, context switches and memory, from /proc."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
# Short enough to see the peak of a read of one second, and 2 % of a core for the four processes of the largest client.
SAMPLE_EVERY_S = 0.05
QUIET_S = 0.1


def tree_of(pid: int) -> list[int]:
    """`pid` and all its descendants that live."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                children.setdefault(int(fields[1]), []).append(int(entry.name))
    found = [pid]
    for parent in found:
        found.extend(children.get(parent, ()))
    return [number for number in found if Path(f"/proc/{number}").exists()]


def cpu_seconds(pids: list[int]) -> float:
    """User and system time that the processes have used, with that of children they have waited for."""
    ticks = 0
    for pid in pids:
        with suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(int(field) for field in fields[11:15])
    return ticks / TICKS_PER_S


def context_switches(pids: list[int]) -> dict[int, int]:
    """How often each living thread of the processes has given up a processor or lost it."""
    counts = {}
    for pid in pids:
        with suppress(OSError):
            for task in Path(f"/proc/{pid}/task").iterdir():
                # It may end while we look at it.
                with suppress(OSError):
                    lines = (line.partition(":") for line in (task / "status").read_text().splitlines())
                    counts[int(task.name)] = sum(
                        int(value) for name, _, value in lines if name.endswith("ctxt_switches")
                    )
    return counts


def switches_between(before: dict[int, int], after: dict[int, int]) -> int:
    """The context switches in between, of those threads that still live: what others did last went with them."""
    return sum(count - before.get(task, 0) for task, count in after.items())


def wait_until_idle(pids: list[int], *, timeout_s: float) -> None:
    """Returns when the processes use no time any more (under a tick in `QUIET_S`), or when `timeout_s` is over."""
    deadline = time.monotonic() + timeout_s
    used = cpu_seconds(pids)
    while time.monotonic() < deadline:
        time.sleep(QUIET_S)
        now = cpu_seconds(pids)
        if now <= used:
            return
        used = now


def memory_bytes(pids: list[int]) -> tuple[int, int]:
    """Anonymous plus shared memory, and all resident memory (mapped files included), summed over the processes."""
    private = resident = 0
    for pid in pids:
        with suppress(OSError):
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                name, _, value = line.partition(":")
                if name in {"RssAnon", "RssShmem"}:
                    private += int(value.split()[0]) * 1024
                elif name == "VmRSS":
                    resident += int(value.split()[0]) * 1024
    return private, resident


class MemoryPeak:
    """The highest memory that was seen while the context lasted."""

    def __init__(self, pids: Callable[[], list[int]]) -> None:
        self.private_bytes = 0
        self.resident_bytes = 0
        self._pids = pids
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        pids = self._pids()
        while not self._stop.wait(SAMPLE_EVERY_S):
            private, resident = memory_bytes(pids)
            self.private_bytes = max(self.private_bytes, private)
            self.resident_bytes = max(self.resident_bytes, resident)
