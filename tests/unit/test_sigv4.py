"""The native signature is botocore's, header for header."""

from __future__ import annotations

import datetime
import string
import time
from unittest import mock
from urllib.parse import quote

import botocore.auth
import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given, settings
from hypothesis import strategies as st

from fluidfs._native.engine import sign_get

EMPTY_SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

visible = string.ascii_letters + string.digits + "-._~!$&()*+,;=:@/?%#[]{}|\\^<>'`"
keys = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=80)
odd_keys = st.text("aZ0 ~+%/&=?#;:@!$'()*,-_.é€\U0001f600", min_size=1, max_size=40)
header_names = st.text(string.ascii_lowercase + string.digits + "-", min_size=1, max_size=20).map("x-amz-meta-".__add__)
header_values = st.text(visible + '"' + "  \t", max_size=60)
dates = st.datetimes(datetime.datetime(2000, 1, 1), datetime.datetime(2100, 1, 1))


def botocore_authorization(
    *,
    url: str,
    headers: dict[str, str],
    access_key: str,
    secret_key: str,
    token: str | None,
    region: str,
    at: datetime.datetime,
) -> tuple[str, dict[str, str]]:
    """What botocore signs the GET with, and all headers that it then sends."""
    request = AWSRequest(method="GET", url=url, headers=dict(headers))
    with mock.patch.object(botocore.auth, "get_current_datetime", return_value=at):
        S3SigV4Auth(Credentials(access_key, secret_key, token), "s3", region).add_auth(request)
    return request.headers["Authorization"], dict(request.headers.items())


@settings(max_examples=300, deadline=None)
@given(
    key=keys | odd_keys,
    secret_key=st.text(st.characters(exclude_categories=["Cs"]), max_size=60),
    access_key=st.text(string.ascii_letters + string.digits, min_size=1, max_size=40),
    token=st.none() | st.text(string.ascii_letters + string.digits + "+/=", min_size=1, max_size=2000),
    region=st.sampled_from(["us-east-1", "cn-north-1", "eu-central-2", "auto", "local"]),
    extra=st.dictionaries(header_names, header_values, max_size=6),
    at=dates,
    host=st.sampled_from(["127.0.0.1:8333", "bucket.s3.amazonaws.com", "[::1]:9000"]),
    first=st.integers(0, 2**62),
    length=st.integers(1, 2**40),
    tls=st.booleans(),
)
def test_a_signature_is_the_one_botocore_makes(
    key: str,
    secret_key: str,
    access_key: str,
    token: str | None,
    region: str,
    extra: dict[str, str],
    at: datetime.datetime,
    host: str,
    first: int,
    length: int,
    tls: bool,
) -> None:
    target = "/bucket/" + quote(key, safe="/~")
    date = at.strftime("%Y%m%dT%H%M%SZ")
    sent = {"host": host, "range": f"bytes={first}-{first + length - 1}", "if-match": '"5d41402abc"', **extra}
    expected, _ = botocore_authorization(
        url=f"{'https' if tls else 'http'}://{host}{target}",
        headers={**sent, "user-agent": "not signed", "connection": "not signed"},
        access_key=access_key,
        secret_key=secret_key,
        token=token,
        region=region,
        at=at,
    )
    signed = {**sent, "x-amz-date": date, "x-amz-content-sha256": EMPTY_SHA256}
    if token is not None:
        signed["x-amz-security-token"] = token
    actual = sign_get(
        target=target.encode(),
        headers=list(signed.items()),
        access_key=access_key,
        secret_key=secret_key,
        region=region,
        date=date,
    )
    assert actual == expected


def test_the_query_of_a_version_is_signed_as_botocore_does() -> None:
    at = datetime.datetime(2025, 2, 3, 4, 5, 6)
    target = "/bucket/a%20b?versionId=3%2FL4kq"
    expected, _ = botocore_authorization(
        url=f"http://h{target}",
        headers={"host": "h"},
        access_key="AK",
        secret_key="SK",
        token=None,
        region="r",
        at=at,
    )
    headers = [("host", "h"), ("x-amz-date", "20250203T040506Z"), ("x-amz-content-sha256", EMPTY_SHA256)]
    assert expected == sign_get(
        target=target.encode(), headers=headers, access_key="AK", secret_key="SK", region="r", date="20250203T040506Z"
    )


def test_a_signature_without_a_content_hash_is_refused() -> None:
    with pytest.raises(OSError, match="Invalid argument"):
        sign_get(
            target=b"/",
            headers=[("host", "h")],
            access_key="AK",
            secret_key="SK",
            region="r",
            date="20250203T040506Z",
        )


def test_a_signature_costs_microseconds() -> None:
    headers = [
        ("host", "bucket.s3.amazonaws.com"),
        ("if-match", '"d41d8cd98f00b204e9800998ecf8427e-12"'),
        ("range", "bytes=8388608-16777215"),
        ("x-amz-content-sha256", EMPTY_SHA256),
        ("x-amz-date", "20250203T040506Z"),
    ]
    best_s = min(_seconds_of_a_hundred(headers) for _ in range(20)) / 100
    # Includes the signing key's four HMACs, which the engine computes once a day.
    assert best_s < 200e-6


def _seconds_of_a_hundred(headers: list[tuple[str, str]]) -> float:
    started_s = time.perf_counter()
    for _ in range(100):
        sign_get(
            target=b"/a/key/of/an/object",
            headers=headers,
            access_key="AKIAIOSFODNN7EXAMPLE",
            secret_key="wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
            region="us-east-1",
            date="20250203T040506Z",
        )
    return time.perf_counter() - started_s
