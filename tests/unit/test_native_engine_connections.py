"""How the engine reaches a server: signed, through TLS and proxies, in bounded time, or says why it did not."""

from __future__ import annotations

import datetime
import random
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import botocore.auth
import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from fluidfs._native.engine import Status
from fluidfs._native.sink import MemorySink
from tests.unit.fetching import Fetching
from tests.unit.http_server import Exchange, HttpServer, Request, answer, serving

DATA = random.Random(2).randbytes(700_001)
SIZE = len(DATA)


@pytest.fixture
def fetching() -> Iterator[Fetching]:
    with Fetching() as driver:
        yield driver


@pytest.fixture
def server() -> Iterator[HttpServer]:
    with HttpServer(serving(DATA, etag="v1")) as server:
        yield server


def make_certificate(directory: Path, *, names: str) -> Path:
    """A self-signed certificate and its key in one PEM file. `names` is a subjectAltName."""
    pem = directory / "server.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=test"
    subprocess.run(
        [*command.split(), "-addext", f"subjectAltName={names}", "-keyout", pem, "-out", directory / "ca.pem"],
        check=True,
        capture_output=True,
    )
    with pem.open("a") as bundle:
        bundle.write((directory / "ca.pem").read_text())
    return pem


def server_side(pem: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    return context


@pytest.fixture
def tls_server(tmp_path: Path) -> Iterator[HttpServer]:
    pem = make_certificate(tmp_path, names="DNS:localhost,IP:127.0.0.1")
    with HttpServer(serving(DATA, etag="v1"), tls=server_side(pem)) as server:
        yield server


@pytest.fixture
def ca_file(tls_server: HttpServer, tmp_path: Path) -> str:
    return str(tmp_path / "ca.pem")


def botocore_authorization(request: Request, *, secret_key: str, region: str) -> str:
    """What botocore would have signed this very request with, at its own date."""
    unsigned = ("authorization", "accept-encoding", "user-agent", "x-amz-date", "x-amz-content-sha256")
    headers = {name: value for name, value in request.headers.items() if name not in unsigned}
    access_key = request.headers["authorization"].split("Credential=")[1].split("/")[0]
    token = headers.pop("x-amz-security-token", None)
    at = datetime.datetime.strptime(request.headers["x-amz-date"], "%Y%m%dT%H%M%SZ")
    signed = AWSRequest("GET", f"http://{request.headers['host']}{request.target}", headers=headers)
    with mock.patch.object(botocore.auth, "get_current_datetime", return_value=at):
        S3SigV4Auth(Credentials(access_key, secret_key, token), "s3", region).add_auth(signed)
    authorization = signed.headers["Authorization"]
    assert isinstance(authorization, str)
    return authorization


def test_a_request_is_signed_as_botocore_would_have(fetching: Fetching, server: HttpServer) -> None:
    endpoint = fetching.endpoint(
        server.port, region="cn-north-1", headers=[("x-amz-request-payer", "requester"), ("a-first", "x  y")]
    )
    endpoint.set_credentials("AKIDEXAMPLE", "sécret+/key", "to/ken==")
    done, _ = fetching.fetch(endpoint, size=SIZE, target=b"/bucket/a%20b~c%2Bd/%C3%A9")
    assert done.status is Status.OK
    (request,) = server.requests
    assert request.target == "/bucket/a%20b~c%2Bd/%C3%A9"
    assert request.headers["if-match"] == '"v1"'
    assert request.headers["range"] == f"bytes=0-{SIZE - 1}"
    assert request.headers["accept-encoding"] == "identity"
    assert request.headers["x-amz-security-token"] == "to/ken=="
    assert request.headers["authorization"] == botocore_authorization(
        request, secret_key="sécret+/key", region="cn-north-1"
    )
    now = datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
    assert abs(datetime.datetime.strptime(request.headers["x-amz-date"], "%Y%m%dT%H%M%SZ") - now).seconds < 60


def test_an_endpoint_without_credentials_is_anonymous(fetching: Fetching, server: HttpServer) -> None:
    endpoint = fetching.endpoint(server.port)
    endpoint.set_credentials("AK", "SK", None)
    fetching.fetch(endpoint, size=SIZE, length=1)
    endpoint.set_credentials(None, None, None)
    fetching.fetch(endpoint, size=SIZE, length=1)
    signed, anonymous = server.requests
    assert "authorization" in signed.headers
    assert not {"authorization", "x-amz-date", "x-amz-security-token"} & anonymous.headers.keys()


def test_new_credentials_sign_the_next_request(fetching: Fetching, server: HttpServer) -> None:
    endpoint = fetching.endpoint(server.port)
    for number in range(3):
        endpoint.set_credentials(f"AK{number}", f"SK{number}", None)
        fetching.fetch(endpoint, size=SIZE, length=1)
        request = server.requests[-1]
        assert f"Credential=AK{number}/" in request.headers["authorization"]
        assert request.headers["authorization"] == botocore_authorization(
            request, secret_key=f"SK{number}", region="us-east-1"
        )


def test_a_version_that_is_unknown_is_not_asked_for(fetching: Fetching, server: HttpServer) -> None:
    assert fetching.fetch(fetching.endpoint(server.port), size=SIZE, version="")[0].status is Status.OK
    assert "if-match" not in server.requests[0].headers


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_tls_carries_the_bytes_to_whom_the_certificate_names(
    fetching: Fetching, tls_server: HttpServer, ca_file: str, host: str
) -> None:
    endpoint = fetching.endpoint(tls_server.port, host=host, tls=True, ca_file=ca_file)
    for _ in range(2):
        done, body = fetching.fetch(endpoint, size=SIZE)
        assert done.status is Status.OK, done
        assert body == DATA
    assert tls_server.connections == 1


def test_a_certificate_that_nobody_vouches_for_is_refused(fetching: Fetching, tls_server: HttpServer) -> None:
    done, _ = fetching.fetch(fetching.endpoint(tls_server.port, tls=True), size=SIZE)
    assert done.status is Status.TLS
    assert "self-signed certificate" in done.detail
    assert tls_server.requests == []


@pytest.mark.parametrize(
    ("host", "names"), [("127.0.0.1", "DNS:localhost"), ("localhost", "DNS:elsewhere,IP:127.0.0.1")]
)
def test_a_certificate_of_somebody_else_is_refused(fetching: Fetching, tmp_path: Path, host: str, names: str) -> None:
    pem = make_certificate(tmp_path, names=names)
    with HttpServer(serving(DATA), tls=server_side(pem)) as server:
        endpoint = fetching.endpoint(server.port, host=host, tls=True, ca_file=str(tmp_path / "ca.pem"))
        done, _ = fetching.fetch(endpoint, size=SIZE)
    assert done.status is Status.TLS
    assert "mismatch" in done.detail


def test_a_server_without_tls_is_no_tls_server(fetching: Fetching) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        endpoint = fetching.endpoint(listener.getsockname()[1], tls=True)
        ticket = fetching.submit(endpoint, MemorySink(0, SIZE), offset=0, length=SIZE, size=SIZE)
        with listener.accept()[0] as connection:
            connection.sendall(answer("400 Bad Request", {}))
            assert fetching.wait(ticket).status is Status.TLS


def test_a_tls_body_that_breaks_off_is_truncated(fetching: Fetching, tls_server: HttpServer, ca_file: str) -> None:
    def script(exchange: Exchange) -> None:
        headers = {"Content-Range": f"bytes 0-{SIZE - 1}/{SIZE}", "Content-Length": SIZE}
        exchange.send(answer("206 OK", headers, DATA[:300_000], length=False))
        exchange.hang_up()

    tls_server.script = script
    endpoint = fetching.endpoint(tls_server.port, tls=True, ca_file=ca_file)
    assert fetching.fetch(endpoint, size=SIZE)[0].status is Status.TRUNCATED


def test_a_kept_tls_connection_that_the_server_closed_is_no_error(
    fetching: Fetching, tls_server: HttpServer, ca_file: str
) -> None:
    endpoint = fetching.endpoint(tls_server.port, tls=True, ca_file=ca_file)
    assert fetching.fetch(endpoint, size=SIZE)[0].status is Status.OK

    def close_once(exchange: Exchange) -> None:
        tls_server.script = serving(DATA)
        exchange.hang_up()

    tls_server.script = close_once
    assert fetching.fetch(endpoint, size=SIZE)[0].status is Status.OK
    assert tls_server.connections == 2


def test_a_tls_handshake_that_stalls_fails_in_time(fetching: Fetching) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = fetching.endpoint(silent.getsockname()[1], tls=True, connect_timeout_s=0.3)
        started_s = time.monotonic()
        done, _ = fetching.fetch(endpoint, size=SIZE)
    assert done.status is Status.CONNECT
    assert time.monotonic() - started_s < 5


def test_a_tls_connection_goes_through_a_proxys_tunnel(
    fetching: Fetching, tls_server: HttpServer, ca_file: str
) -> None:
    with HttpServer(serving(b""), tunnel_to=tls_server.port) as proxy:
        # The name need not be known here: the proxy looks it up.
        endpoint = fetching.endpoint(
            443, host="localhost", host_header="localhost", tls=True, ca_file=ca_file, proxy=("127.0.0.1", proxy.port)
        )
        for _ in range(2):
            done, body = fetching.fetch(endpoint, size=SIZE)
            assert done.status is Status.OK, done
            assert body == DATA
        (connect,) = proxy.requests
    assert (connect.method, connect.target) == ("CONNECT", "localhost:443")
    assert "authorization" not in connect.headers


def test_a_proxy_that_refuses_a_tunnel_is_no_connection(fetching: Fetching, ca_file: str) -> None:
    refusal = answer("407 Proxy Authentication Required", {}, b"who are you?")
    with HttpServer(lambda exchange: exchange.send(refusal)) as proxy:
        endpoint = fetching.endpoint(
            443, host="somewhere.invalid", tls=True, ca_file=ca_file, proxy=("127.0.0.1", proxy.port)
        )
        done, _ = fetching.fetch(endpoint, size=SIZE)
    assert (done.status, done.http_status) == (Status.CONNECT, 407)


@pytest.mark.parametrize("response", [b"garbage\r\n\r\n", b"", b"HTTP/1.1 200 OK\r\n\r\nTOO SOON", b"x" * 9000])
def test_a_proxy_that_talks_nonsense_is_no_connection(fetching: Fetching, ca_file: str, response: bytes) -> None:
    def script(exchange: Exchange) -> None:
        exchange.send(response)
        exchange.hang_up()

    with HttpServer(script) as proxy:
        endpoint = fetching.endpoint(
            443, host="somewhere.invalid", tls=True, ca_file=ca_file, proxy=("127.0.0.1", proxy.port)
        )
        assert fetching.fetch(endpoint, size=SIZE)[0].status is Status.CONNECT


def test_a_plain_request_is_sent_to_a_proxy_whole(fetching: Fetching) -> None:
    with HttpServer(serving(DATA)) as proxy:
        endpoint = fetching.endpoint(
            8333, host="store.invalid", host_header="store.invalid:8333", proxy=("127.0.0.1", proxy.port)
        )
        assert fetching.fetch(endpoint, size=SIZE)[0].status is Status.OK
        (request,) = proxy.requests
    assert request.target == "http://store.invalid:8333/bucket/key"
    assert request.headers["host"] == "store.invalid:8333"


def test_a_port_where_nobody_listens_is_no_connection(fetching: Fetching) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    done, _ = fetching.fetch(fetching.endpoint(port), size=SIZE)
    assert done.status is Status.CONNECT
    assert "Connection refused" in done.detail


def test_a_name_that_does_not_exist_is_no_connection(fetching: Fetching) -> None:
    done, _ = fetching.fetch(fetching.endpoint(80, host="no-such-host.invalid", connect_timeout_s=2), size=SIZE)
    assert done.status is Status.CONNECT
    assert "no-such-host.invalid" in done.detail


def test_a_server_that_accepts_no_connection_fails_in_time(fetching: Fetching) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        # Linux completes backlog + 1 handshakes; further ones get no answer.
        address = full.getsockname()
        waiting = [socket.socket() for _ in range(4)]
        for client in waiting:
            client.setblocking(False)
            client.connect_ex(address)
        endpoint = fetching.endpoint(address[1], connect_timeout_s=0.3)
        started_s = time.monotonic()
        done, _ = fetching.fetch(endpoint, size=SIZE)
        assert done.status is Status.CONNECT
        assert time.monotonic() - started_s < 5
        for client in waiting:
            client.close()


@pytest.mark.parametrize(
    "headers",
    [
        [("range", "bytes=0-1")],
        [("X-Upper", "1")],
        [("a b", "1")],
        [("", "1")],
        [("x-a", "1\r\nx-b: 2")],
        [("x-a", "é")],
        [("x-a", "1"), ("x-a", "2")],
        [(f"x-{number}", "1") for number in range(40)],
    ],
)
def test_a_header_that_would_spoil_a_request_is_refused(fetching: Fetching, headers: list[tuple[str, str]]) -> None:
    with pytest.raises(ValueError, match=r"header|characters"):
        fetching.endpoint(80, headers=headers)


def test_an_endpoint_that_cannot_work_is_refused(fetching: Fetching, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="certificates"):
        fetching.endpoint(443, tls=True, ca_file=str(tmp_path / "missing.pem"))
    with pytest.raises(ValueError, match="port"):
        fetching.endpoint(0)
    with pytest.raises(ValueError, match="characters"):
        fetching.endpoint(80, host="a\nb")
    with pytest.raises(ValueError, match="timeouts"):
        fetching.endpoint(80, stall_timeout_s=0)
    with pytest.raises(ValueError, match="characters"):
        fetching.endpoint(80).set_credentials("A K", "s", None)
    with pytest.raises(ValueError, match="goes with"):
        fetching.endpoint(80).set_credentials("AK", None, None)
