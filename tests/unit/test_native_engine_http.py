"""What the engine takes for an object's bytes, and what it makes of every other answer."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator

import pytest

from fluidfs._native.engine import Completion, Status
from fluidfs._native.sink import MemorySink
from tests.unit.fetching import Fetching
from tests.unit.http_server import Exchange, HttpServer, Script, answer, chunked, part_of, s3_error, serving

DATA = random.Random(1).randbytes(1_000_003)
SIZE = len(DATA)


@pytest.fixture
def fetching() -> Iterator[Fetching]:
    with Fetching() as driver:
        yield driver


def fetch_by(
    fetching: Fetching,
    script: Script,
    *,
    offset: int = 100_000,
    length: int = 300_000,
    stall_timeout_s: float = 5.0,
    version: str = "v1",
) -> tuple[Completion, bytes]:
    """Fetches one range of DATA from a server that follows `script`."""
    with HttpServer(script) as server:
        endpoint = fetching.endpoint(server.port, stall_timeout_s=stall_timeout_s)
        return fetching.fetch(endpoint, size=SIZE, offset=offset, length=length, version=version)


def sends(response: bytes, *, then_close: bool = False) -> Script:
    def script(exchange: Exchange) -> None:
        exchange.send(response)
        if then_close:
            exchange.hang_up()

    return script


@pytest.mark.parametrize(("offset", "length"), [(0, SIZE), (0, 1), (SIZE - 1, 1), (65_536, 65_537), (7, 999_000)])
def test_a_range_arrives_byte_for_byte(fetching: Fetching, offset: int, length: int) -> None:
    done, body = fetch_by(fetching, serving(DATA, etag="v1"), offset=offset, length=length)
    assert done.status is Status.OK
    assert (done.http_status, done.bytes_done) == (206, length)
    assert body == DATA[offset : offset + length]


def test_requests_for_parts_share_one_connection(fetching: Fetching) -> None:
    with HttpServer(serving(DATA)) as server:
        endpoint = fetching.endpoint(server.port)
        for offset in range(0, 500_000, 100_000):
            assert fetching.fetch(endpoint, size=SIZE, offset=offset, length=1000)[0].status is Status.OK
        assert server.connections == 1
    statistics = fetching.engine.statistics()
    assert (statistics.connections_opened, statistics.connections_reused) == (1, 4)
    assert (statistics.requests_sent, statistics.bytes_received) == (5, 5000)
    assert (statistics.in_flight, statistics.busy_workers) == (0, 0)


def test_the_first_bytes_are_reported_before_the_rest_has_come(fetching: Fetching) -> None:
    def script(exchange: Exchange) -> None:
        first, last = exchange.request.extent
        exchange.send(answer("206 OK", {**part_of(exchange, DATA), "Content-Length": last - first + 1}, length=False))
        exchange.send(DATA[first : first + 70_000])
        exchange.hold()

    with HttpServer(script) as server:
        sink = MemorySink(0, SIZE)
        ticket = fetching.submit(fetching.endpoint(server.port), sink, offset=0, length=SIZE, size=SIZE)
        assert fetching.wait_for_progress(ticket).bytes_done == 65_536
        assert sink.buffer[:65_536] == DATA[:65_536]
        fetching.engine.cancel(ticket)
        assert fetching.wait(ticket).status is Status.CANCELLED


@pytest.mark.parametrize("size", [1, 1000, 65_536, 70_001, 400_000])
def test_a_chunked_body_is_put_together(fetching: Fetching, size: int) -> None:
    if size == 1:
        length, offset = 3000, 5
    else:
        length, offset = 300_000, 100_000

    def script(exchange: Exchange) -> None:
        first, last = exchange.request.extent
        headers = {**part_of(exchange, DATA), "Transfer-Encoding": "chunked"}
        framed = chunked(DATA[first : last + 1], size=size, extension=";a=b", trailer="X-Sum: 1\r\nY: 2\r\n")
        exchange.send(answer("206 Partial Content", headers, length=False) + framed)

    with HttpServer(script) as server:
        endpoint = fetching.endpoint(server.port)
        for _ in range(2):
            done, body = fetching.fetch(endpoint, size=SIZE, offset=offset, length=length)
            assert done.status is Status.OK, done
            assert body == DATA[offset : offset + length]
        assert server.connections == 1


def test_a_body_that_only_the_end_of_the_connection_delimits_is_taken(fetching: Fetching) -> None:
    def script(exchange: Exchange) -> None:
        first, last = exchange.request.extent
        exchange.send(answer("206 OK", part_of(exchange, DATA), length=False) + DATA[first : last + 1])
        exchange.hang_up()

    done, body = fetch_by(fetching, script)
    assert done.status is Status.OK
    assert body == DATA[100_000:400_000]


def test_interim_answers_are_skipped(fetching: Fetching) -> None:
    def script(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n")
        serving(DATA)(exchange)

    assert fetch_by(fetching, script)[0].status is Status.OK


def test_a_whole_object_is_taken_when_all_of_it_was_asked_for(fetching: Fetching) -> None:
    done, body = fetch_by(fetching, sends(answer("200 OK", {"ETag": '"v1"'}, DATA)), offset=0, length=SIZE)
    assert done.status is Status.OK
    assert body == DATA


def test_a_whole_object_is_refused_when_a_part_was_asked_for(fetching: Fetching) -> None:
    assert fetch_by(fetching, sends(answer("200 OK", {}, DATA)))[0].status is Status.PROTOCOL


def test_a_whole_object_of_another_size_has_changed(fetching: Fetching) -> None:
    done, _ = fetch_by(fetching, sends(answer("200 OK", {}, DATA[:-1])), offset=0, length=SIZE)
    assert done.status is Status.CHANGED


def test_a_whole_object_that_goes_on_past_its_size_has_changed(fetching: Fetching) -> None:
    framed = answer("200 OK", {"Transfer-Encoding": "chunked"}, length=False) + chunked(DATA + b"x", size=300_000)
    assert fetch_by(fetching, sends(framed), offset=0, length=SIZE)[0].status is Status.CHANGED


RANGE = "bytes 100000-399999/1000003"
BODY = DATA[100_000:400_000]


@pytest.mark.parametrize(
    ("response", "status"),
    [
        pytest.param(answer("206 OK", {"Content-Range": "bytes 100000-399999/1000004"}, BODY), "CHANGED", id="total"),
        pytest.param(answer("206 OK", {"Content-Range": "bytes 100001-400000/1000003"}, BODY), "PROTOCOL", id="range"),
        pytest.param(answer("206 OK", {"Content-Range": "bytes 100000-399999/*"}, BODY), "PROTOCOL", id="no total"),
        pytest.param(answer("206 OK", {"Content-Range": "bytes */1000003"}, BODY), "PROTOCOL", id="star"),
        pytest.param(answer("206 OK", {"Content-Range": "pages 1-2/3"}, BODY), "PROTOCOL", id="unit"),
        pytest.param(answer("206 OK", {"Content-Range": f"bytes {'9' * 30}-1/2"}, BODY), "PROTOCOL", id="overflow"),
        pytest.param(answer("206 OK", {}, BODY), "PROTOCOL", id="no range"),
        pytest.param(answer("206 OK", {"Content-Range": RANGE, "ETag": '"v2"'}, BODY), "CHANGED", id="etag"),
        pytest.param(answer("206 OK", {"Content-Range": RANGE, "ETag": 'W/"v1"'}, BODY), "CHANGED", id="weak etag"),
        pytest.param(answer("206 OK", {"Content-Range": RANGE, "ETag": "v1"}, BODY), "OK", id="bare etag"),
        pytest.param(
            answer("206 OK", {"Content-Range": RANGE, "Content-Encoding": "gzip"}, BODY), "PROTOCOL", id="gzip"
        ),
        pytest.param(
            answer("206 OK", {"Content-Range": RANGE, "Content-Encoding": "identity"}, BODY), "OK", id="plain"
        ),
        pytest.param(answer("206 OK", {"Content-Range": RANGE}, BODY[:-1]), "PROTOCOL", id="short length"),
        pytest.param(answer("206 OK", {"Content-Range": RANGE}, BODY + b"x"), "PROTOCOL", id="long length"),
        pytest.param(answer("206 OK", {"Content-Range": RANGE, "content-length": 1}, BODY), "PROTOCOL", id="lengths"),
        pytest.param(
            answer("206 OK", {"Content-Range": RANGE, "Transfer-Encoding": "gzip"}, BODY), "PROTOCOL", id="te"
        ),
        pytest.param(answer("204 No Content", {}), "HTTP", id="204"),
        pytest.param(b"garbage\r\n\r\n" * 100, "PROTOCOL", id="garbage"),
        pytest.param(b"HTTP/2 206 OK\r\n\r\n", "PROTOCOL", id="http2"),
        pytest.param(b"HTTP/1.1 206 OK\r\nno colon\r\n\r\n", "PROTOCOL", id="no colon"),
        pytest.param(b"HTTP/1.1 206 OK\r\nA: b\r\n folded\r\n\r\n", "PROTOCOL", id="folded"),
        pytest.param(b"HTTP/1.1 206 OK\r\nA : b\r\n\r\n", "PROTOCOL", id="space before colon"),
        pytest.param(b"HTTP/1.1 206 OK\r\nA: \0\r\n\r\n", "PROTOCOL", id="nul"),
        pytest.param(b"HTTP/1.1 206 OK\r\nContent-Length: -1\r\n\r\n", "PROTOCOL", id="negative"),
        pytest.param(b"HTTP/1.1 206 OK\r\nX: " + b"y" * 70_000, "PROTOCOL", id="huge head"),
        pytest.param(b"HTTP/1.1 100 Continue\r\n\r\n" * 20, "PROTOCOL", id="interim for ever"),
        pytest.param(
            answer("206 OK", {"Content-Range": RANGE, "Transfer-Encoding": "chunked"}, length=False)
            + b"fffffffffffffffff\r\n",
            "PROTOCOL",
            id="huge chunk",
        ),
        pytest.param(
            answer("206 OK", {"Content-Range": RANGE, "Transfer-Encoding": "chunked"}, length=False) + b"zz\r\n",
            "PROTOCOL",
            id="bad chunk",
        ),
        pytest.param(
            answer("206 OK", {"Content-Range": RANGE, "Transfer-Encoding": "chunked"}, length=False)
            + b"5;"
            + b"x" * 2000,
            "PROTOCOL",
            id="endless chunk line",
        ),
        pytest.param(
            answer("206 OK", {"Content-Range": RANGE, "Transfer-Encoding": "chunked"}, length=False)
            + b"5\r\nabcdeX\r\n",
            "PROTOCOL",
            id="chunk without its end",
        ),
        pytest.param(
            answer("206 OK", {"Content-Range": RANGE, "Transfer-Encoding": "chunked"}, length=False)
            + chunked(BODY[:-1], size=1000),
            "TRUNCATED",
            id="chunks end early",
        ),
    ],
)
def test_an_answer_that_is_not_the_range_is_told_from_one_that_is(
    fetching: Fetching, response: bytes, status: str
) -> None:
    done, _ = fetch_by(fetching, sends(response))
    assert done.status is Status[status], done


@pytest.mark.parametrize(
    ("response", "status", "code"),
    [
        (answer("404 Not Found", {}, s3_error("NoSuchKey", "it's &lt;gone&gt;")), "NOT_FOUND", "NoSuchKey"),
        (answer("403 Forbidden", {}, s3_error("AccessDenied")), "DENIED", "AccessDenied"),
        (answer("401 Unauthorized", {}), "DENIED", ""),
        (answer("400 Bad Request", {}, s3_error("ExpiredToken")), "DENIED", "ExpiredToken"),
        (answer("400 Bad Request", {}, s3_error("InvalidArgument")), "HTTP", "InvalidArgument"),
        (answer("412 Precondition Failed", {}, s3_error("PreconditionFailed")), "CHANGED", "PreconditionFailed"),
        (answer("416 Range", {"Content-Range": "bytes */5"}, s3_error("InvalidRange")), "CHANGED", "InvalidRange"),
        (answer("416 Range", {"Content-Range": "bytes */1000003"}), "HTTP", ""),
        (answer("429 Too Many Requests", {}), "SLOW_DOWN", ""),
        (answer("503 Slow Down", {}, s3_error("SlowDown")), "SLOW_DOWN", "SlowDown"),
        (answer("503 Service Unavailable", {}), "SERVER", ""),
        (answer("500 Internal Error", {}, s3_error("InternalError")), "SERVER", "InternalError"),
        (answer("418 Teapot", {}, b"\xff\0<Code>"), "HTTP", ""),
        (answer("500 Big", {}, b"x" * 500_000), "SERVER", ""),
    ],
)
def test_an_error_has_a_meaning(fetching: Fetching, response: bytes, status: str, code: str) -> None:
    done, body = fetch_by(fetching, sends(response))
    assert (done.status, done.code) == (Status[status], code)
    assert done.http_status == int(response.split()[1])
    assert body == b""
    assert "\n" not in done.detail


def test_an_error_says_when_to_come_back(fetching: Fetching) -> None:
    done, _ = fetch_by(fetching, sends(answer("503 Busy", {"Retry-After": "7"})))
    assert (done.status, done.retry_after_s) == (Status.SLOW_DOWN, 7.0)


def test_a_redirect_says_which_region_has_the_bucket(fetching: Fetching) -> None:
    moved = answer("301 Moved", {"x-amz-bucket-region": "eu-west-3"}, s3_error("PermanentRedirect"))
    done, _ = fetch_by(fetching, sends(moved))
    assert (done.status, done.region) == (Status.REDIRECT, "eu-west-3")
    malformed = answer("400 Bad", {}, s3_error("AuthorizationHeaderMalformed", "wrong", region="ap-south-1"))
    done, _ = fetch_by(fetching, sends(malformed))
    assert (done.status, done.region) == (Status.REDIRECT, "ap-south-1")


def test_the_connection_of_an_error_is_used_again(fetching: Fetching) -> None:
    def script(exchange: Exchange) -> None:
        if exchange.number == 1:
            exchange.send(answer("404 Not Found", {}, s3_error("NoSuchKey")))
        else:
            serving(DATA)(exchange)

    with HttpServer(script) as server:
        endpoint = fetching.endpoint(server.port)
        assert fetching.fetch(endpoint, size=SIZE, length=10)[0].status is Status.NOT_FOUND
        assert fetching.fetch(endpoint, size=SIZE, length=10)[1] == DATA[:10]
        assert server.connections == 1


def test_a_body_that_breaks_off_is_truncated_and_tells_how_far_it_came(fetching: Fetching) -> None:
    def script(exchange: Exchange) -> None:
        exchange.send(answer("206 OK", {**part_of(exchange, DATA), "Content-Length": 300_000}, length=False))
        exchange.send(BODY[:200_000])
        exchange.hang_up()

    done, body = fetch_by(fetching, script)
    assert (done.status, done.bytes_done) == (Status.TRUNCATED, 65_536)
    assert body == BODY[:65_536]


def test_a_connection_that_ends_without_an_answer_is_truncated(fetching: Fetching) -> None:
    done, _ = fetch_by(fetching, Exchange.hang_up)
    assert (done.status, done.http_status) == (Status.TRUNCATED, 0)


@pytest.mark.parametrize("sent", [0, 20, 4_000])
def test_a_server_that_stops_sending_is_timed_out(fetching: Fetching, sent: int) -> None:
    def script(exchange: Exchange) -> None:
        head = answer("206 OK", {**part_of(exchange, DATA), "Content-Length": 300_000}, length=False)
        exchange.send((head + BODY)[:sent])
        exchange.hold()

    started_s = time.monotonic()
    done, _ = fetch_by(fetching, script, stall_timeout_s=0.3)
    assert done.status is Status.TIMEOUT
    assert 0.25 < time.monotonic() - started_s < 5


@pytest.mark.parametrize("in_head", [True, False])
def test_a_server_that_drips_is_timed_out(fetching: Fetching, in_head: bool) -> None:
    def script(exchange: Exchange) -> None:
        head = answer("206 OK", {**part_of(exchange, DATA), "Content-Length": 300_000}, length=False)
        if not in_head:
            exchange.send(head)
        exchange.drip(BODY if not in_head else head + BODY, every_s=0.02)

    done, _ = fetch_by(fetching, script, stall_timeout_s=0.4)
    assert done.status is Status.TIMEOUT


def test_a_kept_connection_that_the_server_closed_is_no_error(fetching: Fetching) -> None:
    with HttpServer(serving(DATA)) as server:
        endpoint = fetching.endpoint(server.port)
        assert fetching.fetch(endpoint, size=SIZE, length=10)[0].status is Status.OK

        def close_once(exchange: Exchange) -> None:
            # The connection is closed only when the next request is on it, as in a race with the server's timeout.
            server.script = serving(DATA)
            exchange.hang_up()

        server.script = close_once
        done, body = fetching.fetch(endpoint, size=SIZE, length=10)
        assert (done.status, body) == (Status.OK, DATA[:10])
        assert server.connections == 2


def test_a_fresh_connection_that_the_server_closes_is_not_tried_again(fetching: Fetching) -> None:
    with HttpServer(serving(DATA)) as server:
        endpoint = fetching.endpoint(server.port)
        assert fetching.fetch(endpoint, size=SIZE, length=10)[0].status is Status.OK
        server.script = Exchange.hang_up
        assert fetching.fetch(endpoint, size=SIZE, length=10)[0].status is Status.TRUNCATED
        assert len(server.requests) == 3


def test_bytes_that_nobody_asked_for_spoil_a_kept_connection(fetching: Fetching) -> None:
    def script(exchange: Exchange) -> None:
        part = answer("206 OK", part_of(exchange, DATA), DATA[:10])
        exchange.send(part + b"HTTP/1.1 206 Smuggled\r\n\r\n")

    with HttpServer(script) as server:
        endpoint = fetching.endpoint(server.port)
        for _ in range(3):
            done, body = fetching.fetch(endpoint, size=SIZE, length=10)
            assert (done.status, body) == (Status.OK, DATA[:10])
        assert server.connections == 3


def test_an_answer_without_keep_alive_is_the_connections_last(fetching: Fetching) -> None:
    def script(exchange: Exchange) -> None:
        first, last = exchange.request.extent
        headers = {**part_of(exchange, DATA), "Connection": "close"}
        exchange.send(answer("206 OK", headers, DATA[first : last + 1]))

    with HttpServer(script) as server:
        endpoint = fetching.endpoint(server.port)
        for _ in range(2):
            assert fetching.fetch(endpoint, size=SIZE, length=10)[0].status is Status.OK
        assert server.connections == 2
