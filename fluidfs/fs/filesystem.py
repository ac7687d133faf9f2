"""The operations of a read-only file system over a store, its names and its cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fluidfs.cache.identity import VersionIdentity
from fluidfs.cache.levels import Cache
from fluidfs.cache.slabs import SMALL_OBJECT_BYTES
from fluidfs.errors import (
    FluidfsError,
    IsADirectory,
    NotADirectory,
    ObjectChanged,
    facts_of,
)
from fluidfs.fetch.fetcher import Fetcher
from fluidfs.fs.attributes import Attributes, Ownership, attributes_of
from fluidfs.fs.facts import NodeFacts
from fluidfs.fs.reading import EmptyFile, LargeFile, OpenFile, SmallFile
from fluidfs.meta.entries import DirectoryEntry, Entry, FileEntry
from fluidfs.meta.inodes import Inode, Inodes
from fluidfs.meta.names import Names
from fluidfs.metrics import Metrics


def join(directory: str, name: str) -> str:
    """The path of `name` in `directory`; both are relative to the mount, "" is its root."""
    return f"{directory}/{name}" if directory else name


def parent_of(path: str) -> tuple[str, str]:
    """The directory and the name that make up `path`."""
    directory, _, name = path.rpartition("/")
    return directory, name


@dataclass(frozen=True, slots=True)
class ReadSettings:
    """How files are read and shown."""

    ownership: Ownership
    max_window_bytes: int


@dataclass(slots=True, eq=False)
class Handle:
    """An open file: which inode it was opened by, what reads it, and whether its object was seen to have changed."""

    inode: Inode
    file: OpenFile
    stale: bool = False


class FileSystem:
    """Files and directories by node id. Belongs to one trio run.

    `on_changed(path)` is called when a path's object turned out to have changed, so that whoever keeps names above us
    forgets it.

    Errors are FluidfsErrors. A fault of the store is never "no such file".
    """

    def __init__(
        self,
        *,
        store_identity: str,
        names: Names,
        inodes: Inodes,
        cache: Cache,
        fetcher: Fetcher,
        metrics: Metrics,
        settings: ReadSettings,
        on_changed: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._store_identity = store_identity
        self._names = names
        self._inodes = inodes
        self._cache = cache
        self._fetcher = fetcher
        self._metrics = metrics
        self._settings = settings
        self._facts = NodeFacts(nodes=inodes, cache=cache, store_identity=store_identity)
        self.on_changed = on_changed

    # ---- names

    def attributes(self, inode: Inode) -> Attributes:
        """The attributes of an inode, at its version."""
        return attributes_of(inode, self._settings.ownership)

    def inode(self, nodeid: int) -> Inode:
        """A node that was looked up and not forgotten. Raises UnknownNode."""
        return self._inodes.get(nodeid)

    async def lookup(self, parent: int, name: str) -> Inode:
        """The inode of `name` in the directory `parent`; counts one lookup. Raises NameNotFound, NotADirectory."""
        directory = self._directory(parent)
        entry = await self._names.lookup(directory, name)
        return self._inodes.remember(join(directory, name), entry)

    async def entries(self, nodeid: int) -> Sequence[Entry]:
        """The directory's entries, by name. Raises NotADirectory, NameNotFound when it is gone."""
        return await self._names.entries(self._directory(nodeid))

    def names_good_for_s(self, nodeid: int) -> float:
        """For how long, in seconds, what `lookup` or `entries` just said of the directory may be believed.

        Whoever keeps names above us keeps them so long, and not the whole time to live once more.
        """
        return self._names.good_for_s(self._directory(nodeid))

    def remember(self, parent: int, entry: Entry) -> Inode:
        """The inode of an entry that `entries` of `parent` gave; counts one lookup."""
        return self._inodes.remember(join(self._directory(parent), entry.name), entry)

    def forget(self, nodeid: int, count: int) -> None:
        """Gives lookups back."""
        self._inodes.forget(nodeid, count)

    def _directory(self, nodeid: int) -> str:
        inode = self._inodes.get(nodeid)
        if not isinstance(inode.entry, DirectoryEntry):
            raise NotADirectory(f"{inode.path!r} is a file")
        return inode.path

    # ---- files

    async def open(self, nodeid: int) -> Handle:
        """Opens a file at the version that was looked up. `close` ends it. Raises IsADirectory."""
        inode = self._inodes.get(nodeid)
        if not isinstance(inode.entry, FileEntry):
            raise IsADirectory(f"{inode.path!r} is a directory")
        return Handle(inode, await self.open_entry(inode.entry))

    async def open_entry(self, entry: FileEntry) -> OpenFile:
        """What reads the object of an entry."""
        identity = self.identity_of(entry)
        if identity.size == 0:
            return EmptyFile()
        if identity.size <= SMALL_OBJECT_BYTES:
            return SmallFile(identity, cache=self._cache, fetcher=self._fetcher, metrics=self._metrics)
        return LargeFile(
            await self._cache.open(identity),
            cache=self._cache,
            fetcher=self._fetcher,
            metrics=self._metrics,
            max_window_bytes=self._settings.max_window_bytes,
        )

    async def read(self, handle: Handle, offset: int, length: int) -> bytes:
        """Bytes of the handle's version, cut at its end.

        Raises ObjectChanged when a part that is not cached is gone from the store; other StoreErrors as they come.
        """
        self._metrics.read_requests.inc()
        try:
            data = await handle.file.read(offset, length)
        except FluidfsError as error:
            self._metrics.read_errors.labels(errno=str(facts_of(type(error)).errno)).inc()
            if isinstance(error, ObjectChanged) and not handle.stale:
                # Once: by the next read the name may stand for the new object already.
                handle.stale = True
                self.forget_path(handle.inode.path)
            raise
        self._metrics.read_bytes.inc(len(data))
        return data

    def close(self, handle: Handle) -> None:
        """Ends the use of a handle."""
        handle.file.close()

    def forget_path(self, path: str) -> None:
        """Makes the next look-up of `path` ask the store."""
        self._names.forget_path(path)
        self.on_changed(path)

    def identity_of(self, entry: FileEntry) -> VersionIdentity:
        """What the cache knows the entry's object by."""
        info = entry.info
        return VersionIdentity(self._store_identity, info.key, info.version, info.size)

    # ---- facts

    async def getxattr(self, nodeid: int, name: str) -> str:
        """The value of one of our attributes. Raises NoAttribute."""
        return await self._facts.getxattr(nodeid, name)

    def listxattr(self, nodeid: int) -> Sequence[str]:
        """The names of our attributes."""
        return self._facts.listxattr(nodeid)
