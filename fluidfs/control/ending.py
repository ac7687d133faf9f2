"""Ending a mount, whatever state it is in: asked politely while its daemon lives, detached when there is none."""

from __future__ import annotations

import time
from collections.abc import Mapping

from fluidfs.control.detach import detach
from fluidfs.control.lookup import client_of, known_mounts, mount_at_path
from fluidfs.control.mounts import FLUIDFS_TYPE, mount_at
from fluidfs.control.place import open_place
from fluidfs.control.processes import is_alive
from fluidfs.control.registry import KnownMount, MountRecord, remove_record
from fluidfs.errors import ControlError, MountError

# The end of a daemon is not announced; looking costs a read of /proc.
_LOOK_S = 0.02


def end_mount(path: str, *, environment: Mapping[str, str], uid: int, lazy: bool, timeout_s: float) -> None:
    """Returns when the mount at the absolute `path` and, unless `lazy`, its daemon are gone.

    Raises MountpointBusy when it is in use and not `lazy`, MountError when it is no mount of ours or outlasts
    `timeout_s`, ControlError when its daemon does not answer.
    """
    mount = mount_at_path(path, known_mounts(environment, uid=uid))
    deadline_s = time.monotonic() + timeout_s
    if mount.state == "live" and mount.record is not None:
        _end_live(mount, mount.record, lazy=lazy, timeout_s=timeout_s, deadline_s=deadline_s)
    else:
        # Nothing serves a dead mount, so nobody loses anything; what is only out of our sight is asked for as usual.
        detach(mount.mountpoint, lazy=lazy or mount.state == "dead")
        if mount.record is not None and mount.place is not None:
            with open_place(mount.place) as place:
                if place.uid == uid:
                    remove_record(place, mount.record.mount_id)


def _end_live(mount: KnownMount, record: MountRecord, *, lazy: bool, timeout_s: float, deadline_s: float) -> None:
    try:
        with client_of(mount) as client:
            client.stop(lazy=lazy, timeout_s=timeout_s)
    except ControlError as error:
        # The daemon may have ended, mount and all, before its answer reached us.
        if _is_mounted(record) or is_alive(record.pid, record.pid_start_ticks):
            if lazy and _is_mounted(record):
                detach(record.mountpoint, lazy=True)
                return
            raise ControlError(
                f"{error.message} (pid {record.pid}); `fluidfs umount --lazy {record.mountpoint}` does without it"
            ) from error
    while _is_mounted(record) or (not lazy and is_alive(record.pid, record.pid_start_ticks)):
        if time.monotonic() > deadline_s:
            what = "mounted" if _is_mounted(record) else f"served by process {record.pid}, though no longer mounted,"
            log = f"; its log is {record.log_file}" if record.log_file else ""
            raise MountError(f"{record.mountpoint} is still {what} after {timeout_s:.0f} s{log}")
        time.sleep(_LOOK_S)


def _is_mounted(record: MountRecord) -> bool:
    entry = mount_at(record.mountpoint)
    return entry is not None and entry.fs_type == FLUIDFS_TYPE
