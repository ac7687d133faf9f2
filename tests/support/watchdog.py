"""What keeps a mount that hangs from hanging the tests: its daemon is killed, and the read that waits gets an error."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from fluidfs.demo.traces import daemons_of
from tests.support.mounts import Mount

# The slowest test takes a quarter of it on two busy cores.
LIMIT_S = 180.0


class Watchdog:
    """Knows the mounts of one test."""

    def __init__(self) -> None:
        self.mounts: list[Mount] = []
        self.has_bitten = False

    def bite(self) -> None:
        """Kills every daemon of the test's mounts, which ends whatever waits for one."""
        self.has_bitten = True
        for mount in self.mounts:
            for pid in daemons_of(mount.path):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


@contextmanager
def watchdog(limit_s: float = LIMIT_S) -> Iterator[Watchdog]:
    """A watchdog that bites when the context lasts longer than `limit_s`, and then fails the test."""
    dog = Watchdog()
    timer = threading.Timer(limit_s, dog.bite)
    timer.start()
    try:
        yield dog
    finally:
        timer.cancel()
    assert not dog.has_bitten, f"the test took longer than {limit_s:.0f} s: its daemons were killed"
