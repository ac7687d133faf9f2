"""Nodes of the kernel as inodes: what a node id stands for, whoever gives node ids out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from fluidfs._native.names import NameTable
from fluidfs.errors import NotADirectory
from fluidfs.meta.entries import DirectoryEntry, Entry, FileEntry
from fluidfs.meta.inodes import ROOT_NODEID, Inode, UnknownNode
from fluidfs.model import ObjectInfo


class Nodes(Protocol):
    """Where a node id can be looked up."""

    def get(self, nodeid: int) -> Inode:
        """The inode of a node that the kernel knows. Raises UnknownNode."""
        ...

    def __len__(self) -> int:
        """How many nodes the kernel knows, the root included."""
        ...


def entry_maker(prefix: str) -> Callable[[str, int, int, str], Entry]:
    """What makes the entry of a path out of its record, in a mount of what lies below `prefix` of a store."""

    def entry(path: str, size: int, mtime_ns: int, version: str) -> Entry:
        name = path.rpartition("/")[2]
        if size < 0:
            return DirectoryEntry(name, mtime_ns)
        return FileEntry(name, ObjectInfo(prefix + path, size, mtime_ns, version))

    return entry


class NativeNodes:
    """The nodes of a native name table, which gives them out, counts them and forgets them by itself.

    `table` was made with an `entry_maker`. A node whose name stands for another version by now, or for nothing, is
    known until the kernel has forgotten it.
    """

    def __init__(self, table: NameTable, *, root_mtime_ns: int) -> None:
        self._table = table
        self._root = Inode(ROOT_NODEID, "", DirectoryEntry("", root_mtime_ns))

    def get(self, nodeid: int) -> Inode:
        """See Nodes."""
        if nodeid == ROOT_NODEID:
            return self._root
        try:
            return Inode(nodeid, self._table.path(nodeid), self._table.entry(nodeid))
        except OSError:
            raise UnknownNode(f"no inode {nodeid:#x} is known") from None

    def __len__(self) -> int:
        """See Nodes."""
        return self._table.known

    def directory(self, nodeid: int) -> str:
        """The path of a directory. Raises UnknownNode, NotADirectory."""
        inode = self.get(nodeid)
        if not isinstance(inode.entry, DirectoryEntry):
            raise NotADirectory(f"{inode.path!r} is a file")
        return inode.path

    def at(self, path: str) -> int | None:
        """The node of a path; None when the kernel knows none."""
        return self._table.at(path)

    def expire(self, nodeid: int) -> None:
        """What was learnt of a directory is not believed any more."""
        self._table.expire(nodeid)

    def sweep(self, expired_for_s: float) -> None:
        """Drops listings that expired so long ago, and the nodes that lived by them only."""
        self._table.sweep(expired_for_s)
