"""What a figure depends on besides the programs: the machine."""

from __future__ import annotations

import os
import platform
import shutil
from pathlib import Path

GIB = 1024**3


def describe(work: Path) -> dict[str, str]:
    """Processor, memory, kernel and the file system of `work`, as a reader of the figures wants to know them."""
    return {
        "processor": f"{os.cpu_count()} × {_field('/proc/cpuinfo', 'model name') or platform.machine()}",
        "memory": f"{int(_field('/proc/meminfo', 'MemTotal').split()[0]) / 1024**2:.0f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "caches": f"{_file_system_of(work)}, {shutil.disk_usage(work).free / GIB:.0f} GiB free",
    }


def available_memory_bytes() -> int:
    """What can be had without swapping."""
    return int(_field("/proc/meminfo", "MemAvailable").split()[0]) * 1024


def _field(path: str, name: str) -> str:
    for line in Path(path).read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return ""


def _file_system_of(path: Path) -> str:
    """The type of the longest mount that `path` lies below."""
    best, kind = "", "unknown"
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        place = left.split(" ")[4]
        if path.is_relative_to(place) and len(place) >= len(best):
            best, kind = place, right.split(" ")[0]
    return kind
