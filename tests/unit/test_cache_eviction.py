"""Making room: what goes, what stays, and what is moved to a slower level."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from fluidfs.cache.eviction import evict, evict_matching, evictor_lock
from fluidfs.cache.files import data_path, map_path
from fluidfs.cache.level import Level
from fluidfs.cache.recount import correct_overcount, count_bytes
from fluidfs.cache.room import make_room, punch_behind
from fluidfs.cache.version import CachedVersion
from tests.unit.caching import BLOCK, MIB, content, is_there, level_in, put, put_small, version_named

SIZE = 3 * BLOCK + 17


@pytest.fixture
def level(tmp_path: Path) -> Iterator[Level]:
    level = level_in(tmp_path / "fast")
    yield level
    level.close()


@pytest.fixture
def lower(tmp_path: Path) -> Iterator[Level]:
    level = level_in(tmp_path / "slow", block_bytes=4 * BLOCK)
    yield level
    level.close()


def present(level: Level, key: str) -> bytes | None:
    """All of a version of SIZE bytes, compared with its checksums."""
    file = level.open_object(version_named(key), create=False)
    return None if file is None else file.read(0, SIZE)


# ---- who goes


def test_the_longest_unused_go_until_the_target_is_met(level: Level) -> None:
    stems = {key: put(level, version_named(key), last_use_s=age) for key, age in (("a", 30), ("b", 10), ("c", 20))}
    report = evict(level, target_bytes=2 * SIZE)
    assert (report.versions, report.bytes_freed, report.in_use_kept) == (1, SIZE, 0)
    assert {key for key, stem in stems.items() if is_there(stem)} == {"a", "c"}
    assert (level.usage.used_bytes, level.usage.evicted_bytes) == (2 * SIZE, SIZE)


def test_nothing_goes_when_the_target_is_met(level: Level) -> None:
    put(level, version_named("a"))
    assert evict(level, target_bytes=SIZE).versions == 0


def test_what_is_in_use_stays_and_younger_ones_go_instead(level: Level) -> None:
    old, young = put(level, version_named("old"), last_use_s=1), put(level, version_named("young"), last_use_s=2)
    held = level.open_object(version_named("old"), create=False)
    report = evict(level, target_bytes=SIZE)
    assert (report.versions, report.in_use_kept) == (1, 1)
    assert is_there(old)
    assert not is_there(young)
    assert held is not None
    assert held.read(0, SIZE) == content(SIZE, "old")


def test_a_slab_goes_whole_and_those_who_have_it_open_keep_what_they_have(level: Level, tmp_path: Path) -> None:
    identity = version_named("small", 1000)
    put_small(level, identity)
    found = level.slabs.find(identity.digest())
    reader = level_in(tmp_path / "fast")
    assert reader.slabs.find(identity.digest()) is not None
    report = evict(reader, target_bytes=0)
    assert report.versions == 1
    assert level.slabs.find(identity.digest()) is reader.slabs.find(identity.digest()) is None
    assert found is not None
    assert found.read(0, 1000, always=True, nowait=False) == content(1000, "small")
    assert list(level.files.slabs.iterdir()) == []
    assert level.usage.used_bytes == 0


def test_bytes_that_reach_an_evicted_slab_are_not_counted(level: Level) -> None:
    identity = version_named("late", 1000)
    sink = level.slabs.sink(identity)  # its job is under way
    evict(level, target_bytes=0)
    put_small(level, version_named("other", 1000))
    evict(level, target_bytes=0)
    assert sink.slab.put(identity.digest(), identity.encode(), content(1000)) is None
    assert level.usage.used_bytes == 0


def test_one_evictor_at_a_time(level: Level) -> None:
    put(level, version_named("a"))
    with evictor_lock(level, wait=True) as ours:
        assert ours
        assert evict(level, target_bytes=0).versions == 0
    assert evict(level, target_bytes=0, wait=True).versions == 1


def test_objects_are_evicted_by_name_small_ones_among_them(level: Level) -> None:
    for key in ("train/1", "train/2", "test/1"):
        put(level, version_named(key))
        put_small(level, version_named(f"small/{key}", 100))
    held = level.open_object(version_named("train/2"), create=False)
    report = evict_matching(level, lambda identity: "train" in identity.key)
    assert (report.versions, report.bytes_freed, report.in_use_kept) == (3, SIZE, 1)
    assert held is not None
    assert present(level, "train/1") is None
    assert present(level, "test/1") is not None
    assert level.slabs.find(version_named("small/train/1", 100).digest()) is None
    assert level.slabs.find(version_named("small/test/1", 100).digest()) is not None


def test_files_that_cannot_be_read_do_not_stop_the_rest(level: Level) -> None:
    for key in "abc":
        put(level, version_named(key))
    map_path(level.files.object_stem(version_named("a").digest())).write_text("hello")
    (level.files.slabs / "7.idx").write_text("hello")
    assert evict(level, target_bytes=0).versions == 2


# ---- counting


def test_a_counter_that_is_far_too_high_is_corrected_when_nothing_is_left_to_evict(level: Level) -> None:
    put(level, version_named("a"))
    held = level.open_object(version_named("a"), create=False)
    level.usage.used_bytes = 60 * MIB  # as after `rm -r` of most of the directory
    evict(level, target_bytes=level.usage.low_bytes)
    assert level.usage.used_bytes == SIZE == count_bytes(level)
    assert held is not None


def test_a_counter_that_is_a_little_off_is_left_alone(level: Level) -> None:
    put(level, version_named("a"))
    level.usage.used_bytes = SIZE + MIB
    assert correct_overcount(level) == 0
    assert level.usage.used_bytes == SIZE + MIB


def test_versions_and_slabs_are_counted(level: Level) -> None:
    put(level, version_named("a"))
    put_small(level, version_named("b", 1000))
    assert count_bytes(level) == level.usage.used_bytes


def test_room_is_made_for_what_is_to_come_even_below_the_watermarks(level: Level) -> None:
    put(level, version_named("a"))
    assert level.usage.used_bytes < level.usage.low_bytes
    assert make_room(level, None, size_bytes=64 * MIB - SIZE).versions == 0
    assert make_room(level, None, size_bytes=64 * MIB - SIZE + 1).versions == 1


# ---- punching


def test_blocks_behind_the_reader_go_first_then_those_far_ahead(tmp_path: Path) -> None:
    level = level_in(tmp_path, quota_bytes=16 * MIB)
    identity = version_named("a", 100 * BLOCK)
    file = level.open_object(identity, create=True)
    assert file is not None
    file.sink().write(0, content(identity.size))
    version = CachedVersion(identity, level, file, "first")
    assert punch_behind(version, size_bytes=2 * BLOCK + 1, around=50 * BLOCK) == 3 * BLOCK
    assert file.next_missing(0, identity.size) == (0, 3 * BLOCK)
    # All behind but for what is near, then from the end on.
    assert punch_behind(version, size_bytes=identity.size, around=50 * BLOCK) == (97 - 2 * 8 - 1) * BLOCK
    assert file.next_missing(0, identity.size) == (0, 42 * BLOCK)
    assert file.next_missing(42 * BLOCK, identity.size) == (59 * BLOCK, 100 * BLOCK)
    assert file.read(42 * BLOCK, 17 * BLOCK) == content(identity.size)[42 * BLOCK : 59 * BLOCK]
    assert level.usage.used_bytes == 17 * BLOCK
    assert os.fstat(file.fileno()).st_blocks * 512 < 20 * BLOCK


def test_what_was_ever_sealed_is_not_punched(level: Level) -> None:
    put(level, version_named("a"))
    file = level.open_object(version_named("a"), create=False)
    assert file is not None
    assert file.seal()
    version = CachedVersion(version_named("a"), level, file, "first")
    assert punch_behind(version, size_bytes=SIZE, around=0) == 0
    file.drop_block(1, punch=False)
    assert not file.sealed
    assert punch_behind(version, size_bytes=SIZE, around=0) == 0


# ---- moving down


def test_an_evicted_version_moves_to_the_lower_level_with_its_age_and_its_seal(level: Level, lower: Level) -> None:
    stem = put(level, version_named("a"), last_use_s=77)
    assert evict(level, target_bytes=0, lower=lower).versions == 1
    assert not is_there(stem)
    assert present(lower, "a") == content(SIZE, "a")
    file = lower.open_object(version_named("a"), create=False)
    assert file is not None
    assert (file.block_bytes, file.sealed, file.last_use_s) == (4 * BLOCK, True, 77)
    assert (level.usage.used_bytes, lower.usage.used_bytes) == (0, SIZE)


def test_what_is_missing_stays_missing_and_what_is_wrong_does_not_move(level: Level, lower: Level) -> None:
    identity = version_named("a", 20 * BLOCK)
    put(level, identity)
    file = level.open_object(identity, create=False)
    assert file is not None
    file.drop_block(5, punch=True)
    file.close()
    with data_path(level.files.object_stem(identity.digest())).open("r+b") as data:
        data.seek(10 * BLOCK)
        data.write(b"wrong")
    evict(level, target_bytes=0, lower=lower)
    moved = lower.open_object(identity, create=False)
    assert moved is not None
    assert moved.next_missing(0, identity.size) == (5 * BLOCK, 6 * BLOCK)
    assert moved.next_missing(6 * BLOCK, identity.size) == (10 * BLOCK, 11 * BLOCK)
    assert moved.read(11 * BLOCK, BLOCK) == content(identity.size, "a")[11 * BLOCK : 12 * BLOCK]
    assert lower.usage.used_bytes == 18 * BLOCK == moved.present_bytes
    assert level.usage.used_bytes == 0


def test_a_version_that_is_in_use_below_is_completed_not_replaced(level: Level, lower: Level) -> None:
    put(level, version_named("a"))
    reader = lower.open_object(version_named("a"), create=True)
    assert reader is not None
    reader.sink().write(0, content(SIZE, "a")[:BLOCK])
    evict(level, target_bytes=0, lower=lower)
    assert reader.read(0, SIZE) == content(SIZE, "a")
    assert lower.usage.used_bytes == SIZE


def test_a_key_too_long_for_the_header_moves_under_its_own_name(level: Level, lower: Level) -> None:
    identity = version_named("k" * 5000)
    put(level, identity)
    evict(level, target_bytes=0, lower=lower)
    file = lower.open_object(identity, create=False)
    assert file is not None
    assert file.read(0, SIZE) == content(SIZE, identity.key)


def test_a_lower_level_without_room_or_with_a_fault_takes_nothing(level: Level, lower: Level) -> None:
    put(level, version_named("a"))
    lower.usage.used_bytes = lower.usage.quota_bytes
    evict(level, target_bytes=0, lower=lower)
    lower.usage.used_bytes = 0
    put(level, version_named("b"))
    lower.report_fault("broken")
    evict(level, target_bytes=0, lower=lower)
    assert list(lower.files.object_stems()) == []
    assert level.usage.used_bytes == 0


def test_a_lower_level_that_fails_costs_the_copy_only(level: Level, lower: Level) -> None:
    put(level, version_named("a"))
    lower.files.objects.rmdir()
    lower.files.objects.write_text("in the way")
    assert evict(level, target_bytes=0, lower=lower).versions == 1
    assert lower.fault is not None
