"""Whatever a server makes of its answer's head, the engine ends the job and goes on."""

from __future__ import annotations

import random
from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from fluidfs._native.engine import Status
from tests.unit.fetching import Fetching
from tests.unit.http_server import Exchange, HttpServer, answer, chunked

DATA = random.Random(6).randbytes(1000)
SIZE = len(DATA)

mangled: st.SearchStrategy[Callable[[bytes], bytes]] = st.one_of(
    st.builds(
        lambda at, byte: lambda data: data[: at % len(data)] + byte + data[at % len(data) + 1 :],
        st.integers(0, 400),
        st.binary(min_size=1, max_size=1),
    ),
    st.builds(lambda at: lambda data: data[: at % len(data)], st.integers(0, 400)),
    st.builds(
        lambda at, extra: lambda data: data[: at % len(data)] + extra + data[at % len(data) :],
        st.integers(0, 400),
        st.binary(max_size=30),
    ),
)


@settings(max_examples=150, deadline=None)
@given(mangle=mangled, by_chunks=st.booleans())
def test_no_mangled_head_breaks_the_engine(mangle: Callable[[bytes], bytes], by_chunks: bool) -> None:
    body = DATA[:200]
    headers: dict[str, object] = {"Content-Range": f"bytes 0-199/{SIZE}", "ETag": '"v1"'}
    if by_chunks:
        headers["Transfer-Encoding"] = "chunked"
        response = answer("206 OK", headers, length=False) + chunked(body, size=64)
    else:
        response = answer("206 OK", headers, body)
    head = response.index(b"\r\n\r\n") + 4
    damaged = mangle(response[:head]) + response[head:]

    def script(exchange: Exchange) -> None:
        exchange.send(damaged)
        exchange.hang_up()

    with HttpServer(script) as server, Fetching(workers=1) as fetching:
        endpoint = fetching.endpoint(server.port, stall_timeout_s=2.0)
        done, received = fetching.fetch(endpoint, size=SIZE, length=200)
    assert done.status is not Status.SINK
    assert len(received) <= 200
