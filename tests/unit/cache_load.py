"""Processes that use one level without mercy, and the check that no wrong byte is in it. Run by test_cache_crash.

python -m tests.unit.cache_load killed DIRECTORY ROUNDS     a writer at a time, killed at a random moment
python -m tests.unit.cache_load together DIRECTORY STEPS    several at once, one of them killed now and then
"""

from __future__ import annotations

import errno
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from fluidfs._native.objects import VERIFY_ALWAYS, VERIFY_FIRST, ObjectFile
from fluidfs.cache.eviction import evict
from fluidfs.cache.level import Level
from fluidfs.cache.maintenance import collect
from fluidfs.errors import CacheError
from tests.unit.caching import BLOCK, MIB, content, level_in, version_named

# Large enough for several blocks, with a short last one; few enough that processes meet.
LARGE = [version_named(f"large {number}", 4 * BLOCK + 1000 * number + 1) for number in range(6)]
SMALL = [version_named(f"small {number}", 100 + 700 * number) for number in range(40)]
WORKERS = 4
# What a call may say when others are at the same block, version or slab; or when somebody was killed at it; or when the
# version was sealed, so that it must not be punched.
MEANWHILE = (errno.EBUSY, errno.EALREADY, errno.EPERM)


class Load:
    """One process that reads, writes, punches and evicts, and stops at the first wrong byte."""

    def __init__(self, directory: Path, seed: int) -> None:
        self.level = level_in(directory, quota_bytes=16 * MIB)
        self.directory = directory
        self.rng = random.Random(seed)
        self.open: dict[str, ObjectFile] = {}

    def step(self) -> None:
        act: Callable[[], None] = self.rng.choice(
            [*[self.write] * 8, *[self.read] * 8, *[self.drop] * 3, *[self.small] * 8, self.close, self.rare]
        )
        try:
            act()
        except OSError as error:
            if error.errno not in MEANWHILE:
                raise

    def file(self) -> tuple[ObjectFile | None, bytes]:
        identity = self.rng.choice(LARGE)
        if identity.key not in self.open:
            file = self.level.open_object(identity, create=True)
            if file is None:
                return None, b""
            self.open[identity.key] = file
        return self.open[identity.key], content(identity.size, identity.key)

    def write(self) -> None:
        """A job that may begin and end anywhere, in chunks of any size."""
        file, data = self.file()
        if file is None:
            return
        offset = self.rng.randrange(len(data))
        end = min(len(data), offset + self.rng.choice((1000, 40_000, BLOCK, 3 * BLOCK)))
        sink = file.sink()
        while offset < end:
            length = min(self.rng.choice((1500, 17_000, 70_000)), end - offset)
            sink.write(offset, data[offset : offset + length])
            offset += length

    def read(self) -> None:
        file, data = self.file()
        if file is None:
            return
        offset, length = self.rng.randrange(len(data)), self.rng.choice((1, 5000, BLOCK))
        got = file.read(offset, length, verify=self.rng.choice((VERIFY_FIRST, VERIFY_ALWAYS)))
        assert got is None or got == data[offset : offset + length], ("wrong bytes", file, offset, length)

    def drop(self) -> None:
        file, _ = self.file()
        if file is not None:
            file.drop_block(self.rng.randrange(file.block_count), punch=self.rng.random() < 0.8)

    def small(self) -> None:
        identity = self.rng.choice(SMALL)
        data = content(identity.size, identity.key)
        found = self.level.slabs.find(identity.digest())
        if found is not None:
            got = found.read(0, len(data), always=self.rng.random() < 0.5, nowait=False)
            assert got is None or got == data, ("wrong bytes", identity)
            if self.rng.random() < 0.3:
                found.slab.drop(found.slot)
            return
        try:
            sink = self.level.slabs.sink(identity)
        except CacheError:
            return  # another process is at it
        sink.slab.put(identity.digest(), identity.encode(), data)

    def close(self) -> None:
        if self.open:
            self.open.popitem()[1].close()

    def rare(self) -> None:
        file, _ = self.file()
        what = self.rng.randrange(4)
        if what == 0:
            evict(self.level, target_bytes=self.rng.randrange(4 * MIB))
        elif what == 1:
            collect(self.level.spec)
        elif what == 2 and file is not None:
            file.seal()
        elif file is not None:
            file.seal_holds(trust=True)


def check(directory: Path) -> None:
    """Everything that the level says is there is right, and after a collection its counter, too. Nobody uses it."""
    level = level_in(directory)
    for identity in LARGE:
        _check_large(level, identity.key, content(identity.size, identity.key))
    for identity in SMALL:
        found = level.slabs.find(identity.digest())
        if found is not None:
            got = found.read(0, identity.size, always=False, nowait=False)
            assert got == content(identity.size, identity.key), ("wrong bytes", identity)
    assert level.usage.bad_blocks == 0
    level.close()
    report = collect(level.spec)
    held = {path.suffix for path in level.files.root.rglob("*.*")}
    assert held <= {".data", ".map", ".slab", ".idx", ".lock", ".new"}, held
    assert report.usage_after_bytes == level.usage.used_bytes


def _check_large(level: Level, key: str, data: bytes) -> None:
    file = level.open_object(version_named(key, len(data)), create=False)
    if file is None:
        return
    offset = 0
    while offset < len(data):
        missing = file.next_missing(offset, len(data))
        end = len(data) if missing is None else missing[0]
        if offset < end:
            assert file.read(offset, end - offset) == data[offset:end], ("wrong bytes", key, offset)
        offset = len(data) if missing is None else missing[1]
    file.close()


def forked(run: Callable[[], None]) -> int:
    """Runs in a process of its own; its id."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            run()
            code = 0
        finally:
            sys.stderr.flush()
            os._exit(code)
    return pid


def killed(directory: Path, rounds: int) -> None:
    rng = random.Random(11)
    for round_ in range(rounds):

        def write(seed: int = round_) -> None:
            load = Load(directory, seed)
            while True:
                load.step()

        pid = forked(write)
        # The one place where time decides: a crash comes when it comes.
        time.sleep(rng.uniform(0.005, 0.08))
        os.kill(pid, signal.SIGKILL)
        status = os.waitpid(pid, 0)[1]
        assert os.WIFSIGNALED(status), "the writer failed before it was killed"
        check(directory)


def together(directory: Path, steps: int) -> None:
    rng = random.Random(12)

    def work(seed: int) -> None:
        load = Load(directory, seed)
        for _ in range(steps):
            load.step()

    workers = {forked(lambda seed=seed: work(seed)) for seed in range(WORKERS)}
    for seed in range(100, 106):
        victim = forked(lambda seed=seed: work(seed))
        time.sleep(rng.uniform(0.02, 0.15))
        os.kill(victim, signal.SIGKILL)
        os.waitpid(victim, 0)
    failed = [pid for pid in workers if os.waitpid(pid, 0)[1] != 0]
    assert not failed, f"{len(failed)} of {WORKERS} failed"
    check(directory)


if __name__ == "__main__":
    {"killed": killed, "together": together}[sys.argv[1]](Path(sys.argv[2]), int(sys.argv[3]))
    print("right")
