"""The reads themselves, of a mounted or a local directory, by means that everybody has: read(2), fio, cat, find."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

READ_BYTES = 1024 * 1024
SMALL_READERS = 16
# Files per process of `cat`: enough that starting it does not count, few enough that all readers end together.
FILES_PER_READER = 40


def drop_all_page_cache() -> None:
    """Empties the kernel's page cache; PermissionError unless root."""
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("1")


def drop_page_cache_of(path: Path) -> None:
    """Empties the page cache of one file, seen through its mount; a cache file of its client stays in memory."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def sequential(path: Path) -> float:
    """Bytes per second of reading a file from its beginning to its end, 1 MiB at a time."""
    buffer = bytearray(READ_BYTES)
    total = 0
    started = time.monotonic()
    with path.open("rb", buffering=0) as file:
        while length := file.readinto(buffer):
            total += length
    return total / (time.monotonic() - started)


def random_reads(path: Path, *, readers: int, seconds: float, forget_first: bool) -> float:
    """Random reads of 4 KiB per second by fio; each reader has a part of the file and reads no block of it twice.

    It ends early when every block was read. With `forget_first` the file's pages are dropped before, so that the page
    cache answers nothing.
    """
    share = path.stat().st_size // readers // 4096 * 4096
    arguments = {
        "name": "random",
        "filename": str(path).replace(":", "\\:"),
        "rw": "randread",
        "bs": "4k",
        "ioengine": "psync",
        "direct": "0",
        "invalidate": str(int(forget_first)),
        "thread": "1",
        "numjobs": str(readers),
        "size": str(share),
        "offset_increment": str(share),
        "runtime": str(seconds),
        "randseed": str(time.monotonic_ns() % 2**31),
        "group_reporting": "1",
        "output-format": "json",
    }
    command = ["fio", "--readonly", *(f"--{name}={value}" for name, value in arguments.items())]
    result = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 120, check=False)
    if result.returncode != 0:
        raise OSError(f"fio: {(result.stderr or result.stdout).strip()[-300:]}")
    # A warning may come before the object.
    answer = json.loads(result.stdout[result.stdout.index("{") :])
    return float(answer["jobs"][0]["read"]["iops"])


def small_files(root: Path, keys: Sequence[str]) -> float:
    """Files per second of opening, reading and closing them all, `SMALL_READERS` at a time."""
    command = ["xargs", "-0", f"-P{SMALL_READERS}", f"-n{FILES_PER_READER}", "cat", "--"]
    started = time.monotonic()
    subprocess.run(
        command,
        input=b"".join(os.fsencode(key) + b"\0" for key in keys),
        stdout=subprocess.DEVNULL,
        cwd=root,
        check=True,
    )
    return len(keys) / (time.monotonic() - started)


def find(root: Path, *, expected: int) -> float:
    """Seconds that the program of this name takes for a tree; ValueError if it does not see `expected` files."""
    started = time.monotonic()
    result = subprocess.run(["find", str(root), "-type", "f"], capture_output=True, check=True)
    seconds = time.monotonic() - started
    if (seen := result.stdout.count(b"\n")) != expected:
        raise ValueError(f"find saw {seen} of {expected} files")
    return seconds
