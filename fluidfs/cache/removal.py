"""Unlinking a version's files, and nothing that somebody has open."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

from fluidfs.cache.files import data_path, map_path

# open(2) says so of a link, a directory, a socket: nothing of ours, and nothing that anybody could have locked.
_FOREIGN = (errno.ELOOP, errno.ENXIO)


def remove_if_unused(stem: Path) -> bool:
    """Unlinks a version's files, whatever is in them, unless somebody has it open. Says whether it did."""
    data = data_path(stem)
    try:
        # Made if it is not there: without a file there is nothing to lock, and another process could make the version
        # while its map goes.
        fd = os.open(data, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    except OSError as error:
        return error.errno in _FOREIGN and unlink_version(stem)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # The lock is on the file; the name may be another's by now.
        return os.path.samestat(os.fstat(fd), data.lstat()) and unlink_version(stem)
    except OSError:
        return False
    finally:
        os.close(fd)


def unlink_version(stem: Path) -> bool:
    """Unlinks both files. The caller has the exclusive lock on the data file. Says whether they are gone."""
    try:
        # The map first: a version without a map is not there, whatever happens to us between the two.
        map_path(stem).unlink(missing_ok=True)
        data_path(stem).unlink(missing_ok=True)
    except OSError:
        return False
    return True
