"""What a mount leaves on a machine, read from /proc without asking the mount: a dead or hung one answers nobody."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path


def is_mounted(path: Path) -> bool:
    """Whether the kernel has a mount at `path` (absolute, without links), be its daemon alive or dead."""
    escaped = re.sub(r"[ \t\n\\]", lambda match: f"\\{ord(match[0]):03o}", str(path))
    lines = Path("/proc/self/mountinfo").read_text(errors="surrogateescape").split("\n")
    return any(line.split(" ")[4] == escaped for line in lines if line)


def daemons_of(mountpoint: Path) -> list[int]:
    """The living processes whose command line names both fluidfs and the mountpoint."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        # It may end while we look at it.
        with suppress(OSError):
            arguments = (entry / "cmdline").read_bytes().split(b"\0")
            named = any(b"fluidfs" in argument for argument in arguments) and os.fsencode(mountpoint) in arguments
            if named and process_state(int(entry.name)) not in {"Z", "X", ""}:
                found.append(int(entry.name))
    return found


def process_state(pid: int) -> str:
    """The state letter of proc(5), where `D` is what nobody can kill; "" for no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""
