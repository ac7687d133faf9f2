"""What an endpoint's URL says: where to connect, and which key space it is, however it is spelt."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from fluidfs.errors import UsageError

_DEFAULT_PORTS = {"http": 80, "https": 443}

# The public endpoints of S3: s3.REGION.SUFFIX, s3-REGION.SUFFIX, the one without a region, and the dual-stack and FIPS
# forms. https://docs.aws.amazon.com/general/latest/gr/s3.html; partitions as in botocore's endpoints.json.
_AWS_HOST = re.compile(
    r"s3(-fips)?(\.dualstack)?([.-](?P<region>[a-z0-9-]+))?\.(?P<suffix>amazonaws\.com(\.cn)?|c2s\.ic\.gov|sc2s\.sgov\.gov)"
)
_PARTITIONS = {
    "amazonaws.com": "aws",
    "amazonaws.com.cn": "aws-cn",
    "c2s.ic.gov": "aws-iso",
    "sc2s.sgov.gov": "aws-iso-b",
}
_GOVERNMENT_REGIONS = "us-gov-"
_SUFFIX_OF_REGIONS = {"cn-": "amazonaws.com.cn", "us-iso-": "c2s.ic.gov", "us-isob-": "sc2s.sgov.gov"}
_REGION = re.compile(r"[a-z0-9]+(-[a-z0-9]+)+")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An endpoint's parts. `base_path` is "" or begins with `/` and does not end with one, percent-encoded."""

    tls: bool
    host: str
    port: int
    base_path: str

    @property
    def authority(self) -> str:
        """Host and port as a Host header has them: the port only where it is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def scheme(self) -> str:
        """`http` or `https`."""
        return "https" if self.tls else "http"

    @property
    def url(self) -> str:
        """The endpoint as a URL without a trailing slash."""
        return f"{self.scheme}://{self.authority}{self.base_path}"

    @property
    def partition(self) -> str | None:
        """The partition of AWS whose public endpoint this is; None for every other server."""
        match = _AWS_HOST.fullmatch(self.host)
        if match is None or self.base_path or self.port != _DEFAULT_PORTS[self.scheme]:
            return None
        if (match["region"] or "").startswith(_GOVERNMENT_REGIONS):
            return "aws-us-gov"
        return _PARTITIONS[match["suffix"]]

    def identity(self, bucket: str) -> str:
        """The name of a bucket's key space: equal for all regions and spellings of a partition's endpoints.

        Bucket names are unique within a partition, so its endpoints all mean the same bucket.
        """
        return f"s3+{self.partition or self.url}/{bucket}"


def parse_endpoint(url: str) -> Endpoint:
    """The parts of an `--endpoint-url`. Raises UsageError."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise UsageError(f"{url!r} is not an endpoint URL: {error}") from error
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname:
        raise UsageError(f"{url!r} is not an endpoint URL: it looks like https://HOST[:PORT]")
    if parts.username is not None or parts.query or parts.fragment:
        raise UsageError("an endpoint URL has neither user and password nor a query: credentials are boto3's affair")
    return Endpoint(
        tls=parts.scheme == "https",
        host=parts.hostname.rstrip("."),
        port=_DEFAULT_PORTS[parts.scheme] if port is None else port,
        base_path=quote(parts.path.rstrip("/"), safe="/%-_.~"),
    )


def aws_endpoint(region: str) -> Endpoint:
    """The public endpoint of S3 in `region`. Raises UsageError for what cannot be a region's name."""
    if not _REGION.fullmatch(region):
        raise UsageError(f"{region!r} is not a region of AWS: check --region, or give --endpoint-url")
    suffix = next((suffix for start, suffix in _SUFFIX_OF_REGIONS.items() if region.startswith(start)), "amazonaws.com")
    return Endpoint(tls=True, host=f"s3.{region}.{suffix}", port=443, base_path="")
