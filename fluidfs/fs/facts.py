"""Extended attributes that tell facts about a file: its object, and how much of it is cached."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fluidfs.cache.identity import VersionIdentity
from fluidfs.cache.levels import Cache
from fluidfs.errors import NoAttribute
from fluidfs.meta.entries import FileEntry
from fluidfs.meta.nodes import Nodes
from fluidfs.model import ObjectInfo


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What is known of a file: its object, and how much of it is cached."""

    info: ObjectInfo
    store: str
    cached_bytes: int


FACT_NAMES = ("user.fluidfs.etag", "user.fluidfs.cached", "user.fluidfs.key", "user.fluidfs.store")


def fact(name: str, facts: FileFacts) -> str | None:
    """The attribute's value; None when there is no such attribute.

    `user.fluidfs.cached` is `CACHED/SIZE` in bytes.
    """
    match name:
        case "user.fluidfs.etag":
            return facts.info.version
        case "user.fluidfs.cached":
            return f"{facts.cached_bytes}/{facts.info.size}"
        case "user.fluidfs.key":
            return facts.info.key
        case "user.fluidfs.store":
            return facts.store
        case _:
            return None


class NodeFacts:
    """The facts of nodes, whoever gives out their ids."""

    def __init__(self, *, nodes: Nodes, cache: Cache, store_identity: str) -> None:
        self._nodes = nodes
        self._cache = cache
        self._store_identity = store_identity

    async def getxattr(self, nodeid: int, name: str) -> str:
        """The value of one of our attributes. Raises NoAttribute."""
        inode = self._nodes.get(nodeid)
        value = None
        if name in FACT_NAMES and isinstance(inode.entry, FileEntry):
            info = inode.entry.info
            identity = VersionIdentity(self._store_identity, info.key, info.version, info.size)
            cached = await self._cache.cached_bytes(identity)
            value = fact(name, FileFacts(info, self._store_identity, cached))
        if value is None:
            raise NoAttribute(f"{inode.path!r} has no attribute {name}")
        return value

    def listxattr(self, nodeid: int) -> Sequence[str]:
        """The names of our attributes."""
        return FACT_NAMES if isinstance(self._nodes.get(nodeid).entry, FileEntry) else ()
