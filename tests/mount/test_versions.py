"""An object is overwritten while it is read: each handle gives one version, or ESTALE, and never a mixture."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Self

import pytest

from tests.conftest import Bucket, Mounter
from tests.support.accounts import Account
from tests.support.reading import MIB, content, digest, failing, opened

# Large enough that no readahead brings the end of it in with the beginning.
LARGE_BYTES = 104 * MIB
OLD, NEW = content("old", 24 * MIB), content("new", 24 * MIB)

# Maps a file, says what it sees at an offset for each line of input; a fault that cannot be served is SIGBUS.
_MAPPED = """
import mmap, sys
with open(sys.argv[1], "rb") as file:
    mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    mapped.madvise(mmap.MADV_RANDOM)
    for line in sys.stdin:
        offset = int(line)
        print(mapped[offset : offset + 16].hex(), flush=True)
"""


def test_a_handle_goes_on_with_what_is_cached_of_its_version(bucket: Bucket, me: Account, mounted: Mounter) -> None:
    bucket.put("file", OLD)
    mount = mounted(bucket.uri, account=me)
    path = mount.path / "file"
    assert path.read_bytes() == OLD
    with opened(path) as fd:
        bucket.put("file", NEW)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        for offset in range(0, len(OLD), 3 * MIB):
            assert os.pread(fd, MIB, offset) == OLD[offset : offset + MIB]


def test_what_is_not_cached_of_an_overwritten_version_is_stale(bucket: Bucket, me: Account, mounted: Mounter) -> None:
    old, new = content("old large", LARGE_BYTES), content("new large", 5 * MIB)
    bucket.put("file", old)
    mount = mounted(bucket.uri, account=me)
    path = mount.path / "file"
    with opened(path) as fd:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
        assert os.pread(fd, 1000, 0) == old[:1000]
        bucket.put("file", new)
        with failing(errno.ESTALE):
            os.pread(fd, 1000, LARGE_BYTES - 5000)
        assert os.pread(fd, 1000, 0) == old[:1000], "what is cached stays readable"
        # Promise 4: after the ESTALE the next open gives the new version, however long names live.
        assert path.read_bytes() == new
        with failing(errno.ESTALE):
            os.pread(fd, 1000, LARGE_BYTES // 2)
    assert path.stat().st_size == len(new)


def test_what_is_not_cached_of_a_deleted_version_is_stale_then_gone(
    bucket: Bucket, me: Account, mounted: Mounter
) -> None:
    old = content("deleted", LARGE_BYTES)
    bucket.put("file", old)
    mount = mounted(bucket.uri, account=me)
    with opened(mount.path / "file") as fd:
        assert os.pread(fd, 1000, 0) == old[:1000]
        bucket.delete("file")
        with failing(errno.ESTALE):
            os.pread(fd, 1000, LARGE_BYTES - 5000)
        with failing(errno.ENOENT):
            (mount.path / "file").stat()


@pytest.mark.parametrize("size", [1000, 200_000])
def test_a_small_file_is_old_or_stale_then_new(bucket: Bucket, me: Account, mounted: Mounter, size: int) -> None:
    old, new = content("small old", size), content("small new", size)
    bucket.put("cached", old)
    bucket.put("not cached", old)
    mount = mounted(bucket.uri, account=me)
    with opened(mount.path / "cached") as cached, opened(mount.path / "not cached") as not_cached:
        assert os.pread(cached, size, 0) == old
        bucket.put("cached", new)
        bucket.put("not cached", new)
        os.posix_fadvise(cached, 0, 0, os.POSIX_FADV_DONTNEED)
        assert os.pread(cached, size, 0) == old
        with failing(errno.ESTALE):
            os.pread(not_cached, size, 0)
        assert (mount.path / "not cached").read_bytes() == new


def test_an_object_of_the_same_size_is_another_version(bucket: Bucket, me: Account, mounted: Mounter) -> None:
    bucket.put("file", OLD)
    mount = mounted(bucket.uri, "--metadata-ttl", "0s", account=me)
    path = mount.path / "file"
    with opened(path) as old:
        assert os.pread(old, len(OLD), 0) == OLD
        bucket.put("file", NEW)
        with opened(path) as new:
            assert os.fstat(new).st_ino == os.fstat(old).st_ino, "the inode number is the path's"
            assert os.pread(new, len(NEW), 0) == NEW
            assert os.pread(old, len(OLD), 0) == OLD, "the page cache of one is not that of the other"
            for offset in range(0, len(OLD), 5 * MIB):
                assert os.pread(old, 5000, offset) == OLD[offset : offset + 5000]
                assert os.pread(new, 5000, offset) == NEW[offset : offset + 5000]
    assert os.getxattr(path, "user.fluidfs.cached") == b"%d/%d" % (len(NEW), len(NEW))


def test_a_version_that_comes_back_is_what_it_was(bucket: Bucket, me: Account, mounted: Mounter) -> None:
    mount = mounted(bucket.uri, "--metadata-ttl", "0s", account=me)
    path = mount.path / "file"
    for body in (OLD, NEW, OLD, NEW[:1000], OLD):
        bucket.put("file", body)
        assert digest(path.read_bytes()) == digest(body)


class Mapping:
    """A process that has a file mapped."""

    def __init__(self, account: Account, path: Path) -> None:
        self.process = subprocess.Popen(
            [account.python, "-c", _MAPPED, path],
            env=account.environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def bytes_at(self, offset: int) -> bytes | None:
        """16 bytes; None when the process died of it."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{offset}\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        return bytes.fromhex(line) if line else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        with suppress(BrokenPipeError), self.process:
            pass


def test_a_mapping_shows_one_version(bucket: Bucket, me: Account, mounted: Mounter) -> None:
    old, new = content("mapped old", LARGE_BYTES), content("mapped new", LARGE_BYTES)
    bucket.put("file", old)
    mount = mounted(bucket.uri, "--metadata-ttl", "0s", account=me)
    path = mount.path / "file"
    with Mapping(me, path) as before:
        assert before.bytes_at(0) == old[:16]
        bucket.put("file", new)
        with Mapping(me, path) as after:
            for offset in (0, 20 * MIB, 100 * MIB):
                assert after.bytes_at(offset) == new[offset : offset + 16]
            assert before.bytes_at(0) == old[:16]
            assert before.bytes_at(100 * MIB) is None, "a page that is gone is a fault, not a page of another version"
            assert before.process.wait(10) == -signal.SIGBUS


def test_a_file_that_is_overwritten_all_the_time_is_never_a_mixture(
    bucket: Bucket, me: Account, mounted: Mounter
) -> None:
    size = 3 * MIB + 1
    bodies = [bytes([number]) * size for number in range(8)]
    bucket.put("file", bodies[0])
    mount = mounted(bucket.uri, "--metadata-ttl", "0s", account=me)
    stop = threading.Event()

    def overwrite() -> None:
        number = 0
        while not stop.is_set():
            number = (number + 1) % len(bodies)
            bucket.put("file", bodies[number])

    writer = threading.Thread(target=overwrite)
    writer.start()
    versions, errors = set(), set()
    try:
        deadline = time.monotonic() + 6
        while time.monotonic() < deadline:
            try:
                data = (mount.path / "file").read_bytes()
            except OSError as error:
                errors.add(error.errno)
                continue
            assert data in bodies, "bytes of two versions"
            versions.add(data[0])
    finally:
        stop.set()
        writer.join()
    assert errors <= {errno.ESTALE}
    assert len(versions) >= 2, "too few versions were seen to say anything"
