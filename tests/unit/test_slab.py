"""Slabs of small objects against a dictionary, and what crashes and strangers may do to the two files."""

from __future__ import annotations

import errno
import os
import random
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from fluidfs._native.slabs import Slab, SlabSink
from tests.unit.caching import BOOT, KIB, MIB, OTHER_BOOT, content, slab_in, usage_in

EMPTY, WRITING, STORED, DROPPED = range(4)
HEADER = struct.Struct("<8sIIQQQII16s")
SLOT = struct.Struct("<16sIIIIQ24s")
RETIRED = 1 << 63


def key_of(number: int) -> bytes:
    return xxhash.xxh3_128_digest(b"%d" % number)


def slots_of(index: Path) -> list[tuple[bytes, int, int, int, int, int, bytes]]:
    return list(SLOT.iter_unpack(index.read_bytes()[4096:]))


def patch(index: Path, offset: int, form: str, value: int | bytes) -> None:
    with index.open("r+b") as file:
        file.seek(offset)
        file.write(struct.pack(form, value))


def slot_place(slot: int, field: int) -> int:
    return 4096 + SLOT.size * slot + field


# ---- the oracle

STEPS = st.tuples(
    st.sampled_from(("put", "put", "put", "drop", "read", "find", "reopen")),
    st.integers(0, 30),
    st.integers(0, 9 * KIB),
)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(st.lists(STEPS, max_size=60))
def test_a_slab_holds_what_a_dictionary_would(steps: list[tuple[str, int, int]]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        usage = usage_in(Path(directory))
        slab = slab_in(Path(directory), usage, slots=32, capacity=64 * KIB)
        held: dict[int, list[tuple[int, bytes]]] = {}  # several records of one object may be there
        used = records = 0
        for what, number, size in steps:
            if what == "put":
                data, identity = content(size, number), b"object %d" % number
                space = -(-(len(identity) + size) // 64) * 64
                slot = slab.put(key_of(number), identity, data)
                # A put that wins no space takes no slot either, unless others raced it for the last bytes.
                assert (slot is not None) == (used + space <= 64 * KIB and records < 24)
                if slot is not None:
                    held.setdefault(number, []).append((slot, data))
                    used, records = used + space, records + 1
            elif what == "drop" and held.get(number):
                slab.drop(held[number].pop()[0])
            elif what == "reopen":
                slab.close()
                slab = slab_in(Path(directory), usage, slots=0)
            slot = slab.find(key_of(number))
            assert (slot is not None) == bool(held.get(number))
            if slot is not None:
                data = dict(held[number])[slot]
                assert slab.read(slot, size, 100) == data[size : size + 100]
                assert slab.verify(slot) is True
            assert usage.used_bytes == slab.used_bytes == used
            assert slab.room_bytes == (64 * KIB - used if records < 24 else 0)
        whole = sorted((slot, b"object %d" % number, len(data)) for number, at in held.items() for slot, data in at)
        assert slab.entries() == whole
        slab.close()


def test_a_full_table_or_file_takes_no_more_and_says_so(tmp_path: Path) -> None:
    usage = usage_in(tmp_path)
    slab = slab_in(tmp_path, usage, slots=8)
    assert [slab.put(key_of(n), b"", b"x") is not None for n in range(8)] == [True] * 6 + [False] * 2
    assert slab.room_bytes == 0
    assert usage.used_bytes == slab.used_bytes == 6 * 64
    os.remove(tmp_path / "1.idx")
    full = slab_in(tmp_path, usage, capacity=64 * KIB)
    assert full.put(key_of(1), b"", bytes(60 * KIB)) is not None
    assert full.put(key_of(2), b"", bytes(5 * KIB)) is None
    assert full.put(key_of(3), b"", bytes(4 * KIB)) is not None
    assert full.used_bytes == full.capacity_bytes


def test_objects_that_no_slab_may_hold_are_refused(tmp_path: Path) -> None:
    slab = slab_in(tmp_path, usage_in(tmp_path), capacity=8 * MIB)
    for identity, data in ((b"", bytes(MIB + 1)), (bytes(4097), b"")):
        with pytest.raises(OSError, match="Invalid") as caught:
            slab.put(key_of(1), identity, data)
        assert caught.value.errno == errno.EINVAL
    assert slab.used_bytes == 0


def test_a_sink_stores_an_object_as_soon_as_it_is_whole(tmp_path: Path) -> None:
    slab = slab_in(tmp_path, usage_in(tmp_path))
    sink = SlabSink(slab, key_of(1), b"who", 10)
    assert sink.slot is None
    with pytest.raises(ValueError, match="not whole"):
        _ = sink.data


# ---- sharing


def test_what_one_opener_stores_the_others_find_at_once(tmp_path: Path) -> None:
    usage = usage_in(tmp_path)
    one, other = slab_in(tmp_path, usage), slab_in(tmp_path, usage)
    slot = one.put(key_of(1), b"who", b"bytes")
    assert slot is not None
    assert other.find(key_of(1)) == slot
    assert other.read(slot, 1, 3) == b"yte"
    assert other.entries() == [(slot, b"who", 5)]
    one.drop(slot)
    assert other.find(key_of(1)) is None
    assert other.read(slot, 0, 5) is None


MAKER = """
import sys
from pathlib import Path
from tests.unit.caching import slab_in, usage_in
from tests.unit.test_slab import key_of
directory, first = Path(sys.argv[1]), int(sys.argv[2])
usage = usage_in(directory)
print("ready", flush=True)
sys.stdin.readline()
slab = slab_in(directory, usage)
for number in range(first, first + 10):
    assert slab.put(key_of(number), b"", b"%d" % number) is not None
"""


def test_of_two_makers_of_one_slab_each_finds_what_the_other_stores(tmp_path: Path) -> None:
    usage = usage_in(tmp_path)
    command = [sys.executable, "-c", MAKER, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    makers = [subprocess.Popen([*command, str(first)], **pipes) for first in (0, 10, 20)]  # type: ignore[call-overload]
    for maker in makers:
        assert maker.stdout.readline() == "ready\n"
    for maker in makers:
        maker.stdin.write("\n")
        maker.stdin.flush()
    for maker in makers:
        maker.communicate(timeout=20)
        assert maker.returncode == 0
    slab = slab_in(tmp_path, usage, slots=0)
    for number in range(30):
        slot = slab.find(key_of(number))
        assert slot is not None
        assert slab.read(slot, 0, 9, always=True) == b"%d" % number
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1.idx", "1.slab", "level"]


def test_an_index_that_is_there_is_never_replaced(tmp_path: Path) -> None:
    usage = usage_in(tmp_path)
    slab_in(tmp_path, usage).close()
    before = (tmp_path / "1.idx").stat().st_ino
    slab_in(tmp_path, usage, slots=1024).close()
    assert (tmp_path / "1.idx").stat().st_ino == before


def test_a_retired_slab_is_read_but_takes_no_more_and_counts_for_what_it_did(tmp_path: Path) -> None:
    usage = usage_in(tmp_path)
    slab, other = slab_in(tmp_path, usage), slab_in(tmp_path, usage)
    slot = slab.put(key_of(1), b"", bytes(100))
    assert slot is not None
    assert other.retire() == slab.used_bytes == usage.used_bytes == 128
    assert slab.put(key_of(2), b"", b"x") is None
    assert slab.read(slot, 0, 100) == bytes(100)
    assert (slab.room_bytes, slab.retire(), usage.used_bytes) == (0, 128, 128)


# ---- what a crash leaves


def test_a_slot_left_half_written_is_dropped_by_whoever_is_alone(tmp_path: Path) -> None:
    usage = usage_in(tmp_path)
    slab = slab_in(tmp_path, usage)
    slot = slab.put(key_of(1), b"", b"x")
    assert slot is not None
    patch(tmp_path / "1.idx", slot_place(slot, 28), "<I", WRITING)
    together = slab_in(tmp_path, usage)
    assert together.find(key_of(1)) is None
    together.close()
    assert slots_of(tmp_path / "1.idx")[slot][4] == WRITING  # its writer may be alive
    slab.close()
    slab_in(tmp_path, usage).close()
    assert slots_of(tmp_path / "1.idx")[slot][4] == DROPPED


def test_after_another_boot_an_old_tail_does_not_let_records_lie_upon_each_other(tmp_path: Path) -> None:
    usage = usage_in(tmp_path)
    slab = slab_in(tmp_path, usage)
    first, second = slab.put(key_of(1), b"", content(1000, 1)), slab.put(key_of(2), b"", content(1000, 2))
    assert first is not None
    assert second is not None
    slab.close()
    # The slots' page reached the disk, the header's did not.
    patch(tmp_path / "1.idx", 24, "<Q", 0)
    patch(tmp_path / "1.idx", 40, "<I", 0)
    slab = slab_in(tmp_path, usage, boot=OTHER_BOOT)
    assert slab.read(first, 0, 1000) == content(1000, 1)
    third = slab.put(key_of(3), b"", content(1000, 3))
    assert third is not None
    for number, slot in ((1, first), (2, second), (3, third)):
        assert slab.read(slot, 0, 1000) == content(1000, number)
    assert HEADER.unpack((tmp_path / "1.idx").read_bytes()[: HEADER.size])[6] == 3


def test_a_tail_that_cannot_be_relied_on_is_not_written_at(tmp_path: Path) -> None:
    usage = usage_in(tmp_path)
    slab = slab_in(tmp_path, usage)
    slab.put(key_of(1), b"", b"x")
    patch(tmp_path / "1.idx", 48, "<16s", OTHER_BOOT)  # whoever counts it anew is not done
    other = slab_in(tmp_path, usage)
    assert other.room_bytes == 0
    assert other.put(key_of(2), b"", b"x") is None
    assert other.find(key_of(1)) is not None


# ---- what others do to the files


def test_a_wrong_object_is_a_miss_counted_once(tmp_path: Path) -> None:
    usage = usage_in(tmp_path)
    slab = slab_in(tmp_path, usage)
    slot = slab.put(key_of(1), b"", content(5000))
    assert slot is not None
    with (tmp_path / "1.slab").open("r+b") as file:
        file.write(b"wrong")
    assert slab.read(slot, 4000, 10) == content(5000)[4000:4010]  # this process wrote it, and looks no more
    other = slab_in(tmp_path, usage)
    assert other.read(slot, 4000, 10) is None
    assert other.read(slot, 4000, 10) is None
    assert other.find(key_of(1)) is None
    assert slab.verify(slot) is None
    assert usage.bad_blocks == 1


def test_always_means_at_every_read(tmp_path: Path) -> None:
    slab = slab_in(tmp_path, usage_in(tmp_path))
    slot = slab.put(key_of(1), b"", content(5000))
    assert slot is not None
    assert slab.read(slot, 0, 10, always=True) == content(5000)[:10]
    with (tmp_path / "1.slab").open("r+b") as file:
        file.write(b"wrong")
    assert slab.read(slot, 4000, 10, always=True) is None


def test_records_that_were_cut_off_are_misses(tmp_path: Path) -> None:
    slab = slab_in(tmp_path, usage_in(tmp_path))
    slot = slab.put(key_of(1), b"", content(5000))
    assert slot is not None
    os.truncate(tmp_path / "1.slab", 100)
    assert slab.read(slot, 4000, 10) is None
    assert slab.find(key_of(1)) is None


@pytest.mark.parametrize(
    ("field", "value"), [(16, 0), (16, 2**32 - 1), (20, 2**32 - 1), (20, MIB + 1), (24, 2**32 - 1), (32, 1)]
)
def test_a_slot_that_lies_is_a_miss(tmp_path: Path, field: int, value: int) -> None:
    usage = usage_in(tmp_path)
    slab = slab_in(tmp_path, usage)
    slot = slab.put(key_of(1), b"who is it", content(5000))
    assert slot is not None
    slab.close()
    patch(tmp_path / "1.idx", slot_place(slot, field), "<I", value)
    slab = slab_in(tmp_path, usage)
    slab.entries()
    assert slab.read(slot, 0, 100) is None
    assert slab.verify(slot) is None
    assert usage.bad_blocks == 1


def test_slots_that_are_not_there_are_misses(tmp_path: Path) -> None:
    slab = slab_in(tmp_path, usage_in(tmp_path))
    for slot in (0, 63, 64, 1 << 40, (1 << 64) - 1):
        assert slab.read(slot, 0, 1) is None
        slab.drop(slot)
    assert slab.verify(63) is None


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda index, _: os.truncate(index, 100), id="short"),
        pytest.param(lambda index, _: os.truncate(index, 4096), id="no slots"),
        pytest.param(lambda index, _: os.truncate(index, 4096 + 64 * 63), id="a slot less"),
        pytest.param(lambda index, _: patch(index, 0, "<8s", b"FLUIDSLA"), id="magic"),
        pytest.param(lambda index, _: patch(index, 8, "<I", 2), id="format"),
        pytest.param(lambda index, _: patch(index, 12, "<I", 0), id="no slot_count"),
        pytest.param(lambda index, _: patch(index, 12, "<I", 63), id="odd slot_count"),
        pytest.param(lambda index, _: patch(index, 12, "<I", 1 << 31), id="large slot_count"),
        pytest.param(lambda index, _: patch(index, 16, "<Q", 1 << 40), id="capacity"),
        pytest.param(lambda index, _: (index.unlink(), index.symlink_to("/etc/passwd")), id="a link"),
        pytest.param(lambda index, _: (index.unlink(), index.mkdir()), id="a directory"),
        pytest.param(lambda index, _: (index.unlink(), os.mkfifo(index)), id="a pipe"),
        pytest.param(lambda _, data: (data.unlink(), data.symlink_to("/etc/passwd")), id="a link for data"),
        pytest.param(lambda _, data: (data.unlink(), os.mkfifo(data)), id="a pipe for data"),
    ],
)
def test_what_is_not_a_slab_of_ours_is_told_apart(tmp_path: Path, damage: Callable[[Path, Path], object]) -> None:
    usage = usage_in(tmp_path)
    slab_in(tmp_path, usage).close()
    damage(tmp_path / "1.idx", tmp_path / "1.slab")
    for slots in (0, 64):
        with pytest.raises(OSError, match="clean") as caught:
            slab_in(tmp_path, usage, slots=slots)
        assert caught.value.errno == errno.EUCLEAN


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.dictionaries(st.integers(0, 4096 + 16 * 64 - 1), st.integers(0, 255), min_size=1, max_size=12))
def test_no_index_however_damaged_crashes_us_or_makes_compared_reads_wrong(damage: dict[int, int]) -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        usage = usage_in(directory)
        slab = slab_in(directory, usage, slots=16, capacity=64 * KIB)
        held = {number: slab.put(key_of(number), b"who", content(500, number)) for number in range(8)}
        slab.close()
        raw = bytearray((directory / "1.idx").read_bytes())
        for offset, value in damage.items():
            raw[offset] = value
        (directory / "1.idx").write_bytes(raw)
        try:
            slab = slab_in(directory, usage, slots=0)
        except OSError:
            return
        for number in held:
            slot = slab.find(key_of(number))
            if slot is not None:
                # A damaged length or key may make it another object, of which the checksum then is right or wrong.
                data = slab.read(slot, 0, 500, always=True)
                assert data is None or data in {content(500, other) for other in held}
        slab.entries()
        slab.put(key_of(100), b"", b"x")
        slab.close()


def test_entries_whose_identity_cannot_be_read_are_left_out(tmp_path: Path) -> None:
    slab = slab_in(tmp_path, usage_in(tmp_path))
    slots = [slab.put(key_of(number), b"who", content(100, number)) for number in range(3)]
    assert slots[1] is not None
    patch(tmp_path / "1.idx", slot_place(slots[1], 24), "<I", 5000)
    assert {entry[0] for entry in slab.entries()} == {slots[0], slots[2]}


def test_names_of_wrong_lengths_are_refused(tmp_path: Path) -> None:
    usage = usage_in(tmp_path)
    slab = slab_in(tmp_path, usage)
    for call in (
        lambda: slab.find(b"short"),
        lambda: slab.put(b"short", b"", b""),
        lambda: SlabSink(slab, b"short", b"", 1),
        lambda: slab_in(tmp_path, usage, boot=b"short"),
    ):
        with pytest.raises(ValueError, match="16 bytes"):
            call()
    with pytest.raises(OSError, match="Invalid"):
        Slab(b"/nowhere/x", b"/nowhere/y", slot_count=3, capacity_bytes=1, boot_id=BOOT, usage=usage)


def test_random_sizes_and_offsets_read_as_written(tmp_path: Path) -> None:
    rng = random.Random(5)
    slab = slab_in(tmp_path, usage_in(tmp_path), slots=256, capacity=16 * MIB)
    for number in range(60):
        size = rng.choice((1, 63, 64, 65, rng.randrange(1, 256 * KIB), 256 * KIB))
        slot = slab.put(key_of(number), b"i" * rng.randrange(100), content(size, number))
        assert slot is not None
        offset, length = rng.randrange(size), rng.randrange(size + 10)
        assert (
            slab.read(slot, offset, length, always=bool(number % 2)) == content(size, number)[offset : offset + length]
        )
