"""One daemon a mountpoint: a claim held from before mount(2) to the end, which the kernel takes from the dead."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from fluidfs.control.place import Place
from fluidfs.control.registry import mount_id
from fluidfs.errors import MountpointBusy


@contextmanager
def claimed(place: Place, mountpoint: str) -> Iterator[None]:
    """Holds the claim on `mountpoint` while the block runs. Raises MountpointBusy when another process has it.

    Without it two daemons that start at once would mount over each other, and the one that gives way would take the
    other's mount down.
    """
    name = f"{mount_id(mountpoint)}.lock"
    fd = _locked(place, name)
    if fd is None:
        raise MountpointBusy(f"{mountpoint} is busy: another `fluidfs mount` has it, or is making it")
    try:
        yield
    finally:
        # While it is ours, so that nobody else's claim goes with the name.
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=place.fd)
        os.close(fd)


def _locked(place: Place, name: str) -> int | None:
    """The lock file's descriptor, locked; None when somebody else has it."""
    while True:
        fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600, dir_fd=place.fd)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Its last owner may have removed the name between our two calls; then the lock is on nothing.
            if os.fstat(fd).st_nlink > 0:
                return fd
        except BlockingIOError:
            os.close(fd)
            return None
        os.close(fd)
