"""The native data plane beside the model that the file system is tested with, under whatever happens to the source, the
cache and the process.
"""

from __future__ import annotations

import errno
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import consumes, rule

from fluidfs.cache.eviction import evict
from fluidfs.fs.filesystem import join
from fluidfs.meta.inodes import ROOT_NODEID
from fluidfs.store.posix import PosixStore
from tests.unit import kernel
from tests.unit.kernel import READ_BYTES, Kernel, Served, served
from tests.unit.rig import BLOCK_BYTES, Rig, running
from tests.unit.test_filesystem_model import PATHS, Daemon, FileSystemMachine, Version

DIRECTORY = 0o040000


@dataclass(frozen=True, slots=True, eq=False)
class Opened:
    """An open handle, and the version that it was opened at."""

    handle: kernel.Opened
    path: str
    version: Version


class DataPlaneMachine(FileSystemMachine):
    """As FileSystemMachine, but all that is read is read by a kernel."""

    def __init__(self) -> None:
        super().__init__()
        self._plane: Served
        self._daemon = Daemon(self._served)

    @asynccontextmanager
    async def _served(self) -> AsyncIterator[Rig]:
        async with (
            running(PosixStore(str(self._source)), self._cache, ttl_s=0, quota_bytes=16 << 20) as rig,
            served(rig) as self._plane,
        ):
            yield rig

    @rule(target_bytes=st.sampled_from([0, BLOCK_BYTES]))
    def evict(self, target_bytes: int) -> None:
        async def step(rig: Rig) -> None:
            rig.cache.let_go()
            for version in list(rig.cache.idle(since_s=0)):
                rig.cache.forget(version)
            evict(rig.cache.levels[0], target_bytes=target_bytes)
            self._plane.data_plane.settle()

        self._daemon.step(step)

    @rule(target=FileSystemMachine.handles, path=PATHS)
    def open(self, path: str) -> Opened | None:
        async def step(_: Rig) -> kernel.Opened | None:
            try:
                return await self._plane.kernel.open((await self._plane.kernel.walk(path)).node)
            except FileNotFoundError:
                return None

        handle = self._daemon.step(step)
        assert (handle is not None) == (path in self._model)
        if handle is None:
            return None
        self._open_handles += 1
        return Opened(handle, path, self._model[path])

    @rule(
        opened=FileSystemMachine.handles, place=st.floats(0, 1), length=st.sampled_from([1, 4096, 65_536, READ_BYTES])
    )
    def read(self, opened: Opened | None, place: float, length: int) -> None:
        if opened is None:
            return
        data = opened.version.data
        offset = int(place * len(data))

        async def step(_: Rig) -> bytes | None:
            try:
                return await self._plane.kernel.read(opened.handle, offset, length)
            except OSError as error:
                if error.errno != errno.ESTALE:
                    raise
                return None

        got = self._daemon.step(step)
        if got is None:
            assert self._model.get(opened.path) is not opened.version, "what is still there was called stale"
        else:
            assert got == data[offset : offset + length]

    @rule(opened=consumes(FileSystemMachine.handles))
    def close(self, opened: Opened | None) -> None:
        if opened is not None:

            async def step(_: Rig) -> None:
                await self._plane.kernel.release(opened.handle)

            self._daemon.step(step)
            self._open_handles -= 1

    @rule(path=PATHS)
    def read_whole(self, path: str) -> None:
        """Whoever opens now gets what is there now."""

        async def step(_: Rig) -> bytes | None:
            try:
                return await self._plane.kernel.contents_of(path)
            except FileNotFoundError:
                return None

        version = self._model.get(path)
        assert self._daemon.step(step) == (None if version is None else version.data)

    @rule()
    def names_are_those_of_the_model(self) -> None:
        async def step(_: Rig) -> dict[str, int]:
            found: dict[str, int] = {}
            await tree(self._plane.kernel, ROOT_NODEID, "", found)
            return found

        assert self._daemon.step(step) == {path: len(version.data) for path, version in self._model.items()}


async def tree(kernel: Kernel, node: int, path: str, found: dict[str, int]) -> None:
    for name, entry in (await kernel.list(node)).items():
        if entry.mode & DIRECTORY:
            await tree(kernel, entry.node, join(path, name), found)
        else:
            found[join(path, name)] = entry.size
        await kernel.forget(entry.node)


TestDataPlane = DataPlaneMachine.TestCase
TestDataPlane.settings = settings(
    max_examples=30,
    stateful_step_count=40,
    deadline=None,
    derandomize="CI" in os.environ,
    suppress_health_check=[HealthCheck.too_slow],
)
