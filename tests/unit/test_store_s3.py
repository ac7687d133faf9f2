"""What S3's answers mean, without a server: listings, errors, endpoints, targets."""

from __future__ import annotations

import pytest
import urllib3.exceptions as http

from fluidfs.errors import (
    AccessDenied,
    BucketNotFound,
    FluidfsError,
    ObjectChanged,
    ObjectNotFound,
    SlowDown,
    StoreError,
    StoreUnavailable,
    UsageError,
    WrongRegion,
)
from fluidfs.model import ObjectInfo
from fluidfs.store.base import Credentials, HttpTransport
from fluidfs.store.endpoints import parse_endpoint
from fluidfs.store.open import open_store
from fluidfs.store.s3 import S3Store
from fluidfs.store.s3_errors import Asked, answer_error, transport_error
from fluidfs.store.s3_listing import NotS3Error, parse_listing, version_of
from fluidfs.store.source import parse_source

ASKED = Asked(
    endpoint_url="http://s3.test:9000",
    bucket="bkt",
    region="us-east-1",
    access_key="AKEXAMPLE",
    key_origin="AWS_ACCESS_KEY_ID",
)


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "AWS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")


def s3(source: str = "s3://bkt/p", **options: object) -> S3Store:
    store = open_store(parse_source(source), **options)  # type: ignore[arg-type]
    assert isinstance(store, S3Store)
    return store


def listing(inner: str, namespace: str = ' xmlns="http://s3.amazonaws.com/doc/2006-03-01/"') -> bytes:
    return f'<?xml version="1.0"?><ListBucketResult{namespace}>{inner}</ListBucketResult>'.encode()


CONTENTS = (
    "<Contents><Key>{key}</Key><ETag>&quot;0123abc&quot;</ETag><Size>7</Size>"
    "<LastModified>2026-03-01T10:00:00.250Z</LastModified><Owner><ID>x</ID></Owner></Contents>"
)


@pytest.mark.parametrize("namespace", ["", ' xmlns="http://s3.amazonaws.com/doc/2006-03-01/"', ' xmlns="urn:other"'])
def test_a_listing_is_read(namespace: str) -> None:
    page = parse_listing(
        listing(
            "<EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>"
            "<NextContinuationToken>1/a+b=%</NextContinuationToken>"
            + CONTENTS.format(key="a+b%2Bc%0A%C3%A9")
            + "<CommonPrefixes><Prefix>d+e/</Prefix></CommonPrefixes>",
            namespace,
        )
    )
    assert page.objects == (ObjectInfo("a b+c\né", 7, 1_772_359_200_250_000_000, "0123abc"),)
    assert page.prefixes == ("d e/",)
    assert page.next_token == "1/a+b=%"


def test_keys_of_a_server_that_does_not_encode_are_taken_as_they_are() -> None:
    page = parse_listing(listing("<IsTruncated>false</IsTruncated>" + CONTENTS.format(key="a+b%20c")))
    assert page.objects[0].key == "a+b%20c"
    assert page.next_token is None


def test_keys_that_are_not_utf8_survive() -> None:
    page = parse_listing(listing("<EncodingType>url</EncodingType>" + CONTENTS.format(key="%FF%2F")))
    assert page.objects[0].key == "\udcff/"


@pytest.mark.parametrize(
    "body",
    [
        b"<html><body>Welcome to nginx</body></html>",
        b"<!DOCTYPE html><p>hi",
        b"",
        b"{}",
        listing("<Contents><Key>a</Key></Contents>"),
        listing("<Contents><Key>a</Key><Size>x</Size></Contents>"),
        listing("<IsTruncated>true</IsTruncated>"),
    ],
)
def test_what_is_no_listing_is_told_apart(body: bytes) -> None:
    with pytest.raises(NotS3Error):
        parse_listing(body)


def test_an_object_without_a_strong_etag_has_a_version_of_time_and_size() -> None:
    assert version_of('"abc-3"', mtime_ns=5_000_000_001, size=9) == "abc-3"
    assert version_of(None, mtime_ns=5_000_000_001, size=9) == "@5-9"
    assert version_of('W/"abc"', mtime_ns=5_900_000_000, size=9) == "@5-9"


def error_body(code: str, inner: str = "") -> bytes:
    return f"<Error><Code>{code}</Code><Message>some words</Message>{inner}</Error>".encode()


@pytest.mark.parametrize(
    ("status", "headers", "body", "kind", "says"),
    [
        (404, {}, error_body("NoSuchBucket"), BucketNotFound, "bucket 'bkt' does not exist"),
        (403, {}, error_body("InvalidAccessKeyId"), AccessDenied, "AKEXAMPLE (from AWS_ACCESS_KEY_ID)"),
        (403, {}, error_body("SignatureDoesNotMatch"), AccessDenied, "secret key wrong"),
        (403, {}, error_body("AccessDenied"), AccessDenied, "s3:ListBucket"),
        (403, {}, b"", AccessDenied, "refuses"),
        (400, {}, error_body("ExpiredToken"), AccessDenied, "log in again"),
        (403, {}, error_body("RequestTimeTooSkewed"), AccessDenied, "set the clock"),
        (
            400,
            {},
            error_body("AuthorizationHeaderMalformed", "<Region>eu-west-1</Region>"),
            WrongRegion,
            "--region eu-west-1",
        ),
        (301, {"x-amz-bucket-region": "ap-south-1"}, error_body("PermanentRedirect"), WrongRegion, "ap-south-1"),
        (301, {}, error_body("PermanentRedirect"), WrongRegion, "pass its --region"),
        (400, {"x-amz-bucket-region": "ap-south-1"}, b"", WrongRegion, "ap-south-1"),
        (503, {}, error_body("SlowDown"), SlowDown, "fewer requests"),
        (429, {}, b"", SlowDown, "fewer requests"),
        (500, {}, error_body("InternalError"), StoreUnavailable, "InternalError"),
        (502, {}, b"<html>Bad Gateway</html>", StoreUnavailable, "HTTP 502"),
        (400, {}, error_body("RequestTimeout"), StoreUnavailable, "RequestTimeout"),
        (412, {}, error_body("PreconditionFailed"), ObjectChanged, "has changed"),
        (404, {}, b"<html>404 Not Found</html>", StoreError, "check --endpoint-url"),
        (400, {}, b"Client sent an HTTP request to an HTTPS server.\n", StoreError, "check --endpoint-url"),
        (400, {}, error_body("InvalidArgument"), StoreError, "InvalidArgument: some words"),
    ],
)
def test_an_error_answer_means_one_error_with_one_line_that_helps(
    status: int, headers: dict[str, str], body: bytes, kind: type[FluidfsError], says: str
) -> None:
    error = answer_error(status, headers, body, asked=ASKED)
    assert type(error) is kind
    assert says in str(error)
    assert "\n" not in str(error)


def test_an_object_that_is_not_there_is_not_a_missing_bucket() -> None:
    assert type(answer_error(404, {}, b"", asked=ASKED, key="k")) is ObjectNotFound
    assert type(answer_error(404, {}, error_body("NoSuchBucket"), asked=ASKED, key="k")) is BucketNotFound


def test_the_region_of_a_wrong_region_is_kept() -> None:
    error = answer_error(301, {"x-amz-bucket-region": "eu-west-3"}, b"", asked=ASKED)
    assert isinstance(error, WrongRegion)
    assert error.region == "eu-west-3"


@pytest.mark.parametrize(
    ("error", "kind", "says"),
    [
        (http.SSLError("[SSL: WRONG_VERSION_NUMBER] wrong version number"), StoreError, "http://"),
        (http.SSLError("[SSL: CERTIFICATE_VERIFY_FAILED] self-signed certificate"), StoreError, "--ca-bundle"),
        (http.SSLError("EOF occurred in violation of protocol"), StoreUnavailable, "TLS"),
        (http.ProtocolError("Connection aborted.", ConnectionResetError(104, "reset")), StoreUnavailable, "reset"),
        (http.ConnectTimeoutError("timed out"), StoreUnavailable, "in time"),
    ],
)
def test_a_request_without_an_answer_means_one_error(error: http.HTTPError, kind: type, says: str) -> None:
    translated = transport_error(error, asked=ASKED, ca_file=None)
    assert type(translated) is kind
    assert says in str(translated)


@pytest.mark.parametrize(
    ("url", "identity"),
    [
        ("http://127.0.0.1:8333", "s3+http://127.0.0.1:8333/bkt"),
        ("http://127.0.0.1:8333/", "s3+http://127.0.0.1:8333/bkt"),
        ("HTTPS://Minio.Test:443", "s3+https://minio.test/bkt"),
        ("http://[::1]:9000", "s3+http://[::1]:9000/bkt"),
        ("https://gateway.test/storage/v1/s3/", "s3+https://gateway.test/storage/v1/s3/bkt"),
        ("https://s3.amazonaws.com", "s3+aws/bkt"),
        ("https://s3.eu-west-1.amazonaws.com", "s3+aws/bkt"),
        ("https://s3-us-west-2.amazonaws.com", "s3+aws/bkt"),
        ("https://s3.dualstack.eu-west-1.amazonaws.com", "s3+aws/bkt"),
        ("https://s3.cn-north-1.amazonaws.com.cn", "s3+aws-cn/bkt"),
        ("https://s3.us-gov-west-1.amazonaws.com", "s3+aws-us-gov/bkt"),
        ("https://s3.evil-amazonaws.com", "s3+https://s3.evil-amazonaws.com/bkt"),
    ],
)
def test_one_key_space_has_one_identity(url: str, identity: str) -> None:
    assert parse_endpoint(url).identity("bkt") == identity


@pytest.mark.parametrize(
    "url", ["", "127.0.0.1:9000", "ftp://h", "http://", "http://u:p@h", "http://h:99999", "s3://b"]
)
def test_what_is_no_endpoint_is_refused(url: str) -> None:
    with pytest.raises(UsageError):
        parse_endpoint(url)


def test_without_an_endpoint_the_bucket_is_at_aws_in_its_region() -> None:
    store = s3(region="eu-west-1", anonymous=True)
    assert isinstance(store.transport, HttpTransport)
    assert (store.transport.host, store.transport.port, store.transport.tls) == (
        "bkt.s3.eu-west-1.amazonaws.com",
        443,
        True,
    )
    assert store.target("a b/é+~%") == b"/a%20b/%C3%A9%2B~%25"
    assert store.identity == s3("s3://bkt/other", region="us-east-2", anonymous=True).identity == "s3+aws/bkt"
    assert s3("s3://dotted.bucket", region="eu-west-1").target("k") == b"/dotted.bucket/k"


def test_with_an_endpoint_the_bucket_is_in_the_path_unless_told_otherwise() -> None:
    path = s3(endpoint_url="http://host:9000/base")
    assert path.target("a/b") == b"/base/bkt/a/b"
    assert path.transport.host_header == "host:9000"
    virtual = s3(endpoint_url="http://host:9000", addressing="virtual")
    assert virtual.target("a/b") == b"/a/b"
    assert virtual.transport.host_header == "bkt.host:9000"


def test_the_endpoint_and_region_of_the_environment_are_those_of_boto3(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://everything:1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://just-s3:2")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-north-1")
    assert s3().identity == "s3+http://just-s3:2/bkt"
    assert s3().transport.region == "eu-north-1"


def test_a_proxy_is_taken_from_the_option_then_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert s3(endpoint_url="http://h.test").transport.proxy is None
    monkeypatch.setenv("http_proxy", "http://env.test:3128")
    assert s3(endpoint_url="http://h.test").transport.proxy == ("env.test", 3128)
    assert s3(endpoint_url="http://h.test", proxy="http://opt.test:8080").transport.proxy == ("opt.test", 8080)
    assert s3(endpoint_url="http://h.test", proxy="").transport.proxy is None
    monkeypatch.setenv("no_proxy", "h.test")
    assert s3(endpoint_url="http://h.test").transport.proxy is None
    for refused in ("socks5://h:1", "http://u:p@h:1", "http://h:port"):
        with pytest.raises(UsageError):
            s3(endpoint_url="http://h.test", proxy=refused)


def test_headers_that_every_get_needs_are_in_the_transport() -> None:
    transport = s3(endpoint_url="https://h.test", sse_c_key=b"k" * 32, request_payer=True).transport
    assert transport.headers == (
        ("x-amz-request-payer", "requester"),
        ("x-amz-server-side-encryption-customer-algorithm", "AES256"),
        ("x-amz-server-side-encryption-customer-key", "a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s="),
        ("x-amz-server-side-encryption-customer-key-md5", "mT2HRsMGJ5IX5C+0rreZ8Q=="),
    )


@pytest.mark.parametrize(
    "options",
    [
        {"sse_c_key": b"short"},
        {"sse_c_key": b"k" * 32, "endpoint_url": "http://s3.amazonaws.com"},
        {"ca_bundle": "/no/such/file", "endpoint_url": "https://h.test"},
        {"profile": "no-such-profile"},
    ],
)
def test_options_that_cannot_be_meant_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        s3(**options)


def test_no_secret_shows_in_a_repr() -> None:
    shown = repr(Credentials("AK", "SECRET", "TOKEN", None))
    assert "SECRET" not in shown
    assert "TOKEN" not in shown
    assert "a2tra2tr" not in repr(s3(endpoint_url="https://h.test", sse_c_key=b"k" * 32).transport)
