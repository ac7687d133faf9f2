"""Names through a real mount: large directories, deep trees, and what changes in the bucket meanwhile."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.conftest import Bucket, Mounter
from tests.support.accounts import Account
from tests.support.mounts import wait_until
from tests.support.proxy import CountingProxy
from tests.support.reading import content, failing

# A server object costs a request; a file costs a microsecond.
MANY_FILES = 20_000
TREE = {
    f"d{first}/s{second}/f{number:03}": b"x" * number
    for first in range(5)
    for second in range(5)
    for number in range(60)
}


def put_all(bucket: Bucket, bodies: dict[str, bytes]) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda item: bucket.put(*item), bodies.items()))


def paths_below(root: Path) -> set[str]:
    return {os.path.relpath(os.path.join(folder, name), root) for folder, _, names in os.walk(root) for name in names}


def test_find_over_a_tree(bucket: Bucket, me: Account, mounted: Mounter, counting_proxy: CountingProxy) -> None:
    put_all(bucket, TREE)
    mount = mounted(bucket.uri, account=me, endpoint_url=counting_proxy.endpoint_url)
    counting_proxy.forget()
    result = me.run("find", mount.path, "-type", "f", "-printf", "%s %P\\n")
    assert result.returncode == 0, result.stderr
    assert sorted(result.stdout.splitlines()) == sorted(f"{len(body)} {key}" for key, body in TREE.items())
    assert counting_proxy.counts()["HEAD"] == 0
    # 30 directories: one request each at the very most.
    assert counting_proxy.counts()["LIST"] <= 31
    counting_proxy.forget()
    assert paths_below(mount.path) == set(TREE)
    assert not counting_proxy.requests, "listed again within the time to live"


def test_ls_of_a_directory_with_very_many_files(me: Account, mounted: Mounter) -> None:
    source = me.make_directory("source")
    (source / "many").mkdir()
    names = [f"file {number:06}.jpg" for number in range(MANY_FILES)]
    for name in names:
        (source / "many" / name).touch()
    mount = mounted(f"file://{source}", account=me)
    assert me.run("ls", "-A", mount.path / "many").stdout.splitlines() == names
    assert sorted(os.listdir(mount.path / "many")) == names
    with os.scandir(mount.path / "many") as found:
        assert sum(entry.stat().st_size == 0 and entry.is_file() for entry in found) == MANY_FILES


def test_a_listing_of_several_pages_through_the_store(bucket: Bucket, me: Account, mounted: Mounter) -> None:
    bodies = {f"pages/{number:05}": b"" for number in range(2_300)}
    put_all(bucket, bodies)
    mount = mounted(bucket.uri, account=me)
    assert sorted(os.listdir(mount.path / "pages")) == [f"{number:05}" for number in range(2_300)]


def test_a_directory_that_is_read_slowly_is_one_listing(bucket: Bucket, me: Account, mounted: Mounter) -> None:
    put_all(bucket, {f"d/{number:04}": b"" for number in range(1_200)})
    mount = mounted(bucket.uri, "--metadata-ttl", "0s", account=me)
    with os.scandir(mount.path / "d") as found:
        first = next(found).name
        put_all(bucket, {f"d/new {number:04}": b"" for number in range(50)})
        bucket.delete("d/1199")
        names = [first, *(entry.name for entry in found)]
    assert names == sorted(set(names)), "no name twice, none out of order"
    assert {f"{number:04}" for number in range(1_199)} <= set(names)


def seen(path: Path) -> Callable[[bytes | None], bool]:
    def is_now(body: bytes | None) -> bool:
        try:
            return path.read_bytes() == body
        except FileNotFoundError:
            return body is None

    return is_now


def test_without_a_time_to_live_a_change_is_seen_at_once(bucket: Bucket, me: Account, mounted: Mounter) -> None:
    bucket.put("dir/here", b"1")
    mount = mounted(bucket.uri, "--metadata-ttl", "0s", account=me)
    file = mount.path / "dir/file"
    with failing(errno.ENOENT):
        file.stat()
    for number in range(5):
        body = content(number, 1000 + number * 100_000)
        bucket.put("dir/file", body)
        assert file.stat().st_size == len(body)
        assert file.read_bytes() == body
        assert sorted(os.listdir(mount.path / "dir")) == ["file", "here"]
    bucket.delete("dir/file")
    with failing(errno.ENOENT):
        file.read_bytes()
    assert os.listdir(mount.path / "dir") == ["here"]


@pytest.mark.parametrize("ttl_s", [1.0])
def test_a_change_is_seen_within_the_time_to_live(bucket: Bucket, me: Account, mounted: Mounter, ttl_s: float) -> None:
    bucket.put("old", b"old")
    bucket.put("dir/keep", b"")
    mount = mounted(bucket.uri, "--metadata-ttl", f"{ttl_s:g}s", account=me)
    is_old, is_new = seen(mount.path / "old"), seen(mount.path / "dir/new")
    assert is_old(b"old")
    assert is_new(None)
    # A listing under way in the store may be as old as its request; the rest is the test's own pace.
    slack_s = 2.0
    steps: list[tuple[Callable[[], object], Callable[[bytes | None], bool], bytes | None]] = [
        (lambda: bucket.put("old", b"overwritten"), is_old, b"overwritten"),
        (lambda: bucket.put("dir/new", b"new"), is_new, b"new"),
        (lambda: bucket.delete("old"), is_old, None),
        (lambda: bucket.delete("dir/new"), is_new, None),
    ]
    for change, is_now, body in steps:
        change()
        began = time.monotonic()
        wait_until(lambda: is_now(body), what=f"{body!r} is seen", timeout_s=ttl_s + slack_s)  # noqa: B023
        assert time.monotonic() - began < ttl_s + slack_s


def test_with_a_long_time_to_live_names_ask_nothing_of_the_store(
    bucket: Bucket, me: Account, mounted: Mounter, counting_proxy: CountingProxy
) -> None:
    put_all(bucket, {"a/b/c/d": b"deep", "a/other": b""})
    mount = mounted(bucket.uri, account=me, endpoint_url=counting_proxy.endpoint_url)
    assert (mount.path / "a/b/c/d").read_bytes() == b"deep"
    counting_proxy.forget()
    for _ in range(3):
        assert (mount.path / "a/b/c/d").stat().st_size == 4
        assert not (mount.path / "a/b/c/e").exists()
        assert os.listdir(mount.path / "a/b/c") == ["d"]
    assert not counting_proxy.requests


def test_a_path_is_looked_up_with_few_requests(
    bucket: Bucket, me: Account, mounted: Mounter, counting_proxy: CountingProxy
) -> None:
    put_all(bucket, {f"a/b/c/{number}": b"" for number in range(50)})
    mount = mounted(bucket.uri, account=me, endpoint_url=counting_proxy.endpoint_url)
    counting_proxy.forget()
    assert (mount.path / "a/b/c/7").stat().st_size == 0
    assert len(counting_proxy.requests) <= 4
    counting_proxy.forget()
    assert (mount.path / "a/b/c/8").stat().st_size == 0
    assert len(counting_proxy.requests) <= 1


def test_names_of_names_are_not_of_keys(bucket: Bucket, me: Account, mounted: Mounter) -> None:
    """A prefix that ends inside a name shows nothing of the names that begin like it."""
    put_all(bucket, {"data/x": b"1", "database/y": b"2", "data.txt": b"3"})
    mount = mounted(f"{bucket.uri}/data", account=me)
    assert os.listdir(mount.path) == ["x"]


def test_an_empty_bucket_is_an_empty_directory(bucket: Bucket, me: Account, mounted: Mounter) -> None:
    mount = mounted(bucket.uri, "--metadata-ttl", "0s", account=me)
    assert os.listdir(mount.path) == []
    bucket.put("first", b"1")
    assert os.listdir(mount.path) == ["first"]


def test_inode_numbers_are_the_same_after_a_restart(bucket: Bucket, me: Account, mounted: Mounter) -> None:
    put_all(bucket, {"a/b": b"1", "c": b"2"})
    mount = mounted(bucket.uri, account=me)
    numbers = [(mount.path / name).stat().st_ino for name in ("a", "a/b", "c")]
    assert len(set(numbers)) == 3
    mount.unmount()
    mount.start()
    assert [(mount.path / name).stat().st_ino for name in ("a", "a/b", "c")] == numbers
