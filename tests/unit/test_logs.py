"""The log: one line an event, and never a secret."""

import io
import json
import logging
from collections.abc import Iterator

import pytest

from fluidfs.logs import configure, without_secrets


@pytest.fixture(autouse=True)
def _leave_logging_as_found() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)


def logged(*, as_json: bool, level: str = "info") -> tuple[io.StringIO, logging.Logger]:
    stream = io.StringIO()
    configure(level=level, as_json=as_json, stream=stream)
    return stream, logging.getLogger("fluidfs.part")


def test_an_event_is_one_line_of_words() -> None:
    stream, log = logged(as_json=False)
    log.warning("level failed", extra={"path": "/ssd/a b\n", "errno": 5, "sealed": True, "why": None})
    (line,) = stream.getvalue().splitlines()
    time, rest = line.split(" ", 1)
    assert time.endswith("Z")
    assert rest == r'WARNING fluidfs.part "level failed" path="/ssd/a b\n" errno=5 sealed=true why=null'


def test_an_event_is_one_line_of_json() -> None:
    stream, log = logged(as_json=True)
    log.info("took %d", 3, extra={"key": "ä\n", "size_bytes": 7})
    (line,) = stream.getvalue().splitlines()
    event = json.loads(line)
    event.pop("time")
    assert event == {"level": "info", "logger": "fluidfs.part", "message": "took 3", "key": "ä\n", "size_bytes": 7}


@pytest.mark.parametrize("as_json", [False, True])
def test_a_traceback_stays_on_the_line(as_json: bool) -> None:
    stream, log = logged(as_json=as_json)
    try:
        raise ValueError("of some\nlines")
    except ValueError:
        log.exception("it failed")
    assert len(stream.getvalue().splitlines()) == 1
    assert "ValueError: of some" in stream.getvalue()


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize(
    "text",
    [
        "GET https://b.s3.amazonaws.com/k?X-Amz-Credential=SESAME&X-Amz-Signature=SESAME&X-Amz-Security-Token=SESAME",
        "https://b.s3.amazonaws.com/k?AWSAccessKeyId=SESAME&Signature=SESAME&Expires=1",
        "Authorization: AWS4-HMAC-SHA256 Credential=SESAME/2026, Signature=SESAME",
        "{'x-amz-security-token': 'SESAME'}",
        "x-amz-server-side-encryption-customer-key: SESAME",
        "aws_secret_access_key = SESAME",
        "proxy http://ann:SESAME@proxy:3128/ refused",
    ],
)
def test_a_secret_in_a_text_is_never_printed(text: str, as_json: bool) -> None:
    stream, log = logged(as_json=as_json)
    log.error(text)
    log.error("request failed", extra={"url": text})
    try:
        raise OSError(text)
    except OSError:
        log.exception("request failed")
    assert len(stream.getvalue().splitlines()) == 3
    assert "SESAME" not in stream.getvalue()


def test_a_value_with_a_secret_name_is_never_printed() -> None:
    stream, log = logged(as_json=False)
    log.error("signed", extra={"secret_key": "SESAME", "session_token": "SESAME", "sse_c_key": "SESAME"})
    assert "SESAME" not in stream.getvalue()


def test_what_is_no_secret_is_left_alone() -> None:
    text = "GET https://h/b/k?list-type=2&prefix=a: 200"
    assert without_secrets(text) == text


def test_debug_of_libraries_that_print_headers_stays_off() -> None:
    stream, log = logged(as_json=False, level="debug")
    logging.getLogger("botocore.auth").debug("StringToSign")
    log.debug("ours")
    assert "StringToSign" not in stream.getvalue()
    assert "ours" in stream.getvalue()
