"""Checks of the machine: kernel, FUSE, limits, the control directory."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import resource
import shutil
import stat
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

from fluidfs.control.place import make_place, place_of
from fluidfs.doctor.check import Check
from fluidfs.errors import EnvironmentLacking
from fluidfs.units import format_size

# The oldest kernel that this version is tried on; FUSE had what we use before.
_TESTED_KERNEL = (5, 10)
# FUSE passthrough came with Linux 6.9.
_PASSTHROUGH_KERNEL = (6, 9)
# Versions held open, connections, and what Python needs.
_ENOUGH_DESCRIPTORS = 4096
# The daemon stays below 300 MiB; the rest is page cache, which a small group would evict all the time.
_ENOUGH_MEMORY_BYTES = 512 << 20


def machine_checks(environment: Mapping[str, str]) -> list[Check]:
    """All of them."""
    checks: tuple[Callable[[], Check], ...] = (
        native_code,
        kernel,
        passthrough,
        fuse_device,
        fusermount,
        other_users,
        descriptors,
        memory_limit,
        lambda: control_directory(environment),
    )
    return [check() for check in checks]


def native_code() -> Check:
    """Whether the extensions were built for this interpreter."""
    try:
        import fluidfs._native.engine  # noqa: F401
    except ImportError as error:
        return Check(
            "native code", "fail", str(error), "install fluidfs anew with this Python: pip install --force-reinstall"
        )
    return Check("native code", "ok", f"built for {platform.python_implementation()} {platform.python_version()}")


def kernel() -> Check:
    """Whether the kernel is one that fluidfs is tried on."""
    if kernel_version() >= _TESTED_KERNEL:
        return Check("kernel", "ok", platform.release())
    return Check("kernel", "warn", platform.release(), "fluidfs is tested on Linux 5.10 and later")


def passthrough() -> Check:
    """Whether the kernel could serve reads of cached files without the daemon."""
    can = kernel_version() >= _PASSTHROUGH_KERNEL
    return Check("passthrough", "ok", "kernel can: yes" if can else "kernel can: no (it came with Linux 6.9)")


def fuse_device(path: str = "/dev/fuse") -> Check:
    """Whether the FUSE device is there and may be opened."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        advice = "modprobe fuse; a container needs --device /dev/fuse --cap-add SYS_ADMIN"
        return Check(path, "fail", "missing", advice)
    except OSError as error:
        # fusermount3 is no help: it opens the device with the file permissions of its caller.
        advice = f"chmod 0666 {path}, as Debian's udev does; a container needs --device {path}"
        return Check(path, "fail", f"cannot be opened: {error.strerror}", advice)
    return Check(path, "ok", "can be opened")


def fusermount() -> Check:
    """Whether fusermount3 is there, and privileged, which users other than root need."""
    program = shutil.which("fusermount3")
    needed = os.geteuid() != 0
    if program is None:
        return Check(
            "fusermount3", "fail" if needed else "warn", "missing: only root can mount", "apt-get install fuse3"
        )
    try:
        said = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=5, check=False).stdout
    except (OSError, subprocess.TimeoutExpired) as error:
        return Check(
            "fusermount3", "fail" if needed else "warn", f"does not run: {error}", "apt-get install --reinstall fuse3"
        )
    version = said.strip().rpartition(" ")[2] or "of unknown version"
    facts = os.stat(program)
    if facts.st_uid != 0 or not facts.st_mode & stat.S_ISUID:
        return Check(
            "fusermount3",
            "fail" if needed else "warn",
            f"{version}, not setuid root: only root can mount",
            f"chmod u+s {program}",
        )
    return Check("fusermount3", "ok", f"{version}, setuid root")


def other_users() -> Check:
    """Whether users other than root may pass --allow-other."""
    if others_are_allowed():
        return Check("--allow-other", "ok", "allowed to everybody by /etc/fuse.conf")
    advice = "" if os.geteuid() == 0 else "only if you need it: add the line user_allow_other to /etc/fuse.conf"
    return Check("--allow-other", "ok" if os.geteuid() == 0 else "warn", "allowed to root only", advice)


def others_are_allowed(conf: str = "/etc/fuse.conf") -> bool:
    """Whether fuse.conf has the line user_allow_other."""
    try:
        lines = Path(conf).read_text(errors="replace").splitlines()
    except OSError:
        return False
    return any(line.strip() == "user_allow_other" for line in lines)


def descriptors() -> Check:
    """How many files the daemon may hold open."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY or hard >= _ENOUGH_DESCRIPTORS:
        return Check("open files", "ok", "unlimited" if hard == resource.RLIM_INFINITY else f"up to {hard:,}")
    return Check(
        "open files", "warn", f"up to {hard:,}", f"raise the limit to {_ENOUGH_DESCRIPTORS:,}: ulimit -Hn, limits.conf"
    )


def memory_limit() -> Check:
    """What the control group leaves the daemon."""
    limit_bytes = cgroup_limit_bytes(Path("/proc/self/cgroup"), Path("/sys/fs/cgroup"))
    if limit_bytes is None:
        return Check("memory limit", "ok", "none")
    if limit_bytes >= _ENOUGH_MEMORY_BYTES:
        return Check("memory limit", "ok", format_size(limit_bytes))
    advice = f"give the control group {format_size(_ENOUGH_MEMORY_BYTES)}, or lower --memory"
    return Check("memory limit", "warn", format_size(limit_bytes), advice)


def control_directory(environment: Mapping[str, str]) -> Check:
    """Whether sockets and records of mounts have a place."""
    path = place_of(environment, os.geteuid())
    existed = os.path.lexists(path)
    try:
        make_place(path, uid=os.geteuid()).close()
    except EnvironmentLacking as error:
        return Check("control directory", "fail", path, error.message)
    if not existed:
        with contextlib.suppress(OSError):
            os.rmdir(path)  # unless a mount has begun to use it
    return Check("control directory", "ok", path)


def kernel_version(release: str = "") -> tuple[int, int]:
    """The two numbers that the release begins with; zeros where it does not."""
    match = re.match(r"(\d+)\.(\d+)", release or platform.release())
    return (int(match[1]), int(match[2])) if match is not None else (0, 0)


def cgroup_limit_bytes(membership: Path, hierarchy: Path) -> int | None:
    """The smallest memory limit from this process's group up to the root, cgroup v2 or v1; None for no limit."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return None
    limits = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            base, name = hierarchy, "memory.max"
        elif "memory" in controllers.split(","):
            base, name = hierarchy / "memory", "memory.limit_in_bytes"
        else:
            continue
        group = base / path.lstrip("/")
        for directory in (group, *group.parents):
            limits.append(_number_in(directory / name))
            if directory == base:
                break
    # v1 writes a number near 2**63 for none.
    found = [limit for limit in limits if limit is not None and limit < 2**60]
    return min(found, default=None)


def _number_in(path: Path) -> int | None:
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None
