"""Reads files, times that, and compares what was read with what it should be."""

from __future__ import annotations

import hashlib
import os
import queue
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fluidfs.demo.dataset import SourceFile

READ_BYTES = 1024 * 1024
# Buffers in flight between the thread that reads and the one that hashes.
BUFFERS = 4
READERS = 8
DROP_CACHES = Path("/proc/sys/vm/drop_caches")


@dataclass(frozen=True, slots=True)
class Reading:
    """One pass over some files. `wrong` names those whose content was not what the source has."""

    files: int
    size_bytes: int
    seconds: float
    wrong: tuple[str, ...]

    @property
    def bytes_per_s(self) -> float:
        """Throughput of the pass, hashing included."""
        return self.size_bytes / self.seconds

    @property
    def files_per_s(self) -> float:
        """Files opened, read and closed per second."""
        return self.files / self.seconds


def read_all(root: Path, files: Sequence[SourceFile]) -> Reading:
    """Reads each file's copy below `root`: one after the other if they are large, else by `READERS` threads.

    Raises OSError for a file that cannot be read; one that reads wrong is reported.
    """
    read_one = _digest_of_large if all(file.size_bytes > 8 * READ_BYTES for file in files) else _digest_of_small
    readers = 1 if read_one is _digest_of_large else READERS
    started = time.monotonic()
    with ThreadPoolExecutor(readers) as pool:
        digests = list(pool.map(read_one, (root / file.key for file in files)))
    seconds = time.monotonic() - started
    wrong = tuple(file.key for file, digest in zip(files, digests, strict=True) if digest != file.sha256)
    return Reading(len(files), sum(file.size_bytes for file in files), seconds, wrong)


def drop_page_cache(*roots: Path) -> bool:
    """Makes the kernel forget the content of all files below `roots`, so that the next read asks whoever has it.

    Root empties the whole page cache; others ask per file, which the kernel honours for clean pages that nobody maps.
    Returns whether the whole page cache went.
    """
    with suppress(OSError):
        os.sync()
        DROP_CACHES.write_text("1")
        return True
    for root in roots:
        for folder, _, names in os.walk(root):
            for name in names:
                with suppress(OSError):
                    _drop_file(os.path.join(folder, name))
    return False


def _drop_file(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with suppress(OSError):
            os.fdatasync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def _digest_of_small(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _digest_of_large(path: Path) -> str:
    """Hashes in a second thread: on one core's time alone the hash would be what is measured."""
    digest = hashlib.sha256()
    free: queue.SimpleQueue[bytearray] = queue.SimpleQueue()
    full: queue.SimpleQueue[tuple[bytearray, int]] = queue.SimpleQueue()
    for _ in range(BUFFERS):
        free.put(bytearray(READ_BYTES))

    def hash_what_comes() -> None:
        while True:
            buffer, length = full.get()
            if length == 0:
                return
            digest.update(memoryview(buffer)[:length])
            free.put(buffer)

    hasher = threading.Thread(target=hash_what_comes)
    hasher.start()
    try:
        with path.open("rb", buffering=0) as file:
            while True:
                buffer = free.get()
                length = file.readinto(buffer)
                if not length:
                    break
                full.put((buffer, length))
    finally:
        full.put((bytearray(), 0))
        hasher.join()
    return digest.hexdigest()
