"""Killing a mount's daemon under its readers, and what must hold each time."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress

from fluidfs.demo.traces import daemons_of, is_mounted
from tests.support.compared import Readers
from tests.support.mounts import Mount, wait_until
from tests.support.tasks import must_end

# What a user is promised: so long after a daemon's death nobody waits for it any more.
FREE_WITHIN_S = 2.0
# The longest time between the first read after a mount and the next kill.
MOMENT_S = 0.8


def kill(pids: list[int]) -> None:
    """SIGKILL, as the kernel's OOM killer or an operator would."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def kill_under(readers: Readers) -> None:
    """Kills the daemon: every reader gets an error in time, none is in state D, and the daemon's own threads end."""
    mount = readers.mount
    before, began = readers.error_counts(), time.monotonic()
    kill(mount.daemons)
    readers.must_fail(before, since=began, within_s=FREE_WITHIN_S)
    must_end(mount.daemons, since=began, within_s=FREE_WITHIN_S)
    assert is_mounted(mount.path), "a killed daemon leaves its mount, for the next one to replace"


def kill_while_mounting(mount: Mount, moment_s: float) -> None:
    """Starts a mount and kills all of it `moment_s` later, wherever it is then."""
    with mount.account.popen(
        mount.account.python, "-m", "fluidfs", "mount", mount.source, mount.path, *mount.options
    ) as command:
        time.sleep(moment_s)
        # The command may be about to become the daemon.
        while pids := daemons_of(mount.path):
            kill(pids)
        wait_until(lambda: command.poll() is not None, what="the killed command has ended")


def kill_again_and_again(
    readers: Readers, *, kills: int, rng: random.Random, between: Callable[[int], None] = lambda turn: None
) -> None:
    """So often kills the daemon at a random moment, does `between`, mounts again and sees every reader read on."""
    for turn in range(kills):
        # Any moment may be the one; which it is must not depend on what the readers do.
        time.sleep(rng.uniform(0.0, MOMENT_S))
        readers.must_be_right()
        kill_under(readers)
        between(turn)
        if rng.random() < 0.15:
            kill_while_mounting(readers.mount, rng.uniform(0.3, 1.2))
        readers.mount.start()
        readers.must_go_on()
