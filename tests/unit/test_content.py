"""Contents of open files: who keeps what open, where reads find their bytes, and what they make of a fault."""

from __future__ import annotations

import gc
import os
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fluidfs._native.contents import Contents
from fluidfs._native.objects import VERIFY_ALWAYS, VERIFY_FIRST, VERIFY_NEVER, ObjectFile
from fluidfs._native.slabs import Slab
from tests.unit.caching import BLOCK, BOOT, OTHER_BOOT, Lone, content, lone, slab_in, usage_in

SIZE = 2 * BLOCK + 17
SMALL = 5000
FIRST_CONTENT = 1 << 32


@pytest.fixture
def contents() -> Contents:
    return Contents()


@pytest.fixture
def files(tmp_path: Path) -> Lone:
    return lone(tmp_path, SIZE)


@pytest.fixture
def slab(tmp_path: Path) -> Slab:
    return slab_in(tmp_path, usage_in(tmp_path))


def key_of(number: int) -> bytes:
    return number.to_bytes(16, "big")


def stored(slab: Slab, number: int = 1, size: int = SMALL) -> int:
    """The slot of a new object of `content(size, number)`."""
    slot = slab.put(key_of(number), b"who", content(size, number))
    assert slot is not None
    return slot


def placed(contents: Contents, slab: Slab, *, number: int = 1, verify: int = VERIFY_FIRST) -> tuple[int, int, int]:
    """A small content and where it lies: its id, the slab's, the slot."""
    slot, slab_id = stored(slab, number), contents.add_slab(slab)
    small = contents.add_small(SMALL, verify=verify)
    assert contents.place(small, slab_id, slot)
    return small, slab_id, slot


def is_open(file: ObjectFile | Slab) -> bool:
    """Whether Python may still use it."""
    try:
        file.fileno()
    except ValueError:
        return False
    return True


def descriptors_of(path: Path) -> int:
    """How often this process has the file open."""
    count = 0
    for fd in Path("/proc/self/fd").iterdir():
        try:
            count += os.readlink(fd) == str(path)
        except FileNotFoundError:
            continue
    return count


# ---- ids and lives


def test_ids_are_never_given_twice_and_tell_slabs_from_contents(contents: Contents, files: Lone, slab: Slab) -> None:
    first = [contents.add_through(1), contents.add_small(1, verify=VERIFY_FIRST), contents.add_slab(slab)]
    for content_id in first[:2]:
        contents.drop(content_id)
    contents.leave_slab(first[2])
    assert sorted(contents.gone()) == sorted(first)
    later = [contents.add_through(1), contents.add_small(1, verify=VERIFY_FIRST), contents.add_slab(slab)]
    assert not set(first) & set(later)
    assert min(*first[:2], *later[:2]) >= FIRST_CONTENT > max(first[2], later[2]) > 0


def test_what_was_dropped_is_told_once_and_known_no_more(contents: Contents) -> None:
    kept, dropped = contents.add_through(1), contents.add_through(2)
    contents.drop(dropped)
    assert len(contents) == 1
    for act in (contents.drop, lambda each: contents.read(each, 0, 1), lambda each: contents.present(each, 0, 1)):
        with pytest.raises(KeyError):
            act(dropped)
    assert contents.gone() == [dropped]
    assert contents.gone() == []
    assert contents.read(kept, 0, 1) is None


def test_any_number_of_contents_goes_at_once(contents: Contents) -> None:
    ids = [contents.add_through(number) for number in range(10_000)]
    assert len(contents) == 10_000
    for content_id in ids[::2]:
        contents.drop(content_id)
    assert sorted(contents.gone()) == ids[::2]
    assert all(contents.present(content_id, 0, 1) is False for content_id in ids[3::2])
    for content_id in ids[1::2]:
        contents.drop(content_id)
    assert sorted(contents.gone()) == ids[1::2]
    assert len(contents) == 0


def test_a_closed_file_stays_open_until_its_content_has_gone(contents: Contents, files: Lone) -> None:
    file = files.filled()
    content_id = contents.add_object(file, verify=VERIFY_FIRST)
    file.close()
    assert not is_open(file)
    assert contents.read(content_id, 0, SIZE) == content(SIZE)
    contents.drop(content_id)
    assert descriptors_of(files.data) == 1
    assert contents.gone() == [content_id]
    assert descriptors_of(files.data) == 0


def test_a_file_that_is_closed_becomes_no_content(contents: Contents, files: Lone, slab: Slab) -> None:
    file = files.filled()
    file.close()
    slab.close()
    with pytest.raises(ValueError, match="closed"):
        contents.add_object(file, verify=VERIFY_FIRST)
    with pytest.raises(ValueError, match="closed"):
        contents.add_slab(slab)
    assert len(contents) == 0


def test_two_contents_may_lie_in_one_file(contents: Contents, files: Lone) -> None:
    file = files.filled()
    first, second = (contents.add_object(file, verify=VERIFY_FIRST) for _ in range(2))
    file.close()
    contents.drop(first)
    assert contents.gone() == [first]
    assert contents.read(second, 5, 10) == content(SIZE)[5:15]


def test_the_registry_lets_go_of_all_when_it_goes(files: Lone, slab: Slab) -> None:
    contents, file = Contents(), files.filled()
    contents.add_object(file, verify=VERIFY_FIRST)
    placed(contents, slab)
    contents.drop(contents.add_object(file, verify=VERIFY_FIRST))
    file.close()
    slab.close()
    assert descriptors_of(files.data) == 1
    del contents
    gc.collect()
    assert descriptors_of(files.data) == 0


# ---- objects


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_an_objects_content_reads_as_its_file_does(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    files = lone(tmp_path_factory.mktemp("version"), SIZE)
    file, contents = files.open(), Contents()
    for at in data.draw(st.sets(st.integers(0, SIZE // 4096))):
        file.sink().write(at * 4096, content(SIZE)[at * 4096 : (at + 1) * 4096])
    verify = data.draw(st.sampled_from([VERIFY_FIRST, VERIFY_ALWAYS, VERIFY_NEVER]))
    content_id = contents.add_object(file, verify=verify)
    edge = st.sampled_from([0, 4096, BLOCK - 1, BLOCK, SIZE - 1, SIZE, SIZE + 1])
    for offset, length in data.draw(st.lists(st.tuples(edge | st.integers(0, SIZE), edge), max_size=20)):
        assert contents.read(content_id, offset, length) == file.read(offset, length, verify=verify)
        end = offset + length
        assert contents.present(content_id, offset, length) == (file.next_missing(offset, end) is None)


def test_a_wrong_block_is_a_miss_and_comes_anew(contents: Contents, files: Lone) -> None:
    files.filled().close()
    with files.data.open("r+b") as data:
        data.write(b"wrong")
    file = files.open(create=False)
    content_id = contents.add_object(file, verify=VERIFY_FIRST)
    assert contents.present(content_id, 0, SIZE)
    assert contents.read(content_id, 0, 5) is None
    assert not contents.present(content_id, 0, 1)
    assert contents.read(content_id, BLOCK, 5) == content(SIZE)[BLOCK : BLOCK + 5]
    file.sink().write(0, content(SIZE)[:BLOCK])
    assert contents.read(content_id, 0, SIZE) == content(SIZE)


def test_a_map_that_was_cut_short_is_a_miss(contents: Contents, files: Lone) -> None:
    content_id = contents.add_object(files.filled(), verify=VERIFY_FIRST)
    os.truncate(files.map, 0)
    assert contents.read(content_id, 0, 5) is None
    assert not contents.present(content_id, 0, 5)


def test_a_checksum_is_not_compared_by_who_does_not_wait(contents: Contents, files: Lone) -> None:
    files.filled().close()
    content_id = contents.add_object(files.open(create=False), verify=VERIFY_FIRST)
    with pytest.raises(BlockingIOError):
        contents.read(content_id, 0, 5, nowait=True)
    assert contents.read(content_id, 0, 5) == content(SIZE)[:5]
    assert contents.read(content_id, 0, 5, nowait=True) == content(SIZE)[:5]


def test_the_kernel_may_read_what_is_sealed_and_need_not_always_be_compared(contents: Contents, files: Lone) -> None:
    file = files.filled()
    first, always = (contents.add_object(file, verify=verify) for verify in (VERIFY_FIRST, VERIFY_ALWAYS))
    assert not contents.sealed(first, BOOT)
    assert file.seal()
    assert contents.sealed(first, BOOT)
    assert not contents.sealed(always, BOOT)
    os.utime(files.data, ns=(1, 1))
    assert not contents.sealed(first, BOOT)
    assert file.was_sealed


def test_a_seal_of_another_boot_does_not_open_a_file_to_the_kernel(contents: Contents, files: Lone) -> None:
    file = files.filled()
    assert file.seal()
    assert not contents.sealed(contents.add_object(file, verify=VERIFY_FIRST), OTHER_BOOT)


def test_nothing_but_objects_is_sealed(contents: Contents, slab: Slab) -> None:
    assert not contents.sealed(placed(contents, slab)[0], BOOT)
    assert not contents.sealed(contents.add_through(1), BOOT)


# ---- small files


def test_a_small_content_is_a_miss_until_it_is_placed(contents: Contents, slab: Slab) -> None:
    slot, slab_id = stored(slab), contents.add_slab(slab)
    small = contents.add_small(SMALL, verify=VERIFY_FIRST)
    assert contents.read(small, 0, 1) is None
    assert not contents.present(small, 0, 1)
    assert contents.place(small, slab_id, slot)
    assert contents.present(small, 0, SMALL)
    for offset, length in ((0, SMALL), (0, 1), (SMALL - 1, 9), (SMALL, 9), (17, 3000), (SMALL + 9, 1)):
        assert contents.read(small, offset, length) == content(SMALL, 1)[offset : offset + length]
    contents.unplace(small, slab_id, slot)
    assert contents.read(small, 0, 1) is None


def test_a_place_that_changed_meanwhile_is_not_taken_back(contents: Contents, slab: Slab) -> None:
    small, slab_id, slot = placed(contents, slab)
    contents.unplace(small, slab_id, slot + 1)
    contents.unplace(small, slab_id + 1, slot)
    contents.unplace(small, slab_id + (1 << 33), slot)
    contents.unplace(small, slab_id, slot + (1 << 32))
    assert contents.present(small, 0, 1)


def test_there_is_no_place_outside_of_a_slab_or_in_one_that_was_left(contents: Contents, slab: Slab) -> None:
    small, slab_id, slot = placed(contents, slab)
    for wrong_slab, wrong_slot in ((slab_id + 1, slot), (slab_id, 64), (slab_id, 1 << 32), (0, 0), (small, 0)):
        assert not contents.place(small, wrong_slab, wrong_slot)
    contents.leave_slab(slab_id)
    assert not contents.place(small, slab_id, slot)
    assert contents.read(small, 0, 1) is None


def test_only_small_contents_are_placed(contents: Contents, slab: Slab, files: Lone) -> None:
    _, slab_id, slot = placed(contents, slab)
    assert not contents.place(contents.add_through(SMALL), slab_id, slot)
    assert not contents.place(contents.add_object(files.filled(), verify=VERIFY_FIRST), slab_id, slot)


def test_an_empty_slot_is_a_miss_and_no_place_any_more(contents: Contents, slab: Slab) -> None:
    small, slab_id, slot = placed(contents, slab)
    slab.drop(slot)
    assert contents.present(small, 0, 1)
    assert contents.read(small, 0, 1) is None
    assert not contents.present(small, 0, 1)
    assert contents.place(small, slab_id, stored(slab, 1))
    assert contents.read(small, 0, 9) == content(SMALL, 1)[:9]


def test_a_wrong_record_is_a_miss_and_no_place_any_more(contents: Contents, slab: Slab, tmp_path: Path) -> None:
    stored(slab)
    slab.close()
    raw = (tmp_path / "1.slab").read_bytes()
    (tmp_path / "1.slab").write_bytes(raw.replace(content(SMALL, 1)[:5], b"wrong"))
    again = slab_in(tmp_path, usage_in(tmp_path), slots=0)
    small, slot = contents.add_small(SMALL, verify=VERIFY_NEVER), again.find(key_of(1))
    assert slot is not None
    assert contents.place(small, contents.add_slab(again), slot)
    assert contents.read(small, 0, SMALL) is None
    assert not contents.present(small, 0, SMALL)
    assert again.find(key_of(1)) is None


def test_a_record_of_another_size_is_none_of_the_content(contents: Contents, slab: Slab) -> None:
    slot, slab_id = stored(slab), contents.add_slab(slab)
    longer = contents.add_small(SMALL + 1, verify=VERIFY_FIRST)
    assert contents.place(longer, slab_id, slot)
    assert contents.read(longer, 0, SMALL + 1) is None
    assert not contents.present(longer, 0, 1)


def test_always_compared_means_compared_at_every_read(contents: Contents, slab: Slab, tmp_path: Path) -> None:
    small, _, _ = placed(contents, slab, verify=VERIFY_ALWAYS)
    with pytest.raises(BlockingIOError):
        contents.read(small, 0, 1, nowait=True)
    assert contents.read(small, 0, SMALL) == content(SMALL, 1)
    with (tmp_path / "1.slab").open("r+b") as file:
        file.seek(100)
        file.write(b"wrong")
    assert contents.read(small, 0, 1) is None


def test_leaving_a_slab_unplaces_all_that_lies_in_it_and_lets_it_go(
    contents: Contents, slab: Slab, tmp_path: Path
) -> None:
    small = [contents.add_small(SMALL, verify=VERIFY_FIRST) for _ in range(20)]
    slab_id = contents.add_slab(slab)
    for number, content_id in enumerate(small):
        assert contents.place(content_id, slab_id, stored(slab, number, SMALL))
        assert contents.read(content_id, 0, SMALL) == content(SMALL, number)
    slab.close()
    assert contents.read(small[3], 0, SMALL) == content(SMALL, 3)
    assert descriptors_of(tmp_path / "1.slab") == 1
    contents.leave_slab(slab_id)
    assert not any(contents.present(content_id, 0, 1) for content_id in small)
    assert [contents.read(content_id, 0, SMALL) for content_id in small] == [None] * 20
    assert contents.gone() == [slab_id]
    assert descriptors_of(tmp_path / "1.slab") == 0
    contents.leave_slab(slab_id)
    assert contents.gone() == []


def test_contents_find_their_slab_among_many(contents: Contents, tmp_path: Path) -> None:
    usage = usage_in(tmp_path)
    slabs = []
    for number in range(40):
        (tmp_path / str(number)).mkdir()
        slabs.append(slab_in(tmp_path / str(number), usage))
    ids = [contents.add_slab(slab) for slab in slabs]
    small = [contents.add_small(SMALL, verify=VERIFY_FIRST) for _ in slabs]
    for number, slab in enumerate(slabs):
        assert contents.place(small[number], ids[number], stored(slab, number))
    left = random.Random(1).sample(range(40), 15)
    for number in left:
        contents.leave_slab(ids[number])
    for number in range(40):
        expected = None if number in left else content(SMALL, number)
        assert contents.read(small[number], 0, SMALL) == expected
    assert sorted(contents.gone()) == sorted(ids[number] for number in left)


def test_slabs_that_were_read_are_touched_and_others_are_not(contents: Contents, tmp_path: Path) -> None:
    usage = usage_in(tmp_path)
    (tmp_path / "other").mkdir()
    read, other = slab_in(tmp_path, usage), slab_in(tmp_path / "other", usage)
    small, _, _ = placed(contents, read)
    placed(contents, other)
    for slab in (read, other):
        slab.touch(1)
    assert contents.read(small, 0, 9) == content(SMALL, 1)[:9]
    contents.touch(77)
    assert (read.last_use_s, other.last_use_s) == (77, 1)
    contents.touch(78)
    assert read.last_use_s == 77


# ---- what no level takes, and what is empty


def test_what_goes_through_is_always_a_miss(contents: Contents) -> None:
    content_id = contents.add_through(10)
    assert contents.read(content_id, 3, 4) is None
    assert contents.read(content_id, 3, 4, nowait=True) is None
    assert not contents.present(content_id, 0, 10)


def test_of_nothing_all_is_there(contents: Contents, slab: Slab) -> None:
    for content_id in (contents.add_through(0), contents.add_small(0, verify=VERIFY_FIRST)):
        assert contents.read(content_id, 0, 100) == b""
        assert contents.present(content_id, 0, 100)
    past = contents.add_through(5)
    for offset in (5, 6, 1 << 62):
        assert contents.read(past, offset, 1) == b""
        assert contents.present(past, offset, 1)


def test_offsets_and_lengths_too_large_are_cut_at_the_end(contents: Contents, files: Lone) -> None:
    content_id = contents.add_object(files.filled(), verify=VERIFY_FIRST)
    assert contents.read(content_id, SIZE - 3, (1 << 64) - 1) == content(SIZE)[-3:]
    assert contents.present(content_id, 1, (1 << 64) - 1)
