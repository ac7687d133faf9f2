"""Node ids: one for each path and version, stable, counted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fluidfs.meta.entries import DirectoryEntry, FileEntry
from fluidfs.meta.inodes import ROOT_NODEID, Inodes, UnknownNode, hashed_nodeid
from fluidfs.model import ObjectInfo


def file(path: str, version: str) -> FileEntry:
    return FileEntry(path.rpartition("/")[2], ObjectInfo(path, 1, 0, version))


def test_the_root_is_there_from_the_start_and_for_ever() -> None:
    inodes = Inodes(root_mtime_ns=5)
    assert inodes.get(ROOT_NODEID).path == ""
    assert inodes.get(ROOT_NODEID).entry == DirectoryEntry("", 5)
    inodes.forget(ROOT_NODEID, 100)
    assert inodes.remember("", DirectoryEntry("", 9)).nodeid == ROOT_NODEID


def test_a_node_id_is_the_same_after_a_restart() -> None:
    first, second = Inodes(), Inodes()
    assert first.remember("a/b", file("a/b", "v1")).nodeid == second.remember("a/b", file("a/b", "v1")).nodeid
    # Written down, so that a change of the scheme is noticed: it would change st_ino of every mount.
    assert hashed_nodeid("a/b", "v1") == hashed_nodeid("a/b", "v1") == 0x2BCBD70F002BE010


def test_an_overwritten_file_has_another_node_and_the_old_one_stays_until_forgotten() -> None:
    inodes = Inodes()
    old = inodes.remember("f", file("f", "v1"))
    new = inodes.remember("f", file("f", "v2"))
    assert old.nodeid != new.nodeid
    assert inodes.get(old.nodeid).entry == file("f", "v1")
    inodes.forget(old.nodeid, 1)
    with pytest.raises(UnknownNode):
        inodes.get(old.nodeid)
    assert inodes.get(new.nodeid) == new


def test_a_directory_keeps_its_node_whatever_its_time() -> None:
    inodes = Inodes()
    first = inodes.remember("d", DirectoryEntry("d", 1))
    second = inodes.remember("d", DirectoryEntry("d", 2))
    assert first.nodeid == second.nodeid
    assert inodes.get(first.nodeid).entry == DirectoryEntry("d", 2)


def test_a_node_lives_until_every_lookup_is_given_back() -> None:
    inodes = Inodes()
    (nodeid,) = {inodes.remember("f", file("f", "v")).nodeid for _ in range(3)}
    inodes.forget(nodeid, 2)
    assert inodes.get(nodeid).path == "f"
    inodes.forget(nodeid, 1)
    with pytest.raises(UnknownNode):
        inodes.get(nodeid)
    assert len(inodes) == 1


def test_forgetting_too_much_or_a_stranger_is_no_error() -> None:
    inodes = Inodes()
    nodeid = inodes.remember("f", file("f", "v")).nodeid
    inodes.forget(nodeid, 7)
    inodes.forget(nodeid, 1)
    inodes.forget(12345, 1)
    assert len(inodes) == 1


def test_colliding_pairs_have_nodes_of_their_own_that_do_not_move() -> None:
    inodes = Inodes(nodeid_hash=lambda _path, _version: 77)
    one = inodes.remember("one", file("one", "v"))
    two = inodes.remember("two", file("two", "v"))
    assert one.nodeid != two.nodeid
    inodes.forget(one.nodeid, 1)
    assert inodes.remember("two", file("two", "v")).nodeid == two.nodeid


@pytest.mark.parametrize("taken", [0, ROOT_NODEID, (1 << 63) - 1])
def test_zero_and_the_root_are_never_given_away(taken: int) -> None:
    inodes = Inodes(nodeid_hash=lambda _path, _version: taken)
    ids = [inodes.remember(name, file(name, "v")).nodeid for name in "abc"]
    assert len(set(ids)) == 3
    assert all(1 < nodeid < 1 << 63 for nodeid in ids)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["v1", "v2"]), st.booleans()), max_size=60))
def test_nodes_are_known_exactly_while_their_lookups_are_outstanding(steps: list[tuple[str, str, bool]]) -> None:
    # A hash of two values makes collisions the rule.
    inodes = Inodes(nodeid_hash=lambda path, _version: 10 + ord(path) % 2)
    outstanding: dict[tuple[str, str], int] = {}
    ids: dict[tuple[str, str], int] = {}
    for path, version, looks_up in steps:
        pair = (path, version)
        if looks_up:
            inode = inodes.remember(path, file(path, version))
            assert outstanding.get(pair, 0) == 0 or ids[pair] == inode.nodeid
            ids[pair] = inode.nodeid
            outstanding[pair] = outstanding.get(pair, 0) + 1
        elif outstanding.get(pair, 0):
            inodes.forget(ids[pair], 1)
            outstanding[pair] -= 1
        live = {pair for pair, count in outstanding.items() if count}
        assert len(inodes) == 1 + len(live)
        assert len({ids[pair] for pair in live}) == len(live)
        for path_, version_ in live:
            assert inodes.get(ids[path_, version_]).entry == file(path_, version_)
