"""Reading through a real mount: every way in which a program reads a file gives the object's bytes."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import Bucket, Mounter, empty_bucket
from tests.support.accounts import Account
from tests.support.mounts import Mount
from tests.support.proxy import CountingProxy
from tests.support.reading import MIB, content, digest, failing, in_threads, opened, random_extents

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

BODY = content("reading", 40 * MIB + 12_345)
SMALL = content("small", 10_000)

_MMAP = """
import hashlib, mmap, random, sys
rng = random.Random(1)
with open(sys.argv[1], "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
    places = [rng.randrange(len(mapped)) for _ in range(400)]
    print(hashlib.sha256(b"".join(mapped[at : at + 777] for at in places)).hexdigest())
    print(hashlib.sha256(mapped).hexdigest())
"""


@pytest.fixture(scope="module")
def filled(s3_client: S3Client) -> Iterator[Bucket]:
    """A bucket that no test here changes."""
    name = "reading"
    s3_client.create_bucket(Bucket=name)
    bucket = Bucket(name, s3_client)
    bucket.put("large.bin", BODY)
    bucket.put("dir/small.bin", SMALL)
    bucket.put("empty", b"")
    yield bucket
    empty_bucket(s3_client, name)


@pytest.fixture
def mount(filled: Bucket, me: Account, mounted: Mounter) -> Mount:
    return mounted(filled.uri, account=me)


def cold_reader_of(large: Path) -> Callable[[int], None]:
    """What reads random extents of the file, other ones for each number, and compares them."""

    def read(number: int) -> None:
        with opened(large) as fd:
            for offset, length in random_extents(number, len(BODY), count=60, most_bytes=300_000):
                assert os.pread(fd, length, offset) == BODY[offset : offset + length], f"{length} bytes at {offset}"

    return read


def test_random_reads_of_a_cold_file(mount: Mount) -> None:
    cold_reader_of(mount.path / "large.bin")(0)


def test_many_readers_of_one_cold_file(mount: Mount) -> None:
    in_threads(8, cold_reader_of(mount.path / "large.bin"))


def test_a_file_read_from_start_to_end_then_again(mount: Mount) -> None:
    assert (mount.path / "large.bin").read_bytes() == BODY
    assert (mount.path / "large.bin").read_bytes() == BODY


def test_a_file_read_backwards(mount: Mount) -> None:
    step = 333_333
    with opened(mount.path / "large.bin") as fd:
        for offset in range(len(BODY) // step * step, -1, -step):
            assert os.pread(fd, step, offset) == BODY[offset : offset + step]


def test_a_few_bytes_here_and_there_do_not_fetch_the_file(
    filled: Bucket, me: Account, mounted: Mounter, counting_proxy: CountingProxy
) -> None:
    mount = mounted(filled.uri, account=me, endpoint_url=counting_proxy.endpoint_url)
    counting_proxy.forget()
    with opened(mount.path / "large.bin") as fd:
        for offset in (30 * MIB, 5 * MIB, 20 * MIB):
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
            assert os.pread(fd, 100, offset) == BODY[offset : offset + 100]
    assert counting_proxy.body_bytes < 12 * MIB


def test_mmap(mount: Mount, me: Account) -> None:
    result = me.run(me.python, "-c", _MMAP, mount.path / "large.bin")
    assert result.returncode == 0, result.stderr
    assert result.stdout.split()[1] == digest(BODY)
    again = me.run(me.python, "-c", _MMAP, mount.path / "large.bin")
    assert again.stdout == result.stdout


@pytest.mark.parametrize("name", ["large.bin", "dir/small.bin", "empty"])
def test_reads_at_and_beyond_the_end(mount: Mount, name: str) -> None:
    body = {"large.bin": BODY, "dir/small.bin": SMALL, "empty": b""}[name]
    size = len(body)
    with opened(mount.path / name) as fd:
        assert os.pread(fd, 100, size) == b""
        assert os.pread(fd, 100, size + 10 * MIB) == b""
        assert os.pread(fd, 100, 1 << 50) == b""
        assert os.pread(fd, 1000, max(0, size - 10)) == body[-10:]
        assert os.lseek(fd, 0, os.SEEK_END) == size


def test_direct_reads(mount: Mount) -> None:
    with opened(mount.path / "large.bin", os.O_RDONLY | os.O_DIRECT) as fd:
        for offset in (0, 4096, 7 * MIB, len(BODY) // 4096 * 4096):
            assert os.pread(fd, 64 * 1024, offset) == BODY[offset : offset + 64 * 1024]


def test_two_mounts_share_what_one_of_them_fetched(
    filled: Bucket, me: Account, mounted: Mounter, counting_proxy: CountingProxy, request_count: Callable[[str], int]
) -> None:
    first = mounted(filled.uri, account=me, endpoint_url=counting_proxy.endpoint_url)
    second = mounted(f"{filled.uri}/dir", account=me, endpoint_url=counting_proxy.endpoint_url)
    third = mounted(filled.uri, account=me, endpoint_url=counting_proxy.endpoint_url)
    assert first.digest("large.bin") == digest(BODY)
    assert first.digest("dir/small.bin") == digest(SMALL)
    counting_proxy.forget()
    assert second.digest("small.bin") == digest(SMALL)
    assert third.digest("large.bin") == digest(BODY)
    assert request_count("GET") == 0


def test_two_mounts_that_read_one_cold_file_at_once(filled: Bucket, me: Account, mounted: Mounter) -> None:
    mounts = [mounted(filled.uri, account=me) for _ in range(2)]
    in_threads(4, lambda number: cold_reader_of(mounts[number % 2].path / "large.bin")(number))
    assert [mount.digest("large.bin") for mount in mounts] == [digest(BODY)] * 2


def test_attributes(mount: Mount) -> None:
    facts = (mount.path / "large.bin").stat()
    assert facts.st_size == len(BODY)
    assert stat.filemode(facts.st_mode) == "-r--r--r--"
    assert (facts.st_uid, facts.st_gid, facts.st_nlink) == (os.geteuid(), os.getegid(), 1)
    assert facts.st_blocks == (len(BODY) + 511) // 512
    directory = (mount.path / "dir").stat()
    assert stat.filemode(directory.st_mode) == "dr-xr-xr-x"
    assert os.access(mount.path / "large.bin", os.R_OK)
    assert not os.access(mount.path / "large.bin", os.W_OK)
    assert not os.access(mount.path / "large.bin", os.X_OK)


def test_the_last_modified_time_of_the_store_is_shown(mount: Mount, filled: Bucket) -> None:
    told = filled.client.head_object(Bucket=filled.name, Key="large.bin")["LastModified"].timestamp()
    assert abs((mount.path / "large.bin").stat().st_mtime - told) < 1


def test_ownership_and_modes_can_be_chosen(filled: Bucket, me: Account, mounted: Mounter) -> None:
    mount = mounted(
        filled.uri, "--uid", "12345", "--gid", "54321", "--file-mode", "0440", "--dir-mode", "0550", account=me
    )
    file, directory = (mount.path / "large.bin").stat(), (mount.path / "dir").stat()
    assert (file.st_uid, file.st_gid, stat.S_IMODE(file.st_mode)) == (12345, 54321, 0o440)
    assert (directory.st_uid, directory.st_gid, stat.S_IMODE(directory.st_mode)) == (12345, 54321, 0o550)


def test_extended_attributes_tell_facts(mount: Mount, filled: Bucket) -> None:
    large, etag = mount.path / "large.bin", filled.client.head_object(Bucket=filled.name, Key="large.bin")["ETag"]
    names = ("user.fluidfs.etag", "user.fluidfs.cached", "user.fluidfs.key", "user.fluidfs.store")
    assert sorted(os.listxattr(large)) == sorted(names)
    assert os.getxattr(large, "user.fluidfs.etag").decode().strip('"') == etag.strip('"')
    assert os.getxattr(large, "user.fluidfs.cached") == b"0/%d" % len(BODY)
    assert os.getxattr(large, "user.fluidfs.key") == b"large.bin"
    assert filled.name.encode() in os.getxattr(large, "user.fluidfs.store")
    large.read_bytes()
    assert os.getxattr(large, "user.fluidfs.cached") == b"%d/%d" % (len(BODY), len(BODY))
    with failing(errno.ENODATA):
        os.getxattr(large, "user.other")
    assert os.listxattr(mount.path / "dir") == []


def test_statfs(mount: Mount) -> None:
    facts = os.statvfs(mount.path)
    assert facts.f_namemax == 255
    assert facts.f_bavail == 0
    assert facts.f_flag & os.ST_RDONLY
    assert facts.f_blocks * facts.f_frsize > 1 << 40


def writes(root: Path) -> dict[str, Callable[[], object]]:
    """Every kind of change that can be asked of a file system."""
    file, directory = root / "large.bin", root / "dir"
    return {
        "open to write": lambda: os.open(file, os.O_WRONLY),
        "open to read and write": lambda: os.open(file, os.O_RDWR),
        "open to append": lambda: os.open(file, os.O_WRONLY | os.O_APPEND),
        "open and truncate": lambda: os.open(file, os.O_RDONLY | os.O_TRUNC),
        "create": lambda: os.open(root / "new", os.O_CREAT | os.O_WRONLY),
        "create to read": lambda: os.open(root / "new", os.O_CREAT | os.O_RDONLY),
        "create in a directory": lambda: os.open(directory / "new", os.O_CREAT | os.O_EXCL | os.O_WRONLY),
        "temporary file": lambda: os.open(root, os.O_TMPFILE | os.O_RDWR),
        "mkdir": (root / "new").mkdir,
        "rmdir": directory.rmdir,
        "unlink": file.unlink,
        "rename": lambda: file.rename(root / "other"),
        "rename over": lambda: file.rename(directory / "small.bin"),
        "truncate": lambda: os.truncate(file, 0),
        "chmod": lambda: file.chmod(0o600),
        "chown": lambda: os.chown(file, os.geteuid(), os.getegid()),
        "utime": lambda: os.utime(file, (1, 1)),
        "link": lambda: os.link(file, root / "new"),
        "symlink": lambda: (root / "new").symlink_to("large.bin"),
        "mknod": lambda: os.mknod(root / "new", stat.S_IFREG | 0o600),
        "mkfifo": lambda: os.mkfifo(root / "new"),
        "setxattr": lambda: os.setxattr(file, "user.mine", b"1"),
        "removexattr": lambda: os.removexattr(file, "user.fluidfs.etag"),
    }


def errno_of(attempt: Callable[[], object]) -> str:
    try:
        attempt()
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "it succeeded"


def test_a_write_of_any_kind_is_refused(mount: Mount, filled: Bucket) -> None:
    attempts = writes(mount.path)
    assert {kind: errno_of(attempt) for kind, attempt in attempts.items()} == dict.fromkeys(attempts, "EROFS")
    assert sorted(os.listdir(mount.path)) == ["dir", "empty", "large.bin"]
    keys = {item["Key"] for item in filled.client.list_objects_v2(Bucket=filled.name)["Contents"]}
    assert keys == {"dir/small.bin", "empty", "large.bin"}


def test_what_cannot_be_is_told_as_local_file_systems_do(mount: Mount) -> None:
    root = mount.path
    attempts: dict[str, tuple[Callable[[], object], str]] = {
        "stat of nothing": (lambda: os.stat(root / "missing"), "ENOENT"),
        "stat below nothing": (lambda: os.stat(root / "missing/deep"), "ENOENT"),
        "open of nothing": (lambda: os.open(root / "missing", os.O_RDONLY), "ENOENT"),
        "list of nothing": (lambda: os.listdir(root / "missing"), "ENOENT"),
        "stat below a file": (lambda: os.stat(root / "large.bin/below"), "ENOTDIR"),
        "list of a file": (lambda: os.listdir(root / "large.bin"), "ENOTDIR"),
        "read of a directory": ((root / "dir").read_bytes, "EISDIR"),
        "readlink of a file": (lambda: os.readlink(root / "large.bin"), "EINVAL"),
        "a name too long": (lambda: os.stat(root / ("x" * 256)), "ENAMETOOLONG"),
    }
    assert {name: errno_of(attempt) for name, (attempt, _) in attempts.items()} == {
        name: number for name, (_, number) in attempts.items()
    }


def test_a_file_stays_open_over_the_unmounting_that_it_forbids(mount: Mount) -> None:
    with opened(mount.path / "large.bin") as fd:
        refused = mount.account.fluidfs("umount", mount.path, "--timeout", "0s")
        assert refused.returncode == 1
        assert os.pread(fd, 100, MIB) == BODY[MIB : MIB + 100]
    assert hashlib.sha256(BODY).hexdigest() == mount.digest("large.bin")


def test_a_program_copies_by_sendfile_and_copy_file_range(mount: Mount, tmp_path: Path) -> None:
    with opened(mount.path / "large.bin") as source, opened(tmp_path / "a", os.O_CREAT | os.O_RDWR) as target:
        done = 0
        while sent := os.sendfile(target, source, done, 8 * MIB):
            done += sent
        assert done == len(BODY)
    assert digest((tmp_path / "a").read_bytes()) == digest(BODY)
    result = mount.account.run("cp", mount.path / "large.bin", mount.account.directory / "copy")
    assert result.returncode == 0, result.stderr
    assert digest((mount.account.directory / "copy").read_bytes()) == digest(BODY)


def test_a_directory_as_source(me: Account, mounted: Mounter) -> None:
    source = me.make_directory("source")
    (source / "sub").mkdir()
    (source / "large.bin").write_bytes(BODY)
    (source / "sub/small.bin").write_bytes(SMALL)
    (source / "sub/empty").touch()
    (source / "link").symlink_to("large.bin")
    os.mkfifo(source / "pipe")
    mount = mounted(f"file://{source}", "--metadata-ttl", "0s", account=me)
    assert mount.tree() == {
        "large.bin": (len(BODY), digest(BODY)),
        "sub/small.bin": (len(SMALL), digest(SMALL)),
        "sub/empty": (0, digest(b"")),
    }
    (source / "large.bin").write_bytes(BODY[::-1])
    (source / "sub/empty").unlink()
    assert sorted(mount.tree()) == ["large.bin", "sub/small.bin"]
    assert mount.digest("large.bin") == digest(BODY[::-1])
