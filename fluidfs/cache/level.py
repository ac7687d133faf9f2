"""One level: a directory with a quota, and the versions in it."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Callable
from pathlib import Path

from fluidfs._native.objects import ObjectFile
from fluidfs._native.usage import LevelUsage
from fluidfs.cache.files import FORMAT_DIRECTORY, LevelFiles, data_path, map_path, read_map_header
from fluidfs.cache.identity import VersionIdentity
from fluidfs.cache.quota import DEFAULT_DISK_SHARE, limits_of
from fluidfs.cache.slabs import SlabSet
from fluidfs.config import LevelSpec
from fluidfs.errors import CacheUnusable

# How long a level that failed is left alone before it is tried again.
FAULT_PAUSE_S = 30.0


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
        self._block_bytes = block_bytes
        self._clock = clock
        self._fault: str | None = None
        self._fault_until = 0.0
        try:
            self.usage = self._open_usage()
        except OSError as error:
            raise CacheUnusable(f"the cache directory {spec.path} cannot be used: {error.strerror}") from error
        except ValueError as error:
            raise CacheUnusable(
                f"the cache directory {spec.path} cannot be used: {error}; name another, or remove {self.files.root}"
            ) from error
        self.slabs = SlabSet(self.files, self.usage)

    def _open_usage(self) -> LevelUsage:
        files = self.files
        files.root.parent.mkdir(parents=True, exist_ok=True)
        files.root.mkdir(mode=0o700, exist_ok=True)
        owner = files.root.stat().st_uid
        if owner != os.geteuid():
            raise CacheUnusable(
                f"the cache directory {self.spec.path} belongs to user {owner}: name one of your own with --cache"
            )
        files.objects.mkdir(mode=0o700, exist_ok=True)
        files.slabs.mkdir(mode=0o700, exist_ok=True)
        fd = os.open(files.level, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
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
            # Closing alone would not do: the mapping keeps the open file, and with it the lock, for as long as it lives.
            fcntl.flock(fd, fcntl.LOCK_UN)
            os.close(fd)
        return usage

    def _default_quota(self) -> int:
        disk = os.statvfs(self.files.root)
        return int(disk.f_blocks * disk.f_frsize * DEFAULT_DISK_SHARE)

    # ---- faults

    @property
    def fault(self) -> str | None:
        """Why the level is left alone at the moment; None when it is in use."""
        if self._fault is not None and self._clock() >= self._fault_until:
            self._fault = None
        return self._fault

    def report_fault(self, reason: str) -> bool:
        """Leaves the level alone for a while. Says whether this is news (so that it is logged once)."""
        news = self.fault is None
        self._fault = reason
        self._fault_until = self._clock() + FAULT_PAUSE_S
        return news

    # ---- room

    def has_room(self, size_bytes: int) -> bool:
        """Whether the quota leaves room for so many bytes more."""
        return self.usage.used_bytes + size_bytes <= self.usage.quota_bytes

    @property
    def excess_bytes(self) -> int:
        """What eviction has to free: 0 below the high watermark, else all that is above the low one."""
        used = self.usage.used_bytes
        return used - self.usage.low_bytes if used > self.usage.high_bytes else 0

    # ---- versions

    def open_object(self, identity: VersionIdentity, *, create: bool) -> ObjectFile | None:
        """The version's file; None when it is not here (and not to be made). Raises CacheUnusable.

        A file that is not what its name says (damaged, or of another format) is removed, and counts as not here.
        """
        stem = self.files.object_stem(identity.digest())
        try:
            block_bytes = read_map_header(stem).block_bytes
        except FileNotFoundError:
            if not create:
                return None
            block_bytes = self._block_bytes
        except (OSError, ValueError):
            block_bytes = self._block_bytes
        for _ in range(3):
            try:
                return self._open_stem(stem, identity, block_bytes, create=create)
            except OSError as error:
                if error.errno == errno.ENOENT and not create:
                    return None
                if error.errno == errno.ENOENT:
                    _make_parents(stem)
                elif error.errno in (errno.EUCLEAN, errno.EINVAL):
                    remove_if_unused(stem)
                else:
                    raise CacheUnusable(f"the cache directory {self.spec.path}: {error.strerror}") from error
        raise CacheUnusable(f"the cache file {stem} is damaged and in use")

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
        """A version found in the directory. Raises OSError, or ValueError when it is not a version of ours."""
        header = read_map_header(stem)
        return self._open_stem(stem, header.identity, header.block_bytes, create=False), header.identity

    def close(self) -> None:
        """Lets go of the slabs. Versions that are open stay so."""
        self.slabs.close()


def _make_parents(stem: Path) -> None:
    try:
        stem.parent.parent.mkdir(mode=0o700, exist_ok=True)
        stem.parent.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise CacheUnusable(f"the cache directory {stem.parent} cannot be made: {error.strerror}") from error


def remove_if_unused(stem: Path) -> bool:
    """Unlinks a version's files, whatever is in them, unless somebody has it open. Says whether it did."""
    data = data_path(stem)
    try:
        fd = os.open(data, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        map_path(stem).unlink(missing_ok=True)
        return True
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # The lock is on the file; the name may be another's by now.
        if os.fstat(fd).st_ino != data.stat().st_ino:
            return False
        map_path(stem).unlink(missing_ok=True)
        data.unlink()
    except OSError:
        return False
    finally:
        os.close(fd)
    return True
