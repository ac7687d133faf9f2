"""Name tables with a clock of their own, and listings for them."""

from __future__ import annotations

import os
import re
from array import array
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from fluidfs._native.names import ROOT_NODE, NameTable
from fluidfs.meta.entries import DirectoryEntry, FileEntry
from fluidfs.meta.listing import Listing, Row
from fluidfs.model import ObjectInfo
from tests.unit.dirents import Dirent, parse_plus
from tests.unit.rig import OWNERSHIP

if TYPE_CHECKING:
    from fluidfs._native.names import PackedListing

S = 1_000_000_000


class Clock:
    """Stands still until it is set."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> int:
        return int(self.now_s * S)


def new_table(clock: Clock) -> NameTable:
    return NameTable(
        uid=OWNERSHIP.uid,
        gid=OWNERSHIP.gid,
        file_mode=OWNERSHIP.file_mode,
        dir_mode=OWNERSHIP.dir_mode,
        root_mtime_ns=1,
        entry_of=entry_of,
        clock=clock,
    )


def entry_of(path: str, size: int, mtime_ns: int, version: str) -> FileEntry | DirectoryEntry:
    name = path.rpartition("/")[2]
    return DirectoryEntry(name, mtime_ns) if size < 0 else FileEntry(name, ObjectInfo(path, size, mtime_ns, version))


def rows(**named: Row) -> Listing:
    return Listing("", named)


def file(version: str = "v1", size: int = 1, mtime_ns: int = 1) -> Row:
    return Row(size, mtime_ns, version)


def encoded(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


def learn(
    table: NameTable, listing: PackedListing, directory: int = ROOT_NODE, good_for_s: float = 60, due_in_s: float = 45
) -> set[bytes]:
    return set(table.learn(directory, listing, good_for_s=good_for_s, due_in_s=due_in_s))


def read(
    table: NameTable,
    listing: PackedListing,
    directory: int = ROOT_NODE,
    *,
    capacity: int = 4096,
    good_for_s: float = 60,
) -> list[Dirent]:
    """All of a directory, by as many READDIRPLUS as it takes."""
    entries: list[Dirent] = []
    while data := table.read_directory(
        directory,
        listing,
        entries[-1].following if entries else 0,
        plus=True,
        good_for_s=good_for_s,
        capacity=capacity,
    ):
        assert len(data) <= capacity
        entries += parse_plus(data)
    return entries


@contextmanager
def refused(number: int) -> Iterator[None]:
    with pytest.raises(OSError, match=re.escape(os.strerror(number))) as raised:
        yield
    assert raised.value.errno == number


def listing_names(listing: Iterable[FileEntry | DirectoryEntry]) -> list[str]:
    return [entry.name for entry in listing]


class Packed:
    """Buffers, given as a listing's."""

    def __init__(self, records: bytes, ends: array[int]) -> None:
        self.packed = records, ends
