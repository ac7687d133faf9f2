"""The store goes away under readers: they get right bytes or EIO, in bounded time, and never "no such file"."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from fluidfs.demo.seaweed import SeaweedServer
from tests.conftest import Bucket, Mounter
from tests.support.accounts import Account
from tests.support.reading import MIB, asked_at_once, content, digest, read_by_process, reader

BODY = content("server", 150 * MIB)
SMALL = content("small", 5000)
# No try begins after 30 s, and a connection that says nothing is given up after 10 s. All of it twice would be longer.
BOUND_S = 45.0


@pytest.fixture
def own(me: Account, own_s3_server: SeaweedServer) -> Iterator[tuple[Account, Bucket]]:
    """An account with the credentials of a server that may be killed, and a bucket there."""
    variables = own_s3_server.environment()
    del variables["AWS_ENDPOINT_URL"]
    client = own_s3_server.client()
    client.create_bucket(Bucket="fragile")
    bucket = Bucket("fragile", client)
    bucket.put("file", BODY)
    bucket.put("dir/small", SMALL)
    bucket.put("dir/other", SMALL)
    yield replace(me, variables=variables), bucket
    client.close()


def whole(size_bytes: int) -> list[tuple[int, int]]:
    """Extents of 1 MiB that cover a file."""
    return [(offset, min(MIB, size_bytes - offset)) for offset in range(0, size_bytes, MIB)]


def check(answers: list[str | int], *, errors: set[int]) -> int:
    """Every answer is right or one of the errors; how many are right."""
    right = 0
    for answer, (offset, length) in zip(answers, whole(len(BODY)), strict=True):
        if isinstance(answer, int):
            assert answer in errors, errno.errorcode[answer]
        else:
            assert answer == digest(BODY[offset : offset + length]), f"wrong bytes at {offset}"
            right += 1
    return right


@contextmanager
def later(delay_s: float, action: Callable[[], None]) -> Iterator[None]:
    """Does something after a while, in another thread."""
    timer = threading.Timer(delay_s, action)
    timer.start()
    try:
        yield
    finally:
        timer.join()


def test_a_server_that_is_killed_and_started_again_is_waited_for(
    own: tuple[Account, Bucket], own_s3_server: SeaweedServer, mounted: Mounter
) -> None:
    account, _ = own
    mount = mounted("s3://fragile", account=account, endpoint_url=own_s3_server.endpoint_url)
    with reader(account, mount.path / "file", whole(len(BODY))) as answers:
        time.sleep(0.1)  # somewhere in the middle
        own_s3_server.kill()
        # From this thread: the server dies with the thread that started it.
        own_s3_server.start()
        assert check(answers(BOUND_S), errors={errno.EIO}) > 0
    assert mount.digest("file") == digest(BODY), "with the server back, all is well"
    assert mount.digest("dir/small") == digest(SMALL)


def test_a_server_that_stays_away_is_eio_and_what_is_cached_is_served(
    own: tuple[Account, Bucket], own_s3_server: SeaweedServer, mounted: Mounter
) -> None:
    account, _ = own
    mount = mounted("s3://fragile", account=account, endpoint_url=own_s3_server.endpoint_url)
    assert mount.digest("dir/small") == digest(SMALL)
    first = read_by_process(account, mount.path / "file", [(0, MIB)])
    assert first == [digest(BODY[:MIB])]
    own_s3_server.kill()
    with (
        reader(account, mount.path / "file", [(0, MIB), (len(BODY) - MIB, MIB)]) as large,
        reader(account, mount.path / "dir/other", [(0, 100)]) as small,
    ):
        assert mount.digest("dir/small") == digest(SMALL)
        assert large(BOUND_S) == [digest(BODY[:MIB]), errno.EIO]
        assert small(BOUND_S) == [errno.EIO]
    own_s3_server.start()
    assert mount.digest("file") == digest(BODY)
    assert mount.digest("dir/other") == digest(SMALL)


def test_names_of_a_server_that_stays_away_are_eio_and_never_missing(
    own: tuple[Account, Bucket], own_s3_server: SeaweedServer, mounted: Mounter
) -> None:
    account, _ = own
    mount = mounted("s3://fragile", "--metadata-ttl", "0s", account=account, endpoint_url=own_s3_server.endpoint_url)
    assert mount.digest("dir/small") == digest(SMALL)
    own_s3_server.kill()
    asked = [("stat", "dir"), ("listdir", ""), ("stat", "nothing")]
    answers = asked_at_once(account, [(call, mount.path / path) for call, path in asked], timeout_s=BOUND_S)
    assert answers == [str(errno.EIO)] * 3
    own_s3_server.start()
    assert sorted(os.listdir(mount.path / "dir")) == ["other", "small"]


def test_a_server_that_freezes_for_a_while_is_waited_for(
    own: tuple[Account, Bucket], own_s3_server: SeaweedServer, mounted: Mounter
) -> None:
    account, _ = own
    mount = mounted("s3://fragile", account=account, endpoint_url=own_s3_server.endpoint_url)
    with reader(account, mount.path / "file", whole(len(BODY))) as answers:
        time.sleep(0.1)  # somewhere in the middle
        own_s3_server.pause()
        with later(3.0, own_s3_server.resume):
            assert check(answers(BOUND_S), errors=set()) == len(whole(len(BODY)))


def test_a_server_that_stays_frozen_is_eio_in_bounded_time(
    own: tuple[Account, Bucket], own_s3_server: SeaweedServer, mounted: Mounter
) -> None:
    account, _ = own
    mount = mounted("s3://fragile", account=account, endpoint_url=own_s3_server.endpoint_url)
    assert mount.digest("dir/small") == digest(SMALL)
    own_s3_server.pause()
    with (
        reader(account, mount.path / "file", [(100 * MIB, 1000)]) as answers,
        reader(account, mount.path / "dir/small", [(0, len(SMALL))]) as cached,
    ):
        assert cached(BOUND_S) == [digest(SMALL)]
        assert answers(BOUND_S) == [errno.EIO]
    own_s3_server.resume()
    assert mount.digest("file") == digest(BODY)
