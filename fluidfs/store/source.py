"""Reads the SOURCE that a person types: `s3://bucket/prefix` or `file:///directory`."""

from __future__ import annotations

import os.path
import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import unquote_to_bytes

from fluidfs.errors import UsageError

_SUPPORTED = "use s3://BUCKET[/PREFIX] or file:///DIRECTORY"

# https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html; other stores allow less, not more.
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_IP_ADDRESS = re.compile(r"\d+\.\d+\.\d+\.\d+")


@dataclass(frozen=True, slots=True)
class Source:
    """Where a mount's objects are.

    `bucket_or_root` is a bucket's name or an absolute directory. `prefix` is "" or ends in `/`, and is always "" for
    a directory: its own path is the root.
    """

    scheme: Literal["s3", "file"]
    bucket_or_root: str
    prefix: str

    def __str__(self) -> str:
        if self.scheme == "file":
            return f"file://{self.bucket_or_root}"
        return f"s3://{self.bucket_or_root}/{self.prefix}"


def parse_source(text: str) -> Source:
    """The source that `text` names. Raises UsageError, with a line that says what is understood.

    The prefix of an S3 source is taken as it stands, never percent-decoded, as the AWS tools do; one trailing slash
    more or less means the same. A `file:` URL is percent-decoded where it must be one (`%41`), as RFC 8089 has it.
    """
    scheme, separator, rest = text.partition("://")
    if not separator:
        raise UsageError(f"{text!r} is not a source: {_SUPPORTED}{_guess(text)}")
    if scheme == "s3":
        return _parse_s3(text, rest)
    if scheme == "file":
        return _parse_file(text, rest)
    raise UsageError(f"{scheme}:// is not supported (in {text!r}): {_SUPPORTED}")


def _guess(text: str) -> str:
    return f" (did you mean file://{os.path.normpath(text)}?)" if text.startswith("/") else ""


def _parse_s3(text: str, rest: str) -> Source:
    bucket, _, prefix = rest.partition("/")
    if "?" in rest:
        raise UsageError(f"{text!r} has a query string, which sources do not have: settings are options of the command")
    if not bucket:
        raise UsageError(f"{text!r} names no bucket: use s3://BUCKET[/PREFIX]")
    if "@" in bucket or ":" in bucket:
        raise UsageError(
            # What was typed may hold a secret key, and is not repeated.
            "a source has no user, password or port: credentials come from boto3's chain (AWS_PROFILE, "
            "AWS_ACCESS_KEY_ID, …), the server from --endpoint-url"
        )
    problem = _bucket_problem(bucket)
    if problem:
        raise UsageError(f"{bucket!r} is not a bucket name: {problem}")
    if prefix.startswith("/") or "//" in prefix:
        raise UsageError(f"the prefix of {text!r} has an empty component, which no directory can have")
    if any(component in (".", "..") for component in prefix.split("/")):
        raise UsageError(f"the prefix of {text!r} has a component '.' or '..', which no directory can have")
    return Source("s3", bucket, f"{prefix.rstrip('/')}/" if prefix else "")


def _bucket_problem(bucket: str) -> str | None:
    if not 3 <= len(bucket) <= 63:
        return f"it has {len(bucket)} characters, and a bucket has 3 to 63"
    if not _BUCKET.fullmatch(bucket):
        return "lower-case letters, digits, dots and hyphens only, with a letter or digit at both ends"
    if ".." in bucket:
        return "it has two dots in a row"
    if _IP_ADDRESS.fullmatch(bucket):
        return "it has the form of an IP address"
    return None


def _parse_file(text: str, rest: str) -> Source:
    if rest.startswith("localhost/"):
        rest = rest.removeprefix("localhost")
    if not rest.startswith("/"):
        raise UsageError(f"{text!r} is not absolute: use file:///DIRECTORY, with three slashes")
    if "?" in rest:
        raise UsageError(f"{text!r} has a query string, which sources do not have: a '?' in a name is written %3F")
    path = unquote_to_bytes(os.fsencode(rest))
    if b"\0" in path:
        raise UsageError(f"{text!r} contains a NUL, which no path can")
    root = os.path.normpath(os.fsdecode(path))
    # POSIX lets exactly two leading slashes mean something else, and normpath keeps them; Linux does not.
    return Source("file", "/" + root.lstrip("/"), "")
