"""What the kernel has mounted: the mount table, and whether a mount still answers."""

from __future__ import annotations

import errno
import os
import re
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

FLUIDFS_TYPE = "fuse.fluidfs"

_OCTAL = re.compile(r"\\([0-7]{3})")

Answer = Literal["answers", "dead", "silent"]


@dataclass(frozen=True, slots=True)
class MountEntry:
    """A line of mountinfo. `user_id` is who mounted a FUSE file system; None for others."""

    mountpoint: str
    fs_type: str
    source: str
    user_id: int | None


def parse_mountinfo(text: str) -> list[MountEntry]:
    """The lines of /proc/self/mountinfo (proc(5)), oldest mount first."""
    entries = []
    for line in text.splitlines():
        before, separator, after = line.partition(" - ")
        left, right = before.split(" "), after.split(" ")
        if not separator or len(left) < 5 or len(right) < 3:
            continue
        user = re.search(r"(?:^|,)user_id=(\d+)", right[2])
        entries.append(
            MountEntry(_unescaped(left[4]), right[0], _unescaped(right[1]), int(user[1]) if user is not None else None)
        )
    return entries


def mount_table() -> list[MountEntry]:
    """The mounts that this process sees."""
    return parse_mountinfo(os.fsdecode(Path("/proc/self/mountinfo").read_bytes()))


def mount_at(mountpoint: str, table: list[MountEntry] | None = None) -> MountEntry | None:
    """The topmost mount at exactly this path, or None."""
    entries = mount_table() if table is None else table
    return next((entry for entry in reversed(entries) if entry.mountpoint == mountpoint), None)


def canonical(path: str, table: list[MountEntry]) -> str:
    """The absolute `path` as the kernel names it. A mountpoint is not looked at: its daemon may be dead or hung."""
    return path if mount_at(path, table) is not None else os.path.realpath(path)


def probe(mountpoint: str, *, timeout_s: float = 1.0) -> Answer:
    """Whether whoever serves the mount still does: `dead` when the kernel says so, `silent` after `timeout_s`.

    The question is asked in a thread of its own that is left behind if it hangs; a signal that kills the process ends
    it.
    """
    answers: list[Answer] = []

    def ask() -> None:
        try:
            # Not stat: the kernel would answer that from its cache of attributes, long after the daemon's death.
            os.statvfs(mountpoint)
        except OSError as error:
            answers.append("dead" if error.errno in (errno.ENOTCONN, errno.ECONNABORTED) else "answers")
        else:
            answers.append("answers")

    thread = threading.Thread(target=ask, name="fluidfs-probe", daemon=True)
    thread.start()
    thread.join(timeout_s)
    return answers[0] if answers else "silent"


def _unescaped(text: str) -> str:
    """Mountinfo writes space, tab, newline and backslash as octal."""
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), text)
