"""How the end of a GET is judged."""

from __future__ import annotations

import errno
from typing import Final

import pytest

from fluidfs._native.engine import Completion, Status
from fluidfs.errors import (
    AccessDenied,
    CacheFull,
    CacheUnusable,
    FluidfsError,
    ObjectChanged,
    ObjectNotFound,
    SlowDown,
    StoreError,
    StoreUnavailable,
    WrongRegion,
)
from fluidfs.fetch.outcome import error_of

JUDGEMENTS: Final[dict[Status, type[FluidfsError] | None]] = {
    Status.OK: None,
    Status.CHANGED: ObjectChanged,
    Status.NOT_FOUND: ObjectChanged,
    Status.DENIED: AccessDenied,
    Status.REDIRECT: WrongRegion,
    Status.SLOW_DOWN: SlowDown,
    Status.SERVER: StoreUnavailable,
    Status.HTTP: StoreError,
    Status.CONNECT: StoreUnavailable,
    Status.TLS: StoreError,
    Status.TIMEOUT: StoreUnavailable,
    Status.TRUNCATED: StoreUnavailable,
    Status.PROTOCOL: StoreUnavailable,
    Status.SINK: CacheUnusable,
    Status.CANCELLED: StoreUnavailable,
    Status.IO: StoreUnavailable,
}


def ended(status: Status, *, number: int = 0, code: str = "", detail: str = "") -> Completion:
    return Completion(1, "done", status, number, 0, code, detail, 0, 0.0, "")


def test_every_status_is_judged() -> None:
    assert set(JUDGEMENTS) == set(Status)


@pytest.mark.parametrize("status", Status)
def test_a_status_means_what_the_table_says(status: Status) -> None:
    error = error_of(ended(status), "a/b")
    expected = JUDGEMENTS[status]
    assert type(error) is (expected or type(None))


@pytest.mark.parametrize("status", Status)
def test_no_end_of_a_get_means_that_a_name_does_not_exist(status: Status) -> None:
    error = error_of(ended(status), "a/b")
    assert not isinstance(error, ObjectNotFound | FileNotFoundError)
    assert error is None or error.errno != errno.ENOENT


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_without_room_is_told_from_a_disk_that_fails(number: int) -> None:
    assert isinstance(error_of(ended(Status.SINK, number=number), "a"), CacheFull)
    assert isinstance(error_of(ended(Status.SINK, number=errno.EIO), "a"), CacheUnusable)


def test_the_stores_own_words_are_passed_on() -> None:
    error = error_of(ended(Status.DENIED, code="InvalidAccessKeyId", detail="HTTP 403 no such key"), "a")
    assert error is not None
    assert "InvalidAccessKeyId" in error.message
    assert "HTTP 403" in error.message


def test_the_message_is_one_line_whatever_the_key_is() -> None:
    for status in Status:
        error = error_of(ended(status), "odd\nkey")
        assert error is None or "\n" not in error.message
