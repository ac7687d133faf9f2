"""A kernel for the data plane that a test drives: FUSE's messages over a pair of sockets instead of /dev/fuse."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import trio

from fluidfs.fs.filesystem import ReadSettings
from fluidfs.fs.layers import Layers
from fluidfs.fuse.relay import Relayed, relayed
from fluidfs.meta.inodes import ROOT_NODEID
from tests.unit.rig import OWNERSHIP, Rig

# From <linux/fuse.h>.
LOOKUP, FORGET, GETATTR, OPEN, READ, STATFS, RELEASE, GETXATTR = 1, 2, 3, 14, 15, 17, 18, 22
INIT, OPENDIR, RELEASEDIR, INTERRUPT, READDIRPLUS = 26, 27, 29, 36, 44
NOTIFY_INVAL_ENTRY = 3

_IN_HEADER = struct.Struct("<IIQQIIIHH")
_OUT_HEADER = struct.Struct("<IiQ")
_ATTRIBUTES = struct.Struct("<6Q10I")
_ENTRY = struct.Struct("<4Q2I")
_ENTRY_BYTES = _ENTRY.size + _ATTRIBUTES.size
_DIRENT = struct.Struct("<QQII")
# What a reply may take on its way through the sockets.
READ_BYTES = 128 << 10
_MESSAGE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Entry:
    """The answer of a LOOKUP; `node` 0: there is no such name."""

    node: int
    name_good_for_s: float
    ino: int
    size: int
    mtime_ns: int
    mode: int
    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Opened:
    """An open file."""

    node: int
    fh: int
    flags: int


@dataclass(slots=True, eq=False)
class _Waiting:
    answered: trio.Event = field(default_factory=trio.Event)
    error: int = 0
    body: bytes = b""


class Kernel:
    """The other end of a data plane's device. Requests raise OSError with the errno that they are answered with."""

    def __init__(self, ours: socket.socket) -> None:
        self._socket = trio.socket.from_stdlib_socket(ours)
        self._waiting: dict[int, _Waiting] = {}
        self._unique = 0
        self.over = trio.Event()
        # (parent node, name), as the data plane asked for them to be looked up again.
        self.forgotten: list[tuple[int, bytes]] = []

    async def run(self) -> None:
        """Takes answers, until the connection ends."""
        with suppress(trio.ClosedResourceError):
            await self._take_answers()
        self.over.set()

    async def _take_answers(self) -> None:
        while message := await self._socket.recv(_MESSAGE_BYTES):
            length, error, unique = _OUT_HEADER.unpack_from(message)
            assert length == len(message)
            body = message[_OUT_HEADER.size :]
            if unique == 0:
                assert error == NOTIFY_INVAL_ENTRY
                parent, name_bytes, _ = struct.unpack_from("<QII", body)
                self.forgotten.append((parent, body[16 : 16 + name_bytes]))
                continue
            waiting = self._waiting[unique]
            waiting.error, waiting.body = -error, body
            waiting.answered.set()

    async def send(self, opcode: int, node: int, body: bytes = b"", *, pid: int | None = None) -> int:
        """Sends a request, and returns its unique number."""
        self._unique += 2
        header = _IN_HEADER.pack(
            _IN_HEADER.size + len(body), opcode, self._unique, node, 0, 0, os.getpid() if pid is None else pid, 0, 0
        )
        self._waiting[self._unique] = _Waiting()
        await self._socket.send(header + body)
        return self._unique

    async def answer(self, unique: int) -> bytes:
        """The answer of a request that was sent."""
        waiting = self._waiting[unique]
        with trio.fail_after(20):
            await waiting.answered.wait()
        del self._waiting[unique]
        if waiting.error:
            raise OSError(waiting.error, os.strerror(waiting.error))
        return waiting.body

    async def ask(self, opcode: int, node: int, body: bytes = b"") -> bytes:
        """A request and its answer."""
        unique = await self.send(opcode, node, body)
        return await self.answer(unique)

    async def tell(self, opcode: int, node: int, body: bytes) -> None:
        """A request that nobody answers."""
        del self._waiting[await self.send(opcode, node, body)]

    @property
    def unanswered(self) -> int:
        """Requests without an answer."""
        return sum(not waiting.answered.is_set() for waiting in self._waiting.values())

    def hang_up(self) -> None:
        """The mount is gone."""
        self._socket.close()

    # ---- requests

    async def init(self) -> None:
        """INIT of a kernel that offers all that ours does but passthrough."""
        await self.ask(INIT, 0, struct.pack("<5I44x", 7, 43, 1 << 20, 0x7FFFFFFF, 0))

    async def lookup(self, parent: int, name: str) -> Entry:
        """LOOKUP."""
        return _entry(await self.ask(LOOKUP, parent, os.fsencode(name) + b"\0"))

    async def walk(self, path: str) -> Entry:
        """LOOKUP of every component of a path. Raises FileNotFoundError."""
        node = ROOT_NODEID
        for name in path.split("/"):
            entry = await self.lookup(node, name)
            if entry.node == 0:
                raise FileNotFoundError(path)
            node = entry.node
        return entry

    async def forget(self, node: int, count: int = 1) -> None:
        """FORGET."""
        await self.tell(FORGET, node, struct.pack("<Q", count))

    async def open(self, node: int) -> Opened:
        """OPEN for reading."""
        fh, flags, _ = struct.unpack("<QIi", await self.ask(OPEN, node, struct.pack("<II", os.O_RDONLY, 0)))
        return Opened(node, fh, flags)

    async def read(self, opened: Opened, offset: int, length: int = READ_BYTES) -> bytes:
        """READ."""
        return await self.ask(READ, opened.node, read_body(opened, offset, length))

    async def read_whole(self, opened: Opened) -> bytes:
        """READs to the end."""
        data = b""
        while part := await self.read(opened, len(data)):
            data += part
        return data

    async def release(self, opened: Opened) -> None:
        """RELEASE."""
        await self.ask(RELEASE, opened.node, struct.pack("<QIIQ", opened.fh, 0, 0, 0))

    async def contents_of(self, path: str) -> bytes:
        """What a program sees that opens, reads and closes."""
        opened = await self.open((await self.walk(path)).node)
        try:
            return await self.read_whole(opened)
        finally:
            await self.release(opened)

    async def list(self, node: int) -> dict[str, Entry]:
        """OPENDIR, READDIRPLUS to the end, RELEASEDIR, and LOOKUP of what that did not tell; without the first two."""
        fh, _, _ = struct.unpack("<QIi", await self.ask(OPENDIR, node, struct.pack("<II", 0, 0)))
        found: dict[str, Entry] = {}
        offset = 0
        while body := await self.ask(READDIRPLUS, node, struct.pack("<QQIIQII", fh, offset, 4096, 0, 0, 0, 0)):
            while body:
                entry = _entry(body[:_ENTRY_BYTES])
                _, offset, name_bytes, _ = _DIRENT.unpack_from(body, _ENTRY_BYTES)
                name_at = _ENTRY_BYTES + _DIRENT.size
                found[os.fsdecode(body[name_at : name_at + name_bytes])] = entry
                body = body[(name_at + name_bytes + 7) & ~7 :]
        await self.ask(RELEASEDIR, node, struct.pack("<QIIQ", fh, 0, 0, 0))
        del found["."], found[".."]
        return {name: entry if entry.node else await self.lookup(node, name) for name, entry in found.items()}

    async def getxattr(self, node: int, name: str) -> str:
        """GETXATTR of an attribute that is shorter than 1,000 bytes."""
        body = struct.pack("<II", 1000, 0) + os.fsencode(name) + b"\0"
        return os.fsdecode(await self.ask(GETXATTR, node, body))


def read_body(opened: Opened, offset: int, length: int) -> bytes:
    """The arguments of a READ."""
    return struct.pack("<QQIIQII", opened.fh, offset, length, 0, 0, 0, 0)


def _entry(body: bytes) -> Entry:
    node, _, valid_s, _, valid_ns, _ = _ENTRY.unpack_from(body)
    ino, size, _, _, mtime_s, _, _, mtime_ns, _, mode, _, uid, gid, _, _, _ = _ATTRIBUTES.unpack_from(body, _ENTRY.size)
    mtime = mtime_s * 1_000_000_000 + mtime_ns
    return Entry(node, valid_s + valid_ns / 1e9, ino, size, mtime, mode, uid, gid)


def layers_of(rig: Rig, *, window_bytes: int) -> Layers:
    """The layers of a rig, as a mount has them."""
    return Layers(
        store_identity=rig.store.identity,
        key_prefix="",
        root_mtime_ns=1,
        settings=ReadSettings(OWNERSHIP, max_window_bytes=window_bytes),
        names=rig.names,
        inodes=rig.inodes,
        cache=rig.cache,
        fetcher=rig.fetcher,
        filesystem=rig.filesystem,
        metrics=rig.metrics,
    )


@dataclass(frozen=True, slots=True)
class Served:
    """A kernel whose requests are answered by a data plane over a rig, until that is `over`."""

    kernel: Kernel
    data_plane: Relayed
    over: trio.Event

    @property
    def asked(self) -> dict[str, int]:
        """How often Python was asked, by request; but for INIT."""
        python = dict(self.data_plane.relay.facts().python)
        python.pop("INIT", None)
        return python


@asynccontextmanager
async def served(
    rig: Rig, *, window_bytes: int = 8 << 20, disabled: frozenset[str] = frozenset({"clone"})
) -> AsyncIterator[Served]:
    """A data plane over a rig, from INIT to the end of the connection."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    kernel = Kernel(ours)
    ended, over = trio.Event(), trio.Event()

    async def serve(data_plane: Relayed) -> None:
        await data_plane.serve(ended)
        over.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(kernel.run)
        layers = layers_of(rig, window_bytes=window_bytes)
        async with relayed(layers, theirs.detach(), disabled=disabled) as data_plane, trio.open_nursery() as serving:
            serving.start_soon(serve, data_plane)
            await kernel.init()
            yield Served(kernel, data_plane, over)
            ended.set()
        # The device is closed by now, so every answer has come.
        await kernel.over.wait()
        nursery.cancel_scope.cancel()
    kernel.hang_up()
