"""Sorting what shall be warmed by who can do it, and having a daemon do its share."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from urllib.parse import unquote

from fluidfs.control.lookup import client_of, known_mounts
from fluidfs.control.mounts import canonical, mount_table
from fluidfs.control.protocol import MAX_REQUEST_BYTES
from fluidfs.control.registry import KnownMount, mount_of
from fluidfs.errors import MountError
from fluidfs.model import WarmProgress, WarmRequest, WarmResult
from fluidfs.store.source import parse_source

_PATTERN_CHARS = frozenset("*?[")

# What a character costs in a request at most: an escaped surrogate pair.
_BYTES_PER_CHAR = 12
# Half, because quotes and backslashes of plain texts take two bytes.
_ROOM_BYTES = MAX_REQUEST_BYTES // 2


@dataclass(frozen=True, slots=True)
class WarmTarget:
    """Paths that go together: those in one mount, or those below one source (`mount` None)."""

    mount: KnownMount | None
    source: str
    paths: tuple[str, ...]

    def request(self, *, metadata_only: bool, parallel: int) -> WarmRequest:
        """What to ask of whoever does it."""
        return WarmRequest(paths=self.paths, metadata_only=metadata_only, parallel=parallel)


def warm_targets(paths: Iterable[str], *, environment: Mapping[str, str], uid: int) -> list[WarmTarget]:
    """The targets of absolute paths and URIs, in the order of their first path. Raises MountError for a path in no
    mount.
    """
    mounts: list[KnownMount] | None = None
    in_mounts: dict[str, tuple[KnownMount, list[str]]] = {}
    below_sources: dict[str, list[str]] = {}
    for path in paths:
        if "://" in path:
            source, relative = split_uri(path)
            below_sources.setdefault(source, []).append(relative)
            continue
        if mounts is None:
            mounts = known_mounts(environment, uid=uid)
        mount, relative = _in_mount(path, mounts)
        in_mounts.setdefault(mount.mountpoint, (mount, []))[1].append(relative)
    return [
        *(WarmTarget(mount, mount.source, tuple(relative)) for mount, relative in in_mounts.values()),
        *(WarmTarget(None, source, tuple(relative)) for source, relative in below_sources.items()),
    ]


def split_uri(uri: str) -> tuple[str, str]:
    """A source and the path or pattern below it.

    `s3://b/p/` is all of p; `s3://b/p` is p in its parent, which may be an object or a prefix; what follows the last
    slash before the first of `*?[` is a pattern. A directory of `file:` is a source itself, as it would be mounted:
    the cache knows its files by it.
    """
    scheme, _, rest = uri.partition("://")
    if scheme == "file" and not uri.endswith("/") and os.path.isdir(parse_source(uri).bucket_or_root):
        return uri, ""
    root, slash, below = rest.partition("/")
    first = next((index for index, char in enumerate(below) if char in _PATTERN_CHARS), len(below))
    cut = below.rfind("/", 0, first) + 1
    relative = unquote(below[cut:], errors="surrogateescape") if scheme == "file" else below[cut:]
    return f"{scheme}://{root}{slash}{below[:cut]}", relative


def warm_mount(mount: KnownMount, request: WarmRequest, report: Callable[[WarmProgress], None]) -> WarmResult:
    """Has the daemon of `mount` warm; in several requests where the paths are too many for one."""
    total = WarmResult(objects=0, bytes_fetched=0, bytes_present=0, failures=())
    with client_of(mount) as client:
        for paths in _in_pieces(request.paths):
            result = client.warm(replace(request, paths=paths), report)
            total = WarmResult(
                objects=total.objects + result.objects,
                bytes_fetched=total.bytes_fetched + result.bytes_fetched,
                bytes_present=total.bytes_present + result.bytes_present,
                failures=total.failures + result.failures,
            )
    return total


def _in_mount(path: str, mounts: list[KnownMount]) -> tuple[KnownMount, str]:
    mount = mount_of(path, mounts)
    if mount is None:
        # Perhaps a link leads there. A pattern has no links to follow, but its directory may.
        fixed = path[: next((index for index, char in enumerate(path) if char in _PATTERN_CHARS), len(path))]
        directory = posixpath.dirname(fixed) if fixed != path else path
        path = canonical(directory, mount_table()) + path[len(directory) :]
        mount = mount_of(path, mounts)
    if mount is None:
        raise MountError(f"{path} is in no mount of fluidfs (`fluidfs status` lists them), and it is no URI")
    return mount, path[len(mount.mountpoint) :].lstrip("/")


def _in_pieces(paths: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    piece: list[str] = []
    room_bytes = _ROOM_BYTES
    for path in paths:
        cost_bytes = len(path) * (1 if path.isascii() and path.isprintable() else _BYTES_PER_CHAR) + 4
        if piece and cost_bytes > room_bytes:
            yield tuple(piece)
            piece, room_bytes = [], _ROOM_BYTES
        piece.append(path)
        room_bytes -= cost_bytes
    yield tuple(piece)
