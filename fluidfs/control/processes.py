"""Facts about processes, from /proc."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fluidfs.config.checks import inside


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that keeps a mount busy, and with what: an open file, its directory, its root or a mapped file."""

    pid: int
    command: str
    what: str


def start_ticks(pid: int) -> int | None:
    """When process `pid` started, in clock ticks since boot: with the pid it names a process for good. None: no such
    process.

    A zombie counts as gone: it has given up everything it held.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes().decode("utf-8", "replace")
    except OSError:
        return None
    # The command in parentheses may hold anything; the fields after the last one are fixed (proc(5)).
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in ("Z", "X") else int(fields[19])


def is_alive(pid: int, started_ticks: int) -> bool:
    """Whether the very process that started then still runs."""
    return start_ticks(pid) == started_ticks


def holders(mountpoint: str) -> list[Holder]:
    """Who has files or directories under `mountpoint` in use, as far as we may look. Never touches the mount itself."""
    found = []
    for entry in sorted((name for name in os.listdir("/proc") if name.isdigit()), key=int):
        path = next((path for path in _uses(entry) if inside(path, mountpoint)), None)
        if path is not None:
            found.append(Holder(int(entry), _command(entry), path))
    return found


def _uses(entry: str) -> Iterator[str]:
    """The paths that a process holds. Links in /proc are resolved by the kernel without asking the file system."""
    for link in ("cwd", "root"):
        yield from _target(f"/proc/{entry}/{link}")
    try:
        descriptors = os.listdir(f"/proc/{entry}/fd")
    except OSError:
        descriptors = []
    for descriptor in descriptors:
        yield from _target(f"/proc/{entry}/fd/{descriptor}")
    try:
        lines = Path(f"/proc/{entry}/maps").read_bytes().splitlines()
    except OSError:
        lines = []
    for line in lines:
        fields = line.split(None, 5)
        if len(fields) == 6 and fields[5].startswith(b"/"):
            yield os.fsdecode(fields[5])


def _target(link: str) -> Iterator[str]:
    try:
        yield os.readlink(link)
    except OSError:
        return


def _command(entry: str) -> str:
    try:
        return Path(f"/proc/{entry}/comm").read_text(errors="replace").strip()
    except OSError:
        return "?"
