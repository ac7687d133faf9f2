"""Passes pyfuse3's requests to the file system, and its errors back as errnos. Nothing is decided here."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

import pyfuse3
import trio

from fluidfs.errors import FluidfsError, StoreError, facts_of
from fluidfs.fs.attributes import IO_BYTES, Attributes
from fluidfs.fs.filesystem import FileSystem, Handle
from fluidfs.meta.entries import Entry
from fluidfs.meta.inodes import UnknownNode
from fluidfs.meta.keys import NAME_BYTES_MAX

log = logging.getLogger(__name__)

# What a node id stands for belongs to one version for ever; a change gives the name another node id.
ATTRIBUTES_TTL_S = 3600.0

A = TypeVar("A")
P = ParamSpec("P")
R = TypeVar("R")


def answering(
    operation: Callable[Concatenate[A, P], Coroutine[Any, Any, R]],
) -> Callable[Concatenate[A, P], Coroutine[Any, Any, R]]:
    """Turns every Exception of an operation into an errno, as `errno_told` does.

    Cancellation passes: it is no Exception.
    """

    @wraps(operation)
    async def answer(self: A, /, *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return await operation(self, *args, **kwargs)
        except pyfuse3.FUSEError:
            raise
        except Exception as error:
            raise pyfuse3.FUSEError(errno_told(error, operation.__name__)) from error

    return answer


def errno_told(error: Exception, operation: str) -> int:
    """What a system call is answered with for an exception that ended it, which goes to the log: ours by the table of
    errors, any other with its traceback, and as EIO.
    """
    if isinstance(error, FluidfsError):
        log_level = facts_of(type(error)).log_level
        log.log(log_level, "request failed", extra={"operation": operation, "reason": str(error)})
        return errno_of(error)
    log.error(
        "request failed in a way nobody thought of",
        extra={"operation": operation},
        exc_info=(type(error), error, error.__traceback__),
    )
    return errno.EIO


def errno_of(error: FluidfsError) -> int:
    """What a system call is answered with.

    A store without the bucket, or without an object that was listed, is a store at fault: EIO. That a name does not
    exist is for names to say, and they say NameNotFound. A node whose path leads elsewhere by now is stale: the kernel
    then walks the path anew.
    """
    if isinstance(error, UnknownNode):
        return errno.ESTALE
    number = facts_of(type(error)).errno
    return errno.EIO if isinstance(error, StoreError) and number == errno.ENOENT else number


class TellsFacts(Protocol):
    """Who knows the extended attributes of nodes."""

    async def getxattr(self, nodeid: int, name: str) -> str:
        """The value of an attribute."""
        ...

    def listxattr(self, nodeid: int) -> Sequence[str]:
        """The names of attributes."""
        ...


class FactsAdapter(pyfuse3.Operations):
    """What is asked of pyfuse3 about nodes that others give out: extended attributes, and the room there is."""

    supports_dot_lookup = False
    enable_writeback_cache = False

    def __init__(self, facts: TellsFacts) -> None:
        super().__init__()
        self._facts = facts

    @answering
    async def getxattr(self, inode: pyfuse3.InodeT, name: pyfuse3.XAttrNameT, ctx: pyfuse3.RequestContext) -> bytes:
        """GETXATTR."""
        return os.fsencode(await self._facts.getxattr(inode, os.fsdecode(name)))

    @answering
    async def listxattr(self, inode: pyfuse3.InodeT, ctx: pyfuse3.RequestContext) -> Sequence[pyfuse3.XAttrNameT]:
        """LISTXATTR."""
        return [pyfuse3.XAttrNameT(os.fsencode(name)) for name in self._facts.listxattr(inode)]

    @answering
    async def statfs(self, ctx: pyfuse3.RequestContext) -> pyfuse3.StatvfsData:
        """STATFS: a store has no size; a large one is shown, with nothing free, for nothing can be written."""
        data = pyfuse3.StatvfsData()
        data.f_bsize = data.f_frsize = 4096
        data.f_blocks = 1 << 38
        data.f_bfree = data.f_bavail = 0
        data.f_files = data.f_ffree = data.f_favail = 0
        data.f_namemax = NAME_BYTES_MAX
        return data

    def close_all(self) -> None:
        """Closes what the kernel left open: nothing is opened here."""


@dataclass(slots=True)
class _Listing:
    """An open directory: its entries as they were when it was opened or rewound, believed until `good_until`."""

    parent: int
    entries: Sequence[Entry]
    good_until: float
    begun: bool = False


class Adapter(FactsAdapter):
    """One file system as pyfuse3 wants it.

    The kernel may believe a name as long as the names below us would, so that a change outside is seen within their
    time to live, not within twice that.
    """

    def __init__(self, filesystem: FileSystem) -> None:
        super().__init__(filesystem)
        self._fs = filesystem
        self._handles: dict[int, Handle] = {}
        self._listings: dict[int, _Listing] = {}
        self._next_handle = 1

    def _new_handle(self) -> pyfuse3.FileHandleT:
        self._next_handle += 1
        return pyfuse3.FileHandleT(self._next_handle)

    def _entry(self, attributes: Attributes, *, name_ttl_s: float) -> pyfuse3.EntryAttributes:
        entry = pyfuse3.EntryAttributes()
        entry.st_ino = pyfuse3.InodeT(attributes.nodeid)
        entry.generation = 0
        entry.entry_timeout, entry.attr_timeout = name_ttl_s, ATTRIBUTES_TTL_S
        entry.st_mode = pyfuse3.ModeT(attributes.mode)
        entry.st_nlink = attributes.nlink
        entry.st_uid, entry.st_gid = attributes.uid, attributes.gid
        entry.st_size, entry.st_blksize, entry.st_blocks = attributes.size_bytes, IO_BYTES, attributes.blocks
        entry.st_atime_ns = entry.st_mtime_ns = entry.st_ctime_ns = attributes.mtime_ns
        return entry

    @answering
    async def lookup(
        self, parent_inode: pyfuse3.InodeT, name: pyfuse3.FileNameT, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        """LOOKUP."""
        if len(name) > NAME_BYTES_MAX:
            # The kernel lets FUSE have names of up to 1,024 bytes.
            raise pyfuse3.FUSEError(errno.ENAMETOOLONG)
        inode = await self._fs.lookup(parent_inode, os.fsdecode(name))
        return self._entry(self._fs.attributes(inode), name_ttl_s=self._fs.names_good_for_s(parent_inode))

    @answering
    async def getattr(self, inode: pyfuse3.InodeT, ctx: pyfuse3.RequestContext) -> pyfuse3.EntryAttributes:
        """GETATTR."""
        return self._entry(self._fs.attributes(self._fs.inode(inode)), name_ttl_s=0.0)

    async def forget(self, inode_list: Sequence[tuple[pyfuse3.InodeT, int]]) -> None:
        """FORGET."""
        for inode, count in inode_list:
            self._fs.forget(inode, count)

    @answering
    async def opendir(self, inode: pyfuse3.InodeT, ctx: pyfuse3.RequestContext) -> pyfuse3.FileHandleT:
        """OPENDIR: the listing is taken now, so that what is read of it hangs together."""
        handle = self._new_handle()
        self._listings[handle] = await self._list(inode)
        return handle

    async def _list(self, nodeid: int) -> _Listing:
        entries = await self._fs.entries(nodeid)
        return _Listing(nodeid, entries, trio.current_time() + self._fs.names_good_for_s(nodeid))

    @answering
    async def readdir(self, fh: pyfuse3.FileHandleT, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        """READDIRPLUS. `start_id` is 0 or the id of the last entry that was read: the index of the next."""
        listing = self._listings[fh]
        if start_id == 0 and listing.begun:
            # rewinddir(3) shows what is there now.
            listing = self._listings[fh] = await self._list(listing.parent)
        listing.begun = True
        name_ttl_s = max(0.0, listing.good_until - trio.current_time())
        for index in range(start_id, len(listing.entries)):
            entry = listing.entries[index]
            inode = self._fs.remember(listing.parent, entry)
            shown = self._entry(self._fs.attributes(inode), name_ttl_s=name_ttl_s)
            if not pyfuse3.readdir_reply(token, pyfuse3.FileNameT(os.fsencode(entry.name)), shown, index + 1):
                self._fs.forget(inode.nodeid, 1)
                break

    @answering
    async def releasedir(self, fh: pyfuse3.FileHandleT) -> None:
        """RELEASEDIR."""
        self._listings.pop(fh, None)

    @answering
    async def open(self, inode: pyfuse3.InodeT, flags: int, ctx: pyfuse3.RequestContext) -> pyfuse3.FileInfo:
        """OPEN. The kernel keeps the pages of a node id: they belong to one version for ever."""
        if flags & os.O_ACCMODE != os.O_RDONLY:
            raise pyfuse3.FUSEError(errno.EROFS)
        handle = self._new_handle()
        self._handles[handle] = await self._fs.open(inode)
        return pyfuse3.FileInfo(fh=handle, keep_cache=True)

    @answering
    async def read(self, fh: pyfuse3.FileHandleT, off: int, size: int) -> bytes:
        """READ."""
        return await self._fs.read(self._handles[fh], off, size)

    @answering
    async def release(self, fh: pyfuse3.FileHandleT) -> None:
        """RELEASE."""
        handle = self._handles.pop(fh, None)
        if handle is not None:
            self._fs.close(handle)

    def close_all(self) -> None:
        """Closes what the kernel did not: after an abort no RELEASE comes."""
        for handle in self._handles.values():
            self._fs.close(handle)
        self._handles.clear()
        self._listings.clear()
