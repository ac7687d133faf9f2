"""What the kernel is answered: values in FUSE's units, and an errno for everything that goes wrong."""

from __future__ import annotations

import errno
import logging
import os
import stat
from collections.abc import Iterable
from pathlib import Path

import pyfuse3
import pytest
import trio
from trio.testing import MockClock

from fluidfs.errors import ERROR_TABLE, BucketNotFound, FluidfsError, ObjectNotFound, StoreError
from fluidfs.fuse.adapter import ATTRIBUTES_TTL_S, Adapter, answering, errno_of
from fluidfs.meta.inodes import ROOT_NODEID
from fluidfs.model import ListPage, ObjectInfo
from fluidfs.store.base import FileTransport
from fluidfs.store.posix import PosixStore
from tests.unit.memory_store import MemoryStore
from tests.unit.rig import Rig, running

ROOT = pyfuse3.InodeT(ROOT_NODEID)
CONTEXT = pyfuse3.RequestContext()


class Raising(Adapter):
    """An adapter of which one operation raises what it is told to."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    @answering
    async def operation(self: Adapter) -> None:
        assert isinstance(self, Raising)
        raise self._error


async def errno_for(error: BaseException) -> int:
    with pytest.raises(pyfuse3.FUSEError) as caught:
        await Raising(error).operation()
    assert caught.value.__cause__ is error
    return int(caught.value.errno)


# ---- errors


@pytest.mark.parametrize("kind", ERROR_TABLE, ids=lambda kind: kind.__name__)
async def test_every_error_has_its_errno(kind: type[FluidfsError]) -> None:
    expected = ERROR_TABLE[kind].errno
    if issubclass(kind, StoreError) and expected == errno.ENOENT:
        expected = errno.EIO
    assert await errno_for(kind("why")) == expected


@pytest.mark.parametrize("kind", [BucketNotFound, ObjectNotFound])
def test_a_store_without_what_it_had_is_a_fault_and_not_a_missing_file(kind: type[StoreError]) -> None:
    assert errno_of(kind("gone")) == errno.EIO


async def test_an_error_is_logged_at_its_level(caplog: pytest.LogCaptureFixture) -> None:
    for kind, facts in ERROR_TABLE.items():
        caplog.clear()
        with caplog.at_level(logging.DEBUG, "fluidfs.fuse.adapter"):
            await errno_for(kind("why"))
        assert [record.levelno for record in caplog.records] == [facts.log_level]


async def test_an_exception_that_nobody_thought_of_is_eio_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    assert await errno_for(ZeroDivisionError("a bug")) == errno.EIO
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.exc_info is not None
    assert record.exc_info[0] is ZeroDivisionError


async def test_a_group_of_exceptions_is_eio(caplog: pytest.LogCaptureFixture) -> None:
    assert await errno_for(ExceptionGroup("several", [ValueError("a"), KeyError("b")])) == errno.EIO


async def test_cancellation_passes() -> None:
    class Waiting(Adapter):
        def __init__(self) -> None:
            pass

        @answering
        async def operation(self: Adapter) -> None:
            await trio.sleep_forever()

    with trio.move_on_after(0.01) as scope:
        await Waiting().operation()
    assert scope.cancelled_caught


async def test_an_errno_that_was_chosen_is_passed_on() -> None:
    error = pyfuse3.FUSEError(errno.EROFS)
    with pytest.raises(pyfuse3.FUSEError) as caught:
        await Raising(error).operation()
    assert caught.value is error


# ---- answers


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "source"
    (root / "dir").mkdir(parents=True)
    (root / "file").write_bytes(b"0123456789")
    (root / "dir" / "ünï").write_bytes(b"x" * 513)
    (root / os.fsdecode(b"not-\xff-utf8")).write_bytes(b"")
    return root


async def test_a_file_is_looked_up_opened_read_and_released(root: Path, tmp_path: Path) -> None:
    async with running(PosixStore(str(root)), tmp_path / "c") as rig:
        adapter = Adapter(rig.filesystem)
        entry = await adapter.lookup(ROOT, pyfuse3.FileNameT(b"file"), CONTEXT)
        assert stat.S_ISREG(entry.st_mode)
        assert entry.st_size == 10
        assert entry.st_mtime_ns == (root / "file").stat().st_mtime_ns
        opened = await adapter.open(entry.st_ino, os.O_RDONLY, CONTEXT)
        assert opened.keep_cache
        assert await adapter.read(opened.fh, 3, 4) == b"3456"
        assert await adapter.read(opened.fh, 10, 4) == b""
        await adapter.release(opened.fh)
        await adapter.release(opened.fh)
        assert (await adapter.getattr(entry.st_ino, CONTEXT)).st_size == 10
        await adapter.forget([(entry.st_ino, 1)])
        with pytest.raises(pyfuse3.FUSEError):
            await adapter.getattr(entry.st_ino, CONTEXT)


@pytest.mark.parametrize("flags", [os.O_WRONLY, os.O_RDWR])
async def test_opening_for_writing_is_refused(flags: int, root: Path, tmp_path: Path) -> None:
    async with running(PosixStore(str(root)), tmp_path / "c") as rig:
        adapter = Adapter(rig.filesystem)
        entry = await adapter.lookup(ROOT, pyfuse3.FileNameT(b"file"), CONTEXT)
        with pytest.raises(pyfuse3.FUSEError) as caught:
            await adapter.open(entry.st_ino, flags, CONTEXT)
        assert caught.value.errno == errno.EROFS


async def test_names_that_are_not_utf8_pass_both_ways(root: Path, tmp_path: Path) -> None:
    async with running(PosixStore(str(root)), tmp_path / "c") as rig:
        adapter = Adapter(rig.filesystem)
        assert (await adapter.lookup(ROOT, pyfuse3.FileNameT(b"not-\xff-utf8"), CONTEXT)).st_size == 0
        missing = pyfuse3.FileNameT(b"\xfe")
        with pytest.raises(pyfuse3.FUSEError) as caught:
            await adapter.lookup(ROOT, missing, CONTEXT)
        assert caught.value.errno == errno.ENOENT


async def test_what_is_left_open_is_closed_in_the_end(root: Path, tmp_path: Path) -> None:
    (root / "large").write_bytes(b"x" * 300_000)
    async with running(PosixStore(str(root)), tmp_path / "c") as rig:
        adapter = Adapter(rig.filesystem)
        entry = await adapter.lookup(ROOT, pyfuse3.FileNameT(b"large"), CONTEXT)
        await adapter.open(entry.st_ino, os.O_RDONLY, CONTEXT)
        await adapter.opendir(ROOT, CONTEXT)
        adapter.close_all()
        assert [version.users for version in rig.cache.open_versions] == [0]


async def test_facts_are_extended_attributes(root: Path, tmp_path: Path) -> None:
    async with running(PosixStore(str(root)), tmp_path / "c") as rig:
        adapter = Adapter(rig.filesystem)
        entry = await adapter.lookup(ROOT, pyfuse3.FileNameT(b"file"), CONTEXT)
        names = await adapter.listxattr(entry.st_ino, CONTEXT)
        assert b"user.fluidfs.etag" in names
        for name in names:
            assert await adapter.getxattr(entry.st_ino, name, CONTEXT)
        with pytest.raises(pyfuse3.FUSEError) as caught:
            await adapter.getxattr(entry.st_ino, pyfuse3.XAttrNameT(b"security.selinux"), CONTEXT)
        assert caught.value.errno == errno.ENODATA


async def test_a_store_has_no_room_to_write_and_names_of_255_bytes(root: Path, tmp_path: Path) -> None:
    async with running(PosixStore(str(root)), tmp_path / "c") as rig:
        facts = await Adapter(rig.filesystem).statfs(CONTEXT)
        assert facts.f_bfree == facts.f_bavail == 0
        assert facts.f_blocks * facts.f_frsize >= 1 << 50
        assert facts.f_namemax == 255


# ---- how long the kernel may believe it


async def test_the_kernel_believes_a_name_no_longer_than_we_do(
    root: Path, tmp_path: Path, autojump_clock: MockClock
) -> None:
    """Our time to live and the kernel's on top of it would hide a change for twice as long as was asked for."""
    autojump_clock.autojump_threshold = 0.05
    async with running(PosixStore(str(root)), tmp_path / "c", ttl_s=60) as rig:
        adapter = Adapter(rig.filesystem)
        assert (await adapter.lookup(ROOT, pyfuse3.FileNameT(b"file"), CONTEXT)).entry_timeout == pytest.approx(
            60, abs=1
        )
        await trio.sleep(50)
        assert (await adapter.lookup(ROOT, pyfuse3.FileNameT(b"file"), CONTEXT)).entry_timeout == pytest.approx(
            10, abs=1
        )
        await trio.sleep(20)
        assert (await adapter.lookup(ROOT, pyfuse3.FileNameT(b"file"), CONTEXT)).entry_timeout == pytest.approx(
            60, abs=1
        )


async def test_without_a_time_to_live_the_kernel_asks_each_time(root: Path, tmp_path: Path) -> None:
    async with running(PosixStore(str(root)), tmp_path / "c", ttl_s=0) as rig:
        entry = await Adapter(rig.filesystem).lookup(ROOT, pyfuse3.FileNameT(b"file"), CONTEXT)
        assert entry.entry_timeout == 0
        # The attributes belong to the version, whatever becomes of the name.
        assert entry.attr_timeout == ATTRIBUTES_TTL_S


# ---- directories


def listed(names: Iterable[str], directory: Path) -> MemoryStore:
    """A store of which only the names are of interest."""
    return MemoryStore(dict.fromkeys(names, b"x"), transport=FileTransport(str(directory)))


class Numbered(MemoryStore):
    """A flat store of so many numbered objects, listed without looking at all of them for each page."""

    def __init__(self, count: int, directory: Path) -> None:
        super().__init__(transport=FileTransport(str(directory)))
        self._infos = [ObjectInfo(f"{number:06}", 0, 1, "v") for number in range(count)]

    def list_page(self, prefix: str, *, delimiter: str = "", token: str | None = None, limit: int = 1000) -> ListPage:
        first = 0 if token is None else int(token) + 1
        page = tuple(self._infos[first : first + limit])
        return ListPage(page, (), page[-1].key if first + limit < len(self._infos) else None)


class Reader:
    """A kernel that reads a directory with room for so many entries in a request."""

    def __init__(self, rig: Rig, monkeypatch: pytest.MonkeyPatch, *, room: int) -> None:
        self.adapter = Adapter(rig.filesystem)
        self.room = room
        self.timeouts: list[float] = []
        self._got: list[tuple[bytes, int]] = []
        monkeypatch.setattr(pyfuse3, "readdir_reply", self._reply)

    def _reply(self, token: object, name: bytes, entry: pyfuse3.EntryAttributes, next_id: int) -> bool:
        if len(self._got) == self.room:
            return False
        self._got.append((name, next_id))
        self.timeouts.append(entry.entry_timeout)
        return True

    async def request(self, handle: pyfuse3.FileHandleT, start_id: int) -> list[tuple[bytes, int]]:
        self._got = []
        await self.adapter.readdir(handle, start_id, None)  # type: ignore[arg-type]
        return self._got

    async def rest(self, handle: pyfuse3.FileHandleT, start_id: int = 0) -> list[bytes]:
        names: list[bytes] = []
        while got := await self.request(handle, start_id):
            names += [name for name, _ in got]
            start_id = got[-1][1]
        return names


@pytest.mark.parametrize("room", [1, 7, 1000])
async def test_a_directory_is_read_in_requests_of_any_size(
    room: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"file-{number:03}" for number in range(100)]
    async with running(listed(names, tmp_path), tmp_path / "c") as rig:
        reader = Reader(rig, monkeypatch, room=room)
        handle = await reader.adapter.opendir(ROOT, CONTEXT)
        assert await reader.rest(handle) == [name.encode() for name in names]
        # An entry that did not fit was not given, so it counts no lookup: each was counted once.
        for name in names:
            inode = await rig.filesystem.lookup(ROOT_NODEID, name)
            rig.filesystem.forget(inode.nodeid, 2)
        assert len(rig.inodes) == 1


async def test_a_hundred_thousand_entries_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"{number:06}" for number in range(100_000)]
    store = Numbered(len(names), tmp_path)
    async with running(store, tmp_path / "c") as rig:
        reader = Reader(rig, monkeypatch, room=500)
        handle = await reader.adapter.opendir(ROOT, CONTEXT)
        assert await reader.rest(handle) == [name.encode() for name in names]
        # seekdir(3) to anywhere, back and forth.
        assert (await reader.request(handle, 99_990))[0] == (b"099990", 99_991)
        assert (await reader.request(handle, 5))[0] == (b"000005", 6)
        assert await reader.request(handle, 100_000) == []
        assert await reader.request(handle, 1 << 40) == []


async def test_a_listing_hangs_together_while_the_directory_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = listed("abcdef", tmp_path)
    async with running(store, tmp_path / "c", ttl_s=0) as rig:
        reader = Reader(rig, monkeypatch, room=2)
        handle = await reader.adapter.opendir(ROOT, CONTEXT)
        assert await reader.request(handle, 0) == [(b"a", 1), (b"b", 2)]
        store.delete("a")
        store.delete("d")
        store.put("aa", b"new")
        assert await reader.rest(handle, 2) == [b"c", b"d", b"e", b"f"]


async def test_a_directory_that_is_rewound_shows_what_is_there_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = listed("abc", tmp_path)
    async with running(store, tmp_path / "c", ttl_s=0) as rig:
        reader = Reader(rig, monkeypatch, room=10)
        handle = await reader.adapter.opendir(ROOT, CONTEXT)
        assert await reader.rest(handle) == [b"a", b"b", b"c"]
        store.delete("b")
        store.put("d", b"new")
        assert await reader.rest(handle) == [b"a", b"c", b"d"]


async def test_entries_of_an_old_listing_are_believed_for_what_is_left_of_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    autojump_clock.autojump_threshold = 0.05
    store = listed("abc", tmp_path)
    async with running(store, tmp_path / "c", ttl_s=60) as rig:
        reader = Reader(rig, monkeypatch, room=1)
        handle = await reader.adapter.opendir(ROOT, CONTEXT)
        await reader.request(handle, 0)
        await trio.sleep(40)
        await reader.request(handle, 1)
        await trio.sleep(40)
        await reader.request(handle, 2)
        assert reader.timeouts == pytest.approx([60, 20, 0], abs=1)
