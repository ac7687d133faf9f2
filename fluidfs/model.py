"""The nouns that rooms share: objects and their versions, extents of bytes. Values only."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Extent:
    """`length` bytes of an object from `offset` on."""

    offset: int
    length: int

    @property
    def end(self) -> int:
        """The first offset past the extent."""
        return self.offset + self.length


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One object of a store at one version.

    `key` is relative to nothing: it is the store's own name for the object. Keys that are not UTF-8 (a POSIX source
    may have them) carry surrogate escapes. `version` is opaque; equal versions of one key promise equal bytes (an
    ETag without its quotes, or `mtime-size-inode` of a file).
    """

    key: str
    size: int
    mtime_ns: int
    version: str


@dataclass(frozen=True, slots=True)
class ListPage:
    """One answer to a listing, in the order of the keys' UTF-8 bytes.

    `prefixes` (ending in `/`) are what a delimiter folded. `next_token` is None on the last page.
    """

    objects: tuple[ObjectInfo, ...]
    prefixes: tuple[str, ...]
    next_token: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmRequest:
    """What to bring into the cache.

    `paths` are relative to the mount's root ("" is everything); each may be a file, a directory or an fnmatch pattern.
    """

    paths: tuple[str, ...]
    metadata_only: bool = False
    parallel: int = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmProgress:
    """How far a warm-up is; totals are None while names are still being listed."""

    objects_done: int
    objects_total: int | None
    bytes_done: int
    bytes_total: int | None
    failed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmResult:
    """What a warm-up did. `failures` pairs a path with a line that says why it is not in the cache."""

    objects: int
    bytes_fetched: int
    bytes_present: int
    failures: tuple[tuple[str, str], ...]
