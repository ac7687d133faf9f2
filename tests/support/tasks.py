"""Processes that a mount holds up, as /proc shows them: nothing here asks the mount, which may answer nobody."""

from __future__ import annotations

import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from fluidfs.demo.traces import process_state

# State D for less than this is no waiting for a mount: a page from the disk, a lock of the kernel.
_BLINK_S = 0.02
# The innermost functions of a stack tell what is waited for; the outermost are the same in all.
_FRAMES = 9


@dataclass(frozen=True, slots=True)
class Waiting:
    """A thread and the functions of the kernel that it waits in, the innermost first."""

    pid: int
    command: str
    functions: str


def session_of(leader: int) -> list[int]:
    """The living processes of a session, its children's children among them."""
    found = []
    for pid in _pids():
        with suppress(OSError, IndexError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) == leader and fields[0] not in "ZX":
                found.append(pid)
    return found


def users_of(mountpoint: Path) -> list[int]:
    """The processes that have a file or directory of the mount open, or work in it. No link is followed."""
    path = str(mountpoint)
    return [pid for pid in _pids() if any(link == path or link.startswith(f"{path}/") for link in _links(pid))]


def in_state_d(pids: Iterable[int]) -> list[Waiting]:
    """The threads of these processes that are in state D now and stay in it for a moment."""
    suspects = [place for pid in pids for place in _threads(pid) if _state(place) == "D"]
    if not suspects:
        return []
    time.sleep(_BLINK_S)
    return [_described(place) for place in suspects if _state(place) == "D"]


def must_not_hang(pids: Callable[[], Iterable[int]], *, since: float, within_s: float) -> None:
    """Returns when none of `pids` (asked for again and again) is in state D; fails the test after `within_s`.

    The time counts from `since` on, of time.monotonic.
    """
    while waiting := in_state_d(pids()):
        if time.monotonic() - since > within_s:
            pytest.fail(f"in state D after {within_s:.0f} s:\n{_listed(waiting)}")


def must_end(pids: Iterable[int], *, since: float, within_s: float) -> None:
    """Returns when all of `pids` have ended (a zombie has); fails the test with their stacks after `within_s`."""
    while left := [pid for pid in pids if process_state(pid) not in ("", "Z", "X")]:
        if time.monotonic() - since > within_s:
            pytest.fail(f"still there after {within_s:.0f} s:\n{stacks_of(left)}")
        time.sleep(_BLINK_S)


def stacks_of(pids: Iterable[int]) -> str:
    """Where the threads of these processes are in the kernel, for a person to read."""
    return _listed([_described(place) for pid in pids for place in _threads(pid)])


def _listed(waiting: Iterable[Waiting]) -> str:
    return "\n".join(
        f"{thread.command} (process {thread.pid}), {count} threads: {thread.functions}"
        for thread, count in Counter(waiting).items()
    )


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _links(pid: int) -> list[str]:
    found = []
    folder = f"/proc/{pid}"
    with suppress(OSError):
        for path in (f"{folder}/cwd", f"{folder}/root", *(f"{folder}/fd/{fd}" for fd in os.listdir(f"{folder}/fd"))):
            with suppress(OSError):
                found.append(os.readlink(path))
    return found


def _threads(pid: int) -> list[Path]:
    with suppress(OSError):
        return [Path(f"/proc/{pid}/task/{tid}") for tid in os.listdir(f"/proc/{pid}/task")]
    return []


def _state(place: Path) -> str:
    with suppress(OSError):
        return (place / "stat").read_text().rpartition(")")[2].split()[0]
    return ""


def _described(place: Path) -> Waiting:
    def said(name: str) -> str:
        try:
            return (place / name).read_text().replace("\0", " ").strip()
        except OSError as error:
            # Only root may see a stack.
            return f"({name}: {error.strerror})"

    stack = said("stack")
    functions = " < ".join(re.findall(r"^\[<0>\] (\w+)", stack, re.MULTILINE)[:_FRAMES])
    return Waiting(int(place.parent.parent.name), said("cmdline")[:120] or said("comm"), functions or stack)
