"""A bucket of S3, or of a server that speaks its protocol, as a Store."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from urllib.parse import quote

from urllib3.exceptions import HTTPError

from fluidfs.errors import StoreError
from fluidfs.model import ListPage, ObjectInfo
from fluidfs.store.base import Credentials, HttpTransport
from fluidfs.store.endpoints import Endpoint
from fluidfs.store.s3_credentials import CredentialSource
from fluidfs.store.s3_errors import Asked, answer_error, not_s3_error, transport_error
from fluidfs.store.s3_http import Answer, Route, S3Http
from fluidfs.store.s3_listing import NotS3Error, http_date_ns, parse_listing, version_of

# RFC 3986's unreserved characters, which S3's signatures leave bare, and the slash of keys.
_BARE_IN_PATH = "/-_.~"


class S3Store:
    """Names and versions of one bucket, by signed requests; the bytes go by `transport`. Thread-safe."""

    def __init__(
        self,
        *,
        endpoint: Endpoint,
        bucket: str,
        prefix: str,
        region: str,
        virtual_hosted: bool,
        credentials: CredentialSource,
        ca_file: str | None = None,
        proxy: tuple[str, int] | None = None,
        sse_c_key: bytes | None = None,
        request_payer: bool = False,
    ) -> None:
        """`prefix` is what `probe` looks at. `virtual_hosted`: the bucket is in the host name, else in the path."""
        self._endpoint = endpoint
        self._bucket = bucket
        self._prefix = prefix
        self._region = region
        self._credentials = credentials
        self._ca_file = ca_file
        authority = f"{bucket}.{endpoint.authority}" if virtual_hosted else endpoint.authority
        self._base_path = endpoint.base_path if virtual_hosted else f"{endpoint.base_path}/{quote(bucket)}"
        self._payer_headers = (("x-amz-request-payer", "requester"),) if request_payer else ()
        self._object_headers = (*self._payer_headers, *_sse_c_headers(sse_c_key))
        self._http = S3Http(
            Route(url=f"{endpoint.scheme}://{authority}", region=region, ca_file=ca_file, proxy=proxy),
        )
        self.identity = endpoint.identity(bucket)
        self.transport = HttpTransport(
            host=f"{bucket}.{endpoint.host}" if virtual_hosted else endpoint.host,
            port=endpoint.port,
            tls=endpoint.tls,
            host_header=authority,
            ca_file=ca_file,
            region=region,
            headers=self._object_headers,
            proxy=proxy,
        )

    def probe(self) -> None:
        """One LIST for one key. A HEAD of the bucket would say no more than a status: its answer has no body."""
        self.list_page(self._prefix, limit=1)

    def head(self, key: str) -> ObjectInfo:
        """The present version of `key`. Raises ObjectNotFound."""
        answer = self._request("HEAD", self.target(key).decode("ascii"), self._object_headers, key=key)
        try:
            size = int(answer.headers["content-length"])
            mtime_ns = http_date_ns(answer.headers["last-modified"])
        except (KeyError, ValueError) as error:
            raise not_s3_error(error, status=answer.status, asked=self._asked(None)) from error
        return ObjectInfo(key, size, mtime_ns, version_of(answer.headers.get("etag"), mtime_ns=mtime_ns, size=size))

    def list_page(self, prefix: str, *, delimiter: str = "", token: str | None = None, limit: int = 1000) -> ListPage:
        """One page of ListObjectsV2. Keys come url-encoded, since XML cannot carry all that a key may contain."""
        query = {"encoding-type": "url", "list-type": "2", "max-keys": str(limit), "prefix": prefix}
        if delimiter:
            query["delimiter"] = delimiter
        if token is not None:
            query["continuation-token"] = token
        # Sorted as the signature wants them; quote_via as S3 reads them: a space is %20, a slash %2F.
        text = "&".join(f"{name}={_quoted(value, '-_.~')}" for name, value in sorted(query.items()))
        answer = self._request("GET", f"{self._base_path or '/'}?{text}", self._payer_headers)
        try:
            return parse_listing(answer.body)
        except NotS3Error as error:
            raise not_s3_error(error, status=answer.status, asked=self._asked(None)) from error

    def target(self, key: str) -> bytes:
        """The absolute path of the object's URL, percent-encoded, as it is to be sent and signed."""
        return f"{self._base_path}/{_quoted(key, _BARE_IN_PATH)}".encode("ascii")

    def credentials(self) -> Credentials | None:
        """The credentials of this moment; None when requests are not signed. Raises CredentialsMissing."""
        return self._credentials.current()

    def _request(
        self, method: str, target: str, headers: tuple[tuple[str, str], ...], *, key: str | None = None
    ) -> Answer:
        credentials = self._credentials.current()
        try:
            answer = self._http.request(method, target, credentials=credentials, headers=headers)
        except HTTPError as error:
            raise transport_error(error, asked=self._asked(credentials), ca_file=self._ca_file) from error
        except OSError as error:
            raise StoreError(f"{self._endpoint.url} cannot be reached: {error}") from error
        if not 200 <= answer.status < 300:
            lower: Mapping[str, str] = {name.lower(): value for name, value in answer.headers.items()}
            raise answer_error(answer.status, lower, answer.body, asked=self._asked(credentials), key=key)
        return answer

    def _asked(self, credentials: Credentials | None) -> Asked:
        return Asked(
            endpoint_url=self._endpoint.url,
            bucket=self._bucket,
            region=self._region,
            access_key=None if credentials is None else credentials.access_key,
            key_origin=self._credentials.origin,
        )


def _quoted(text: str, bare: str) -> str:
    return quote(text.encode("utf-8", "surrogateescape"), safe=bare)


def _sse_c_headers(key: bytes | None) -> tuple[tuple[str, str], ...]:
    """The headers of server-side encryption with a customer's key, which GET and HEAD of such an object need."""
    if key is None:
        return ()
    name = "x-amz-server-side-encryption-customer"
    md5 = hashlib.md5(key, usedforsecurity=False).digest()
    return (
        (f"{name}-algorithm", "AES256"),
        (f"{name}-key", base64.b64encode(key).decode("ascii")),
        (f"{name}-key-md5", base64.b64encode(md5).decode("ascii")),
    )
