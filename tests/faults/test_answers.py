"""The store, or what is between, answers wrongly: readers get right bytes or EIO, never wrong ones."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

import pytest

from tests.conftest import Bucket, Mounter
from tests.support.accounts import Account
from tests.support.mounts import Mount
from tests.support.proxy import CountingProxy, Fault, Request
from tests.support.reading import MIB, asked_at_once, content, digest, read_by_process, reader

BODY = content("answers", 20 * MIB)
SMALL = {f"small/{number}": content(number, 9_000 + number) for number in range(30)}
BOUND_S = 45.0


@pytest.fixture
def mount(bucket: Bucket, me: Account, mounted: Mounter, counting_proxy: CountingProxy) -> Mount:
    bucket.put("file", BODY)
    for key, body in SMALL.items():
        bucket.put(key, body)
    return mounted(bucket.uri, account=me, endpoint_url=counting_proxy.endpoint_url)


EXPECTED = {key: (len(body), digest(body)) for key, body in {"file": BODY, **SMALL}.items()}


def gets(request: Request) -> bool:
    return request.operation == "GET"


def lists(request: Request) -> bool:
    return request.operation == "LIST"


def every(number: int, wanted: Callable[[Request], bool]) -> Callable[[Request], bool]:
    """Picks one in `number` of the requests that are wanted; called under the proxy's lock."""
    seen = 0

    def pick(request: Request) -> bool:
        nonlocal seen
        if not wanted(request):
            return False
        seen += 1
        return seen % number == 0

    return pick


@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=503),
        Fault(status=500),
        Fault(status=429),
        Fault(reset=True),
        Fault(truncate_at=0),
        Fault(truncate_at=100_001),
        Fault(content_range=f"bytes 1048576-2097151/{len(BODY)}"),
    ],
    ids=["503", "500", "429", "reset", "empty body", "cut body", "wrong range"],
)
def test_one_bad_answer_in_three_is_hidden_from_readers(
    mount: Mount, counting_proxy: CountingProxy, fault: Fault
) -> None:
    counting_proxy.inject(fault, when=every(3, gets))
    assert mount.tree() == EXPECTED
    status = mount.status()
    assert status["fetch"]["retries"] > 0  # type: ignore[index]


def test_all_faults_at_once(mount: Mount, counting_proxy: CountingProxy) -> None:
    counting_proxy.inject(Fault(status=503), when=every(10, lambda request: True))
    counting_proxy.inject(Fault(reset=True), when=every(9, gets))
    counting_proxy.inject(Fault(truncate_at=70_000), when=every(8, gets))
    counting_proxy.inject(Fault(delay_s=0.3), when=every(7, gets))
    assert mount.tree() == EXPECTED


def test_only_bad_answers_are_eio_in_bounded_time_and_pass(mount: Mount, counting_proxy: CountingProxy) -> None:
    assert mount.digest("small/1") == digest(SMALL["small/1"])
    counting_proxy.inject(Fault(status=503), when=gets)
    path = mount.path
    with (
        reader(mount.account, path / "file", [(5 * MIB, 1000)]) as large,
        reader(mount.account, path / "small/2", [(0, 1000)]) as small,
    ):
        assert large(BOUND_S) == [errno.EIO]
        assert small(BOUND_S) == [errno.EIO]
    assert mount.digest("small/1") == digest(SMALL["small/1"]), "what is cached is served"
    counting_proxy.heal()
    assert mount.tree() == EXPECTED


def test_a_refusal_is_eacces_at_once(mount: Mount, counting_proxy: CountingProxy) -> None:
    assert sorted(os.listdir(mount.path)) == ["file", "small"]
    counting_proxy.inject(Fault(status=403), when=gets)
    assert read_by_process(mount.account, mount.path / "file", [(0, 1000)], timeout_s=10) == [errno.EACCES]
    counting_proxy.heal()
    assert mount.tree() == EXPECTED


def test_a_body_that_comes_drop_by_drop_is_read_all_the_same(mount: Mount, counting_proxy: CountingProxy) -> None:
    counting_proxy.inject(Fault(drip_bytes_s=6 * MIB), when=gets)
    answers = read_by_process(mount.account, mount.path / "file", [(0, 5 * MIB)], timeout_s=BOUND_S)
    assert answers == [digest(BODY[: 5 * MIB])]


def test_a_connection_that_is_cut_now_and_then_costs_retries_only(mount: Mount, counting_proxy: CountingProxy) -> None:
    counting_proxy.inject(Fault(drip_bytes_s=20 * MIB), when=gets)
    with reader(mount.account, mount.path / "file", [(0, len(BODY))]) as answers:
        for _ in range(3):
            counting_proxy.break_connections()
        assert answers(BOUND_S) == [digest(BODY)]


@pytest.mark.parametrize("fault", [Fault(status=503), Fault(status=403)], ids=["503", "403"])
def test_a_listing_that_fails_is_never_an_empty_directory(
    mount: Mount, counting_proxy: CountingProxy, fault: Fault
) -> None:
    counting_proxy.inject(fault, when=lambda request: request.operation in {"LIST", "HEAD"})
    asked = [("listdir", ""), ("stat", "small"), ("stat", "no such name")]
    answers = asked_at_once(mount.account, [(call, mount.path / path) for call, path in asked], timeout_s=BOUND_S)
    assert answers == [str(errno.EACCES if fault.status == 403 else errno.EIO)] * 3
    counting_proxy.heal()
    assert mount.tree() == EXPECTED
    assert not (mount.path / "no such name").exists()


def test_a_listing_that_fails_once_is_asked_for_again(mount: Mount, counting_proxy: CountingProxy) -> None:
    counting_proxy.inject(Fault(status=503), when=lists, times=2)
    assert mount.tree() == EXPECTED


@pytest.mark.parametrize(
    "fault",
    [Fault(etag='"0123456789abcdef0123456789abcdef"'), Fault(content_range="bytes 0-99/100")],
    ids=["etag", "size"],
)
def test_an_answer_of_another_version_is_stale_and_never_read(
    mount: Mount, counting_proxy: CountingProxy, fault: Fault
) -> None:
    """Some servers ignore If-Match: then the ETag and the size in the answer tell."""
    counting_proxy.inject(fault, when=gets)
    for name in ("file", "small/7"):
        assert read_by_process(mount.account, mount.path / name, [(0, 1000)], timeout_s=BOUND_S) == [errno.ESTALE]
    counting_proxy.heal()
    assert mount.tree() == EXPECTED
