"""Turns what an S3 server, or the way to it, answers into fluidfs's errors. The only place that does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import urllib3.exceptions as http

from fluidfs.errors import (
    AccessDenied,
    BucketNotFound,
    ObjectChanged,
    ObjectNotFound,
    SlowDown,
    StoreError,
    StoreUnavailable,
    WrongRegion,
)
from fluidfs.store.s3_listing import ErrorBody, NotS3Error, parse_error

# Codes: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html; other servers use a subset of them.
_WRONG_REGION = {
    "AuthorizationHeaderMalformed",
    "PermanentRedirect",
    "TemporaryRedirect",
    "IllegalLocationConstraintException",
    "IncorrectEndpoint",
}
_SLOW_DOWN = {"SlowDown", "RequestLimitExceeded", "ThrottlingException", "TooManyRequests", "Throttling"}
_TRY_AGAIN = {"InternalError", "ServiceUnavailable", "RequestTimeout", "OperationAborted", "XMinioServerNotInitialized"}
_EXPIRED = {"ExpiredToken", "InvalidToken", "TokenRefreshRequired", "ExpiredTokenException"}
_DENIED = {"AccessDenied", "AllAccessDisabled", "AccountProblem", "Forbidden", "InvalidPayer", "UnauthorizedAccess"}


@dataclass(frozen=True, slots=True)
class Asked:
    """Who asked whom, for messages. `access_key` None: unsigned. `key_origin` says where the credentials were found."""

    endpoint_url: str
    bucket: str
    region: str
    access_key: str | None
    key_origin: str


def answer_error(
    status: int, headers: Mapping[str, str], body: bytes, *, asked: Asked, key: str | None = None
) -> StoreError:
    """The error that an HTTP answer other than 2xx means. `key` is the object asked for, None for a listing."""
    try:
        error = parse_error(body) if body.strip() else ErrorBody("", "", "")
    except NotS3Error as reason:
        if status >= 500:
            return StoreUnavailable(f"{asked.endpoint_url} answered HTTP {status}, without saying why")
        return not_s3_error(reason, status=status, asked=asked)
    region = headers.get("x-amz-bucket-region") or error.region
    return (
        _region_error(status, error, region, asked)
        or _absence(status, error, key, asked)
        or _passing_fault(status, error, asked)
        or _refusal(status, error, asked)
        or StoreError(f"{asked.endpoint_url} answered HTTP {status} {error.code}: {error.message or 'no message'}")
    )


def not_s3_error(reason: Exception, *, status: int, asked: Asked) -> StoreError:
    """For an answer that no S3 server gives, such as a web page."""
    return StoreError(
        f"{asked.endpoint_url} does not answer as an S3 server does (HTTP {status}; {reason}): check --endpoint-url"
    )


def transport_error(error: http.HTTPError, *, asked: Asked, ca_file: str | None) -> StoreError:
    """For a request that got no answer at all."""
    url = asked.endpoint_url
    if isinstance(error, http.ProxyError):
        return StoreUnavailable(f"the proxy before {url} does not answer: check --proxy ({_cause(error)})")
    if isinstance(error, http.SSLError):
        return _tls_error(error, url, ca_file)
    if isinstance(error, http.NameResolutionError):
        return StoreUnavailable(f"the host of {url} has no address: check --endpoint-url, --region and the DNS")
    if isinstance(error, http.NewConnectionError):
        return StoreUnavailable(
            f"nothing answers at {url}: is the server running, is the port right? ({_cause(error)})"
        )
    if isinstance(error, http.TimeoutError):
        return StoreUnavailable(f"{url} did not answer in time: is it reachable from here, is a proxy needed?")
    return StoreUnavailable(f"the connection to {url} broke: {_cause(error)}")


def _region_error(status: int, error: ErrorBody, region: str, asked: Asked) -> StoreError | None:
    moved = status in (301, 307) or error.code in _WRONG_REGION
    # A HEAD, or an odd server, gives a bare 400 with the region of the bucket in a header.
    if not moved and not (status == 400 and not error.code and region and region != asked.region):
        return None
    if region and region != asked.region:
        wrong = WrongRegion(f"bucket {asked.bucket!r} is in region {region}: pass --region {region}")
        wrong.region = region
        return wrong
    return WrongRegion(
        f"bucket {asked.bucket!r} cannot be reached as region {asked.region} at {asked.endpoint_url}: "
        f"pass its --region ({error.message or error.code or f'HTTP {status}'})"
    )


def _absence(status: int, error: ErrorBody, key: str | None, asked: Asked) -> StoreError | None:
    if error.code == "NoSuchBucket":
        return BucketNotFound(f"bucket {asked.bucket!r} does not exist at {asked.endpoint_url}")
    if status == 404:
        if key is not None:
            return ObjectNotFound(f"no object {key!r} in bucket {asked.bucket!r}")
        return BucketNotFound(f"bucket {asked.bucket!r} does not exist at {asked.endpoint_url} (HTTP 404 {error.code})")
    if status == 412:
        return ObjectChanged(f"object {key!r} in bucket {asked.bucket!r} has changed")
    return None


def _passing_fault(status: int, error: ErrorBody, asked: Asked) -> StoreError | None:
    if error.code in _SLOW_DOWN or status == 429:
        return SlowDown(f"{asked.endpoint_url} asks for fewer requests")
    if error.code in _TRY_AGAIN or status >= 500:
        return StoreUnavailable(
            f"{asked.endpoint_url} answered HTTP {status} {error.code}: {error.message or 'no message'}"
        )
    return None


def _refusal(status: int, error: ErrorBody, asked: Asked) -> StoreError | None:
    who = (
        "unsigned requests" if asked.access_key is None else f"access key {asked.access_key} (from {asked.key_origin})"
    )
    if error.code == "InvalidAccessKeyId":
        return AccessDenied(f"{asked.endpoint_url} does not know {who}: check AWS_ACCESS_KEY_ID, or --profile")
    if error.code == "SignatureDoesNotMatch":
        return AccessDenied(f"{asked.endpoint_url} finds the secret key wrong that goes with {who}")
    if error.code in _EXPIRED:
        return AccessDenied(f"the session token of {who} is not valid, or no longer: log in again")
    if error.code == "RequestTimeTooSkewed":
        return AccessDenied(f"this machine's clock and that of {asked.endpoint_url} differ too much: set the clock")
    if error.code in _DENIED or status in (401, 403):
        hint = "drop --anonymous" if asked.access_key is None else "it needs s3:ListBucket and s3:GetObject"
        return AccessDenied(f"bucket {asked.bucket!r} at {asked.endpoint_url} refuses {who}: {hint}")
    return None


def _tls_error(error: http.SSLError, url: str, ca_file: str | None) -> StoreError:
    text = _cause(error)
    if "WRONG_VERSION_NUMBER" in text or "record layer failure" in text.lower():
        return StoreError(f"{url} does not speak TLS: use http:// in --endpoint-url")
    if "CERTIFICATE_VERIFY_FAILED" in text or "doesn't match" in text:
        authorities = ca_file or "this system's authorities"
        return StoreError(
            f"the certificate of {url} is not vouched for by {authorities}: pass its authority with --ca-bundle FILE "
            f"({text})"
        )
    return StoreUnavailable(f"TLS with {url} failed: {text}")


def _cause(error: BaseException) -> str:
    """The innermost reason, as one line; urllib3 wraps what the operating system says several times."""
    inner: BaseException = error
    while (deeper := inner.__cause__ or inner.__context__ or getattr(inner, "reason", None)) and isinstance(
        deeper, BaseException
    ):
        inner = deeper
    return " ".join(str(inner).split()) or type(inner).__name__
