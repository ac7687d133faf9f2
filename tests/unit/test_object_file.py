"""The block map of a version against a slow oracle, and everything that may happen to its two files."""

from __future__ import annotations

import errno
import fcntl
import os
import random
import struct
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from fluidfs._native.objects import VERIFY_ALWAYS, VERIFY_FIRST, VERIFY_NEVER, ObjectFile, checksum
from tests.unit.caching import BLOCK, BOOT, KIB, MIB, OTHER_BOOT, SUB, Lone, content, lone

COMPLETE, LEAVING, DOUBTED = 1, 2, 4
HEADER_BYTES, BLOCK_BYTES = 4096, 32


def blocks_of(map_file: Path) -> list[tuple[int, int, int, int, int]]:
    """bits, checksum, state, pins and drops of each block, from the file."""
    return list(struct.iter_unpack("<QQIIQ", map_file.read_bytes()[HEADER_BYTES:]))


def patch_block(map_file: Path, index: int, **fields: int) -> None:
    """Changes a block's record in the file, as a process that died would have left it."""
    places = {"bits": ("<Q", 0), "checksum": ("<Q", 8), "state": ("<I", 16), "pins": ("<I", 20), "drops": ("<Q", 24)}
    with map_file.open("r+b") as file:
        for name, value in fields.items():
            form, offset = places[name]
            file.seek(HEADER_BYTES + BLOCK_BYTES * index + offset)
            file.write(struct.pack(form, value))


def attempt(act: Callable[[], object]) -> bool:
    """Whether it went through; EPERM is no error, but an answer."""
    try:
        act()
    except PermissionError:
        return False
    return True


# ---- the oracle


@dataclass
class Run:
    """What a sink has written without a gap, and the drops of the block that it wrote to last."""

    start: int = -1
    end: int = -1
    block: int = -1
    drops: int = 0


@dataclass
class Oracle:
    """A version's map as a set of sub-blocks."""

    size: int
    present: set[int] = field(default_factory=set)
    drops: dict[int, int] = field(default_factory=dict)
    runs: list[Run] = field(default_factory=lambda: [Run(), Run()])

    def subs_of(self, block: int) -> range:
        return range(block * 64, min(block * 64 + 64, -(-self.size // SUB)))

    def write(self, which: int, offset: int, length: int) -> None:
        run = self.runs[which]
        while length > 0:
            block = offset // BLOCK
            part = min(length, (block + 1) * BLOCK - offset)
            drops = self.drops.get(block, 0)
            if run.end != offset or (run.block == block and run.drops != drops):
                run.start = offset
            run.end, run.block, run.drops = offset + part, block, drops
            for sub in self.subs_of(block):
                if run.start <= sub * SUB and min((sub + 1) * SUB, self.size) <= run.end:
                    self.present.add(sub)
            offset, length = offset + part, length - part

    def drop(self, block: int) -> int:
        gone = self.present & set(self.subs_of(block))
        self.present -= gone
        self.drops[block] = self.drops.get(block, 0) + 1
        return self.bytes_of(gone)

    def bytes_of(self, subs: set[int]) -> int:
        return sum(min((sub + 1) * SUB, self.size) - sub * SUB for sub in subs)

    def read(self, offset: int, length: int) -> bytes | None:
        end = min(offset + length, self.size)
        if offset >= end:
            return b""
        wanted = set(range(offset // SUB, (end - 1) // SUB + 1))
        return content(self.size)[offset:end] if wanted <= self.present else None

    def next_missing(self, offset: int, end: int) -> tuple[int, int] | None:
        end = min(end, self.size)
        subs = [sub for sub in range(offset // SUB, -(-end // SUB)) if sub not in self.present] if offset < end else []
        if not subs:
            return None
        last = subs[0]
        while last + 1 in subs:
            last += 1
        return subs[0] * SUB, min((last + 1) * SUB, self.size)


SIZES = (1, SUB - 1, SUB, SUB + 1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 2 * BLOCK + 5 * SUB + 7)


@st.composite
def operations(draw: st.DrawFn) -> tuple[int, list[tuple[str, int, int, int]]]:
    size = draw(st.sampled_from(SIZES))
    near = st.builds(lambda at, by: max(0, at * SUB + by), st.integers(0, size // SUB), st.integers(-2, 2))
    offset = st.one_of(near, st.just(-1), st.integers(0, size)).map(lambda at: min(at, size))
    length = st.one_of(st.integers(0, 3 * SUB), st.sampled_from((SUB, BLOCK, 2 * BLOCK)))
    step = st.tuples(
        st.sampled_from(("write", "write", "write", "drop", "read", "missing")), offset, length, st.integers(0, 1)
    )
    return size, draw(st.lists(step, min_size=1, max_size=25))


@settings(max_examples=120, deadline=None, derandomize=True)
@given(operations())
def test_the_map_is_bit_for_bit_what_a_slow_oracle_says(case: tuple[int, list[tuple[str, int, int, int]]]) -> None:
    size, steps = case
    with tempfile.TemporaryDirectory() as directory:
        files = lone(Path(directory), size)
        file, oracle = files.open(), Oracle(size)
        sinks = (file.sink(), file.sink())
        for what, at, length, which in steps:
            offset = at if at != -1 else max(oracle.runs[which].end, 0)  # -1: go on where the sink stopped
            end = min(offset + length, size)
            if what == "write":
                sinks[which].write(offset, content(size)[offset:end])
                oracle.write(which, offset, end - offset)
            elif what == "drop" and offset < size:
                assert file.drop_block(offset // BLOCK, punch=bool(which)) == oracle.drop(offset // BLOCK)
            elif what == "read":
                assert file.read(offset, length) == oracle.read(offset, length)
            elif what == "missing":
                assert file.next_missing(offset, offset + length) == oracle.next_missing(offset, offset + length)
            used = oracle.bytes_of(oracle.present)
            assert file.present_bytes == files.usage.used_bytes == used
            assert file.complete == (used == size)
        for index, (bits, sum_, state, pins, drops) in enumerate(blocks_of(files.map)):
            subs = oracle.subs_of(index)
            assert bits == sum(1 << (sub - subs.start) for sub in subs if sub in oracle.present)
            whole = set(subs) <= oracle.present
            block = content(size)[index * BLOCK : (index + 1) * BLOCK]
            assert (state, sum_) == ((COMPLETE, xxhash.xxh3_64_intdigest(block)) if whole else (0, 0))
            assert (pins, drops) == (0, oracle.drops.get(index, 0))
        file.close()
        # What is there stays there, and is verified anew.
        file = files.open(create=False)
        for offset in range(0, size, SUB):
            assert file.read(offset, SUB, verify=VERIFY_ALWAYS) == oracle.read(offset, SUB)
        file.close()


@given(st.binary(max_size=3000))
def test_the_checksum_is_xxh3(data: bytes) -> None:
    assert checksum(data) == xxhash.xxh3_64_intdigest(data)


# ---- writing


def test_a_sub_block_whose_first_half_was_punched_meanwhile_is_not_believed(tmp_path: Path) -> None:
    files = lone(tmp_path, BLOCK)
    file = files.open()
    sink = file.sink()
    sink.write(0, content(BLOCK)[: SUB // 2])
    file.drop_block(0, punch=True)
    sink.write(SUB // 2, content(BLOCK)[SUB // 2 :])
    assert file.next_missing(0, BLOCK) == (0, SUB)
    assert file.read(0, SUB) is None
    assert file.read(SUB, BLOCK) == content(BLOCK)[SUB:]


def test_a_block_put_together_by_several_sinks_gets_its_checksum(tmp_path: Path) -> None:
    files = lone(tmp_path, BLOCK)
    file = files.open()
    for start in (SUB * 32, 0):
        file.sink().write(start, content(BLOCK)[start : start + SUB * 32])
    assert blocks_of(files.map)[0][1:3] == (xxhash.xxh3_64_intdigest(content(BLOCK)), COMPLETE)
    assert file.verify_block(0) is True


def test_what_is_present_is_not_written_again_so_a_seal_outlives_a_second_fetcher(tmp_path: Path) -> None:
    files = lone(tmp_path, 2 * BLOCK + 5)
    file = files.filled()
    assert file.seal()
    file.sink().write(0, content(files.size))
    assert file.sealed
    assert file.seal_holds(trust=False)


def test_writing_past_the_objects_end_is_refused(tmp_path: Path) -> None:
    file = lone(tmp_path, BLOCK + 1).open()
    for offset, length in ((BLOCK, 2), (BLOCK + 2, 1), (1 << 63, 1)):
        with pytest.raises(OSError) as caught:  # noqa: PT011
            file.sink().write(offset, bytes(length))
        assert caught.value.errno == errno.EFBIG
    assert file.present_bytes == 0


def test_closing_a_file_with_a_sink_left_closes_it_when_the_sink_goes(tmp_path: Path) -> None:
    files = lone(tmp_path, BLOCK)
    file = files.open()
    sink = file.sink()
    file.close()
    with pytest.raises(ValueError, match="closed"):
        file.read(0, 1)
    sink.write(0, content(BLOCK))
    again = files.open(create=False)
    assert again.read(0, BLOCK) == content(BLOCK)
    again.close()
    checker = files.open(create=False)
    assert not checker.alone()
    checker.close()
    del sink
    checker = files.open(create=False)
    assert checker.alone()


# ---- sizes


@pytest.mark.parametrize("block_bytes", [256 * KIB << n for n in range(9)])
def test_every_size_of_block_keeps_and_finds_what_is_written(tmp_path: Path, block_bytes: int) -> None:
    sub = block_bytes // 64
    files = lone(tmp_path, 2 * block_bytes + 3, block_bytes=block_bytes)
    file = files.open()
    assert (file.block_count, file.block_bytes) == (3, block_bytes)
    piece = content(2 * sub + 3)
    file.sink().write(2 * block_bytes - 2 * sub, piece)
    assert file.read(2 * block_bytes - 2 * sub, 2 * sub + 3) == piece
    assert file.next_missing(0, files.size) == (0, 2 * block_bytes - 2 * sub)
    assert file.present_bytes == 2 * sub + 3
    assert file.verify_block(2) is True


def test_a_terabyte_costs_its_map_and_what_was_written(tmp_path: Path) -> None:
    size = (1 << 40) + 1
    files = lone(tmp_path, size, block_bytes=64 * MIB)
    file = files.open()
    file.sink().write(size - 1, b"x")
    assert file.read(size - 1, 100) == b"x"
    assert file.present_bytes == 1
    assert file.next_missing(0, size) == (0, size - 1)
    assert file.read(1 << 62, 1) == b""
    assert files.data.stat().st_size == size
    assert files.data.stat().st_blocks * 512 < MIB
    assert files.map.stat().st_size == HEADER_BYTES + BLOCK_BYTES * file.block_count


@pytest.mark.parametrize(
    ("size", "block_bytes"), [(0, BLOCK), (1 << 63, BLOCK), (1, BLOCK // 2), (1, 128 * MIB), (1, BLOCK + 4096), (1, 0)]
)
def test_sizes_that_no_version_may_have_are_refused_and_leave_no_file(
    tmp_path: Path, size: int, block_bytes: int
) -> None:
    files = lone(tmp_path, 1, block_bytes=block_bytes)
    with pytest.raises(OSError, match="Invalid") as caught:
        ObjectFile(
            bytes(files.data), bytes(files.map), create=True, object_bytes=size, block_bytes=block_bytes,
            identity=b"", boot_id=BOOT, usage=files.usage,
        )  # fmt: skip
    assert caught.value.errno == errno.EINVAL
    assert not files.data.exists()


# ---- what a crash leaves


def test_pins_and_marks_of_the_dead_are_cleared_by_whoever_is_alone(tmp_path: Path) -> None:
    files = lone(tmp_path, 2 * BLOCK)
    file = files.filled()
    file.pin_for_test(0, 3)
    with pytest.raises(OSError, match="busy"):
        file.drop_block(0, punch=True)
    assert file.read(0, BLOCK) == content(files.size)[:BLOCK]
    file.close()
    patch_block(files.map, 1, state=COMPLETE | LEAVING)
    file = files.open(create=False)
    assert [block[2:4] for block in blocks_of(files.map)] == [(COMPLETE, 0), (0, 0)]
    assert file.next_missing(0, 2 * BLOCK) == (BLOCK, 2 * BLOCK)
    assert files.usage.used_bytes == BLOCK == file.drop_block(0, punch=True)


def test_a_block_that_is_leaving_is_absent_and_takes_no_bytes(tmp_path: Path) -> None:
    files = lone(tmp_path, BLOCK)
    file = files.filled()
    patch_block(files.map, 0, state=COMPLETE | LEAVING)
    assert file.read(0, 1) is None
    assert file.next_missing(0, BLOCK) == (0, BLOCK)
    assert not file.complete
    with pytest.raises(OSError, match="busy"):
        file.sink().write(0, content(BLOCK)[:SUB])
    with pytest.raises(OSError, match="already") as caught:
        file.drop_block(0, punch=False)
    assert caught.value.errno == errno.EALREADY


def test_a_writer_killed_before_the_checksum_leaves_a_block_that_sealing_completes(tmp_path: Path) -> None:
    files = lone(tmp_path, 2 * BLOCK)
    files.filled().close()
    patch_block(files.map, 1, state=0, checksum=0)
    file = files.open(create=False)
    assert file.complete
    assert file.seal()
    assert blocks_of(files.map)[1][1:3] == (xxhash.xxh3_64_intdigest(content(files.size)[BLOCK:]), COMPLETE)


def test_after_another_boot_partial_blocks_are_not_believed(tmp_path: Path) -> None:
    files = lone(tmp_path, 2 * BLOCK)
    file = files.filled()
    file.drop_block(1, punch=False)
    file.sink().write(BLOCK, content(files.size)[BLOCK : BLOCK + SUB])
    file.close()
    again = files.open(create=False)
    assert again.next_missing(0, files.size) == (BLOCK + SUB, 2 * BLOCK)
    again.close()
    again = files.open(create=False, boot=OTHER_BOOT)
    assert again.next_missing(0, files.size) == (BLOCK, 2 * BLOCK)
    assert files.usage.used_bytes == BLOCK


@pytest.mark.parametrize("verify", [VERIFY_FIRST, VERIFY_ALWAYS, VERIFY_NEVER])
def test_after_another_boot_bytes_that_did_not_reach_the_disk_are_not_served(tmp_path: Path, verify: int) -> None:
    files = lone(tmp_path, 2 * BLOCK)
    files.filled().close()
    with files.data.open("r+b") as file:
        file.write(bytes(SUB))
    again = files.open(create=False, boot=OTHER_BOOT)
    assert again.read(SUB, 1, verify=verify) is None
    assert again.next_missing(0, files.size) == (0, BLOCK)
    assert again.read(BLOCK, BLOCK, verify=verify) == content(files.size)[BLOCK:]
    assert (again.bad_blocks, files.usage.bad_blocks) == (1, 1)


def test_without_a_map_there_is_no_version_and_a_new_map_believes_nothing(tmp_path: Path) -> None:
    files = lone(tmp_path, BLOCK)
    files.filled().close()
    files.map.unlink()
    with pytest.raises(FileNotFoundError):
        files.open(create=False)
    assert files.open().next_missing(0, BLOCK) == (0, BLOCK)


def test_a_map_without_data_is_empty_and_the_usage_says_so(tmp_path: Path) -> None:
    files = lone(tmp_path, 2 * BLOCK)
    files.filled().close()
    files.data.unlink()
    with pytest.raises(FileNotFoundError):
        files.open(create=False)
    file = files.open()
    assert file.present_bytes == files.usage.used_bytes == 0


# ---- what others do to the files


def test_a_wrong_block_is_a_miss_counted_once_and_can_be_fetched_again(tmp_path: Path) -> None:
    files = lone(tmp_path, 2 * BLOCK)
    files.filled().close()
    with files.data.open("r+b") as file:
        file.write(b"wrong")
    again = files.open(create=False)
    assert again.read(BLOCK, 5) == content(files.size)[BLOCK : BLOCK + 5]
    assert again.read(BLOCK - 5, 10) is None
    assert again.bad_blocks == 1
    again.sink().write(0, content(files.size)[:BLOCK])
    assert again.read(0, files.size) == content(files.size)
    assert files.usage.used_bytes == files.size


def test_bytes_that_others_see_are_compared_in_a_thread_not_in_a_hurry(tmp_path: Path) -> None:
    files = lone(tmp_path, BLOCK)
    files.filled().close()
    again = files.open(create=False)
    with pytest.raises(BlockingIOError):
        again.read(0, 1, nowait=True)
    again.read(0, 1)
    assert again.read(0, BLOCK, nowait=True) == content(BLOCK)


def test_a_data_file_that_was_cut_short_has_lost_what_lay_past_the_cut(tmp_path: Path) -> None:
    files = lone(tmp_path, 3 * BLOCK)
    files.filled().close()
    os.truncate(files.data, BLOCK + 100)
    file = files.open(create=False)
    assert file.next_missing(0, files.size) == (BLOCK, 3 * BLOCK)
    assert file.read(0, BLOCK) == content(files.size)[:BLOCK]
    assert file.present_bytes == files.usage.used_bytes == BLOCK


def test_a_data_file_that_is_cut_short_in_use_never_serves_zeros(tmp_path: Path) -> None:
    files = lone(tmp_path, 3 * BLOCK)
    file, other = files.filled(), files.open()
    assert other.read(0, files.size) == content(files.size)
    os.truncate(files.data, BLOCK)
    assert file.read(2 * BLOCK, 1) is None
    # The next writer makes the file long again; what was lost must not come back as zeros.
    assert file.next_missing(0, files.size) == other.next_missing(0, files.size) == (BLOCK, 3 * BLOCK)
    file.sink().write(2 * BLOCK, content(files.size)[2 * BLOCK :])
    assert other.read(BLOCK, 1) is None
    assert other.read(2 * BLOCK, BLOCK) == content(files.size)[2 * BLOCK :]


def header_byte(files: Lone, offset: int) -> None:
    raw = bytearray(files.map.read_bytes())
    raw[offset] ^= 1
    files.map.write_bytes(raw)


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda files: os.truncate(files.map, 4096), id="short map"),
        pytest.param(lambda files: os.truncate(files.map, 0), id="empty map"),
        pytest.param(lambda files: os.truncate(files.map, 1 << 20), id="long map"),
        *(
            pytest.param(lambda files, at=at: header_byte(files, at), id=f"header byte {at}")
            for at in (0, 8, 12, 16, 23, 24, 28, 32, 39, 68, 112, 512)
        ),
        pytest.param(lambda files: (files.map.unlink(), files.map.symlink_to("/etc/passwd")), id="a link for a map"),
        pytest.param(lambda files: (files.map.unlink(), files.map.mkdir()), id="a directory for a map"),
        pytest.param(lambda files: (files.map.unlink(), os.mkfifo(files.map)), id="a pipe for a map"),
        pytest.param(lambda files: (files.data.unlink(), files.data.symlink_to("/etc/passwd")), id="a link for data"),
        pytest.param(lambda files: (files.data.unlink(), files.data.mkdir()), id="a directory for data"),
        pytest.param(lambda files: (files.data.unlink(), os.mkfifo(files.data)), id="a pipe for data"),
    ],
)
@pytest.mark.parametrize("create", [True, False])
def test_what_is_not_a_version_of_ours_is_told_apart(
    tmp_path: Path, damage: Callable[[Lone], object], create: bool
) -> None:
    files = lone(tmp_path, 2 * BLOCK)
    files.filled().close()
    damage(files)
    with pytest.raises(OSError, match="clean") as caught:
        files.open(create=create)
    assert caught.value.errno == errno.EUCLEAN


def test_another_identity_or_size_under_the_same_name_is_told_apart(tmp_path: Path) -> None:
    files = lone(tmp_path, BLOCK)
    files.filled().close()
    for identity, size in ((b"who else", BLOCK), (b"wha", BLOCK), (b"who", BLOCK + 1), (b"who", BLOCK - 1)):
        with pytest.raises(OSError, match="clean"):
            files.open(identity=identity, size=size)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.dictionaries(st.integers(0, HEADER_BYTES + 2 * BLOCK_BYTES - 1), st.integers(0, 255), min_size=1, max_size=9))
def test_no_map_however_damaged_crashes_us_or_makes_verified_reads_wrong(damage: dict[int, int]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        files = lone(Path(directory), 2 * BLOCK - 9)
        file = files.filled()
        file.seal()
        file.close()
        raw = bytearray(files.map.read_bytes())
        for offset, value in damage.items():
            raw[offset] = value
        files.map.write_bytes(raw)
        try:
            file = files.open(create=False)
        except OSError:
            return
        for offset in (0, SUB, BLOCK - 1, BLOCK):
            assert file.read(offset, SUB, verify=VERIFY_ALWAYS) in (None, content(files.size)[offset : offset + SUB])
        file.sink().write(0, content(files.size))
        assert 0 <= file.present_bytes <= files.size
        file.close()


def test_a_version_that_another_holds_alone_is_busy_after_a_second(tmp_path: Path) -> None:
    files = lone(tmp_path, BLOCK)
    files.filled().close()
    fd = os.open(files.data, os.O_RDWR)
    fcntl.flock(fd, fcntl.LOCK_EX)
    with pytest.raises(OSError, match="busy") as caught:
        files.open(create=False)
    assert caught.value.errno == errno.EBUSY
    os.close(fd)
    files.open(create=False).close()


def test_files_that_lost_their_names_are_not_opened_by_them(tmp_path: Path) -> None:
    files = lone(tmp_path, BLOCK)
    held = files.filled()
    files.map.rename(tmp_path / "elsewhere")
    with pytest.raises(FileNotFoundError):
        files.open(create=False)
    # Nobody may make a second map while the first is in use: two maps over one file would not see each other's drops.
    with pytest.raises(OSError, match="busy"):
        files.open(create=True)
    held.close()
    assert files.open(create=True).present_bytes == 0


# ---- sealing


def test_a_seal_holds_until_the_file_changes(tmp_path: Path) -> None:
    files = lone(tmp_path, 2 * BLOCK + 1)
    file = files.filled()
    assert file.seal()
    assert file.sealed
    assert file.seal_holds(trust=True)
    file.close()
    file = files.open(create=False)
    assert file.seal_holds(trust=True)
    assert file.read(0, files.size, nowait=True) == content(files.size)  # on the word of the seal
    os.utime(files.data, ns=(1, 1))
    assert not file.seal_holds(trust=True)
    assert not file.sealed
    with pytest.raises(BlockingIOError):
        file.read(0, 1, nowait=True)


def test_a_seal_of_another_boot_is_not_trusted(tmp_path: Path) -> None:
    files = lone(tmp_path, BLOCK)
    file = files.filled()
    assert file.seal()
    file.close()
    again = files.open(create=False, boot=OTHER_BOOT)
    assert not again.seal_holds(trust=True)
    assert again.read(0, BLOCK) == content(BLOCK)
    assert again.seal()
    assert again.seal_holds(trust=True)


def test_only_what_is_complete_and_right_is_sealed(tmp_path: Path) -> None:
    files = lone(tmp_path, 2 * BLOCK)
    file = files.open()
    file.sink().write(0, content(files.size)[:BLOCK])
    assert not file.seal()
    file.sink().write(BLOCK, content(files.size)[BLOCK:])
    file.close()
    with files.data.open("r+b") as data:
        data.write(b"wrong")
    file = files.open(create=False)
    assert not file.seal()
    assert not file.sealed
    assert file.next_missing(0, files.size) == (0, BLOCK)


def test_dropping_a_block_ends_the_seal(tmp_path: Path) -> None:
    files = lone(tmp_path, 2 * BLOCK)
    file = files.filled()
    assert file.seal()
    assert file.drop_block(1, punch=False) == BLOCK
    assert not file.sealed
    assert file.was_sealed
    assert not file.seal_holds(trust=True)


def test_what_was_ever_sealed_is_never_punched(tmp_path: Path) -> None:
    files = lone(tmp_path, 2 * BLOCK)
    file = files.filled()
    assert not file.was_sealed
    assert file.seal()
    for _ in ("sealed", "broken", "opened again", "in another boot"):
        assert file.was_sealed
        with pytest.raises(PermissionError):
            file.drop_block(0, punch=True)
        assert file.read(0, BLOCK) == content(files.size)[:BLOCK]
        assert files.data.read_bytes() == content(files.size)
        file.drop_block(1, punch=False)
        assert not file.sealed
        file.close()
        file = files.open(create=False, boot=OTHER_BOOT)


def test_a_broken_seal_can_be_taken_anew(tmp_path: Path) -> None:
    files = lone(tmp_path, 2 * BLOCK)
    file = files.filled()
    assert file.seal()
    file.drop_block(1, punch=False)
    assert not file.seal()
    file.sink().write(BLOCK, content(files.size)[BLOCK:])
    assert file.seal()
    assert file.sealed
    assert file.seal_holds(trust=True)


def test_blocks_written_after_a_seal_broke_are_compared_in_the_next_boot(tmp_path: Path) -> None:
    files = lone(tmp_path, 2 * BLOCK)
    file = files.filled()
    assert file.seal()
    file.drop_block(1, punch=False)
    file.sink().write(BLOCK, content(files.size)[BLOCK:])
    file.close()
    files.open(create=False, boot=OTHER_BOOT)
    assert [block[2] for block in blocks_of(files.map)] == [COMPLETE | DOUBTED] * 2


@pytest.mark.parametrize(("stored", "sealed", "was_sealed"), [(0, False, False), (1, True, True), (2, False, True)])
def test_the_seals_of_an_older_cache_are_read_as_they_were(
    tmp_path: Path, stored: int, sealed: bool, was_sealed: bool
) -> None:
    files = lone(tmp_path, BLOCK)
    file = files.filled()
    file.seal()
    file.close()
    with files.map.open("r+b") as map_file:
        map_file.seek(64)
        map_file.write(struct.pack("<I", stored))
    file = files.open(create=False)
    assert (file.sealed, file.was_sealed, file.seal_holds(trust=False)) == (sealed, was_sealed, sealed)


def test_a_file_cut_short_while_nobody_had_it_open_was_sealed_all_the_same(tmp_path: Path) -> None:
    files = lone(tmp_path, 2 * BLOCK)
    file = files.filled()
    assert file.seal()
    file.close()
    os.truncate(files.data, BLOCK)
    file = files.open(create=False)
    assert (file.sealed, file.was_sealed) == (False, True)
    assert file.next_missing(0, files.size) == (BLOCK, 2 * BLOCK)


def test_sealing_and_punching_at_once_never_leave_a_sealed_version_with_a_hole(tmp_path: Path) -> None:
    files = lone(tmp_path, 8 * BLOCK)
    file = files.open()
    rng, sealed, punched = random.Random(6), 0, 0
    for _ in range(150):
        file.sink().write(0, content(files.size))
        with ThreadPoolExecutor(1) as pool:
            seal = pool.submit(file.seal)
            # At any moment of the sealing, or just when it says that it will.
            for _ in range(rng.choice((0, rng.randrange(20_000), 1_000_000))):
                if file.was_sealed or seal.done():
                    break
            punch = attempt(partial(file.drop_block, 5, punch=True))
        # The one that comes too late steps back.
        assert not (seal.result() and punch)
        assert file.sealed == seal.result()
        if seal.result():
            assert files.data.read_bytes() == content(files.size)
        sealed, punched = sealed + seal.result(), punched + punch
        if file.was_sealed:
            file.close()
            files.data.unlink()
            files.map.unlink()
            file = files.open()
    assert sealed
    assert punched


def test_punching_gives_the_space_back(tmp_path: Path) -> None:
    files = lone(tmp_path, 8 * BLOCK)
    file = files.filled()
    os.fsync(file.fileno())
    before = files.data.stat().st_blocks
    assert file.drop_block(3, punch=True) == BLOCK
    assert before - files.data.stat().st_blocks >= BLOCK // 512
    assert files.data.stat().st_size == files.size


def test_whoever_is_alone_knows_it_and_keeps_others_out(tmp_path: Path) -> None:
    files = lone(tmp_path, BLOCK)
    file, other = files.filled(), files.open()
    assert not other.alone()
    other.close()
    assert file.alone()
    with pytest.raises(OSError, match="busy"):
        files.open()
