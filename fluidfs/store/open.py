"""Makes the store that a source and its options mean; here defaults are found, and refused where they make no sense."""

from __future__ import annotations

import os
from typing import Literal
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from botocore.exceptions import BotoCoreError
from botocore.session import Session

from fluidfs.errors import UsageError
from fluidfs.store.base import Store
from fluidfs.store.endpoints import Endpoint, aws_endpoint, parse_endpoint
from fluidfs.store.posix import PosixStore
from fluidfs.store.s3 import S3Store
from fluidfs.store.s3_credentials import BotocoreChain, Unsigned
from fluidfs.store.source import Source

# What SigV4 needs where a server does not care, and what AWS takes for "no region".
_DEFAULT_REGION = "us-east-1"
_SSE_C_KEY_BYTES = 32


def open_store(
    source: Source,
    *,
    endpoint_url: str | None = None,
    region: str | None = None,
    profile: str | None = None,
    anonymous: bool = False,
    addressing: Literal["path", "virtual"] | None = None,
    ca_bundle: str | None = None,
    proxy: str | None = None,
    sse_c_key: bytes | None = None,
    request_payer: bool = False,
) -> Store:
    """The store of `source`. Sends nothing yet: `probe` tells whether it can be used.

    What is not given is looked for where boto3 looks: profile, region, endpoint and CA bundle in the environment and
    the AWS configuration, proxies in the environment (`proxy` "" means none). Raises UsageError.
    """
    if source.scheme == "file":
        return PosixStore(source.bucket_or_root)
    session = _session(profile)
    settings = _Settings(session)
    region = region or settings.get("region") or _DEFAULT_REGION
    url = endpoint_url or settings.endpoint_url()
    endpoint = parse_endpoint(url) if url else aws_endpoint(region)
    bucket = source.bucket_or_root
    if sse_c_key is not None and len(sse_c_key) != _SSE_C_KEY_BYTES:
        raise UsageError(f"an SSE-C key has {_SSE_C_KEY_BYTES} bytes, this one has {len(sse_c_key)}")
    if sse_c_key is not None and not endpoint.tls and endpoint.partition is not None:
        raise UsageError("S3 takes SSE-C keys over https only")
    return S3Store(
        endpoint=endpoint,
        bucket=bucket,
        prefix=source.prefix,
        region=region,
        virtual_hosted=_virtual_hosted(addressing, endpoint, bucket),
        credentials=Unsigned() if anonymous else BotocoreChain(session),
        ca_file=_ca_file(ca_bundle or settings.get("ca_bundle")) if endpoint.tls else None,
        proxy=_proxy(proxy, endpoint),
        sse_c_key=sse_c_key,
        request_payer=request_payer,
    )


class _Settings:
    """The AWS configuration of a session, with its faults as UsageError."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def get(self, name: str) -> str | None:
        """A variable as botocore resolves it."""
        try:
            value = self._session.get_config_variable(name)
        except BotoCoreError as error:
            raise _usage_error(error) from error
        return str(value) if value else None

    def endpoint_url(self) -> str | None:
        """The endpoint that the environment or the profile sets, in boto3's order of precedence.

        https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html
        """
        if self.get("ignore_configured_endpoint_urls"):
            return None
        profile = self._session.get_scoped_config()
        services = self._session.full_config.get("services", {}).get(profile.get("services"), {})
        found = (
            os.environ.get("AWS_ENDPOINT_URL_S3")
            or os.environ.get("AWS_ENDPOINT_URL")
            or services.get("s3", {}).get("endpoint_url")
            or profile.get("endpoint_url")
        )
        return str(found) if found else None


def _session(profile: str | None) -> Session:
    try:
        session = Session(profile=profile)
        # The profile is looked up here, so that a misspelt one is told of by its name.
        session.get_scoped_config()
    except BotoCoreError as error:
        raise _usage_error(error) from error
    return session


def _usage_error(error: BotoCoreError) -> UsageError:
    return UsageError(f"the AWS configuration cannot be used: {' '.join(str(error).split())}")


def _virtual_hosted(addressing: str | None, endpoint: Endpoint, bucket: str) -> bool:
    if addressing is not None:
        return addressing == "virtual"
    # A bucket with dots does not match AWS's wildcard certificate; other servers rarely have names per bucket.
    return endpoint.partition is not None and "." not in bucket


def _ca_file(path: str | None) -> str | None:
    if path is None:
        return None
    if not os.path.isfile(path) or not os.access(path, os.R_OK):
        raise UsageError(f"the CA bundle {path!r} is not a file that can be read")
    return os.path.abspath(path)


def _proxy(given: str | None, endpoint: Endpoint) -> tuple[str, int] | None:
    url = given
    if url is None and not proxy_bypass(endpoint.host):
        url = getproxies().get(endpoint.scheme)
    if not url:
        return None
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        port = parts.port
    except ValueError as error:
        raise UsageError(f"the proxy's URL cannot be read: {error}") from error
    if parts.scheme != "http" or not parts.hostname:
        raise UsageError("a proxy's URL looks like http://HOST:PORT; other kinds are not supported")
    if parts.username is not None:
        raise UsageError("proxies that want a user and password are not supported")
    return parts.hostname, 80 if port is None else port
