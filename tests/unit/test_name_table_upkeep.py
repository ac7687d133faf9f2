"""What the native name table keeps, for how long, and how much memory it takes, also in many threads."""

from __future__ import annotations

import errno
import os
import struct
import subprocess
from array import array
from pathlib import Path

import pytest

from fluidfs._native.names import ROOT_NODE, NameTable
from fluidfs.meta.entries import FileEntry
from fluidfs.meta.listing import Listing, Row
from fluidfs.model import ObjectInfo
from tests.unit.naming import Clock, Packed, encoded, file, learn, listing_names, new_table, refused, rows

ROOT = Path(__file__).parents[2]
NATIVE = ROOT / "fluidfs" / "_native"
MIB = 1 << 20


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def table(clock: Clock) -> NameTable:
    return new_table(clock)


# ---- renewal, and what is kept


def test_a_directory_in_use_is_due_once_until_it_is_learnt_again(table: NameTable, clock: Clock) -> None:
    learn(table, rows(a=file()), good_for_s=60, due_in_s=45)
    table.lookup(ROOT_NODE, b"a")
    assert not table.any_due()
    clock.now_s += 45
    assert table.take_due() == []
    table.lookup(ROOT_NODE, b"a")
    table.open_directory(ROOT_NODE)
    assert table.any_due()
    assert table.take_due() == [ROOT_NODE]
    table.lookup(ROOT_NODE, b"a")
    assert table.take_due() == []
    assert not table.any_due()
    learn(table, rows(a=file()), good_for_s=60, due_in_s=0)
    table.lookup(ROOT_NODE, b"a")
    assert table.take_due() == [ROOT_NODE]


def test_one_that_was_learnt_before_it_was_told_is_not_due(table: NameTable) -> None:
    learn(table, rows(a=file()), due_in_s=0)
    table.lookup(ROOT_NODE, b"a")
    learn(table, rows(a=file()), due_in_s=45)
    assert table.take_due() == []


def test_one_that_was_swept_before_it_was_told_is_not_due(table: NameTable, clock: Clock) -> None:
    learn(table, rows(a=file()), good_for_s=1, due_in_s=0)
    table.lookup(ROOT_NODE, b"a")
    clock.now_s += 10
    table.sweep(0)
    assert table.take_due() == []


def test_many_directories_are_due_at_once(table: NameTable) -> None:
    names = [f"d{number:03}" for number in range(300)]
    learn(table, Listing("", {name: Row.directory(1) for name in names}))
    for name in names:
        learn(table, rows(a=file()), node := table.lookup(ROOT_NODE, name.encode()).node, due_in_s=0)
        table.lookup(node, b"a")
    assert table.take_due() == [table.at(name) for name in names]


def test_a_forgotten_directory_keeps_its_listing_until_it_is_swept(table: NameTable, clock: Clock) -> None:
    learn(table, rows(d=Row.directory(1)), good_for_s=1000)
    directory = table.lookup(ROOT_NODE, b"d").node
    learn(table, rows(x=file()), directory, good_for_s=10)
    table.forget(directory)
    assert table.known == 1
    assert table.lookup(ROOT_NODE, b"d").node == directory
    assert table.lookup(directory, b"x").node
    table.forget(table.at("d/x") or 0)
    table.forget(directory)
    clock.now_s += 20
    table.sweep(10)
    assert (table.at("d"), table.listings) == (directory, 2)
    table.sweep(5)
    assert (table.at("d"), table.listings) == (None, 1)


def test_an_expired_directory_answers_nothing_and_one_that_is_forgotten_goes(table: NameTable) -> None:
    learn(table, rows(d=Row.directory(1)))
    directory = table.lookup(ROOT_NODE, b"d").node
    learn(table, rows(x=file()), directory)
    table.expire(directory)
    with refused(errno.ENODATA):
        table.lookup(directory, b"x")
    learn(table, rows(x=file()), directory)
    table.forget(directory)
    table.expire(directory)
    assert table.at("d") is None


def test_a_directory_lives_as_long_as_what_is_known_in_it(table: NameTable) -> None:
    learn(table, rows(d=Row.directory(1)))
    directory = table.lookup(ROOT_NODE, b"d").node
    inside = table.found(directory, rows(x=file()), 0, good_for_s=1).node
    table.forget(directory)
    assert table.path(inside) == "d/x"
    assert table.at("d") == directory
    table.forget(inside)
    assert table.at("d") is None


def test_forgetting_more_than_was_counted_is_no_error(table: NameTable) -> None:
    learn(table, rows(a=file()))
    node = table.lookup(ROOT_NODE, b"a").node
    table.forget(node, 0)
    assert table.known == 2
    table.forget(node, (1 << 64) - 1)
    table.forget(node, 1)
    table.forget(ROOT_NODE, 100)
    assert table.known == 1
    assert table.lookup(ROOT_NODE, b"a").node not in (0, node)


def test_a_node_of_an_old_version_does_not_keep_a_whole_listing(table: NameTable) -> None:
    learn(table, Listing("", {f"n{number}": file("v1") for number in range(1000)}))
    node = table.lookup(ROOT_NODE, b"n7").node
    before = table.memory_bytes
    learn(table, rows())
    assert table.listings == 1
    assert table.memory_bytes - before < 200
    assert table.entry(node) == FileEntry("n7", ObjectInfo("n7", 1, 1, "v1"))


def test_listings_live_as_long_as_they_are_in_use(table: NameTable) -> None:
    first, second = rows(a=file(), b=file()), rows(a=file(), c=file())
    learn(table, first)
    node = table.lookup(ROOT_NODE, b"a").node
    learn(table, second)
    assert table.listings == 1
    learn(table, first)
    assert table.open_directory(ROOT_NODE).listing is first
    assert table.lookup(ROOT_NODE, b"a").node == node
    table.found(ROOT_NODE, second, 1, good_for_s=1)
    assert table.listings == 2


def test_a_node_that_was_found_singly_needs_that_answer_no_more_once_it_is_looked_up(table: NameTable) -> None:
    learn(table, rows(a=file(), d=Row.directory(5)))
    single = table.found(ROOT_NODE, rows(d=Row.directory(3)), 0, good_for_s=1)
    assert (single.mtime_ns, table.listings) == (3, 2)
    looked_up = table.lookup(ROOT_NODE, b"d")
    table.collect()
    assert (looked_up.node, looked_up.mtime_ns, table.listings) == (single.node, 5, 1)


def test_paths_of_any_depth_and_bytes(table: NameTable) -> None:
    name = "x" * 250 + "\udcff"
    node = ROOT_NODE
    for _ in range(20):
        node = table.found(node, Listing("", {name: Row.directory(1)}), 0, good_for_s=1).node
    assert table.path(node) == "/".join([name] * 20)
    assert table.at("/".join([name] * 20)) == node
    assert table.path(ROOT_NODE) == ""
    assert table.at("") == ROOT_NODE
    for none in ("/", "x", f"{name}/", f"/{name}", f"{name}//{name}"):
        assert table.at(none) is None


# ---- memory and threads


def packed_files(count: int) -> Packed:
    """Files with names of 17 characters and versions of 32, as a bucket of MD5 ETags has them."""
    records = [struct.pack("<qq", 4096, n) + b"object-%010d\0%032x" % (n, n * 0x9E3779B97F4A7C15) for n in range(count)]
    record_bytes = len(records[0])
    return Packed(b"".join(records), array("I", range(record_bytes, record_bytes * count + 1, record_bytes)))


def buffers_bytes(listing: Packed) -> int:
    records, ends = listing.packed
    return len(records) + len(ends) * ends.itemsize


def know_all(table: NameTable, listing: Packed, directory: int, count: int) -> None:
    learn(table, listing, directory)
    position = 0
    while position < count + 2:
        data = table.read_directory(directory, listing, position, plus=True, good_for_s=60, capacity=MIB)
        # Every entry but the dots takes as much.
        position += max(1, len(data) // 176)


def test_a_million_names_in_one_directory_fit_in_200_mib(table: NameTable) -> None:
    listing = packed_files(1_000_000)
    know_all(table, listing, ROOT_NODE, 1_000_000)
    assert table.known == 1_000_001
    assert table.memory_bytes + buffers_bytes(listing) <= 200 * MIB


def test_a_million_names_in_a_thousand_directories_fit_in_200_mib(table: NameTable) -> None:
    directories = Listing("", {f"d{number:03}": Row.directory(1) for number in range(1000)})
    learn(table, directories)
    total_bytes = directories.packed_bytes
    for name in listing_names(directories):
        listing = packed_files(1000)
        total_bytes += buffers_bytes(listing)
        know_all(table, listing, table.lookup(ROOT_NODE, encoded(name)).node, 1000)
    assert table.known == 1_001_001
    assert table.memory_bytes + total_bytes <= 200 * MIB


@pytest.mark.parametrize(("sanitizer", "rounds"), [("address,undefined", "100000"), ("thread", "10000")])
def test_contents_and_threads_leave_nothing_behind(tmp_path: Path, sanitizer: str, rounds: str) -> None:
    program = tmp_path / "name_table"
    flags = "-std=c11 -D_GNU_SOURCE -O1 -g -Wall -Wextra -Werror -pthread -fno-sanitize-recover=all"
    headers = subprocess.check_output(["pkg-config", "--cflags", "libxxhash"], text=True).split()
    sources = [ROOT / "tests/native/name_table.c", *NATIVE.glob("name_*.c"), NATIVE / "listing.c", NATIVE / "content.c"]
    command = [os.environ.get("CC", "cc"), *flags.split(), f"-fsanitize={sanitizer}", f"-I{NATIVE}", *headers]
    subprocess.run([*command, *map(str, sources), "-o", str(program)], check=True)
    # A preloaded library, as of a sanitized interpreter, must not meet this program's own.
    environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    run = subprocess.run([program, rounds], env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
