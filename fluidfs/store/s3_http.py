"""Signs and sends the small requests of S3, those that carry names, over pooled connections.

Signing is botocore's, so that credentials of every kind are used as boto3 uses them. The rest of a boto3 client is
left out: making one costs 0.1 s of CPU and 18 MB, and its parser costs more than the network (see `s3_listing`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import urllib3
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotocoreCredentials

from fluidfs.store.base import Credentials
from fluidfs.version import VERSION

# One address that drops packets must not hold a listing for longer; a connection to a distant region takes 0.5 s.
_CONNECT_S = 5.0
# S3 may think for seconds about a folded listing of a prefix with millions of keys below.
_READ_S = 20.0
# Threads that list are fewer than this; each keeps its connection.
_CONNECTIONS = 32


class Answer(NamedTuple):
    """An HTTP answer, body and all. Header names are case-insensitive."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """How to reach the server. `url` is scheme and authority, with no path; `ca_file` None means the system's."""

    url: str
    region: str
    ca_file: str | None
    proxy: tuple[str, int] | None


class S3Http:
    """Thread-safe. Redirects are not followed and nothing is retried: that is the caller's affair."""

    def __init__(self, route: Route) -> None:
        self._route = route
        timeout = urllib3.Timeout(connect=_CONNECT_S, read=_READ_S)
        ca_certs = route.ca_file if route.url.startswith("https:") else None
        self._direct: urllib3.HTTPConnectionPool | None = None
        self._proxied: urllib3.ProxyManager | None = None
        if route.proxy is None:
            self._direct = urllib3.connection_from_url(
                route.url, maxsize=_CONNECTIONS, timeout=timeout, **({"ca_certs": ca_certs} if ca_certs else {})
            )
        else:
            host, port = route.proxy
            proxy_url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
            self._proxied = urllib3.ProxyManager(proxy_url, maxsize=_CONNECTIONS, timeout=timeout, ca_certs=ca_certs)

    def request(
        self, method: str, target: str, *, credentials: Credentials | None, headers: tuple[tuple[str, str], ...] = ()
    ) -> Answer:
        """Send one request without a body; `target` is path and query, percent-encoded. Raises urllib3's HTTPError."""
        request = AWSRequest(method, self._route.url + target, headers={"user-agent": f"fluidfs/{VERSION}"})
        for name, value in headers:
            request.headers[name] = value
        if credentials is not None:
            S3SigV4Auth(_botocore(credentials), "s3", self._route.region).add_auth(request)
        sent = dict(request.headers.items())
        if self._direct is not None:
            # Given a path, urllib3 leaves it alone; given a URL, it would resolve "." and ".." in keys.
            answer = self._direct.urlopen(method, target, headers=sent, retries=False, redirect=False)
        else:
            assert self._proxied is not None, "one of the two was made"
            answer = self._proxied.urlopen(
                method, self._route.url + target, headers=sent, retries=False, redirect=False
            )
        return Answer(answer.status, answer.headers, answer.data)


def _botocore(credentials: Credentials) -> BotocoreCredentials:
    return BotocoreCredentials(credentials.access_key, credentials.secret_key, credentials.token)
