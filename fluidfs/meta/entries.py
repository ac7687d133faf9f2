"""What a name stands for: a file, with the object version behind it, or a directory."""

from __future__ import annotations

from dataclasses import dataclass

from fluidfs.model import ObjectInfo


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A file: `name` in its directory, `info` the object as a listing last showed it."""

    name: str
    info: ObjectInfo


@dataclass(frozen=True, slots=True)
class DirectoryEntry:
    """A directory. Stores keep no time for one: `mtime_ns` is that of the mount, or of its marker if that is newer."""

    name: str
    mtime_ns: int


Entry = FileEntry | DirectoryEntry
