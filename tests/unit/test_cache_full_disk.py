"""A disk with no room left: an error code, never a signal, and what is cached is read on.

Each test has a small file system of its own, mounted in a mount namespace that ends with the test's process.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

COMMON = """
import errno, os, sys, trio
from pathlib import Path
from fluidfs.cache.eviction import evict
from fluidfs.cache.levels import Cache
from fluidfs.errors import CacheFull, CacheUnusable
from tests.unit.caching import BLOCK, MIB, content, level_in, put, put_small, version_named
disk = Path(sys.argv[1])

def fill_disk():
    # The last page, too.
    with open(disk / "filler", "ab", buffering=0) as filler:
        for size in (MIB, 4096, 1):
            try:
                while filler.write(bytes(size)) == size:
                    pass
            except OSError as error:
                assert error.errno == errno.ENOSPC
    assert os.statvfs(disk).f_bavail == 0

def files():
    return sorted(str(path) for path in disk.rglob("*"))

def raised(call):
    try:
        call()
    except Exception as error:
        return error
"""


def check(directory: Path, script: str) -> None:
    """Runs with 16 MiB of disk as argument; as an ordinary user in a namespace where it may mount."""
    shell = f'mount -t tmpfs -o size=16m,mode=700 fluidfs-test "$1" && exec "{sys.executable}" -c "$2" "$1"'
    who = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    command = ["unshare", *who, "--mount", "sh", "-c", shell, "sh", str(directory), COMMON + script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr
    assert list(directory.iterdir()) == []


def test_writing_ends_with_an_error_code_and_what_was_written_is_read(tmp_path: Path) -> None:
    check(
        tmp_path,
        """
level = level_in(disk)
large = version_named("large", 40 * MIB)
file = level.open_object(large, create=True)
sink, data = file.sink(), content(large.size)
error = raised(lambda: [sink.write(at, data[at : at + 100_000]) for at in range(0, large.size, 100_000)])
assert error.errno == errno.ENOSPC
fill_disk()
missing = file.next_missing(0, large.size)[0]
assert missing > 12 * MIB
assert file.read(0, missing) == data[:missing]
# All that happens in maps needs no disk.
file.touch(5)
assert file.drop_block(3, punch=True) == BLOCK
assert file.read(3 * BLOCK, 1) is None
file.sink().write(3 * BLOCK, data[3 * BLOCK : 4 * BLOCK])
assert file.read(0, missing) == data[:missing]
file.close()
file = level.open_object(large, create=True)
assert file.read(0, missing) == data[:missing]
assert file.present_bytes == level.usage.used_bytes
print("done")
""",
    )


def test_a_version_that_has_no_room_for_its_map_leaves_nothing_behind(tmp_path: Path) -> None:
    check(
        tmp_path,
        """
level = level_in(disk)
held = level.open_object(version_named("held"), create=True)
held.sink().write(0, content(BLOCK))
level.open_object(version_named("new"), create=True).close()  # makes the directories
[path.unlink() for path in level.files.object_stem(version_named("new").digest()).parent.iterdir()]
fill_disk()
before = files()
assert isinstance(raised(lambda: level.open_object(version_named("new"), create=True)), CacheFull)
assert isinstance(raised(lambda: level.open_object(version_named("other"), create=True)), CacheFull)
assert [path for path in files() if not os.path.isdir(path)] == [path for path in before if not os.path.isdir(path)]
assert held.read(0, BLOCK) == content(BLOCK)
(disk / "filler").unlink()
assert level.open_object(version_named("new"), create=True) is not None
print("done")
""",
    )


def test_small_objects_have_no_place_and_those_that_have_one_are_read(tmp_path: Path) -> None:
    check(
        tmp_path,
        """
level = level_in(disk)
fill_disk()
before = files()
for number in range(3):
    assert isinstance(raised(lambda: level.slabs.sink(version_named("new", 1000))), CacheFull)
assert files() == before
(disk / "filler").unlink()
identity = version_named("small", 1000)
put_small(level, identity)
fill_disk()
late = version_named("late", 100_000)
sink = level.slabs.sink(late)
for number in range(3):
    assert sink.slab.put(late.digest(), late.encode(), content(late.size)) is None
found = level.slabs.find(identity.digest())
assert found.read(0, 1000, always=True, nowait=False) == content(1000, "small")
assert len(list(level.slabs)) == 1
assert level.usage.used_bytes == sink.slab.used_bytes
(disk / "filler").unlink()
put_small(level, late)
print("done")
""",
    )


def test_a_cache_on_a_full_disk_is_no_fault_and_serves_what_it_has(tmp_path: Path) -> None:
    check(
        tmp_path,
        """
level = level_in(disk)
cached, small = version_named("cached"), version_named("small", 1000)
put(level, cached)
put_small(level, small)
fill_disk()

async def use():
    cache = Cache((level,), verify="first")
    version = await cache.open(cached)
    assert version.read(0, cached.size, nowait=False) == content(cached.size, "cached")
    new = await cache.open(version_named("new"))
    assert new.file is None and level.is_full
    assert cache.find_small(small).read(0, 1000, always=False, nowait=False) == content(1000, "small")
    assert cache.small_sink(version_named("x", 10)) is None
    cache.release(version)
    cache.release(new)
    assert level.fault is None
    await cache.evict_now(level)
    (disk / "filler").unlink()
    assert (await cache.open(version_named("new"))).file is not None
    cache.close()

trio.run(use)
print("done")
""",
    )


def test_eviction_and_collection_need_no_room(tmp_path: Path) -> None:
    check(
        tmp_path,
        """
from fluidfs.cache.maintenance import collect, verify
level = level_in(disk)
evict(level, target_bytes=0)
for number in range(10):
    put(level, version_named(str(number)))
put_small(level, version_named("small", 1000))
fill_disk()
assert verify(level.spec).blocks_bad == 0
assert collect(level.spec).orphans_removed == 0
assert evict(level, target_bytes=0).versions == 11
assert level.usage.used_bytes == 0
assert os.statvfs(disk).f_bavail * 4096 > 7 * MIB
print("done")
""",
    )


def test_a_level_that_cannot_be_made_is_refused_with_the_reason(tmp_path: Path) -> None:
    check(
        tmp_path,
        """
(disk / "v1").mkdir(mode=0o700)
(disk / "v1" / "objects").mkdir()
(disk / "v1" / "slabs").mkdir()
fill_disk()
error = raised(lambda: level_in(disk))
assert isinstance(error, CacheUnusable) and "No space left on device" in error.message, error
(disk / "filler").unlink()
assert level_in(disk).has_room(1)
print("done")
""",
    )
