"""The cache survives what ends a daemon, and damage to it is found, counted and mended; readers see right bytes."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fluidfs.cache.maintenance import evict, list_versions
from fluidfs.config import LevelSpec
from tests.conftest import Bucket, Mounter
from tests.support.accounts import Account
from tests.support.cachefiles import data_files, disk_bytes, flip, map_files, replace_in, slab_files
from tests.support.mounts import Mount, wait_until
from tests.support.proxy import CountingProxy
from tests.support.reading import MIB, content, digest, in_threads, opened, random_extents

LARGE = content("large", 22 * MIB + 4321)
SMALL = {f"small/{number:03}": content(number, 37 * number) for number in range(100)}
# Bytes in flight of the mounts with a small quota.
MEMORY_BYTES = 32 * MIB


@pytest.fixture
def filled(bucket: Bucket) -> Bucket:
    bucket.put("large.bin", LARGE)
    for key, body in SMALL.items():
        bucket.put(key, body)
    return bucket


@pytest.fixture
def mount(filled: Bucket, me: Account, mounted: Mounter, counting_proxy: CountingProxy) -> Mount:
    """Warm: all of the bucket was read, and requests are counted from now on."""
    mount = mounted(filled.uri, account=me, endpoint_url=counting_proxy.endpoint_url)
    assert mount.tree() == EXPECTED
    counting_proxy.forget()
    return mount


EXPECTED = {key: (len(body), digest(body)) for key, body in {"large.bin": LARGE, **SMALL}.items()}


def bad_blocks(mount: Mount) -> int:
    status: dict[str, Any] = mount.status()
    return int(status["integrity"]["bad_blocks"])


def first_level(mount: Mount) -> dict[str, Any]:
    status: dict[str, Any] = mount.status()
    return dict(status["cache"][0])


def level_of(account: Account) -> LevelSpec:
    return LevelSpec(str(account.cache), None, "SSD")


def wait_until_sealed(account: Account) -> None:
    wait_until(
        lambda: all(version.sealed for version in list_versions(level_of(account)) if version.kind == "object"),
        what="complete versions are sealed",
    )


# ---- what ends a daemon


def test_a_new_mount_after_a_kill_serves_the_cache_without_a_get(
    mount: Mount, request_count: Callable[[str], int]
) -> None:
    mount.kill_daemon()
    mount.start()
    assert mount.tree() == EXPECTED
    assert request_count("GET") == 0
    assert bad_blocks(mount) == 0


def test_a_new_mount_after_an_unmount_serves_the_cache_without_a_get(
    mount: Mount, request_count: Callable[[str], int]
) -> None:
    wait_until_sealed(mount.account)
    mount.unmount()
    mount.start()
    assert mount.tree() == EXPECTED
    assert request_count("GET") == 0


def test_a_kill_in_the_middle_of_a_read_loses_only_what_was_under_way(
    filled: Bucket, me: Account, mounted: Mounter, counting_proxy: CountingProxy
) -> None:
    mount = mounted(filled.uri, account=me, endpoint_url=counting_proxy.endpoint_url)
    fd = os.open(mount.path / "large.bin", os.O_RDONLY)
    assert os.pread(fd, 9 * MIB, 0) == LARGE[: 9 * MIB]
    mount.kill_daemon()
    os.close(fd)
    cached = sum(version.cached_bytes for version in list_versions(level_of(me)))
    assert cached >= 9 * MIB
    mount.start()
    counting_proxy.forget()
    assert mount.digest("large.bin") == digest(LARGE)
    # 64 KiB of slack: the cache keeps whole sub-blocks.
    assert counting_proxy.body_bytes <= len(LARGE) - cached + 65_536


# ---- bytes that change on the disk


@pytest.mark.parametrize("sealed", [True, False], ids=["sealed", "not yet sealed"])
def test_a_flipped_byte_of_a_large_object_is_found_counted_and_fetched_again(
    mount: Mount, request_count: Callable[[str], int], counting_proxy: CountingProxy, sealed: bool
) -> None:
    if sealed:
        wait_until_sealed(mount.account)
    mount.kill_daemon()
    (data,) = data_files(mount.account.cache)
    flip(data, 9 * MIB + 17)
    mount.start()
    assert bad_blocks(mount) == 0
    assert mount.digest("large.bin") == digest(LARGE)
    assert bad_blocks(mount) == 1
    # One block of 4 MiB, in ranges of any size, and a listing.
    assert request_count("GET") >= 1
    assert 4 * MIB <= counting_proxy.body_bytes < 4.5 * MIB
    counting_proxy.forget()
    mount.kill_daemon()
    mount.start()
    assert mount.digest("large.bin") == digest(LARGE)
    assert request_count("GET") == 0


def test_a_flipped_byte_of_a_small_object_is_found_counted_and_fetched_again(
    mount: Mount, request_count: Callable[[str], int]
) -> None:
    body = SMALL["small/042"]
    mount.kill_daemon()
    (slab,) = slab_files(mount.account.cache)
    replace_in(slab, body, body[:100] + bytes([body[100] ^ 1]) + body[101:])
    mount.start()
    assert mount.tree() == EXPECTED
    assert bad_blocks(mount) == 1
    assert request_count("GET") == 1
    assert (mount.path / "small/042").read_bytes() == body


def test_a_byte_that_is_flipped_under_a_running_daemon_is_found_by_the_next_one(
    mount: Mount, request_count: Callable[[str], int]
) -> None:
    wait_until_sealed(mount.account)
    (data,) = data_files(mount.account.cache)
    flip(data, 100)
    flip(data, 12 * MIB)
    mount.unmount()
    mount.start()
    assert mount.digest("large.bin") == digest(LARGE)
    assert bad_blocks(mount) == 2
    assert request_count("GET") >= 2


def test_with_verify_always_a_flipped_byte_is_found_at_once(filled: Bucket, me: Account, mounted: Mounter) -> None:
    mount = mounted(filled.uri, "--verify", "always", account=me)
    assert mount.digest("large.bin") == digest(LARGE)
    (data,) = data_files(me.cache)
    flip(data, 5 * MIB)
    with opened(mount.path / "large.bin") as fd:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        assert os.pread(fd, MIB, 5 * MIB) == LARGE[5 * MIB : 6 * MIB]
    assert bad_blocks(mount) == 1


def test_cache_verify_finds_what_was_flipped(mount: Mount, request_count: Callable[[str], int]) -> None:
    mount.kill_daemon()
    me, cache = mount.account, mount.account.cache
    good = me.fluidfs("cache", "verify", "--cache", cache)
    assert good.returncode == 0, good.stderr
    assert ", 0 bad" in good.stdout
    (data,), (slab,), body = data_files(cache), slab_files(cache), SMALL["small/099"]
    flip(data, 21 * MIB)
    replace_in(slab, body, body[::-1])
    bad = me.fluidfs("cache", "verify", "--cache", cache)
    assert bad.returncode == 1
    assert ", 2 bad" in bad.stdout
    assert "large.bin block 5" in bad.stderr
    assert "small/099" in bad.stderr
    again = me.fluidfs("cache", "verify", "--cache", cache)
    assert again.returncode == 0, "what was bad is dropped"
    mount.start()
    assert mount.tree() == EXPECTED
    assert request_count("GET") >= 2


# ---- files that are cut, emptied, removed, scribbled over


def _truncate_data(cache: Path) -> None:
    for path in data_files(cache):
        os.truncate(path, path.stat().st_size // 2 + 1)


def _empty_data(cache: Path) -> None:
    for path in data_files(cache):
        os.truncate(path, 0)


def _truncate_map(cache: Path) -> None:
    for path in map_files(cache):
        os.truncate(path, path.stat().st_size - 10)


def _empty_map(cache: Path) -> None:
    for path in map_files(cache):
        os.truncate(path, 0)


def _scribble_map(cache: Path) -> None:
    for path in map_files(cache):
        path.write_bytes(os.urandom(path.stat().st_size))


def _scribble_blocks(cache: Path) -> None:
    """All blocks present and complete, with checksums that are nobody's."""
    for path in map_files(cache):
        data = path.read_bytes()
        path.write_bytes(data[:4096] + os.urandom(len(data) - 4096))


def _remove_data(cache: Path) -> None:
    for path in data_files(cache):
        path.unlink()


def _remove_maps(cache: Path) -> None:
    for path in map_files(cache):
        path.unlink()


def _truncate_slabs(cache: Path) -> None:
    for path in slab_files(cache):
        os.truncate(path, path.stat().st_size // 3)


def _empty_slabs(cache: Path) -> None:
    for path in slab_files(cache):
        os.truncate(path, 0)


def _truncate_indexes(cache: Path) -> None:
    for path in slab_files(cache):
        index = path.with_suffix(".idx")
        os.truncate(index, index.stat().st_size // 2)


def _scribble_indexes(cache: Path) -> None:
    for path in slab_files(cache):
        index = path.with_suffix(".idx")
        data = index.read_bytes()
        index.write_bytes(data[:4096] + os.urandom(len(data) - 4096))


def _remove_slabs(cache: Path) -> None:
    for path in slab_files(cache):
        path.unlink()


def _add_strangers(cache: Path) -> None:
    (cache / "v1/objects/zz").mkdir()
    (cache / "v1/objects/zz/note.map").write_bytes(b"x" * 5000)
    (cache / "v1/slabs/999.idx").write_bytes(b"")
    (cache / "v1/slabs/readme.txt").write_text("hello")
    data_files(cache)[0].with_name("stranger.map").symlink_to("/etc/passwd")


ACCIDENTS = (
    _truncate_data,
    _empty_data,
    _truncate_map,
    _empty_map,
    _scribble_map,
    _scribble_blocks,
    _remove_data,
    _remove_maps,
    _truncate_slabs,
    _empty_slabs,
    _truncate_indexes,
    _scribble_indexes,
    _remove_slabs,
    _add_strangers,
)


def test_an_accident_to_the_cache_files_costs_fetches_and_nothing_else(mount: Mount) -> None:
    mount.kill_daemon()
    me = mount.account
    pristine = me.directory / "pristine"
    shutil.copytree(me.cache, pristine)
    for accident in ACCIDENTS:
        shutil.rmtree(me.cache / "v1")
        shutil.copytree(pristine / "v1", me.cache / "v1")
        accident(me.cache)
        mount.start()
        assert mount.tree() == EXPECTED, accident.__name__
        assert mount.tree() == EXPECTED, accident.__name__
        mount.unmount()
        tidied = me.fluidfs("cache", "gc", "--cache", me.cache)
        assert tidied.returncode == 0, (accident.__name__, tidied.stderr)
        verified = me.fluidfs("cache", "verify", "--cache", me.cache)
        assert verified.returncode == 0, (accident.__name__, verified.stdout)


def test_a_cache_directory_that_is_deleted_while_it_is_used_is_a_miss(mount: Mount, filled: Bucket) -> None:
    filled.put("later.bin", LARGE[::-1])
    with opened(mount.path / "large.bin") as fd:
        shutil.rmtree(mount.account.cache)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        assert os.pread(fd, len(LARGE), 0) == LARGE
    assert mount.tree() == EXPECTED
    mount.unmount()
    mount.start()
    assert mount.tree() == {**EXPECTED, "later.bin": (len(LARGE), digest(LARGE[::-1]))}


@pytest.mark.parametrize("account", ["ordinary"], indirect=True)
def test_a_cache_directory_that_becomes_read_only_is_a_miss(filled: Bucket, account: Account, mounted: Mounter) -> None:
    mount = mounted(filled.uri, account=account)
    assert mount.digest("small/010") == digest(SMALL["small/010"])
    folders = [path for path in (account.cache, *account.cache.rglob("*")) if path.is_dir()]
    try:
        for path in folders:
            path.chmod(0o500)
        assert mount.tree() == EXPECTED
        assert mount.tree() == EXPECTED
    finally:
        for path in folders:
            path.chmod(0o700)


@contextmanager
def small_disk(path: Path, size_bytes: int) -> Iterator[None]:
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", path], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", path], check=True)


@pytest.mark.parametrize("account", ["root"], indirect=True)
def test_a_disk_without_space_is_a_miss(filled: Bucket, account: Account, mounted: Mounter) -> None:
    disk = account.make_directory("disk")
    with small_disk(disk, 20 * MIB):
        mount = mounted(filled.uri, account=account, cache=f"{disk}:1G")
        assert mount.tree() == EXPECTED
        assert mount.tree() == EXPECTED
        mount.unmount()


# ---- quota


@contextmanager
def watching(cache: Path) -> Iterator[list[int]]:
    """What the cache holds on the disk, looked at all the time; the list is complete afterwards."""
    seen: list[int] = []
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(0.02):
            seen.append(disk_bytes(cache))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join()


def test_a_file_larger_than_the_quota_is_read_right_and_the_quota_kept(
    bucket: Bucket, me: Account, mounted: Mounter
) -> None:
    body = content("larger than the quota", 200 * MIB)
    bucket.put("big", body)
    quota = 64 * MIB
    mount = mounted(bucket.uri, "--memory", f"{MEMORY_BYTES}", account=me, cache=f"{me.cache}:{quota}")
    with watching(me.cache) as seen:
        assert mount.digest("big") == digest(body)
        assert mount.digest("big") == digest(body)
        with opened(mount.path / "big") as fd:
            for offset, length in random_extents("quota", len(body), count=60, most_bytes=2 * MIB):
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
                assert os.pread(fd, length, offset) == body[offset : offset + length]
    assert max(seen) <= quota + MEMORY_BYTES
    # While the file was open, ranges that were admitted together may have gone over it; closed, it makes room.
    wait_until(lambda: first_level(mount)["used_bytes"] <= quota, what="the level is within its quota")
    assert first_level(mount)["quota_bytes"] == quota


def test_more_files_than_the_quota_holds_evict_each_other(bucket: Bucket, me: Account, mounted: Mounter) -> None:
    bodies = {f"f{number}": content(f"evict {number}", 9 * MIB) for number in range(12)}
    for key, body in bodies.items():
        bucket.put(key, body)
    quota = 40 * MIB
    mount = mounted(bucket.uri, "--memory", f"{MEMORY_BYTES}", account=me, cache=f"{me.cache}:{quota}")
    expected = {key: (len(body), digest(body)) for key, body in bodies.items()}
    with watching(me.cache) as seen:
        assert mount.tree() == expected
        assert mount.tree() == expected
    assert max(seen) <= quota + MEMORY_BYTES
    assert first_level(mount)["evicted_bytes"] > 0


def test_small_files_beyond_the_quota_evict_whole_slabs(bucket: Bucket, me: Account, mounted: Mounter) -> None:
    bodies = {f"s{number:03}": content(f"small {number}", 200_000) for number in range(150)}
    for key, body in bodies.items():
        bucket.put(key, body)
    quota = 16 * MIB
    mount = mounted(bucket.uri, "--memory", f"{MEMORY_BYTES}", account=me, cache=f"{me.cache}:{quota}")
    expected = {key: (len(body), digest(body)) for key, body in bodies.items()}
    with watching(me.cache) as seen:
        assert mount.tree() == expected
        assert mount.tree() == expected
    assert max(seen) <= quota + MEMORY_BYTES


def test_eviction_while_files_are_read_does_not_touch_what_readers_see(mount: Mount) -> None:
    stop = threading.Event()

    def keep_evicting() -> None:
        while not stop.wait(0.01):
            evict(level_of(mount.account), everything=True)

    evictor = threading.Thread(target=keep_evicting)
    evictor.start()

    def read(number: int) -> None:
        for turn in range(6):
            with opened(mount.path / "large.bin") as fd:
                for offset, length in random_extents((number, turn), len(LARGE), count=15, most_bytes=500_000):
                    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
                    assert os.pread(fd, length, offset) == LARGE[offset : offset + length]
            for key, body in list(SMALL.items())[number::10]:
                with opened(mount.path / key) as fd:
                    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
                    assert os.pread(fd, len(body) + 1, 0) == body

    try:
        in_threads(4, read)
    finally:
        stop.set()
        evictor.join()


def test_two_levels_serve_and_the_first_evicts_into_the_second(bucket: Bucket, me: Account, mounted: Mounter) -> None:
    bodies = {f"f{number}": content(f"levels {number}", 9 * MIB) for number in range(6)}
    for key, body in bodies.items():
        bucket.put(key, body)
    first, second = me.make_directory("first"), me.make_directory("second")
    mount = mounted(
        bucket.uri, "--cache", f"{second}:1G:HDD", "--memory", f"{MEMORY_BYTES}", account=me, cache=f"{first}:32M:MEM"
    )
    expected = {key: (len(body), digest(body)) for key, body in bodies.items()}
    for _ in range(3):
        assert mount.tree() == expected
    assert disk_bytes(first) <= 32 * MIB + MEMORY_BYTES
    assert data_files(second)
