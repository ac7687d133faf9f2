"""Copying a version from a level to a slower one, before it is evicted."""

from __future__ import annotations

import errno
from pathlib import Path

from fluidfs._native.objects import ObjectFile
from fluidfs.cache.identity import VersionIdentity
from fluidfs.cache.level import Level
from fluidfs.errors import CacheError, CacheUnusable

_CHUNK_BYTES = 1 << 20


def copy_down(file: ObjectFile, stem: Path, identity: VersionIdentity, lower: Level) -> None:
    """Copies what is present and right of the version found as `stem` into `lower`. A failure costs only the copy.

    It goes the way that fetched bytes go, so that the lower level may have blocks of another size, and other processes
    may be reading or filling the same version there.
    """
    try:
        target = lower.open_copy(stem, identity)
    except CacheError as error:
        if isinstance(error, CacheUnusable):
            lower.report_fault(error.message)
        return
    if target is None:
        return
    try:
        _copy(file, target)
        target.touch(file.last_use_s)
        if target.complete:
            target.seal()
    except OSError as error:
        # What was copied is right, and stays; a full disk is no fault of the level.
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            lower.report_fault(error.strerror or "cannot be written")
    finally:
        target.close()


def _copy(file: ObjectFile, target: ObjectFile) -> None:
    sink = target.sink()
    offset = 0
    while offset < file.size_bytes:
        missing = file.next_missing(offset, file.size_bytes)
        present_to = file.size_bytes if missing is None else missing[0]
        if offset >= present_to:
            assert missing is not None
            offset = missing[1]
            continue
        length = min(_CHUNK_BYTES, present_to - offset)
        data = file.read(offset, length)
        if data is not None:
            sink.write(offset, data)
            offset += length
        elif file.next_missing(offset, offset + length) is None:
            return  # present, but not to be had; a block that was found wrong is missing now
