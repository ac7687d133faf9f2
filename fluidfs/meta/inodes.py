"""Node ids of paths and versions, and how many times the kernel was told each.

A node id is a hash of (path, version), so it is the same after a restart, and a file that was overwritten has another:
the page cache, the open mode and the backing file of an inode belong to one version for ever. A directory has no
version; its node id is that of its path.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b

from fluidfs.errors import FileSystemError
from fluidfs.meta.entries import DirectoryEntry, Entry, FileEntry

ROOT_NODEID = 1

# Bit 63 stays clear: node ids pass through signed 64-bit fields in some tools, and FUSE marks resent requests there.
_NODEID_MASK = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class Inode:
    """What a node id stands for. `path` is relative to the mount, "" for its root."""

    nodeid: int
    path: str
    entry: Entry


class UnknownNode(FileSystemError):
    """A node id that was never handed out, or that the kernel has given up. It points to a bug, ours or a kernel's."""


def hashed_nodeid(path: str, version: str | None) -> int:
    """The 63-bit node id that (path, version) has unless another pair holds it; `version` is None for a directory."""
    digest = blake2b(path.encode("utf-8", "surrogateescape"), digest_size=8)
    # No path has a NUL, so the pair can be told from every other pair; a directory hashes its path alone.
    if version is not None:
        digest.update(b"\0" + version.encode("utf-8", "surrogateescape"))
    return int.from_bytes(digest.digest(), "big") & _NODEID_MASK


class Inodes:
    """The node ids that the kernel knows of, each with its lookup count.

    Not thread-safe. The root is always there, and is not counted. Two pairs whose hashes collide both get an id of
    their own for as long as the kernel knows the first; only then is an id not the same after a restart.
    """

    __slots__ = ("_counts", "_displaced", "_hash", "_inodes")

    def __init__(
        self, *, root_mtime_ns: int = 0, nodeid_hash: Callable[[str, str | None], int] = hashed_nodeid
    ) -> None:
        self._hash = nodeid_hash
        self._inodes = {ROOT_NODEID: Inode(ROOT_NODEID, "", DirectoryEntry("", root_mtime_ns))}
        self._counts: dict[int, int] = {}
        self._displaced: dict[tuple[str, str | None], int] = {}

    def __len__(self) -> int:
        """How many nodes are known, the root included."""
        return len(self._inodes)

    def remember(self, path: str, entry: Entry) -> Inode:
        """The inode of `entry` at `path`; counts one lookup, to be given back by `forget`."""
        if not path:
            return self._inodes[ROOT_NODEID]
        nodeid = self._nodeid(path, _version(entry))
        inode = self._inodes.get(nodeid)
        if inode is None or inode.entry != entry:
            inode = Inode(nodeid, path, entry)
            self._inodes[nodeid] = inode
        self._counts[nodeid] = self._counts.get(nodeid, 0) + 1
        return inode

    def get(self, nodeid: int) -> Inode:
        """The inode of `nodeid`. Raises UnknownNode."""
        try:
            return self._inodes[nodeid]
        except KeyError:
            raise UnknownNode(f"no inode {nodeid:#x} is known") from None

    def forget(self, nodeid: int, count: int = 1) -> None:
        """Give back `count` lookups; the inode is dropped with the last.

        More than were counted, or an unknown node, is no error: counts may be too high after a takeover.
        """
        left = self._counts.get(nodeid, 0) - count
        if left > 0:
            self._counts[nodeid] = left
        elif self._counts.pop(nodeid, None) is not None:
            gone = self._inodes.pop(nodeid)
            self._displaced.pop((gone.path, _version(gone.entry)), None)

    def _nodeid(self, path: str, version: str | None) -> int:
        displaced = self._displaced.get((path, version))
        if displaced is not None:
            return displaced
        wanted = nodeid = self._hash(path, version)
        while not self._is_free_for(nodeid, path, version):
            nodeid = (nodeid + 1) & _NODEID_MASK
        if nodeid != wanted:
            # Kept, so that the pair stays at this id even after the one that holds its hash is forgotten.
            self._displaced[path, version] = nodeid
        return nodeid

    def _is_free_for(self, nodeid: int, path: str, version: str | None) -> bool:
        if nodeid in (0, ROOT_NODEID):
            return False
        holder = self._inodes.get(nodeid)
        return holder is None or (holder.path == path and _version(holder.entry) == version)


def _version(entry: Entry) -> str | None:
    return entry.info.version if isinstance(entry, FileEntry) else None
