"""Getting a FUSE device that is mounted: by mount(2) as root, by fusermount3 as anybody else."""

from __future__ import annotations

import array
import ctypes
import errno
import os
import shutil
import socket
import subprocess
from contextlib import suppress
from dataclasses import dataclass

from fluidfs.errors import EnvironmentLacking, MountError, MountpointBusy

FILE_SYSTEM_TYPE = "fuse.fluidfs"
DEVICE = "/dev/fuse"
# The largest READ that the kernel may send: 256 pages, what INIT can negotiate.
MAX_READ_BYTES = 1 << 20

_MS_RDONLY, _MS_NOSUID, _MS_NODEV = 1, 2, 4
_FUSERMOUNT_TIMEOUT_S = 30


@dataclass(frozen=True, slots=True)
class MountFacts:
    """What the kernel is told of a mount."""

    source: str
    mountpoint: str
    read_only: bool
    allow_other: bool


def open_mounted(facts: MountFacts) -> int:
    """Mounts and returns the device's descriptor, which the caller owns. Nothing answers requests on it yet.

    `default_permissions` is always on: the kernel checks modes, for us and for what the source does not know.
    Raises EnvironmentLacking, MountpointBusy or MountError with what to do, and leaves nothing mounted then.
    """
    return _mount_as_root(facts) if os.geteuid() == 0 else _mount_by_fusermount(facts)


def _mount_as_root(facts: MountFacts) -> int:
    try:
        fd = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise EnvironmentLacking(
            f"{DEVICE} does not exist: load the module (modprobe fuse), or give the container the device"
        ) from error
    except OSError as error:
        raise EnvironmentLacking(
            f"{DEVICE} cannot be opened ({error.strerror}): give this process the device"
        ) from error
    options = [
        f"fd={fd}",
        "rootmode=40000",
        f"user_id={os.geteuid()}",
        f"group_id={os.getegid()}",
        "default_permissions",
        f"max_read={MAX_READ_BYTES}",
    ]
    if facts.allow_other:
        options.append("allow_other")
    flags = _MS_NOSUID | _MS_NODEV | (_MS_RDONLY if facts.read_only else 0)
    libc = ctypes.CDLL(None, use_errno=True)
    result = libc.mount(
        os.fsencode(facts.source),
        os.fsencode(facts.mountpoint),
        FILE_SYSTEM_TYPE.encode(),
        ctypes.c_ulong(flags),
        ",".join(options).encode(),
    )
    if result == 0:
        return fd
    code = ctypes.get_errno()
    os.close(fd)
    raise _mount_error(code, facts.mountpoint)


def _mount_error(code: int, mountpoint: str) -> MountError | EnvironmentLacking:
    if code == errno.EPERM:
        return EnvironmentLacking("mount(2) is not permitted: this needs CAP_SYS_ADMIN, or fusermount3 as another user")
    if code == errno.ENODEV:
        return EnvironmentLacking("the kernel has no FUSE: load the module (modprobe fuse)")
    if code == errno.EBUSY:
        return MountpointBusy(f"{mountpoint} is busy: unmount what is there, or name another directory")
    if code in (errno.ENOENT, errno.ENOTDIR):
        return MountError(f"{mountpoint} is not a directory: make it first (mkdir -p)")
    return MountError(f"mounting on {mountpoint} failed: {os.strerror(code)}")


def _mount_by_fusermount(facts: MountFacts) -> int:
    program = shutil.which("fusermount3")
    if program is None:
        raise EnvironmentLacking("fusermount3 is not installed: apt-get install fuse3, or mount as root")
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours, theirs:
        try:
            done = subprocess.run(
                [program, "-o", ",".join(_fusermount_options(facts)), "--", facts.mountpoint],
                env={**os.environ, "_FUSE_COMMFD": str(theirs.fileno()), "LC_ALL": "C"},
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_FUSERMOUNT_TIMEOUT_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise EnvironmentLacking(f"{program} cannot be run: {error}") from error
        if done.returncode != 0:
            raise _fusermount_error(done.stderr.strip(), facts)
        ours.settimeout(_FUSERMOUNT_TIMEOUT_S)
        fd = _receive_fd(ours)
    if fd is None:
        raise MountError(f"{program} reported success and sent no device")
    os.set_inheritable(fd, False)
    return fd


def _fusermount_options(facts: MountFacts) -> list[str]:
    # fusermount3 splits at commas that no backslash precedes.
    source = facts.source.replace("\\", "\\\\").replace(",", "\\,")
    options = ["nosuid", "nodev", "default_permissions", f"max_read={MAX_READ_BYTES}"]
    options += [f"fsname={source}", "subtype=fluidfs"]
    if facts.read_only:
        options.append("ro")
    if facts.allow_other:
        options.append("allow_other")
    return options


def _fusermount_error(message: str, facts: MountFacts) -> MountError | EnvironmentLacking:
    lines = message.splitlines()
    last = lines[-1] if lines else "it says nothing"
    if "allow_other" in message and "user_allow_other" in message:
        return EnvironmentLacking(
            "--allow-other needs a line `user_allow_other` in /etc/fuse.conf, which root must write"
        )
    if DEVICE in message and "Permission denied" in message:
        # fusermount3 opens the device with the caller's rights, though it is setuid.
        return EnvironmentLacking(f"you may not open {DEVICE}: root must give it the mode that udev does (chmod 666)")
    if DEVICE in message or "modprobe" in message:
        return EnvironmentLacking(f"fusermount3 finds no {DEVICE}: modprobe fuse, or give the container the device")
    if "Operation not permitted" in message and "user has no write access" not in message:
        return EnvironmentLacking(
            "fusermount3 may not mount: it must be setuid root (apt-get install --reinstall fuse3)"
        )
    if "user has no write access" in message:
        return MountError(f"{facts.mountpoint} must be writable and owned by you, for fusermount3 to mount there")
    if "busy" in message:
        return MountpointBusy(f"{facts.mountpoint} is busy: unmount what is there, or name another directory")
    return MountError(f"mounting on {facts.mountpoint} failed: {last}")


def _receive_fd(sock: socket.socket) -> int | None:
    descriptors = array.array("i")
    try:
        _, ancillary, _, _ = sock.recvmsg(1, socket.CMSG_LEN(descriptors.itemsize))
    except OSError:
        return None
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
    return descriptors[0] if descriptors else None


@dataclass(frozen=True, slots=True)
class Tuning:
    """What could be set for a mount from outside of FUSE's own negotiation."""

    read_ahead_kib: int
    max_background: int


# Reads of 1 MiB instead of 128 KiB: INIT cannot raise the readahead of the mount's device, root can.
_READ_AHEAD_KIB = 1024
_MAX_BACKGROUND = 64


def tune(mountpoint_device: int, *, max_background: int | None = None) -> Tuning:
    """Raises the mount's readahead and the requests that may be under way, where we may; says what holds then.

    `mountpoint_device` is st_dev of the mounted root. Without permission the kernel's defaults stay (128 KiB, 12).
    `max_background` is what INIT agreed on already.
    """
    major, minor = os.major(mountpoint_device), os.minor(mountpoint_device)
    read_ahead = _set(f"/sys/class/bdi/{major}:{minor}/read_ahead_kb", _READ_AHEAD_KIB, default=128)
    if max_background is not None:
        return Tuning(read_ahead, max_background)
    connection = f"/sys/fs/fuse/connections/{minor}"
    background = _set(f"{connection}/max_background", _MAX_BACKGROUND, default=12)
    _set(f"{connection}/congestion_threshold", _MAX_BACKGROUND * 3 // 4, default=9)
    return Tuning(read_ahead, background)


def _set(path: str, value: int, *, default: int) -> int:
    with suppress(OSError):
        with open(path, "w", encoding="ascii") as file:
            file.write(str(value))
        return value
    return default
