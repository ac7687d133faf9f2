"""One level: a directory with a quota, and the versions in it."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path

from fluidfs._native.objects import ObjectFile
from fluidfs._native.usage import LevelUsage
from fluidfs.cache.files import FORMAT_DIRECTORY, LevelFiles, data_path, map_path, read_map_header
from fluidfs.cache.identity import VersionIdentity
from fluidfs.cache.kernel_reads import refused_for
from fluidfs.cache.quota import DEFAULT_DISK_SHARE, limits_of
from fluidfs.cache.removal import remove_if_unused
from fluidfs.cache.slabs import SlabSet
from fluidfs.config import LevelSpec
from fluidfs.errors import CacheFull, CacheUnusable

# How long a level that failed is left alone before it is tried again, and one whose disk is full is given nothing more.
FAULT_PAUSE_S = 30.0
# One try finds what is there, one removes what is damaged, one makes it anew; one is spare, for what others do.
_OPEN_TRIES = 4
# These are about one version, or about this process; the level can serve the others.
_OF_ONE_VERSION = (errno.EBUSY, errno.EFBIG, errno.EMFILE, errno.ENFILE, errno.ENOMEM)
_FULL = (errno.ENOSPC, errno.EDQUOT)


def boot_id() -> bytes:
    """The 16 bytes that tell this boot of the machine from every other."""
    return bytes.fromhex(Path("/proc/sys/kernel/random/boot_id").read_text().strip().replace("-", ""))


class Level:
    """A level's directory, open. Its methods wait for the disk, and are thread-safe but for `close`.

    Opening makes the directory if it is not there (0700). Raises CacheUnusable, with what to do, when it is somebody
    else's, of another format, or cannot be written.
    """

    def __init__(self, spec: LevelSpec, *, block_bytes: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.spec = spec
        self.files = LevelFiles(Path(spec.path) / FORMAT_DIRECTORY)
        self.boot_id = boot_id()
        # Bytes that jobs of this process were promised room for and have not brought, or not ended bringing.
        self.reserved_bytes = 0
        self._has_failed = False
        self._block_bytes = block_bytes
        self._clock = clock
        self._fault: str | None = None
        self._fault_until = 0.0
        self._full_until: float | None = None
        try:
            self.usage = self._open_usage()
        except OSError as error:
            raise CacheUnusable(f"the cache directory {spec.path} cannot be used: {error.strerror}") from error
        except ValueError as error:
            raise CacheUnusable(
                f"the cache directory {spec.path} cannot be used: {error}; name another, or remove {self.files.root}"
            ) from error
        self.slabs = SlabSet(self.files, self.usage, self.boot_id)
        self._file_system_refused = refused_for(self.files.root)

    def _open_usage(self) -> LevelUsage:
        files = self.files
        files.root.parent.mkdir(parents=True, exist_ok=True)
        for directory in (files.root, files.objects, files.slabs):
            directory.mkdir(mode=0o700, exist_ok=True)
            self._check_owned(directory)
        fd = os.open(files.level, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
        try:
            # One process makes the file; the others wait until it is whole.
            fcntl.flock(fd, fcntl.LOCK_EX)
            usage = LevelUsage(fd)
            if usage.quota_bytes == 0 or self.spec.quota_bytes is not None:
                limits = limits_of(self.spec.quota_bytes or self._default_quota())
                usage.set_limits(
                    quota_bytes=limits.quota_bytes, high_bytes=limits.high_bytes, low_bytes=limits.low_bytes
                )
        finally:
            # Closing alone would not do: the mapping keeps the open file, and with it the lock.
            fcntl.flock(fd, fcntl.LOCK_UN)
            os.close(fd)
        return usage

    def _check_owned(self, directory: Path) -> None:
        """What others could write to, they could fill with bytes that are not the objects'."""
        found = directory.lstat()
        if not stat.S_ISDIR(found.st_mode):
            raise CacheUnusable(f"the cache directory {directory} is a link: name its target with --cache")
        if found.st_uid != os.geteuid():
            raise CacheUnusable(
                f"the cache directory {self.spec.path} belongs to user {found.st_uid}: "
                "name one of your own with --cache"
            )
        if stat.S_IMODE(found.st_mode) & 0o077:
            directory.chmod(0o700)

    def _default_quota(self) -> int:
        disk = os.statvfs(self.files.root)
        return int(disk.f_blocks * disk.f_frsize * DEFAULT_DISK_SHARE)

    # ---- faults

    @property
    def fault(self) -> str | None:
        """Why the level is left alone at the moment; None when it is in use."""
        if self.usage.damaged:
            return f"{self.files.level} was damaged while it was in use"
        if self._fault is not None and self._clock() >= self._fault_until:
            self._fault = None
        return self._fault

    def report_fault(self, reason: str) -> bool:
        """Leaves the level alone for a while. Says whether this is news (so that it is logged once)."""
        news = self.fault is None
        self._has_failed = True
        self._fault = reason
        self._fault_until = self._clock() + FAULT_PAUSE_S
        return news

    @property
    def refuses_kernel_reads(self) -> str | None:
        """Why the kernel may not read the level's files by itself: a fault would reach the reader. None: it may."""
        if self._has_failed:
            return f"{self.spec.path} has failed before"
        return f"{self.spec.path} lies on {self._file_system_refused}" if self._file_system_refused else None

    # ---- room

    @property
    def is_full(self) -> bool:
        """Whether the disk had no room when it was last asked; what is cached can be read all the same."""
        if self._full_until is not None and self._clock() >= self._full_until:
            self._full_until = None
        return self._full_until is not None

    def report_full(self) -> bool:
        """Gives the level nothing more for a while. Says whether this is news (so that it is logged once)."""
        news = not self.is_full
        self._full_until = self._clock() + FAULT_PAUSE_S
        return news

    def has_room(self, size_bytes: int) -> bool:
        """Whether the quota leaves room for so many bytes more, and the disk had some when it was last asked."""
        return not self.is_full and self.usage.used_bytes + self.reserved_bytes + size_bytes <= self.usage.quota_bytes

    @property
    def excess_bytes(self) -> int:
        """What eviction has to free: 0 below the high watermark, else all that is above the low one."""
        used = self.usage.used_bytes
        return used - self.usage.low_bytes if used > self.usage.high_bytes else 0

    # ---- versions

    def open_object(self, identity: VersionIdentity, *, create: bool) -> ObjectFile | None:
        """The version's file; None when it is not here (and not to be made), or cannot be had at the moment.

        A file that is not what its name says (damaged, or of another format) is removed, and counts as not here; one
        that is in use cannot be had. Raises CacheFull when the disk has no room for it, CacheUnusable when the level
        fails.
        """
        return self._open(self.files.object_stem(identity.digest()), identity, create=create)

    def open_copy(self, stem: Path, identity: VersionIdentity) -> ObjectFile | None:
        """Like `open_object` with `create`, for a version found as `stem` in another level."""
        return self._open(self.files.object_stem(bytes.fromhex(stem.name)), identity, create=True)

    def _open(self, stem: Path, identity: VersionIdentity, *, create: bool) -> ObjectFile | None:
        for _ in range(_OPEN_TRIES):
            block_bytes = _block_bytes_of(stem) or self._block_bytes
            try:
                return self._open_stem(stem, identity, block_bytes, create=create)
            except OSError as error:
                if error.errno == errno.ENOENT and not create:
                    return None
                if error.errno == errno.ENOENT:
                    self._make_parents(stem)
                elif error.errno in (errno.EUCLEAN, errno.EINVAL):
                    # Another process may have made it meanwhile, with blocks of another size.
                    if _block_bytes_of(stem) in (None, block_bytes):
                        remove_if_unused(stem)
                elif error.errno in _OF_ONE_VERSION:
                    return None
                else:
                    raise self._error(error) from error
        return None

    def _open_stem(self, stem: Path, identity: VersionIdentity, block_bytes: int, *, create: bool) -> ObjectFile:
        return ObjectFile(
            os.fsencode(data_path(stem)),
            os.fsencode(map_path(stem)),
            create=create,
            object_bytes=identity.size,
            block_bytes=block_bytes,
            identity=identity.encode(),
            boot_id=self.boot_id,
            usage=self.usage,
        )

    def open_stem(self, stem: Path) -> tuple[ObjectFile, VersionIdentity]:
        """A version found in the directory. Raises OSError, or ValueError when it is not a version of ours.

        Of a key that was too long for the header the identity has the beginning only, and another digest than the stem.
        """
        header = read_map_header(stem)
        return self._open_stem(stem, header.identity, header.block_bytes, create=False), header.identity

    def _make_parents(self, stem: Path) -> None:
        try:
            for directory in (self.files.objects, stem.parent.parent, stem.parent):
                directory.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise self._error(error) from error

    def _error(self, error: OSError) -> CacheFull | CacheUnusable:
        kind = CacheFull if error.errno in _FULL else CacheUnusable
        return kind(f"the cache directory {self.spec.path}: {error.strerror}")

    def close(self) -> None:
        """Lets go of the slabs. Versions that are open stay so."""
        self.slabs.close()


def _block_bytes_of(stem: Path) -> int | None:
    """The size of blocks that a version's map has; None where there is none that could be read."""
    try:
        return read_map_header(stem).block_bytes
    except (OSError, ValueError):
        return None
