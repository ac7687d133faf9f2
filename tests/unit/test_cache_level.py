"""A level's directory: who may use it, what is found in it, and what damage costs."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from fluidfs.cache.files import data_path, map_path, read_map_header
from fluidfs.cache.level import FAULT_PAUSE_S, Level
from fluidfs.cache.quota import DEFAULT_DISK_SHARE
from fluidfs.cache.removal import remove_if_unused
from fluidfs.cache.slabs import SMALL_OBJECT_BYTES, slab_names_lock
from fluidfs.errors import CacheError, CacheUnusable
from tests.unit.caching import BLOCK, MIB, content, is_there, level_in, put, put_small, version_named


@pytest.fixture
def level(tmp_path: Path) -> Iterator[Level]:
    level = level_in(tmp_path / "cache")
    yield level
    level.close()


# ---- the directory


def test_a_new_level_is_for_its_owner_only(tmp_path: Path) -> None:
    before = os.umask(0)
    level_in(tmp_path / "a" / "b")
    os.umask(before)
    root = tmp_path / "a" / "b" / "v1"
    for path in (root, root / "objects", root / "slabs"):
        assert path.stat().st_mode & 0o777 == 0o700
    assert (root / "level").stat().st_mode & 0o777 == 0o600


def test_files_of_versions_are_for_their_owner_only(level: Level) -> None:
    stem = put(level, version_named("a"))
    put_small(level, version_named("b", 10))
    for path in (data_path(stem), map_path(stem), *level.files.slabs.iterdir()):
        assert path.stat().st_mode & 0o777 == 0o600


def test_a_level_that_others_were_let_into_is_closed_to_them(tmp_path: Path) -> None:
    level_in(tmp_path)
    (tmp_path / "v1").chmod(0o777)
    level_in(tmp_path)
    assert (tmp_path / "v1").stat().st_mode & 0o777 == 0o700


def test_somebody_elses_level_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    level_in(tmp_path)
    owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    with pytest.raises(CacheUnusable, match=f"belongs to user {owner}"):
        level_in(tmp_path)


@pytest.mark.parametrize("name", ["v1", "v1/objects", "v1/slabs"])
def test_a_link_for_a_directory_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "v1").mkdir()
    (tmp_path / "target").mkdir()
    if name == "v1":
        (tmp_path / "v1").rmdir()
    (tmp_path / name).symlink_to(tmp_path / "target")
    with pytest.raises(CacheUnusable, match="is a link"):
        level_in(tmp_path)
    assert list((tmp_path / "target").iterdir()) == []


@pytest.mark.parametrize("foreign", [b"hello", b"FLUIDLVL\x02" + bytes(4087)])
def test_a_level_of_another_format_is_refused_and_left_as_it_is(tmp_path: Path, foreign: bytes) -> None:
    (tmp_path / "v1").mkdir()
    (tmp_path / "v1" / "level").write_bytes(foreign)
    with pytest.raises(CacheUnusable, match=f"name another, or remove {tmp_path}/v1"):
        level_in(tmp_path)
    assert (tmp_path / "v1" / "level").read_bytes() == foreign


def test_a_place_that_is_no_directory_is_refused_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CacheUnusable, match="cannot be used: "):
        level_in(tmp_path / "file")


def test_another_format_lives_beside_ours(tmp_path: Path) -> None:
    (tmp_path / "v2").mkdir()
    (tmp_path / "v2" / "level").write_text("of a later fluidfs")
    level_in(tmp_path)
    assert (tmp_path / "v2" / "level").read_text() == "of a later fluidfs"


# ---- quota


def test_the_quota_is_the_directorys_own_and_the_last_that_was_named_holds(tmp_path: Path) -> None:
    first = level_in(tmp_path, quota_bytes=64 * MIB)
    assert level_in(tmp_path, quota_bytes=None).usage.quota_bytes == 64 * MIB
    level_in(tmp_path, quota_bytes=32 * MIB)
    assert first.usage.quota_bytes == 32 * MIB


def test_nobody_named_a_quota_so_it_is_a_part_of_the_disk(tmp_path: Path) -> None:
    disk = os.statvfs(tmp_path)
    level = level_in(tmp_path, quota_bytes=None)
    assert level.usage.quota_bytes == int(disk.f_blocks * disk.f_frsize * DEFAULT_DISK_SHARE)


def test_room_is_what_the_quota_leaves_and_what_was_promised_is_taken(level: Level) -> None:
    assert level.has_room(64 * MIB)
    assert not level.has_room(64 * MIB + 1)
    level.reserved_bytes = MIB
    assert not level.has_room(64 * MIB)
    level.reserved_bytes = 0
    level.usage.used_bytes = 62 * MIB
    assert level.excess_bytes == 62 * MIB - level.usage.low_bytes
    level.usage.used_bytes = level.usage.high_bytes
    assert level.excess_bytes == 0


# ---- faults


def test_a_fault_is_news_once_and_ends_by_itself(tmp_path: Path) -> None:
    now = [0.0]
    level = level_in(tmp_path, clock=lambda: now[0])
    assert level.report_fault("broken")
    assert not level.report_fault("still broken")
    assert level.fault == "still broken"
    now[0] = FAULT_PAUSE_S
    assert level.fault is None
    assert level.report_fault("again")


def test_a_full_disk_is_no_fault_and_gets_nothing_more_for_a_while(tmp_path: Path) -> None:
    now = [0.0]
    level = level_in(tmp_path, clock=lambda: now[0])
    assert level.report_full()
    assert not level.report_full()
    assert level.fault is None
    assert not level.has_room(1)
    now[0] = FAULT_PAUSE_S
    assert level.has_room(1)


# ---- versions


def test_a_version_is_found_by_what_it_is(level: Level) -> None:
    identity = version_named("a")
    assert level.open_object(identity, create=False) is None
    assert list(level.files.objects.iterdir()) == []  # looking makes nothing
    put(level, identity)
    file = level.open_object(identity, create=False)
    assert file is not None
    assert file.read(0, identity.size) == content(identity.size, "a")
    assert level.open_object(version_named("b"), create=False) is None


def test_a_version_keeps_the_block_size_it_was_made_with(level: Level, tmp_path: Path) -> None:
    identity = version_named("a")
    held = level.open_object(identity, create=True)
    assert held is not None
    other = level_in(tmp_path / "cache", block_bytes=4 * BLOCK).open_object(identity, create=True)
    assert other is not None
    assert other.block_bytes == BLOCK
    held.sink().write(0, content(identity.size, "a"))
    assert other.read(0, identity.size) == content(identity.size, "a")


OPENER = """
import sys
from pathlib import Path
from tests.unit.caching import content, level_in, version_named
level = level_in(Path(sys.argv[1]), block_bytes=int(sys.argv[2]))
print("ready", flush=True)
sys.stdin.readline()
for number in range(150):
    identity = version_named(str(number), 600000)
    file = level.open_object(identity, create=True)
    assert file is not None, number
    file.sink().write(0, content(identity.size))
    assert file.read(0, identity.size) == content(identity.size), number
    file.close()
"""


def test_daemons_with_different_block_sizes_share_a_level(tmp_path: Path) -> None:
    commands = [[sys.executable, "-c", OPENER, str(tmp_path), str(BLOCK * times)] for times in (1, 2)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    openers = [subprocess.Popen(command, **pipes) for command in commands]  # type: ignore[call-overload]
    for opener in openers:
        assert opener.stdout.readline() == "ready\n"
    for opener in openers:
        opener.stdin.write("\n")
        opener.stdin.flush()
    for opener in openers:
        opener.communicate(timeout=30)
    assert [opener.returncode for opener in openers] == [0, 0]
    assert level_in(tmp_path).usage.used_bytes == 150 * 600000


def damage_header_block_size(stem: Path) -> None:
    raw = bytearray(map_path(stem).read_bytes())
    raw[24:28] = (12345).to_bytes(4, "little")
    map_path(stem).write_bytes(raw)


DAMAGE = {
    "short map": lambda stem: os.truncate(map_path(stem), 5000),
    "empty map": lambda stem: os.truncate(map_path(stem), 0),
    "block size": damage_header_block_size,
    "text": lambda stem: map_path(stem).write_text("hello"),
    "linked map": lambda stem: (map_path(stem).unlink(), map_path(stem).symlink_to("/etc/passwd")),
    "linked data": lambda stem: (data_path(stem).unlink(), data_path(stem).symlink_to("/etc/passwd")),
    "pipes": lambda stem: [(path.unlink(), os.mkfifo(path)) for path in (map_path(stem), data_path(stem))],
    "another version's files": lambda stem: map_path(stem).write_bytes(
        map_path(stem).read_bytes().replace(b"127.0.0.1", b"127.0.0.2")
    ),
}


@pytest.mark.parametrize("what", DAMAGE)
@pytest.mark.parametrize("create", [True, False])
def test_a_damaged_version_is_removed_and_made_anew(level: Level, what: str, create: bool) -> None:
    identity = version_named("a")
    stem = put(level, identity)
    DAMAGE[what](stem)
    file = level.open_object(identity, create=create)
    if not create:
        assert file is None
        assert not is_there(stem)
        return
    assert file is not None
    assert file.present_bytes == 0
    file.sink().write(0, content(identity.size))
    assert file.complete
    assert Path("/etc/passwd").read_bytes().startswith(b"root:")


def test_a_version_damaged_while_in_use_cannot_be_had_and_the_level_goes_on(level: Level) -> None:
    identity = version_named("a")
    stem = put(level, identity)
    held = level.open_object(identity, create=False)
    map_path(stem).write_text("hello")
    assert level.open_object(identity, create=True) is None
    assert level.open_object(version_named("b"), create=True) is not None
    assert held is not None
    held.close()
    assert level.open_object(identity, create=True) is not None


@pytest.mark.parametrize("path", [data_path, map_path])
def test_a_directory_in_a_versions_place_costs_that_version_only(level: Level, path: object) -> None:
    identity = version_named("a")
    stem = level.files.object_stem(identity.digest())
    path(stem).mkdir(parents=True)  # type: ignore[operator]
    assert level.open_object(identity, create=True) is None
    assert level.open_object(version_named("b"), create=True) is not None


@contextmanager
def no_descriptors() -> Iterator[None]:
    """Every descriptor that the process may have is taken, also those below the highest in use."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, before[1]), before[1]))
    taken: list[int] = []
    try:
        with suppress(OSError):
            while True:
                taken.append(os.open("/dev/null", os.O_RDONLY))
        yield
    finally:
        for fd in taken:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_without_descriptors_a_version_cannot_be_had_and_the_level_goes_on(level: Level) -> None:
    with no_descriptors():
        assert level.open_object(version_named("a"), create=True) is None
    assert level.open_object(version_named("a"), create=True) is not None


def test_directories_that_somebody_removed_are_made_again(level: Level) -> None:
    level.files.objects.rmdir()
    assert level.open_object(version_named("a"), create=True) is not None


def test_a_level_whose_directory_is_gone_is_unusable(level: Level) -> None:
    level.files.objects.rmdir()
    level.files.root.rename(level.files.root.with_name("elsewhere"))
    with pytest.raises(CacheUnusable, match="No such file"):
        level.open_object(version_named("a"), create=True)


def test_only_what_nobody_has_open_is_removed(level: Level) -> None:
    identity = version_named("a")
    stem = put(level, identity)
    held = level.open_object(identity, create=False)
    assert held is not None
    assert not remove_if_unused(stem)
    assert is_there(stem)
    held.close()
    assert remove_if_unused(stem)
    assert not is_there(stem)
    assert remove_if_unused(stem)  # already


def test_a_header_can_be_read_without_opening_the_version(level: Level) -> None:
    identity = version_named("a")
    stem = put(level, identity, last_use_s=1234)
    header = read_map_header(stem)
    assert (header.identity, header.block_bytes, header.last_use_s, header.sealed) == (identity, BLOCK, 1234, False)


# ---- small objects


def test_small_objects_are_found_by_every_process_as_soon_as_they_are_stored(level: Level, tmp_path: Path) -> None:
    other = level_in(tmp_path / "cache")
    for number in range(5):
        identity = version_named(f"small {number}", 1000 + number)
        assert other.slabs.find(identity.digest()) is None
        put_small(level, identity)
        found = other.slabs.find(identity.digest())
        assert found is not None
        assert found.read(0, identity.size, always=False, nowait=False) == content(identity.size, identity.key)


def test_a_full_slab_is_followed_by_another(level: Level) -> None:
    identities = [version_named(f"s{number}", SMALL_OBJECT_BYTES) for number in range(40)]
    for identity in identities:
        put_small(level, identity)
    assert len(list(level.slabs)) >= 3
    for identity in identities:
        found = level.slabs.find(identity.digest())
        assert found is not None
        assert found.read(5, 10, always=True, nowait=False) == content(identity.size, identity.key)[5:15]
    assert level.usage.used_bytes == sum(slab.used_bytes for slab in level.slabs)


def test_a_new_slab_never_has_the_number_of_one_that_is_gone(level: Level, tmp_path: Path) -> None:
    other = level_in(tmp_path / "cache")
    numbers = []
    for number in range(3):
        identity = version_named(f"s{number}", 100)
        put_small(level, identity)
        assert other.slabs.find(identity.digest()) is not None
        [stem] = level.files.slab_stems()
        numbers.append(int(stem.name))
        for path in level.files.slabs.iterdir():
            path.unlink()
        level.usage.count_slab_change()
        assert other.slabs.find(identity.digest()) is None
    assert len(set(numbers)) == 3


def test_a_slab_that_somebody_replaced_is_opened_anew(level: Level, tmp_path: Path) -> None:
    put_small(level, version_named("a", 100))
    spare = level_in(tmp_path / "spare")
    put_small(spare, version_named("b", 100))
    for path in spare.files.slabs.iterdir():
        path.rename(level.files.slabs / path.name)
    level.usage.count_slab_change()
    assert level.slabs.find(version_named("a", 100).digest()) is None
    assert level.slabs.find(version_named("b", 100).digest()) is not None


def test_what_is_no_slab_of_ours_is_passed_over(level: Level) -> None:
    for name in ("².idx", "007.idx", "x.idx", "-1.idx", "5.idx", "9" * 200 + ".idx"):
        (level.files.slabs / name).write_text("hello")
    level.usage.count_slab_change()
    put_small(level, version_named("a", 100))
    assert level.slabs.find(version_named("a", 100).digest()) is not None


def test_somebody_who_holds_the_lock_of_the_slabs_costs_the_object_its_place_only(level: Level) -> None:
    with slab_names_lock(level.files, wait=False), pytest.raises(CacheError, match="busy"):
        level.slabs.sink(version_named("a", 100))
    level.slabs.sink(version_named("a", 100))


def test_an_object_whose_slab_was_retired_meanwhile_is_stored_in_another(level: Level) -> None:
    identity = version_named("a", 100)
    sink = level.slabs.sink(identity)
    sink.slab.retire()
    # What the engine does at the end of a job finds the slab full; the bytes are still in the sink.
    assert sink.slab.put(identity.digest(), identity.encode(), content(100, "a")) is None
    other = level.slabs.sink(identity)
    assert other.slab is not sink.slab


def test_without_a_directory_small_objects_have_no_place(level: Level) -> None:
    level.files.slabs.rmdir()
    with pytest.raises(CacheUnusable, match="No such file"):
        level.slabs.sink(version_named("a", 100))
