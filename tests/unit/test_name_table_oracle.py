"""The native name table shows what the slow path in Python shows, and takes no buffers that are not a listing."""

from __future__ import annotations

import random
import struct
from array import array
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fluidfs._native.names import ROOT_NODE, NameTable
from fluidfs.fs.attributes import Attributes
from fluidfs.meta.entries import DirectoryEntry
from fluidfs.meta.inodes import ROOT_NODEID
from fluidfs.meta.listing import Listing
from fluidfs.store.base import FileTransport
from tests.unit.memory_store import MemoryStore
from tests.unit.naming import Clock, Packed, encoded, file, learn, new_table, read
from tests.unit.rig import Rig, running

# ---- against the slow path


async def tree(rig: Rig, table: NameTable, nodeid: int, node: int) -> int:
    """Compares a directory, and all below it, as both show it; how many names."""
    listing = await rig.filesystem.entries(nodeid)
    assert isinstance(listing, Listing)
    assert learn(table, listing, node) == set()
    shown = {entry.name: entry for entry in read(table, listing, node, capacity=700)[2:]}
    assert list(shown) == [encoded(entry.name) for entry in listing]
    count = len(listing)
    for entry in listing:
        inode = await rig.filesystem.lookup(nodeid, entry.name)
        answer = table.lookup(node, encoded(entry.name))
        assert table.entry(answer.node) == entry == inode.entry
        assert table.path(answer.node) == inode.path
        facts = (answer.node, *answer[2:7], answer.mtime_ns)
        expected = rig.filesystem.attributes(inode)
        assert Attributes(*facts) == Attributes(answer.node, *list(_values(expected))[1:])
        assert answer.blocks == expected.blocks
        assert shown[encoded(entry.name)].node == answer.node
        if isinstance(entry, DirectoryEntry):
            count += await tree(rig, table, inode.nodeid, answer.node)
    return count


def _values(attributes: Attributes) -> Iterator[int]:
    return (getattr(attributes, name) for name in Attributes.__slots__)


@pytest.mark.parametrize("seed", range(6))
async def test_all_of_a_random_bucket_is_shown_as_python_shows_it(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    components = ["a", "b", "c.txt", "é", "\udcff", "d", "e", "x" * 200]
    keys = {"/".join(rng.choices(components, k=rng.randint(1, 4))) for _ in range(200)}
    objects = {key: rng.randbytes(rng.choice([0, 1, 511, 512, 513, 5000])) for key in sorted(keys)}
    store = MemoryStore(objects, transport=FileTransport(str(tmp_path)))
    async with running(store, None) as rig:
        assert await tree(rig, new_table(Clock()), ROOT_NODEID, ROOT_NODE) > 20


# ---- listings that are none


@pytest.mark.parametrize(
    "names",
    [[""], ["."], [".."], ["a/b"], ["b", "a"], ["a", "a"], ["x" * 256], ["a", "\udcff", "b"]],
)
def test_names_that_no_directory_can_have_are_refused(names: list[str]) -> None:
    records = [struct.pack("<qq", 1, 1) + encoded(name) + b"\0v" for name in names]
    ends = array("I", (sum(map(len, records[: index + 1])) for index in range(len(records))))
    with pytest.raises(ValueError, match="no listing"):
        learn(new_table(Clock()), Packed(b"".join(records), ends))


def test_sizes_below_that_of_a_directory_are_refused() -> None:
    record = struct.pack("<qq", -2, 1) + b"a\0v"
    with pytest.raises(ValueError, match="no listing"):
        learn(new_table(Clock()), Packed(record, array("I", [len(record)])))
    with pytest.raises(ValueError, match="4 or 8 bytes"):
        learn(new_table(Clock()), Packed(record, array("H", [len(record)])))
    assert learn(new_table(Clock()), Packed(b"", array("Q"))) == set()


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    names=st.sets(st.text(st.characters(exclude_characters="/\0", codec="utf-8"), min_size=1, max_size=5), max_size=4),
    wide=st.booleans(),
    changes=st.lists(st.tuples(st.booleans(), st.integers(0, 200), st.integers(0, 255)), max_size=4),
    cut=st.integers(0, 3),
)
def test_mangled_buffers_are_refused_or_read_within_bounds(
    names: set[str], wide: bool, changes: list[tuple[bool, int, int]], cut: int
) -> None:
    packed = Listing("", {name: file() for name in names}).packed
    records, ends = bytearray(packed[0]), array("Q" if wide else "I", packed[1])
    for in_ends, at, value in changes:
        if in_ends and ends:
            ends[at % len(ends)] = value if at % 3 else (1 << 32) - 1 - value
        elif records:
            records[at % len(records)] = value
    listing = Packed(bytes(records[: len(records) - cut]), ends)
    table = new_table(Clock())
    try:
        learn(table, listing)
    except ValueError:
        return
    shown = [entry.name for entry in read(table, listing)[2:]]
    assert shown == sorted(set(shown))
    assert len(shown) == len(ends)
    for name in shown:
        node = table.lookup(ROOT_NODE, name).node
        assert encoded(table.entry(node).name) == name
