"""`fluidfs umount`: ends a mount and waits until it is gone."""

from __future__ import annotations

import argparse
import os

from fluidfs.cli.parsing import Commands, finish
from fluidfs.cli.settings import caller, duration_flag
from fluidfs.cli.terminal import Terminal, shown
from fluidfs.config.resolve import absolute
from fluidfs.errors import ExitStatus, MountpointBusy

_HOLDERS_SHOWN = 5


def add(commands: Commands) -> None:
    """Adds the command."""
    parser = commands.add(
        "umount",
        usage="[OPTIONS] MOUNTPOINT…",
        brief="end a mount",
        summary=(
            "Unmounts each MOUNTPOINT, and returns when mount and daemon are gone. The mount that a killed daemon\n"
            "left behind is cleared away."
        ),
        examples=(
            ("fluidfs umount /mnt/data", "wait until it is gone; if it is in use, say by whom"),
            ("fluidfs umount --lazy /mnt/data", "take the name away now; open files go on until they are closed"),
        ),
        run=run,
    )
    parser.add_argument_group("Arguments").add_argument(
        "mountpoints", metavar="MOUNTPOINT", nargs="+", help="where it is mounted"
    )
    group = parser.add_argument_group("Options")
    group.add_argument("--lazy", "-z", action="store_true", help="do not wait for open files")
    group.add_argument("--timeout", metavar="TIME", default="30s", help="how long to wait [30s]")
    finish(parser)


def run(args: argparse.Namespace, terminal: Terminal) -> int:
    """Unmounts; the first that fails ends the command."""
    from fluidfs.control.ending import end_mount

    timeout_s = duration_flag("--timeout", args.timeout)
    for mountpoint in args.mountpoints:
        path = absolute(mountpoint, caller())
        try:
            end_mount(path, environment=os.environ, uid=os.geteuid(), lazy=args.lazy, timeout_s=timeout_s)
        except MountpointBusy as error:
            raise MountpointBusy(f"{error.message}{_by_whom(path)}; close them, or use --lazy") from error
    return ExitStatus.DONE


def _by_whom(mountpoint: str) -> str:
    from fluidfs.control.mounts import canonical, mount_table
    from fluidfs.control.processes import holders

    found = holders(canonical(mountpoint, mount_table()))
    if not found:
        return ", by a process that you may not see or a mount inside it"
    named = [f"{holder.command} (pid {holder.pid}, {shown(holder.what)})" for holder in found[:_HOLDERS_SHOWN]]
    more = f" and {len(found) - _HOLDERS_SHOWN} more" if len(found) > _HOLDERS_SHOWN else ""
    return f", by {', '.join(named)}{more}"
