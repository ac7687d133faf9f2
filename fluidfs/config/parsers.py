"""Readers of option values: each takes the text that was given, and returns the value or raises UsageError with what
is allowed.
"""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlsplit

from fluidfs.config.values import KIB, MIB, LevelSpec, Medium
from fluidfs.errors import UsageError
from fluidfs.units import exact_size, parse_duration, parse_size

MIN_BLOCK_SIZE, MAX_BLOCK_SIZE = 256 * KIB, 64 * MIB

# Below this the pieces in flight are too small for any store's latency.
MIN_MEMORY_BYTES = 16 * MIB

_TRUE, _FALSE = frozenset({"true", "yes", "on", "1"}), frozenset({"false", "no", "off", "0"})
_MEDIA: dict[str, Medium] = {"MEM": "MEM", "SSD": "SSD", "HDD": "HDD"}


def switch(text: str) -> bool:
    """A yes or a no."""
    lowered = text.strip().lower()
    if lowered in _TRUE:
        return True
    if lowered in _FALSE:
        return False
    raise UsageError(f"{text!r} is neither true nor false")


def words(*allowed: str) -> Callable[[str], str]:
    """A reader of one word out of `allowed`, in lower case."""

    def read(text: str) -> str:
        if text.lower() not in allowed:
            raise UsageError(f"{text!r} is not one of {', '.join(allowed)}")
        return text.lower()

    return read


def word_set(*allowed: str) -> Callable[[str], frozenset[str]]:
    """A reader of words out of `allowed`, with commas or colons between them (-o keeps its commas to itself)."""

    def read(text: str) -> frozenset[str]:
        found = frozenset(text.lower().replace(":", ",").split(","))
        unknown = sorted(found - set(allowed))
        if unknown:
            raise UsageError(f"{unknown[0]!r} is not one of {', '.join(allowed)}")
        return found

    return read


def plain(text: str) -> str:
    """A text that is not empty and holds no control characters."""
    if not text or not text.isprintable():
        raise UsageError(f"{text!r} is empty or has characters that cannot be printed")
    return text


def identity(text: str) -> int:
    """A user or group number."""
    if not text.isascii() or not text.isdigit() or int(text) >= 2**32 - 1:
        raise UsageError(f"{text!r} is not a user or group number (`id NAME` prints them)")
    return int(text)


def mode(text: str) -> int:
    """Permission bits in octal, with or without a leading 0 or 0o."""
    try:
        bits = int(text, 8)
    except ValueError:
        bits = -1
    if not 0 <= bits <= 0o777:
        raise UsageError(f"{text!r} is not a mode: write octal permission bits such as 0444")
    return bits


def streams(text: str) -> int:
    """A number of connections, or `adaptive` (0)."""
    if text.lower() in ("adaptive", "auto", "0"):
        return 0
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 256:
        raise UsageError(f"{text!r} is not `adaptive` or a number from 1 to 256")
    return int(text)


def block_size(text: str) -> int:
    """A power of two that the cache's map can describe."""
    size_bytes = parse_size(text)
    if not MIN_BLOCK_SIZE <= size_bytes <= MAX_BLOCK_SIZE or size_bytes & (size_bytes - 1):
        raise UsageError(
            f"{text!r} is not a power of two from {exact_size(MIN_BLOCK_SIZE)} to {exact_size(MAX_BLOCK_SIZE)}"
        )
    return size_bytes


def memory(text: str) -> int:
    """A memory budget."""
    size_bytes = parse_size(text)
    if size_bytes < MIN_MEMORY_BYTES:
        raise UsageError(f"{text!r} is too little: at least {exact_size(MIN_MEMORY_BYTES)}")
    return size_bytes


def size(text: str) -> int:
    """A size, 0 included."""
    return parse_size(text)


def duration(text: str) -> float:
    """A duration, 0 included."""
    return parse_duration(text)


def endpoint(text: str) -> str:
    """The URL of an S3 service, without the slash at its end."""
    parts = _split_url(text)
    if parts is None or parts.scheme not in ("http", "https") or parts.username or parts.query or parts.fragment:
        raise UsageError(f"{text!r} is not an endpoint: write http://HOST:PORT or https://HOST")
    return text.rstrip("/")


def proxy(text: str) -> str:
    """The URL of an HTTP proxy without credentials; `http://` may be left out."""
    parts = _split_url(text if "://" in text else f"http://{text}")
    if (
        parts is None
        or parts.scheme != "http"
        or parts.port is None
        or parts.username
        or parts.path.strip("/")
        or parts.query
    ):
        raise UsageError(f"{text!r} is not a proxy: write http://HOST:PORT (no user, no password, no https)")
    return f"http://{parts.netloc}"


def address(text: str) -> str:
    """`HOST:PORT` to listen on; without a host, 127.0.0.1."""
    parts = _split_url(f"tcp://{text}" if not text.startswith(":") else f"tcp://127.0.0.1{text}")
    if parts is None or parts.port is None or parts.path or parts.query or parts.username:
        raise UsageError(f"{text!r} is not an address: write HOST:PORT, an IPv6 host in brackets")
    return parts.netloc


def level(text: str) -> LevelSpec:
    """`PATH[:QUOTA[:MEM|SSD|HDD]]`. The path is as written; the quota may be empty."""
    allowed = "write PATH[:QUOTA[:MEM|SSD|HDD]], as in /ssd/cache:200G:SSD"
    rest, medium, quota_bytes = text, _MEDIA["SSD"], None
    head, colon, tail = rest.rpartition(":")
    if colon and tail.upper() in _MEDIA:
        rest, medium = head, _MEDIA[tail.upper()]
        if ":" not in rest:
            raise UsageError(
                f"{text!r} is not a cache level: the quota comes before the medium and may be empty ({rest}::{medium})"
            )
        head, colon, tail = rest.rpartition(":")
    if colon:
        rest = head
        if tail:
            try:
                quota_bytes = parse_size(tail)
            except UsageError as error:
                raise UsageError(f"{text!r} is not a cache level: {error}; {allowed}") from error
            if quota_bytes < MIN_MEMORY_BYTES:
                raise UsageError(
                    f"{text!r}: a quota of {tail} holds next to nothing: at least {exact_size(MIN_MEMORY_BYTES)}"
                )
    if not rest or "\0" in rest or "\n" in rest:
        raise UsageError(f"{text!r} is not a cache level: {allowed}")
    return LevelSpec(rest, quota_bytes, medium)


class _Url:
    """The parts of a URL, with the port already checked."""

    __slots__ = ("fragment", "netloc", "path", "port", "query", "scheme", "username")

    def __init__(self, text: str) -> None:
        parts = urlsplit(text)
        self.scheme, self.netloc, self.path = parts.scheme, parts.netloc, parts.path
        self.query, self.fragment, self.username = parts.query, parts.fragment, parts.username
        self.port = parts.port
        if not parts.hostname or not text.isprintable() or " " in text:
            raise ValueError(text)


def _split_url(text: str) -> _Url | None:
    """None for what is not a URL with a host."""
    try:
        return _Url(text)
    except ValueError:
        return None
