"""Processes that read a mount and compare all they get with a copy: how a test starts, watches and ends them."""

from __future__ import annotations

import errno
import mmap
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.accounts import Account
from tests.support.comparing import ERRORS, READ_BYTES, RIGHT_ANSWERS, TALLY_BYTES
from tests.support.mounts import DEADLINE_S, Mount
from tests.support.tasks import must_not_hang, session_of, stacks_of, users_of

# How long a killed reader may take to go.
_KILL_S = 5.0


def write_tree(root: Path, bodies: Mapping[str, bytes]) -> Path:
    """The copy that readers compare with."""
    for name, body in bodies.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
    return root


@dataclass(frozen=True, slots=True)
class Reader:
    """One process; `way` is how it reads (`tests.support.comparing.WAYS`)."""

    way: str
    process: subprocess.Popen[str]
    words: memoryview

    @property
    def answers(self) -> int:
        """How many answers were right."""
        return int(self.words[RIGHT_ANSWERS])

    @property
    def read_bytes(self) -> int:
        """So many bytes were right."""
        return int(self.words[READ_BYTES])

    def errors(self) -> dict[str, int]:
        """How often which errno was got."""
        counts = {errno.errorcode.get(i, str(i)): int(count) for i, count in enumerate(self.words[ERRORS:])}
        return {name: count for name, count in counts.items() if count}

    def error_count(self) -> int:
        """How many errors there were."""
        return sum(self.words[ERRORS:])


@dataclass(frozen=True, slots=True)
class Readers:
    """The readers of one mount."""

    mount: Mount
    readers: Sequence[Reader]

    def __iter__(self) -> Iterator[Reader]:
        return iter(self.readers)

    def pids(self) -> list[int]:
        """Theirs, their children's, and those of whoever else has something of the mount open."""
        mine = [pid for reader in self.readers for pid in session_of(reader.process.pid)]
        return sorted({*mine, *users_of(self.mount.path)} - {os.getpid()})

    def must_be_right(self) -> None:
        """Fails the test when one of them saw what is not so."""
        for reader in self.readers:
            if reader.process.poll() is not None:
                said, trouble = reader.process.communicate()
                pytest.fail(f"a reader found: {said}{trouble}")

    def must_go_on(self, *, answers: int = 1, timeout_s: float = DEADLINE_S) -> None:
        """Returns when each got so many more right answers."""
        before, began = [reader.answers for reader in self.readers], time.monotonic()
        while left := [r.way for r, count in zip(self.readers, before, strict=True) if r.answers < count + answers]:
            self.must_be_right()
            if time.monotonic() - began > timeout_s:
                pytest.fail(f"without {answers} answers for {timeout_s:.0f} s: {left}\n{stacks_of(self.pids())}")
            time.sleep(0.01)

    def must_fail(self, before: Sequence[int], *, since: float, within_s: float) -> None:
        """Returns when each got more errors than `before` and none is in state D, `within_s` after `since`."""
        while left := [r for r, n in zip(self.readers, before, strict=True) if r.error_count() == n]:
            self.must_be_right()
            if time.monotonic() - since > within_s:
                hung = [pid for reader in left for pid in session_of(reader.process.pid)]
                pytest.fail(f"{[r.way for r in left]} without an error after {within_s:.0f} s:\n{stacks_of(hung)}")
            time.sleep(0.01)
        must_not_hang(self.pids, since=since, within_s=within_s)
        self.must_be_right()

    def error_counts(self) -> list[int]:
        """How many errors each had so far."""
        return [reader.error_count() for reader in self.readers]

    def summary(self) -> str:
        """One line for each."""
        return "\n".join(
            f"  {r.way:14} {r.read_bytes >> 20:7} MiB right, {r.answers:8} answers, errors {r.errors()}" for r in self
        )


@contextmanager
def comparing(mount: Mount, copy: Path, ways: Sequence[str], *, seed: object) -> Iterator[Readers]:
    """Readers of the mount for as long as the context lasts, one for each of `ways`.

    At the end they are killed, and one that stays in state D then fails the test.
    """
    account = mount.account
    bare = _device_below(mount.path)
    readers: list[Reader] = []
    try:
        for number, way in enumerate(ways):
            readers.append(_start(account, mount.path, copy, way, bare=bare, seed=f"{seed} {number}"))
        made = Readers(mount, readers)
        yield made
        made.must_be_right()
    finally:
        began = time.monotonic()
        for reader in readers:
            with suppress(ProcessLookupError):
                os.killpg(reader.process.pid, signal.SIGKILL)
        for reader in readers:
            _reap(reader, since=began)


def _start(account: Account, path: Path, copy: Path, way: str, *, bare: int, seed: str) -> Reader:
    tally = account.directory / f"tally-{len(list(account.directory.glob('tally-*')))}"
    tally.write_bytes(bytes(TALLY_BYTES))
    os.chown(tally, account.uid, account.gid)
    with tally.open("r+b") as file:
        words = memoryview(mmap.mmap(file.fileno(), TALLY_BYTES)).cast("Q")
    # The slash keeps it from looking like a daemon, whose command line names its mountpoint.
    arguments = (way, f"{path}/", str(bare), str(copy), seed, str(tally))
    return Reader(way, account.popen(account.python, "-m", "tests.support.comparing", *arguments), words)


def _reap(reader: Reader, *, since: float) -> None:
    process = reader.process
    try:
        process.wait(max(0.1, since + _KILL_S - time.monotonic()))
    except subprocess.TimeoutExpired:
        pytest.fail(f"a reader ({reader.way}) cannot be killed:\n{stacks_of(session_of(process.pid))}")
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()


def _device_below(mountpoint: Path) -> int:
    """st_dev of the directory that is mounted over: that of its parent, as all mountpoints of tests are made."""
    return mountpoint.parent.stat().st_dev
