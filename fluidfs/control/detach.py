"""Ending a mount that no daemon ends: umount2(2) as root, fusermount3 for everybody else."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import subprocess

from fluidfs.errors import EnvironmentLacking, MountError, MountpointBusy

_MNT_DETACH = 2
_UMOUNT_NOFOLLOW = 8
_FUSERMOUNT_TIMEOUT_S = 30.0


def detach(mountpoint: str, *, lazy: bool) -> None:
    """Unmounts `mountpoint`. `lazy` takes the name away at once and the mount when its last user lets go.

    Raises MountpointBusy when it is in use and not `lazy`, MountError when the kernel or fusermount3 refuses.
    """
    if os.geteuid() == 0:
        _umount2(mountpoint, _UMOUNT_NOFOLLOW | (_MNT_DETACH if lazy else 0))
    else:
        _fusermount3(mountpoint, lazy=lazy)


def _umount2(mountpoint: str, flags: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.umount2(os.fsencode(mountpoint), flags) != 0:
        number = ctypes.get_errno()
        kind = MountpointBusy if number == errno.EBUSY else MountError
        raise kind(f"{mountpoint} cannot be unmounted: {os.strerror(number)}")


def _fusermount3(mountpoint: str, *, lazy: bool) -> None:
    program = shutil.which("fusermount3")
    if program is None:
        raise EnvironmentLacking("fusermount3 is missing, without it only root can unmount: apt-get install fuse3")
    command = [program, "-u", *(["-z"] if lazy else []), "--", mountpoint]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_FUSERMOUNT_TIMEOUT_S, env={"LC_ALL": "C"}, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MountError(f"{mountpoint} cannot be unmounted: {error}") from error
    if done.returncode != 0:
        said = (done.stderr.strip() or f"fusermount3 ended with {done.returncode}").splitlines()[-1]
        kind = MountpointBusy if "busy" in said.lower() else MountError
        raise kind(f"{mountpoint} cannot be unmounted: {said}")
