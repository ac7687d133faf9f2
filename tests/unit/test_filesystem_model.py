"""The file system beside a model of it, under whatever happens to the source, the cache and the process.

The model is a dict of paths to bytes. What a handle must read is the version that it was opened at: all its bytes, or
ObjectChanged; names must be those of the model at any time, because their time to live is 0 here.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import hypothesis.strategies as st
import trio
from hypothesis import HealthCheck, settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, precondition, rule

from fluidfs.cache.eviction import evict
from fluidfs.cache.slabs import SMALL_OBJECT_BYTES
from fluidfs.errors import NameNotFound, ObjectChanged
from fluidfs.fs.filesystem import Handle, join
from fluidfs.meta.entries import DirectoryEntry
from fluidfs.meta.inodes import ROOT_NODEID
from fluidfs.store.posix import PosixStore
from tests.unit.rig import BLOCK_BYTES, Rig, pattern, running

T = TypeVar("T")

PATHS = st.sampled_from(["a", "b", "d/a", "d/b", "d/e/ü", "z z"])
SIZES = st.sampled_from([0, 1, 4096, 100_000, SMALL_OBJECT_BYTES, SMALL_OBJECT_BYTES + 1, 3 * BLOCK_BYTES + 777])


@dataclass(frozen=True, slots=True)
class Version:
    """What a path holds; no two are equal, though their bytes may be."""

    number: int
    data: bytes


@dataclass(frozen=True, slots=True, eq=False)
class Opened:
    """An open handle, and the version that it was opened at."""

    handle: Handle
    path: str
    version: Version


class Daemon:
    """A file system in a trio run of its own, in a thread, so that it lives on between the steps of a test."""

    def __init__(self, make: Callable[[], AbstractAsyncContextManager[Rig]]) -> None:
        self._make = make
        self._thread: threading.Thread | None = None

    @property
    def runs(self) -> bool:
        return self._thread is not None

    def step(self, function: Callable[[Rig], Awaitable[T]]) -> T:
        """Carries `function` out in the run, which begins with the first."""
        if self._thread is None:
            started = threading.Event()
            self._thread = threading.Thread(target=trio.run, args=(self._main, started), daemon=True)
            self._thread.start()
            assert started.wait(10)
        return trio.from_thread.run(function, self._rig, trio_token=self._token)

    def stop(self) -> None:
        if self._thread is not None:
            self._token.run_sync_soon(self._ended.set)
            self._thread.join(10)
            assert not self._thread.is_alive()
            self._thread = None

    async def _main(self, started: threading.Event) -> None:
        self._ended = trio.Event()
        self._token = trio.lowlevel.current_trio_token()
        async with self._make() as self._rig:
            started.set()
            await self._ended.wait()


class FileSystemMachine(RuleBasedStateMachine):
    """One source directory, one cache directory, and a file system over both that is made anew now and then."""

    handles = Bundle("handles")

    def __init__(self) -> None:
        super().__init__()
        self._base = Path(tempfile.mkdtemp(prefix="fluidfs-model-"))
        self._source, self._cache = self._base / "source", self._base / "cache"
        self._source.mkdir()
        self._model: dict[str, Version] = {}
        self._versions = 0
        self._open_handles = 0
        self._daemon = Daemon(
            lambda: running(PosixStore(str(self._source)), self._cache, ttl_s=0, quota_bytes=16 << 20)
        )

    def teardown(self) -> None:
        self._daemon.stop()
        shutil.rmtree(self._base)

    def _next_version(self, path: str, size: int) -> Version:
        self._versions += 1
        self._model[path] = Version(self._versions, pattern(size, self._versions))
        return self._model[path]

    # ---- the outside world

    @initialize()
    def something_is_there(self) -> None:
        self.put("a", 3 * BLOCK_BYTES + 777)
        self.put("d/a", 100_000)

    @rule(path=PATHS, size=SIZES)
    def put(self, path: str, size: int) -> None:
        version = self._next_version(path, size)
        target = self._source / path
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh = self._base / "fresh"
        fresh.write_bytes(version.data)
        # The file system's clock may be coarser than this test is quick.
        os.utime(fresh, ns=(version.number, version.number))
        os.replace(fresh, target)

    @rule(path=PATHS, size=SIZES)
    def overwrite_in_place(self, path: str, size: int) -> None:
        if path in self._model:
            version = self._next_version(path, size)
            (self._source / path).write_bytes(version.data)
            os.utime(self._source / path, ns=(version.number, version.number))

    @rule(path=PATHS)
    def delete(self, path: str) -> None:
        if self._model.pop(path, None) is not None:
            (self._source / path).unlink()
            for parent in (self._source / path).parents:
                if parent == self._source or any(parent.iterdir()):
                    break
                parent.rmdir()

    # ---- the cache

    @rule(target_bytes=st.sampled_from([0, BLOCK_BYTES]))
    def evict(self, target_bytes: int) -> None:
        async def step(rig: Rig) -> None:
            for version in list(rig.cache.idle(since_s=0)):
                rig.cache.forget(version)
            evict(rig.cache.levels[0], target_bytes=target_bytes)

        self._daemon.step(step)

    @rule(block=st.integers(0, 3))
    def punch(self, block: int) -> None:
        async def step(rig: Rig) -> None:
            for version in rig.cache.open_versions:
                file = version.file
                if file is not None and block < file.block_count:
                    file.drop_block(block, punch=not file.was_sealed)

        self._daemon.step(step)

    # Handles do not outlive a mount.
    @precondition(lambda self: self._open_handles == 0)
    @rule()
    def remount(self) -> None:
        self._daemon.stop()

    # ---- reading

    @rule(target=handles, path=PATHS)
    def open(self, path: str) -> Opened | None:
        async def step(rig: Rig) -> Handle | None:
            try:
                return await rig.open(path)
            except NameNotFound:
                return None

        handle = self._daemon.step(step)
        assert (handle is not None) == (path in self._model)
        if handle is None:
            return None
        self._open_handles += 1
        return Opened(handle, path, self._model[path])

    @rule(opened=handles, place=st.floats(0, 1), length=st.sampled_from([1, 4096, 65_536, 131_072, 1 << 20]))
    def read(self, opened: Opened | None, place: float, length: int) -> None:
        if opened is None:
            return
        data = opened.version.data
        offset = int(place * len(data))

        async def step(rig: Rig) -> bytes | None:
            try:
                return await rig.filesystem.read(opened.handle, offset, length)
            except ObjectChanged:
                return None

        got = self._daemon.step(step)
        if got is None:
            assert self._model.get(opened.path) is not opened.version, "what is still there was called stale"
        else:
            assert got == data[offset : offset + length]

    @rule(opened=consumes(handles))
    def close(self, opened: Opened | None) -> None:
        if opened is not None:

            async def step(rig: Rig) -> None:
                rig.filesystem.close(opened.handle)

            self._daemon.step(step)
            self._open_handles -= 1

    @rule(path=PATHS)
    def read_whole(self, path: str) -> None:
        """Whoever opens now gets what is there now."""

        async def step(rig: Rig) -> bytes | None:
            try:
                return await rig.read(path)
            except NameNotFound:
                return None

        version = self._model.get(path)
        assert self._daemon.step(step) == (None if version is None else version.data)

    # ---- names

    @rule()
    def names_are_those_of_the_model(self) -> None:
        async def step(rig: Rig) -> dict[str, int]:
            found: dict[str, int] = {}
            await tree(rig, ROOT_NODEID, "", found)
            return found

        assert self._daemon.step(step) == {path: len(version.data) for path, version in self._model.items()}

    @invariant()
    def the_cache_is_within_its_quota(self) -> None:
        async def step(rig: Rig) -> bool:
            usage = rig.cache.levels[0].usage
            return 0 <= usage.used_bytes <= usage.quota_bytes

        assert not self._daemon.runs or self._daemon.step(step)


async def tree(rig: Rig, nodeid: int, path: str, found: dict[str, int]) -> None:
    for entry in await rig.filesystem.entries(nodeid):
        inode = rig.filesystem.remember(nodeid, entry)
        if isinstance(entry, DirectoryEntry):
            await tree(rig, inode.nodeid, join(path, entry.name), found)
        else:
            found[join(path, entry.name)] = entry.info.size
        rig.filesystem.forget(inode.nodeid, 1)


TestFileSystem = FileSystemMachine.TestCase
TestFileSystem.settings = settings(
    max_examples=40,
    stateful_step_count=40,
    deadline=None,
    derandomize="CI" in os.environ,
    suppress_health_check=[HealthCheck.too_slow],
)
