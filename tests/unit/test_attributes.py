"""What stat(2) shows."""

from __future__ import annotations

import stat

import pytest

from fluidfs.fs.attributes import Ownership, attributes_of
from fluidfs.meta.entries import DirectoryEntry, FileEntry
from fluidfs.meta.inodes import Inode
from fluidfs.model import ObjectInfo

OWNERSHIP = Ownership(uid=7, gid=8, file_mode=0o440, dir_mode=0o750)
FILE = Inode(5, "d/f", FileEntry("f", ObjectInfo("p/d/f", 1000, 123_456_789, "v")))
DIRECTORY = Inode(6, "d", DirectoryEntry("d", 42))


def test_a_file_shows_its_objects_size_and_time() -> None:
    shown = attributes_of(FILE, OWNERSHIP)
    assert (shown.nodeid, shown.size_bytes, shown.mtime_ns) == (5, 1000, 123_456_789)
    assert (shown.uid, shown.gid, shown.nlink) == (7, 8, 1)
    assert shown.mode == stat.S_IFREG | 0o440


def test_a_directory_has_one_link_so_that_find_looks_into_it() -> None:
    shown = attributes_of(DIRECTORY, OWNERSHIP)
    assert (shown.nodeid, shown.size_bytes, shown.mtime_ns, shown.nlink) == (6, 0, 42, 1)
    assert shown.mode == stat.S_IFDIR | 0o750


@pytest.mark.parametrize(("size", "blocks"), [(0, 0), (1, 1), (512, 1), (513, 2), (1 << 40, 1 << 31)])
def test_blocks_are_units_of_512_bytes(size: int, blocks: int) -> None:
    inode = Inode(5, "f", FileEntry("f", ObjectInfo("f", size, 0, "v")))
    assert attributes_of(inode, OWNERSHIP).blocks == blocks
