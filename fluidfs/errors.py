"""Every error that fluidfs raises, and the one table that says what each means to a caller.

    FluidfsError (an OSError, so that callers who know only OSError are served)
    ├── UsageError              the person at the terminal must change the command
    ├── EnvironmentLacking      the machine lacks something
    ├── MountError              the mount cannot be made or ended
    │   └── MountpointBusy
    ├── StoreError              the object store, or what it holds, must change
    │   ├── BucketNotFound
    │   ├── ObjectNotFound      (also FileNotFoundError)
    │   ├── AccessDenied        (also PermissionError)
    │   ├── CredentialsMissing
    │   ├── WrongRegion
    │   ├── ObjectChanged       the version that was asked for is gone
    │   └── StoreUnavailable    worth another try: timeouts, resets, 5xx
    │       └── SlowDown        the store asks for fewer requests
    ├── CacheError              never reaches a reader: it becomes a miss
    │   ├── CacheUnusable       a level that cannot be read or written
    │   └── CacheFull           a level without room, or a disk without space
    ├── FileSystemError         what a system call is answered with
    │   ├── NameNotFound        (also FileNotFoundError)
    │   ├── NotADirectory / IsADirectory
    │   ├── ReadOnly
    │   └── NoAttribute
    └── ControlError            a daemon's control socket does not answer as it should

Foreign exceptions (botocore's, trio's, the operating system's) are translated once, at the boundary where they
arise, with `raise ... from`. Errno values live in `ERROR_TABLE` and at the FUSE edge, nowhere else.
"""

from __future__ import annotations

import errno
import logging
from dataclasses import dataclass
from enum import IntEnum


class ExitStatus(IntEnum):
    """Exit statuses of every fluidfs command."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    PARTLY = 3
    ENVIRONMENT = 4


class FluidfsError(OSError):
    """Base of all errors of fluidfs.

    `message` is one line for a person: what happened, and where it helps, what to do. `errno` is that of
    `ERROR_TABLE`, so the exception behaves as the OSError a caller expects.
    """

    message: str

    def __init__(self, message: str) -> None:
        super().__init__(facts_of(type(self)).errno, message)
        self.message = message

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> tuple[type[FluidfsError], tuple[str]]:
        return type(self), (self.message,)


class UsageError(FluidfsError):
    """The command, an option or a configuration file says something that cannot be meant."""


class EnvironmentLacking(FluidfsError):
    """The machine lacks something; the message says what to install, load or permit."""


class MountError(FluidfsError):
    """A mount could not be made, found or ended."""


class MountpointBusy(MountError):
    """The mountpoint is in use, or something is mounted on it already."""


class StoreError(FluidfsError):
    """The object store answered, and the answer is no."""


class BucketNotFound(StoreError):
    """The bucket or the directory that a source names does not exist."""


class ObjectNotFound(StoreError, FileNotFoundError):
    """No object has this key."""


class AccessDenied(StoreError, PermissionError):
    """The store knows us, or does not, and in any case refuses."""


class CredentialsMissing(StoreError):
    """No credentials were found where boto3 looks for them."""


class WrongRegion(StoreError):
    """The bucket is in another region; `region` is its name, where the store told it."""

    region: str | None = None


class ObjectChanged(StoreError):
    """The version asked for is gone: the object was overwritten or deleted since it was listed."""


class StoreUnavailable(StoreError):
    """The store did not answer, or answered with a passing fault. Worth another try."""


class SlowDown(StoreUnavailable):
    """The store asks for fewer requests."""


class CacheError(FluidfsError):
    """The cache failed. It never reaches a reader: the fault becomes a miss."""


class CacheUnusable(CacheError):
    """A level cannot be read or written: missing, not ours, failing, or of an unknown format."""


class CacheFull(CacheError):
    """A level has no room left that eviction could give, or its disk is full."""


class FileSystemError(FluidfsError):
    """What a system call on the mount is answered with."""


class NameNotFound(FileSystemError, FileNotFoundError):
    """No file or directory has this name."""


class NotADirectory(FileSystemError, NotADirectoryError):
    """A directory was needed, and the name is a file's."""


class IsADirectory(FileSystemError, IsADirectoryError):
    """A file was needed, and the name is a directory's."""


class ReadOnly(FileSystemError):
    """The mount is read-only."""


class NoAttribute(FileSystemError):
    """The extended attribute does not exist."""


class ControlError(FluidfsError):
    """A daemon's control socket is missing, closed, or answers with something that is not our protocol."""


@dataclass(frozen=True, slots=True)
class ErrorFacts:
    """What an error means to each of its three audiences: a system call, the log, a shell."""

    errno: int
    log_level: int
    exit_status: ExitStatus


_FAILED, _USAGE, _ENVIRONMENT = ExitStatus.FAILED, ExitStatus.USAGE, ExitStatus.ENVIRONMENT

ERROR_TABLE: dict[type[FluidfsError], ErrorFacts] = {
    FluidfsError: ErrorFacts(errno.EIO, logging.ERROR, _FAILED),
    UsageError: ErrorFacts(errno.EINVAL, logging.ERROR, _USAGE),
    EnvironmentLacking: ErrorFacts(errno.ENOSYS, logging.ERROR, _ENVIRONMENT),
    MountError: ErrorFacts(errno.EIO, logging.ERROR, _FAILED),
    MountpointBusy: ErrorFacts(errno.EBUSY, logging.ERROR, _FAILED),
    StoreError: ErrorFacts(errno.EIO, logging.WARNING, _FAILED),
    BucketNotFound: ErrorFacts(errno.ENOENT, logging.WARNING, _FAILED),
    ObjectNotFound: ErrorFacts(errno.ENOENT, logging.DEBUG, _FAILED),
    AccessDenied: ErrorFacts(errno.EACCES, logging.WARNING, _FAILED),
    CredentialsMissing: ErrorFacts(errno.EACCES, logging.WARNING, _FAILED),
    WrongRegion: ErrorFacts(errno.EIO, logging.WARNING, _FAILED),
    ObjectChanged: ErrorFacts(errno.ESTALE, logging.INFO, _FAILED),
    StoreUnavailable: ErrorFacts(errno.EIO, logging.WARNING, _FAILED),
    CacheError: ErrorFacts(errno.EIO, logging.WARNING, _FAILED),
    CacheFull: ErrorFacts(errno.ENOSPC, logging.WARNING, _FAILED),
    FileSystemError: ErrorFacts(errno.EIO, logging.DEBUG, _FAILED),
    NameNotFound: ErrorFacts(errno.ENOENT, logging.DEBUG, _FAILED),
    NotADirectory: ErrorFacts(errno.ENOTDIR, logging.DEBUG, _FAILED),
    IsADirectory: ErrorFacts(errno.EISDIR, logging.DEBUG, _FAILED),
    ReadOnly: ErrorFacts(errno.EROFS, logging.DEBUG, _FAILED),
    NoAttribute: ErrorFacts(errno.ENODATA, logging.DEBUG, _FAILED),
    ControlError: ErrorFacts(errno.ECONNREFUSED, logging.ERROR, _FAILED),
}


def facts_of(kind: type[BaseException]) -> ErrorFacts:
    """The row of `kind` in the table, or of its nearest ancestor there; that of FluidfsError for strangers."""
    for ancestor in kind.__mro__:
        if ancestor in ERROR_TABLE:
            return ERROR_TABLE[ancestor]
    return ERROR_TABLE[FluidfsError]
