"""The directory that holds the sockets, records and logs of one user's mounts.

It may lie in /tmp, where others can make names before us, so it is opened once without following a link, its owner is
checked on the open descriptor, and everything in it is reached through that descriptor.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from fluidfs.errors import EnvironmentLacking

# Containers and tests have their own runtime directory; everybody else needs none of this.
OVERRIDE = "FLUIDFS_RUNTIME_DIR"


def place_of(environment: Mapping[str, str], uid: int) -> str:
    """Where the mounts of `uid` are recorded: /run/fluidfs for root, else below $XDG_RUNTIME_DIR, else in /tmp."""
    if environment.get(OVERRIDE, "").startswith("/"):
        return environment[OVERRIDE].rstrip("/")
    if uid == 0:
        return "/run/fluidfs"
    runtime = environment.get("XDG_RUNTIME_DIR", "")
    return f"{runtime.rstrip('/')}/fluidfs" if runtime.startswith("/") else f"/tmp/fluidfs-{uid}"


class Place:
    """An open, checked directory. A context manager; `path` is for messages and logs only."""

    __slots__ = ("fd", "path", "uid")

    def __init__(self, path: str, fd: int, uid: int) -> None:
        self.path, self.fd, self.uid = path, fd, uid

    def __enter__(self) -> Place:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the descriptor."""
        os.close(self.fd)

    def reach(self, name: str) -> str:
        """A path to `name` for calls that take no dir_fd, short enough for a socket address (108 bytes)."""
        return f"/proc/self/fd/{self.fd}/{name}"

    def names(self) -> list[str]:
        """The names in it, sorted."""
        return sorted(os.listdir(self.fd))


def make_place(path: str, *, uid: int) -> Place:
    """Opens the directory of `uid` at `path`, made 0700 where it is missing. Raises EnvironmentLacking."""
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        pass  # whose it is, is asked below
    except OSError as error:
        raise _unusable(path, error.strerror or "cannot be made") from error
    place = open_place(path)
    facts = os.fstat(place.fd)
    try:
        if facts.st_uid != uid:
            raise _unusable(path, f"belongs to user {facts.st_uid}")
        if facts.st_mode & 0o022:
            raise _unusable(path, f"mode {stat.S_IMODE(facts.st_mode):04o} lets others write")
        if facts.st_mode & 0o077:
            os.fchmod(place.fd, 0o700)
    except BaseException:
        place.close()
        raise
    return place


def readable_places(environment: Mapping[str, str], *, uid: int) -> Iterator[Place]:
    """The places that exist and whose mounts `uid` may ask: his own first; for root those of everybody.

    Each is closed when the next is asked for.
    """
    own = place_of(environment, uid)
    paths = [own]
    if uid == 0 and OVERRIDE not in environment:
        paths += sorted(str(path) for path in Path("/run/user").glob("*/fluidfs"))
        paths += sorted(str(path) for path in Path("/tmp").glob("fluidfs-[0-9]*"))
    for path in paths:
        try:
            place = open_place(path)
        except EnvironmentLacking:
            continue
        with place:
            # A place in /tmp that is somebody else's might be bait: root looks into it, anybody else does not.
            if uid in (0, place.uid):
                yield place


def open_place(path: str) -> Place:
    """Opens a directory that exists, whosever it is; a link is refused. Raises EnvironmentLacking."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise _unusable(path, error.strerror or "cannot be opened") from error
    return Place(path, fd, os.fstat(fd).st_uid)


def _unusable(path: str, why: str) -> EnvironmentLacking:
    return EnvironmentLacking(
        f"the control directory {path} cannot be used ({why}): remove it, or set {OVERRIDE} to a directory of yours"
    )
