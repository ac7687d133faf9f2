"""What a person is told when a bucket cannot be mounted: one line that says what to change."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from fluidfs.demo.seaweed import SeaweedServer
from fluidfs.errors import (
    AccessDenied,
    BucketNotFound,
    CredentialsMissing,
    StoreError,
    StoreUnavailable,
    WrongRegion,
)
from fluidfs.store.open import open_store
from fluidfs.store.source import parse_source
from tests.conftest import POWERLESS, Bucket


@pytest.fixture(autouse=True)
def _credentials(s3_server: SeaweedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)


def probe(uri: str, **options: object) -> None:
    """Probes as a mount does. Raises what the person is told."""
    open_store(parse_source(uri), **options).probe()  # type: ignore[arg-type]


def test_a_bucket_can_be_mounted_full_empty_and_at_a_prefix_that_is_empty(bucket: Bucket) -> None:
    probe(bucket.uri)
    bucket.put("a/b", b"1")
    probe(bucket.uri)
    probe(f"{bucket.uri}/a")
    probe(f"{bucket.uri}/nothing/here")


def test_a_missing_bucket_is_named(s3_server: SeaweedServer) -> None:
    with pytest.raises(BucketNotFound, match="'no-such-bucket' does not exist at http://127"):
        probe("s3://no-such-bucket")


def test_an_unknown_access_key_is_told_with_its_origin(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKUNKNOWN")
    with pytest.raises(AccessDenied, match=r"does not know access key AKUNKNOWN \(from AWS_ACCESS_KEY_ID\)"):
        probe(bucket.uri)


def test_a_wrong_secret_is_told_and_not_shown(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-secret")
    with pytest.raises(AccessDenied, match="secret key wrong") as caught:
        probe(bucket.uri)
    assert "wrong-secret" not in str(caught.value)


def test_who_may_not_list_is_told_which_right_is_missing(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", POWERLESS.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", POWERLESS.secret_key)
    with pytest.raises(AccessDenied, match=rf"refuses access key {POWERLESS.access_key}.*ListBucket"):
        probe(bucket.uri)


def test_an_unsigned_request_that_is_refused_points_to_the_option(bucket: Bucket) -> None:
    with pytest.raises(AccessDenied, match="drop --anonymous"):
        probe(bucket.uri, anonymous=True)


def test_without_credentials_it_is_said_where_they_are_looked_for(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(CredentialsMissing, match=r"AWS_ACCESS_KEY_ID.*--profile.*--anonymous"):
        probe(bucket.uri)


def test_credentials_are_taken_from_a_profile(
    s3_server: SeaweedServer, bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "credentials"
    path.write_text(
        f"[work]\naws_access_key_id = {s3_server.access_key}\naws_secret_access_key = {s3_server.secret_key}\n"
    )
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(path))
    probe(bucket.uri, profile="work")


def test_nobody_listening_is_told_with_the_address(bucket: Bucket) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        with pytest.raises(StoreUnavailable, match=f"nothing answers at http://127.0.0.1:{port}"):
            probe(bucket.uri, endpoint_url=f"http://127.0.0.1:{port}")


def test_a_host_without_an_address_is_told(bucket: Bucket) -> None:
    with pytest.raises(StoreUnavailable, match="no address"):
        probe(bucket.uri, endpoint_url="http://no-such-host.invalid")


def test_a_dead_proxy_is_told_from_a_dead_server(bucket: Bucket) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        with pytest.raises(StoreUnavailable, match="--proxy"):
            probe(bucket.uri, proxy=f"http://127.0.0.1:{closed.getsockname()[1]}")


def test_https_where_the_server_speaks_http_is_told(s3_server: SeaweedServer, bucket: Bucket) -> None:
    with pytest.raises(StoreError, match="use http://"):
        probe(bucket.uri, endpoint_url=s3_server.endpoint_url.replace("http:", "https:"))


Answers = Callable[[int, dict[str, str], bytes], str]


@pytest.fixture
def a_server_that_answers() -> Iterator[Answers]:
    """Starts a server that gives every request the same answer: what SeaweedFS cannot be made to say."""
    servers: list[ThreadingHTTPServer] = []

    def start(status: int, headers: dict[str, str], body: bytes) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status)
                for name, value in {**headers, "content-length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_address[1]}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_a_web_server_that_is_no_s3_server_is_told(a_server_that_answers: Answers) -> None:
    for status in (200, 404):
        url = a_server_that_answers(status, {"content-type": "text/html"}, b"<!doctype html><title>hello</title>")
        with pytest.raises(StoreError, match="does not answer as an S3 server") as caught:
            probe("s3://bucket", endpoint_url=url)
        assert not isinstance(caught.value, StoreUnavailable)


def test_the_right_region_is_told(a_server_that_answers: Answers) -> None:
    body = b"<Error><Code>PermanentRedirect</Code><Message>elsewhere</Message></Error>"
    url = a_server_that_answers(301, {"x-amz-bucket-region": "eu-central-1"}, body)
    with pytest.raises(WrongRegion, match="pass --region eu-central-1") as caught:
        probe("s3://bucket", endpoint_url=url)
    assert caught.value.region == "eu-central-1"


def test_a_clock_that_is_off_is_told(a_server_that_answers: Answers) -> None:
    body = b"<Error><Code>RequestTimeTooSkewed</Code><Message>The difference is too large</Message></Error>"
    with pytest.raises(AccessDenied, match="set the clock"):
        probe("s3://bucket", endpoint_url=a_server_that_answers(403, {}, body))


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that no authority of this system has signed, and its key."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.fail("openssl is missing: apt-get install openssl")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)]
    subprocess.run(command, check=True, capture_output=True)
    return cert, key


def test_a_private_authority_is_pointed_to_ca_bundle_which_then_works(certificate: tuple[Path, Path]) -> None:
    cert, key = certificate
    body = b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>"

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"https://127.0.0.1:{server.server_address[1]}"
        with pytest.raises(StoreError, match="--ca-bundle FILE"):
            probe("s3://bucket", endpoint_url=url)
        probe("s3://bucket", endpoint_url=url, ca_bundle=str(cert))
        server.shutdown()


def test_credentials_that_expire_are_fetched_again_while_the_store_is_open(
    bucket: Bucket, s3_server: SeaweedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A credential_process that counts its calls and says each time that what it gives lasts a minute: botocore asks
    # again within ten minutes of the end.
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    script = tmp_path / "credentials.py"
    script.write_text(
        "import datetime, json, pathlib\n"
        f"pathlib.Path({str(tmp_path / 'calls')!r}).open('a').write('.')\n"
        "end = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(minutes=1)\n"
        f"print(json.dumps(dict(Version=1, AccessKeyId={s3_server.access_key!r}, "
        f"SecretAccessKey={s3_server.secret_key!r}, Expiration=end.isoformat())))\n"
    )
    config = tmp_path / "config"
    config.write_text(f"[profile short]\ncredential_process = {sys.executable} {script}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    store = open_store(parse_source(bucket.uri), profile="short")
    store.probe()
    calls = len((tmp_path / "calls").read_text())
    credentials = store.credentials()
    assert credentials is not None
    assert credentials.access_key == s3_server.access_key
    assert credentials.expires_at == pytest.approx(time.time() + 60, abs=20)
    assert len((tmp_path / "calls").read_text()) > calls
