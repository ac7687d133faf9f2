"""A directory as a Store: files are objects, paths are keys, and listings look like those of S3.

Directories are read as a listing passes them, never the whole tree for one page. Symbolic links, sockets, devices and
FIFOs are left out: a link may point out of the root, and the others have no bytes to cache. An empty directory shows
as a marker key (`dir/`, size 0), as S3 tools make them. A directory that may not be read is left out where it lies
below what is listed, and is AccessDenied where it is the one that was asked for.
"""

from __future__ import annotations

import errno
import os
import stat
from bisect import bisect_left
from collections.abc import Iterator

from fluidfs.errors import AccessDenied, BucketNotFound, ObjectNotFound, StoreError, StoreUnavailable
from fluidfs.model import ListPage, ObjectInfo
from fluidfs.store.base import Credentials, FileTransport

_SLASH = b"/"


class PosixStore:
    """Files under an absolute directory. Thread-safe.

    Kept between calls is only the last directory that a page broke off in, so that the next page of a directory with
    very many names does not read and sort them all again.
    """

    def __init__(self, root: str) -> None:
        self._root = os.fsencode(root)
        self._broke_off: tuple[bytes, int, list[bytes]] | None = None
        self.identity = f"file://{os.path.realpath(root)}"
        self.transport = FileTransport(root)

    def probe(self) -> None:
        """Return if the root is a directory that can be read. Raises BucketNotFound, AccessDenied."""
        root = os.fsdecode(self._root)
        try:
            os.scandir(self._root).close()
        except FileNotFoundError as error:
            raise BucketNotFound(f"the directory {root} does not exist") from error
        except NotADirectoryError as error:
            raise BucketNotFound(f"{root} is not a directory") from error
        except OSError as error:
            raise _translated(error, root) from error

    def head(self, key: str) -> ObjectInfo:
        """The present version of a file. Raises ObjectNotFound for all that is not a regular file."""
        raw = os.fsencode(key)
        parents, slash, name = raw.rpartition(_SLASH)
        if name in (b"", b".", b"..") or not self._is_plain(parents + slash):
            raise ObjectNotFound(f"no file {key!r}")
        try:
            status = os.lstat(self._path(raw))
        except (FileNotFoundError, NotADirectoryError, ValueError) as error:
            raise ObjectNotFound(f"no file {key!r}") from error
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                raise ObjectNotFound(f"no file system has a file {key!r}") from error
            raise _translated(error, key) from error
        if not stat.S_ISREG(status.st_mode):
            raise ObjectNotFound(f"{key!r} is not a regular file")
        return _info(key, status)

    def list_page(self, prefix: str, *, delimiter: str = "", token: str | None = None, limit: int = 1000) -> ListPage:
        """Up to `limit` names after `token`, which is the last name given, in the order of their bytes."""
        after = b"" if token is None else os.fsencode(token)
        objects: list[ObjectInfo] = []
        prefixes: list[str] = []
        last = b""
        for key, info in self._names(os.fsencode(prefix), after, folded=bool(delimiter)):
            if len(objects) + len(prefixes) == limit:
                return ListPage(tuple(objects), tuple(prefixes), os.fsdecode(last))
            if info is None:
                prefixes.append(os.fsdecode(key))
            else:
                objects.append(info)
            last = key
        return ListPage(tuple(objects), tuple(prefixes), None)

    def target(self, key: str) -> bytes:
        """The file's path relative to the root."""
        return os.fsencode(key)

    def credentials(self) -> Credentials | None:
        """None: the kernel knows who we are."""
        return None

    def _names(self, prefix: bytes, after: bytes, *, folded: bool) -> Iterator[tuple[bytes, ObjectInfo | None]]:
        """Keys behind `after` with what they are (None: a folded directory), made as they are asked for."""
        parents, slash, start = prefix.rpartition(_SLASH)
        directory = parents + slash
        if not self._is_plain(directory):
            return
        names = self._read(directory, after, asked_for=True)
        if not names and directory and not start and directory > after:
            yield directory, self._marker(directory)
        # The directories that the listing is in, each with the names still to come.
        open_directories = [(directory, iter([name for name in names if name.startswith(start)]))]
        while open_directories:
            directory, rest = open_directories[-1]
            name = next(rest, None)
            if name is None:
                open_directories.pop()
                continue
            key = directory + name
            if not name.endswith(_SLASH):
                if key > after and (info := self._file(key)) is not None:
                    yield key, info
            elif folded:
                if key > after:
                    yield key, None
            elif key > after or after.startswith(key):
                below = self._read(key, after, asked_for=False)
                if below:
                    open_directories.append((key, iter(below)))
                elif key > after:
                    yield key, self._marker(key)

    def _read(self, directory: bytes, after: bytes, *, asked_for: bool) -> list[bytes]:
        """Names in `directory` (a key, "" or ending in a slash) from `after` on; those of directories have a slash.

        One that cannot be read is empty, unless it was asked for by name. One with names, all of them before `after`,
        is never taken for an empty one: the last name before `after` stays in.
        """
        try:
            names = self._sorted_names(directory, continued=after.startswith(directory) and bool(after))
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            if asked_for:
                raise _translated(error, os.fsdecode(directory) or os.fsdecode(self._root)) from error
            return []
        if not after.startswith(directory):
            return names
        return names[max(0, bisect_left(names, after[len(directory) :]) - 1) :]

    def _sorted_names(self, directory: bytes, *, continued: bool) -> list[bytes]:
        path = self._path(directory)
        known = self._broke_off
        # A directory's time changes with its names. Within one tick of the clock it may not, which here is harmless:
        # names that come and go during a listing may or may not be in it.
        mtime_ns = os.stat(path).st_mtime_ns
        if continued and known is not None and known[:2] == (directory, mtime_ns):
            return known[2]
        names = []
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    names.append(entry.name + _SLASH)
                elif entry.is_file(follow_symlinks=False):
                    names.append(entry.name)
        names.sort()
        self._broke_off = (directory, mtime_ns, names)
        return names

    def _file(self, key: bytes) -> ObjectInfo | None:
        try:
            status = os.lstat(self._path(key))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _translated(error, os.fsdecode(key)) from error
        return _info(os.fsdecode(key), status) if stat.S_ISREG(status.st_mode) else None

    def _marker(self, directory: bytes) -> ObjectInfo:
        try:
            mtime_ns = os.stat(self._path(directory)).st_mtime_ns
        except OSError:
            mtime_ns = 0
        return ObjectInfo(os.fsdecode(directory), 0, mtime_ns, f"{mtime_ns}-0")

    def _is_plain(self, directory: bytes) -> bool:
        """Whether each component of `directory` ("" or ending in a slash) is a real directory below the root.

        No link may be on the way and no `.`, `..` or empty component: such keys are never listed, and might lead out.
        """
        path = self._root
        for component in directory.split(_SLASH)[:-1]:
            if component in (b"", b".", b".."):
                return False
            path += _SLASH + component
            try:
                if not stat.S_ISDIR(os.lstat(path).st_mode):
                    return False
            except (OSError, ValueError):
                return False
        return True

    def _path(self, key: bytes) -> bytes:
        # Not os.path.join, to which a key that begins with a slash would be a path from the host's root.
        return self._root + _SLASH + key


def _info(key: str, status: os.stat_result) -> ObjectInfo:
    version = f"{status.st_mtime_ns}-{status.st_size}-{status.st_ino}"
    return ObjectInfo(key, status.st_size, status.st_mtime_ns, version)


def _translated(error: OSError, name: str) -> StoreError:
    if isinstance(error, PermissionError):
        return AccessDenied(f"{name} may not be read by this user")
    return StoreUnavailable(f"{name} cannot be read: {error.strerror}")
