"""The cache's files are damaged, taken away or out of reach while they are read: a miss, and never an error."""

from __future__ import annotations

import os
import subprocess
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fluidfs.cache.maintenance import evict, list_versions
from fluidfs.config import LevelSpec
from fluidfs.demo.traces import daemons_of
from tests.conftest import Bucket, Mounter, empty_bucket
from tests.support.accidents import ANY_TIME, COMPARED, Accident, empty_data, empty_maps, forbid, permit
from tests.support.accounts import Account
from tests.support.compared import Readers, comparing, write_tree
from tests.support.mounts import DEADLINE_S, Mount, wait_until
from tests.support.proxy import CountingProxy, Fault
from tests.support.reading import MIB, content, digest, opened, read_by_process, reader

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

LARGE = {"one.bin": content("first", 9 * MIB + 99), "two.bin": content("second", 5 * MIB)}
SMALL = {f"small/{number % 3}/{number}": content(number, 977 * number) for number in range(60)}
BODIES: Mapping[str, bytes] = {**LARGE, **SMALL}
WAYS = ("sequentially", "at_random", "mapped", "small_files")


@pytest.fixture(scope="module")
def filled(s3_client: S3Client) -> Iterator[Bucket]:
    """No test of this module changes it."""
    bucket = Bucket(f"damage-{uuid.uuid4().hex[:12]}", s3_client)
    s3_client.create_bucket(Bucket=bucket.name)
    for key, body in BODIES.items():
        bucket.put(key, body)
    yield bucket
    empty_bucket(s3_client, bucket.name)


@contextmanager
def reading(mount: Mount, *, seed: str) -> Iterator[Readers]:
    """Readers who get right bytes and no error as long as the context lasts."""
    copy = write_tree(mount.account.make_directory("copy"), BODIES)
    with comparing(mount, copy, WAYS, seed=seed) as readers:
        readers.must_go_on()
        yield readers
        readers.must_go_on()
        assert [reader.errors() for reader in readers] == [{}] * len(WAYS)


def bear(readers: Readers, accidents: tuple[Accident, ...]) -> None:
    """Every reader reads on: what it was at when the accident happened, and something after it."""
    for accident in accidents:
        accident(readers.mount.account.cache)
        readers.must_go_on(answers=20)


def test_accidents_while_files_are_read(filled: Bucket, me: Account, mounted: Mounter) -> None:
    mount = mounted(filled.uri, account=me)
    with reading(mount, seed="any time") as readers:
        bear(readers, ANY_TIME)
        bear(readers, ANY_TIME[::-1])


def test_files_that_are_cut_while_the_daemon_answers_for_them(filled: Bucket, me: Account, mounted: Mounter) -> None:
    """With `--verify always` the kernel reads no file by itself."""
    mount = mounted(filled.uri, "--verify", "always", account=me)
    with reading(mount, seed="cut") as readers:
        bear(readers, (*COMPARED, *ANY_TIME, *COMPARED))


def test_maps_that_are_emptied_while_bytes_arrive(
    filled: Bucket, me: Account, mounted: Mounter, counting_proxy: CountingProxy
) -> None:
    """The threads that fetch find their pages gone: a fault of the processor that must not end the daemon."""
    mount = mounted(filled.uri, account=me, endpoint_url=counting_proxy.endpoint_url)
    counting_proxy.inject(Fault(drip_bytes_s=4 * MIB), when=lambda request: request.operation == "GET")
    with reader(me, mount.path / "one.bin", [(0, len(LARGE["one.bin"]))]) as answers:
        wait_until(lambda: counting_proxy.body_bytes > MIB, what="bytes arrive")
        empty_maps(me.cache)
        assert answers(DEADLINE_S) == [digest(LARGE["one.bin"])]
    assert daemons_of(mount.path) == mount.daemons


def test_maps_that_are_emptied_while_the_daemon_reads(filled: Bucket, me: Account, mounted: Mounter) -> None:
    """As above, for the threads that answer the kernel; `--verify always` keeps it from reading by itself."""
    mount = mounted(filled.uri, "--verify", "always", account=me)
    with reading(mount, seed="emptied") as readers:
        for _ in range(5):
            readers.must_go_on(answers=20)
            empty_maps(me.cache)
    assert daemons_of(mount.path) == mount.daemons


def test_a_block_that_lost_bytes_before_it_was_complete_is_not_believed(
    filled: Bucket, me: Account, mounted: Mounter
) -> None:
    """Its checksum is made of what is in the file when the last of its bytes come."""
    mount = mounted(filled.uri, "--readahead", "0", account=me)
    body, path = LARGE["one.bin"], mount.path / "one.bin"
    assert read_by_process(me, path, [(0, 100)]) == [digest(body[:100])]
    empty_data(me.cache)
    with opened(path) as fd:
        # The kernel has pages of what was read before.
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    extents = [(MIB, len(body)), (0, len(body))]
    assert read_by_process(me, path, extents) == [digest(body[MIB:]), digest(body)]
    mount.unmount()
    mount.start()
    assert mount.digest("one.bin") == digest(body)


@pytest.mark.parametrize("account", ["ordinary"], indirect=True)
def test_a_cache_that_nobody_may_open_any_more(filled: Bucket, account: Account, mounted: Mounter) -> None:
    mount = mounted(filled.uri, account=account)
    with reading(mount, seed="forbidden") as readers:
        forbid(account.cache)
        try:
            readers.must_go_on(answers=100)
        finally:
            permit(account.cache)


@pytest.mark.parametrize("account", ["root"], indirect=True)
def test_a_disk_that_others_fill_and_empty(filled: Bucket, account: Account, mounted: Mounter) -> None:
    disk = account.make_directory("disk")
    with small_disk(disk, 12 * MIB):
        mount = mounted(filled.uri, account=account, cache=f"{disk}:1G")
        with reading(mount, seed="full") as readers:
            for _ in range(3):
                fill_up(disk / "stranger")
                readers.must_go_on(answers=40)
                (disk / "stranger").unlink()
                readers.must_go_on(answers=20)
        mount.unmount()


@contextmanager
def small_disk(path: Path, size_bytes: int) -> Iterator[None]:
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", path], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", path], check=True)


def fill_up(path: Path) -> None:
    """Takes what room is left on the disk, to the last page."""
    with path.open("wb", buffering=0) as file:
        for size in (MIB, 4096):
            try:
                while file.write(bytes(size)):
                    pass
            except OSError:
                continue


def test_what_was_complete_when_the_daemon_was_killed_is_sealed_by_the_next(
    filled: Bucket, me: Account, mounted: Mounter
) -> None:
    """A version is sealed a moment after its last block came; a daemon may die in between."""
    mount = mounted(filled.uri, account=me)
    level = LevelSpec(str(me.cache), None, "SSD")

    def unsealed() -> list[str]:
        return [version.key for version in list_versions(level) if version.kind == "object" and not version.sealed]

    for _ in range(10):
        assert mount.digest("one.bin") == digest(LARGE["one.bin"])
        mount.kill_daemon()
        mount.start()
        if unsealed():
            break
        evict(level, everything=True)
    assert unsealed() == ["one.bin"]
    # It is used, and nobody holds it open.
    assert mount.digest("one.bin") == digest(LARGE["one.bin"])
    wait_until(lambda: not unsealed(), what="it is sealed", timeout_s=10)
