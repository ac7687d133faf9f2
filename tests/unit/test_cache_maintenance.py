"""What `fluidfs cache` does to a level, beside a daemon that uses it or without one."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fluidfs.cache.files import data_path, map_path
from fluidfs.cache.level import Level
from fluidfs.cache.maintenance import collect, evict, level_usage, list_versions, verify
from fluidfs.config import LevelSpec
from fluidfs.errors import CacheUnusable
from tests.unit.caching import BLOCK, MIB, content, is_there, level_in, put, put_small, version_named

SIZE = 3 * BLOCK + 17


@pytest.fixture
def spec(tmp_path: Path) -> LevelSpec:
    return LevelSpec(str(tmp_path), 64 * MIB)


@pytest.fixture
def level(tmp_path: Path) -> Iterator[Level]:
    """The daemon's."""
    level = level_in(tmp_path)
    yield level
    level.close()


def names_in(level: Level) -> list[str]:
    directories = (level.files.objects, level.files.slabs)
    files = [path for directory in directories for path in directory.rglob("*") if not path.is_dir()]
    return sorted(str(path.relative_to(level.files.root)) for path in files)


@pytest.mark.parametrize("work", [level_usage, lambda spec: list(list_versions(spec)), verify, evict, collect])
def test_a_cache_that_is_not_there_is_said_so_and_not_made(tmp_path: Path, work: object) -> None:
    with pytest.raises(CacheUnusable, match="there is no cache"):
        work(LevelSpec(str(tmp_path / "none")))  # type: ignore[operator]
    assert list(tmp_path.iterdir()) == []


def test_the_quota_is_told_and_not_changed(spec: LevelSpec, level: Level) -> None:
    put(level, version_named("a"))
    usage = level_usage(LevelSpec(spec.path, 1 << 40))
    assert (usage.used_bytes, usage.quota_bytes) == (SIZE, 64 * MIB)
    assert usage.low_bytes < usage.high_bytes < usage.quota_bytes
    assert usage.free_disk_bytes > 0


# ---- listing


def test_everything_is_listed_with_what_is_cached_of_it_and_who_uses_it(spec: LevelSpec, level: Level) -> None:
    put(level, version_named("idle"), last_use_s=1000)
    held = level.open_object(version_named("held"), create=True)
    assert held is not None
    held.sink().write(0, content(SIZE, "held")[:BLOCK])
    put_small(level, version_named("small", 10))
    found = {version.key: version for version in list_versions(spec)}
    assert set(found) == {"idle", "held", "small"}
    assert (found["idle"].cached_bytes, found["idle"].size_bytes, found["idle"].in_use) == (SIZE, SIZE, False)
    assert (found["idle"].kind, found["idle"].last_use_s, found["idle"].version) == ("object", 1000, "etag")
    assert (found["held"].cached_bytes, found["held"].sealed, found["held"].in_use) == (BLOCK, False, True)
    assert (found["small"].kind, found["small"].cached_bytes, found["small"].in_use) == ("slab", 10, True)
    held.seal()
    assert found["small"].store == version_named("").store


def test_a_listing_that_is_not_read_on_keeps_nobody_from_opening(spec: LevelSpec, level: Level) -> None:
    put(level, version_named("a"))
    listing = list_versions(spec)
    next(listing)
    began = time.monotonic()
    assert level.open_object(version_named("a"), create=False) is not None
    assert time.monotonic() - began < 0.5
    listing.close()  # type: ignore[attr-defined]


def test_damaged_files_are_left_out_of_a_listing(spec: LevelSpec, level: Level) -> None:
    put(level, version_named("good"))
    map_path(put(level, version_named("bad"))).write_text("hello")
    (level.files.slabs / "9.idx").write_text("hello")
    assert [version.key for version in list_versions(spec)] == ["good"]


# ---- verifying


def test_bad_blocks_are_named_counted_and_dropped(spec: LevelSpec, level: Level) -> None:
    stem = put(level, version_named("a"))
    put(level, version_named("b"))
    put_small(level, version_named("small", 1000))
    put_small(level, version_named("tiny", 10))
    with data_path(stem).open("r+b") as file:
        file.seek(BLOCK)
        file.write(b"wrong")
    with next(level.files.slabs.glob("*.slab")).open("r+b") as file:
        file.seek(200)
        file.write(b"wrong")
    seen: list[tuple[int, int]] = []
    report = verify(spec, progress=lambda done, total: seen.append((done, total)))
    assert (report.versions, report.blocks_checked, report.blocks_bad) == (4, 10, 2)
    assert report.bytes_checked == 2 * SIZE + 1010
    store = version_named("").store
    assert set(report.bad) == {f"{store}/a block 1", f"{store}/small"}
    assert seen[-1][0] <= seen[-1][1]
    file_a = level.open_object(version_named("a"), create=False)
    assert file_a is not None
    assert file_a.next_missing(0, SIZE) == (BLOCK, 2 * BLOCK)
    assert level.slabs.find(version_named("small", 1000).digest()) is None
    again = verify(spec)
    assert (again.blocks_checked, again.blocks_bad) == (8, 0)


def test_partial_blocks_have_nothing_to_be_compared_with(spec: LevelSpec, level: Level) -> None:
    file = level.open_object(version_named("a"), create=True)
    assert file is not None
    file.sink().write(0, content(SIZE)[: BLOCK // 2])
    assert verify(spec).blocks_checked == 0


# ---- evicting


def test_everything_that_nobody_has_open_goes(spec: LevelSpec, level: Level) -> None:
    idle, used = put(level, version_named("a")), put(level, version_named("b"))
    held = level.open_object(version_named("b"), create=False)
    report = evict(spec, everything=True)
    assert (report.versions, report.bytes_freed, report.in_use_kept) == (1, SIZE, 1)
    assert (is_there(idle), is_there(used), held is not None) == (False, True, True)


def test_a_level_is_brought_down_to_a_size(spec: LevelSpec, level: Level) -> None:
    for number in range(4):
        put(level, version_named(str(number)), last_use_s=number)
    assert evict(spec, target_bytes=2 * SIZE).versions == 2
    assert level.usage.used_bytes == 2 * SIZE


@pytest.mark.parametrize(
    ("pattern", "left"),
    [("train/*", {"test/a"}), ("s3+http://*/train/?", {"test/a"}), ("*", set()), ("train", {"train/b", "test/a"})],
)
def test_what_matches_goes(spec: LevelSpec, level: Level, pattern: str, left: set[str]) -> None:
    for key in ("train/b", "test/a"):
        put(level, version_named(key))
    evict(spec, pattern=pattern)
    assert {version.key for version in list_versions(spec)} == left


# ---- collecting


def test_what_nothing_can_use_is_removed_and_the_usage_counted(spec: LevelSpec, level: Level) -> None:
    good = put(level, version_named("good"))
    put_small(level, version_named("small", 1000))
    before = names_in(level)
    data_path(put(level, version_named("no data"))).unlink()
    map_path(put(level, version_named("no map"))).unlink()
    map_path(put(level, version_named("damaged"))).write_text("hello")
    os.truncate(map_path(put(level, version_named("short"))), 4097)
    (good.parent / "stray").write_text("hello")
    (level.files.objects / ("0" * 32 + ".map")).write_text("not in its place")
    (level.files.objects / "link").symlink_to("/etc/passwd")
    old = good.parent / (good.name + ".map.77.new")
    old.write_text("of a maker that was killed")
    os.utime(old, (1, 1))
    for name in ("8.slab", "9.idx", "x.idx"):
        (level.files.slabs / name).write_text("hello")
    level.usage.used_bytes = 50 * MIB
    report = collect(spec)
    assert names_in(level) == before
    assert (report.usage_before_bytes, report.usage_after_bytes) == (50 * MIB, level.usage.used_bytes)
    small = level.slabs.find(version_named("small", 1000).digest())
    assert small is not None
    assert level.usage.used_bytes == SIZE + small.slab.used_bytes
    assert report.bytes_freed > 3 * SIZE // 2
    assert report.orphans_removed >= 10
    assert collect(spec).orphans_removed == 0
    assert Path("/etc/passwd").exists()


def test_directories_outside_are_never_walked_into(spec: LevelSpec, level: Level, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("mine")
    (level.files.objects / "ab").symlink_to(outside)
    (level.files.slabs / "cd").symlink_to(outside)
    collect(spec)
    assert (outside / "precious").read_text() == "mine"


def test_what_is_in_use_or_just_being_made_stays(spec: LevelSpec, level: Level) -> None:
    held = level.open_object(version_named("held"), create=True)
    assert held is not None
    stem = level.files.object_stem(version_named("held").digest())
    making = stem.with_name(stem.name + ".map.77.new")
    making.write_text("")
    map_path(put(level, version_named("damaged"))).write_text("hello")
    damaged = level.files.object_stem(version_named("damaged").digest())
    fd = os.open(data_path(damaged), os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_SH)
    collect(spec)
    assert is_there(stem)
    assert making.exists()
    assert is_there(damaged)
    os.close(fd)
    collect(spec)
    assert not is_there(damaged)


def test_a_slab_that_a_daemon_has_open_goes_on_to_be_used(spec: LevelSpec, level: Level) -> None:
    identity = version_named("small", 1000)
    put_small(level, identity)
    collect(spec)
    put_small(level, version_named("other", 1000))
    for each in (identity, version_named("other", 1000)):
        found = level_in(Path(spec.path)).slabs.find(each.digest())
        assert found is not None
        assert found.read(0, 1000, always=True, nowait=False) == content(1000, each.key)
    assert len(list(level.slabs)) == 1
