"""The native name table: what it answers by itself, and what it leaves to Python."""

from __future__ import annotations

import errno
import os
import stat

import pytest
import xxhash

from fluidfs._native.names import NAME_BYTES_MAX, ROOT_NODE, NameTable
from fluidfs.meta.entries import FileEntry
from fluidfs.meta.listing import Listing, Row
from fluidfs.model import ObjectInfo
from tests.unit.dirents import parse_plain
from tests.unit.naming import Clock, S, encoded, file, learn, listing_names, new_table, read, refused, rows


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def table(clock: Clock) -> NameTable:
    return new_table(clock)


# ---- LOOKUP


def test_a_directory_that_was_never_listed_is_left_to_python(table: NameTable) -> None:
    with refused(errno.ENODATA):
        table.lookup(ROOT_NODE, b"a")
    with refused(errno.ENODATA):
        table.open_directory(ROOT_NODE)


def test_a_listing_that_expired_is_asked_for_again(table: NameTable, clock: Clock) -> None:
    learn(table, rows(a=file()), good_for_s=10)
    clock.now_s += 4
    assert table.lookup(ROOT_NODE, b"a").name_valid_ns == 6 * S
    clock.now_s += 6
    with refused(errno.ENODATA):
        table.lookup(ROOT_NODE, b"a")
    learn(table, rows(a=file()), good_for_s=10)
    assert table.lookup(ROOT_NODE, b"a").name_valid_ns == 10 * S


def test_a_listing_may_be_good_for_ever(table: NameTable, clock: Clock) -> None:
    learn(table, rows(a=file()), good_for_s=float("inf"), due_in_s=float("inf"))
    clock.now_s += 1e9
    assert table.lookup(ROOT_NODE, b"a").node
    assert not table.take_due()


def test_a_name_that_is_not_there_is_not_there_for_as_long_as_the_listing_is_good(
    table: NameTable, clock: Clock
) -> None:
    learn(table, rows(a=file(), c=file()), good_for_s=10)
    clock.now_s += 0.5
    for name in (b"b", b"", b"d", b"A", b"a\xff"):
        answer = table.lookup(ROOT_NODE, name)
        assert (answer.node, answer.name_valid_ns) == (0, 9.5 * S)
    assert table.known == 1


def test_names_have_255_bytes_at_most(table: NameTable) -> None:
    longest = "é" * 127 + "x"
    learn(table, Listing("", {longest: file()}))
    assert len(encoded(longest)) == NAME_BYTES_MAX
    assert table.lookup(ROOT_NODE, encoded(longest)).node
    with refused(errno.ENAMETOOLONG):
        table.lookup(ROOT_NODE, b"x" * 256)


def test_a_file_is_no_directory_and_a_directory_no_file(table: NameTable) -> None:
    learn(table, rows(d=Row.directory(1), f=file()))
    directory, plain = table.lookup(ROOT_NODE, b"d").node, table.lookup(ROOT_NODE, b"f").node
    with refused(errno.ENOTDIR):
        table.lookup(plain, b"x")
    with refused(errno.ENOTDIR):
        learn(table, rows(), plain)
    with refused(errno.ENOTDIR):
        table.open_directory(plain)
    with refused(errno.EISDIR):
        table.size(directory)
    with refused(errno.EISDIR):
        table.entry(ROOT_NODE)


def test_nodes_that_are_not_known_are_stale(table: NameTable) -> None:
    for node in (0, 2, 1 << 32 | 1, 1 << 63, (1 << 64) - 1):
        with refused(errno.ESTALE):
            table.lookup(node, b"a")
        with refused(errno.ESTALE):
            table.attributes(node)
        with refused(errno.ESTALE):
            learn(table, rows(), node)
        table.forget(node, 1)
        table.expire(node)
        assert table.read_directory(node, rows(), 0, plus=True, good_for_s=1, capacity=4096) == b""


def test_python_may_answer_for_single_names(table: NameTable, clock: Clock) -> None:
    single = Listing("", {"a": file("v1", 5)})
    answer = table.found(ROOT_NODE, single, 0, good_for_s=3)
    assert (answer.size_bytes, answer.name_valid_ns) == (5, 3 * S)
    again = table.found(ROOT_NODE, Listing("", {"a": file("v1", 5)}), 0, good_for_s=3)
    assert again.node == answer.node
    with refused(errno.ENODATA):
        table.lookup(ROOT_NODE, b"a")
    with refused(errno.EINVAL):
        table.found(ROOT_NODE, single, 1, good_for_s=3)
    assert learn(table, rows(a=file("v2"))) == {b"a"}


def test_what_was_found_singly_is_gone_when_the_listing_does_not_have_it(table: NameTable) -> None:
    learn(table, rows(a=file()))
    node = table.found(ROOT_NODE, rows(b=file()), 0, good_for_s=3).node
    assert table.at("b") == node
    assert table.lookup(ROOT_NODE, b"b").node == 0
    assert table.at("b") is None
    assert table.path(node) == "b"


# ---- attributes


def test_what_stat_shows(table: NameTable) -> None:
    learn(table, rows(d=Row.directory(7), f=Row((5 << 32) + 1, 1_700_000_000_123_456_789, "v"), old=Row(0, -1, "v")))
    directory = table.lookup(ROOT_NODE, b"d")
    assert (directory.mode, directory.nlink) == (stat.S_IFDIR | 0o555, 1)
    assert (directory.size_bytes, directory.blocks, directory.mtime_ns) == (0, 0, 7)
    large = table.lookup(ROOT_NODE, b"f")
    assert (large.mode, large.uid, large.gid) == (stat.S_IFREG | 0o444, 1000, 1000)
    assert (large.size_bytes, large.blocks) == ((5 << 32) + 1, (5 << 23) + 1)
    assert large.mtime_ns == 1_700_000_000_123_456_789
    assert table.lookup(ROOT_NODE, b"old").mtime_ns == -1
    root = table.attributes(ROOT_NODE)
    assert (root.ino, root.mode, root.mtime_ns) == (1, stat.S_IFDIR | 0o555, 1)
    shown = table.attributes(large.node)
    assert shown._replace(name_valid_ns=large.name_valid_ns) == large
    assert shown.attributes_valid_ns == 3600 * S


def test_inode_numbers_are_those_of_the_path_in_every_mount(table: NameTable, clock: Clock) -> None:
    other = new_table(clock)
    for one, version in ((table, "v1"), (other, "v2")):
        learn(one, rows(a=file(version), b=Row.directory(1)))
        learn(one, rows(a=file(version)), one.lookup(ROOT_NODE, b"b").node)
    inside = table.lookup(table.at("b") or 0, b"a").ino
    assert inside == other.lookup(other.at("b") or 0, b"a").ino
    assert table.lookup(ROOT_NODE, b"a").ino == other.lookup(ROOT_NODE, b"a").ino != inside
    # Worked out apart from us, so that a change of the scheme is noticed: it would change st_ino of every mount.
    directory = xxhash.xxh3_64_intdigest(b"b", seed=ROOT_NODE) & ((1 << 63) - 1)
    assert inside == xxhash.xxh3_64_intdigest(b"a", seed=directory) & ((1 << 63) - 1)


def test_two_names_of_one_hash_are_two_nodes(table: NameTable) -> None:
    # Made after XXH3's short form, where 0 and x, and x turned round and 0, give the same.
    one, other = (
        bytes.fromhex("ba3942ea7b738267 7ef8f262986ee26d"),
        bytes.fromhex("788d90491017282039529609 3bbc56af"),
    )
    assert xxhash.xxh3_64_intdigest(one, seed=ROOT_NODE) == xxhash.xxh3_64_intdigest(other, seed=ROOT_NODE)
    learn(table, Listing("", {os.fsdecode(one): file(size=1), os.fsdecode(other): file(size=2)}))
    first, second = table.lookup(ROOT_NODE, one), table.lookup(ROOT_NODE, other)
    assert first.ino == second.ino
    assert (first.size_bytes, second.size_bytes) == (1, 2)
    assert first.node != second.node
    assert learn(table, Listing("", {os.fsdecode(other): file(size=2)})) == {one}
    assert table.lookup(ROOT_NODE, one).node == 0
    assert table.lookup(ROOT_NODE, other).node == second.node


# ---- versions


def test_an_overwritten_file_has_another_node_and_the_old_one_stays_until_forgotten(table: NameTable) -> None:
    learn(table, rows(a=file("v1", 1), b=file()))
    old = table.lookup(ROOT_NODE, b"a").node
    assert learn(table, rows(a=file("v2", 2), b=file())) == {b"a"}
    new = table.lookup(ROOT_NODE, b"a").node
    assert new != old
    assert (table.path(old), table.size(old), table.entry(old)) == ("a", 1, FileEntry("a", ObjectInfo("a", 1, 1, "v1")))
    assert (table.path(new), table.size(new)) == ("a", 2)
    assert table.at("a") == new
    table.forget(old)
    with refused(errno.ESTALE):
        table.size(old)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (file("v1"), file("v2")),
        (file("v1", size=1), file("v1", size=2)),
        (file("v1", mtime_ns=1), file("v1", mtime_ns=2)),
        (file("v1"), Row.directory(1)),
        (Row.directory(1), file("v1")),
    ],
)
def test_only_names_that_the_kernel_knows_are_told_to_have_changed(table: NameTable, before: Row, after: Row) -> None:
    learn(table, rows(a=before, b=before, c=file(), d=Row.directory(1)))
    for name in (b"a", b"c", b"d"):
        table.lookup(ROOT_NODE, name)
    assert learn(table, rows(a=after, b=after, c=file(), d=Row.directory(2), e=file())) == {b"a"}
    assert table.lookup(ROOT_NODE, b"d").mtime_ns == 2


def test_what_is_gone_is_told_to_have_changed(table: NameTable) -> None:
    learn(table, rows(a=file(), d=Row.directory(1)))
    directory = table.lookup(ROOT_NODE, b"d").node
    learn(table, rows(x=file()), directory)
    inside = table.lookup(directory, b"x").node
    assert learn(table, rows(a=file())) == {b"d"}
    # Whoever has it open, or stands in it, goes on.
    assert table.path(inside) == "d/x"
    assert table.lookup(directory, b"x").node == inside
    assert table.at("d/x") is None


def test_an_equal_listing_changes_nothing_but_the_time(table: NameTable, clock: Clock) -> None:
    first, second = rows(a=file(), b=file()), rows(a=file(), b=file())
    learn(table, first, good_for_s=10)
    node = table.lookup(ROOT_NODE, b"a").node
    table.open_directory(ROOT_NODE)
    clock.now_s += 9
    assert learn(table, second, good_for_s=10) == set()
    clock.now_s += 9
    opened = table.open_directory(ROOT_NODE)
    assert opened.unchanged
    assert opened.listing is first
    assert table.lookup(ROOT_NODE, b"a").node == node
    assert table.listings == 1


def test_a_directory_opened_with_another_listing_has_changed(table: NameTable) -> None:
    learn(table, rows(a=file()))
    assert [table.open_directory(ROOT_NODE).unchanged for _ in range(2)] == [False, True]
    other = rows(b=file())
    learn(table, other)
    assert [table.open_directory(ROOT_NODE).unchanged for _ in range(2)] == [False, True]
    assert table.note_opened(ROOT_NODE, other)
    assert not table.note_opened(ROOT_NODE, rows(b=file()))
    assert not table.open_directory(ROOT_NODE).unchanged


# ---- READDIR


@pytest.mark.parametrize("capacity", [280 + 160, 1000, 4096, 1 << 16])
def test_a_directory_is_read_in_pieces_and_each_lookup_is_counted(table: NameTable, capacity: int) -> None:
    files = {f"n{number:03}" + "é" * (number % 60): file(size=number) for number in range(100)}
    listing = Listing("", {**files, "sub": Row.directory(1)})
    learn(table, listing)
    entries = read(table, listing, capacity=capacity, good_for_s=2.5)
    assert [entry.name for entry in entries] == [
        b".",
        b"..",
        *(encoded(name) for name in sorted(listing_names(listing))),
    ]
    assert [entry.following for entry in entries] == list(range(1, len(entries) + 1))
    assert [entry.node for entry in entries[:2]] == [0, 0]
    assert entries[-1].kind == stat.S_IFDIR >> 12
    for entry in entries[2:]:
        assert entry.name_valid_ns == 2.5 * S
        assert (entry.ino, entry.size_bytes) == (entry.attributes_ino, table.attributes(entry.node).size_bytes)
        assert entry.node == table.lookup(ROOT_NODE, entry.name).node
        table.forget(entry.node, 1)
    assert table.known == 102
    for entry in entries[2:]:
        table.forget(entry.node, 1)
    assert table.known == 1


def test_readdir_shows_names_and_makes_no_nodes(table: NameTable) -> None:
    listing = rows(a=file(), d=Row.directory(1))
    data = table.read_directory(ROOT_NODE, listing, 0, plus=False, good_for_s=1, capacity=4096)
    entries = list(parse_plain(data))
    assert [(entry.name, entry.kind) for entry in entries] == [(b".", 4), (b"..", 4), (b"a", 8), (b"d", 4)]
    assert table.known == 1
    learn(table, listing)
    assert [table.lookup(ROOT_NODE, entry.name).ino for entry in entries[2:]] == [entry.ino for entry in entries[2:]]
    rest = table.read_directory(ROOT_NODE, listing, 3, plus=False, good_for_s=1, capacity=4096)
    assert [entry.name for entry in parse_plain(rest)] == [b"d"]
    assert table.read_directory(ROOT_NODE, listing, 4, plus=False, good_for_s=1, capacity=4096) == b""
    assert table.read_directory(ROOT_NODE, listing, (1 << 64) - 1, plus=False, good_for_s=1, capacity=4096) == b""


def test_dot_and_dot_dot_are_the_directory_and_its_parent(table: NameTable) -> None:
    learn(table, rows(d=Row.directory(1)))
    inner = table.lookup(ROOT_NODE, b"d")
    assert [entry.ino for entry in read(table, rows())] == [1, 1]
    assert [(entry.ino, entry.mode) for entry in read(table, rows(), inner.node)] == [
        (inner.ino, stat.S_IFDIR | 0o555),
        (1, stat.S_IFDIR | 0o555),
    ]


def test_a_directory_opened_before_a_change_names_what_changed_without_a_node(table: NameTable) -> None:
    old = rows(changed=file("v1"), gone=file(), same=file())
    learn(table, old)
    table.lookup(ROOT_NODE, b"changed")
    learn(table, rows(changed=file("v2"), same=file()))
    table.lookup(ROOT_NODE, b"changed")
    table.lookup(ROOT_NODE, b"same")
    shown = {entry.name: entry.node for entry in read(table, old)[2:]}
    assert shown == {b"changed": 0, b"gone": 0, b"same": table.at("same")}


def test_one_listing_of_two_directories_gives_each_nodes_of_its_own(table: NameTable) -> None:
    learn(table, rows(d=Row.directory(1), e=Row.directory(1)))
    listing = rows(a=file(), b=file())
    one, other = table.lookup(ROOT_NODE, b"d").node, table.lookup(ROOT_NODE, b"e").node
    learn(table, listing, one)
    learn(table, listing, other)
    table.lookup(one, b"a")
    table.lookup(other, b"b")
    paths = [table.path(entry.node) for directory in (one, other) for entry in read(table, listing, directory)[2:]]
    assert paths == ["d/a", "d/b", "e/a", "e/b"]


def test_entries_of_a_listing_that_is_not_kept_are_not_to_be_remembered(table: NameTable) -> None:
    listing = rows(a=file())
    entry = read(table, listing, good_for_s=0)[2]
    assert entry.name_valid_ns == 0
    assert table.attributes(entry.node).size_bytes == 1
    with refused(errno.ENODATA):
        table.lookup(ROOT_NODE, b"a")
