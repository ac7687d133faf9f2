"""What stat(2) shows of an inode. Pure."""

from __future__ import annotations

import stat
from dataclasses import dataclass

from fluidfs.meta.entries import FileEntry
from fluidfs.meta.inodes import Inode

# What a reader is told to read at once; the kernel's largest READ.
IO_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Ownership:
    """Whom files and directories belong to, and their permission bits: a store keeps none of it."""

    uid: int
    gid: int
    file_mode: int
    dir_mode: int


@dataclass(frozen=True, slots=True)
class Attributes:
    """The attributes of an inode, in the units of struct stat."""

    nodeid: int
    mode: int
    nlink: int
    uid: int
    gid: int
    size_bytes: int
    mtime_ns: int

    @property
    def blocks(self) -> int:
        """Units of 512 bytes, as st_blocks has them: what the object takes in its store."""
        return (self.size_bytes + 511) // 512


def attributes_of(inode: Inode, ownership: Ownership) -> Attributes:
    """The attributes of a file at its version, or of a directory."""
    entry = inode.entry
    if isinstance(entry, FileEntry):
        mode, nlink, size, mtime_ns = stat.S_IFREG | ownership.file_mode, 1, entry.info.size, entry.info.mtime_ns
    else:
        # One link, as file systems do that do not count subdirectories: `find` then looks into each of them.
        mode, nlink, size, mtime_ns = stat.S_IFDIR | ownership.dir_mode, 1, 0, entry.mtime_ns
    return Attributes(inode.nodeid, mode, nlink, ownership.uid, ownership.gid, size, mtime_ns)
