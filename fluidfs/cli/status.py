"""`fluidfs status`: what is mounted on this machine, and how it does."""

from __future__ import annotations

import argparse
import os
import time
from typing import TYPE_CHECKING, Any

from fluidfs.cli.parsing import Commands, finish
from fluidfs.cli.settings import caller
from fluidfs.cli.terminal import Terminal
from fluidfs.config.resolve import absolute
from fluidfs.errors import ControlError, ExitStatus, UsageError

if TYPE_CHECKING:
    from fluidfs.control.registry import KnownMount


def add(commands: Commands) -> None:
    """Adds the command."""
    parser = commands.add(
        "status",
        usage="[OPTIONS] [MOUNTPOINT]",
        brief="what is mounted, and how the cache does",
        summary=(
            "Shows the mounts of fluidfs on this machine, or one: source, data plane, cache levels and their\n"
            "fill, hit ratio, throughput, errors of the store, keys that cannot be shown. Root sees the mounts\n"
            "of all users."
        ),
        examples=(
            ("fluidfs status", "all mounts"),
            ("fluidfs status /mnt/data --json", "one, for a program"),
            ("fluidfs status /mnt/data --metrics", "its metrics in the text format of Prometheus"),
        ),
        exits=(
            (0, "done"),
            (1, "MOUNTPOINT is not a mount of fluidfs, or nobody serves it any more"),
            (2, "wrong usage"),
            (130, "interrupted"),
        ),
        run=run,
    )
    group = parser.add_argument_group("Arguments")
    group.add_argument("mountpoint", metavar="MOUNTPOINT", nargs="?", help="one mount [all]")
    parser.add_argument_group("Options").add_argument(
        "--metrics", action="store_true", help="print the metrics of MOUNTPOINT instead"
    )
    finish(parser, json=True)


def run(args: argparse.Namespace, terminal: Terminal) -> int:
    """Prints what the daemons say."""
    from fluidfs.cli.status_text import status_lines
    from fluidfs.control.lookup import client_of, known_mounts, mount_at_path

    mounts = known_mounts(os.environ, uid=os.geteuid())
    if args.mountpoint is not None:
        mounts = [mount_at_path(absolute(args.mountpoint, caller()), mounts)]
    if args.metrics:
        if args.mountpoint is None:
            raise UsageError("--metrics needs a MOUNTPOINT")
        with client_of(mounts[0]) as client:
            terminal.fact(client.metrics().rstrip("\n"))
        return ExitStatus.DONE
    facts = [facts_of_mount(mount) for mount in mounts]
    if args.json:
        terminal.json(facts if args.mountpoint is None else facts[0])
    else:
        for number, one in enumerate(facts):
            if number:
                terminal.fact()
            for line in status_lines(one):
                terminal.fact(line)
        if not facts:
            terminal.say("nothing is mounted")
    served = all(one["state"] == "live" for one in facts)
    return ExitStatus.DONE if served or args.mountpoint is None else ExitStatus.FAILED


def facts_of_mount(mount: KnownMount) -> dict[str, Any]:
    """The daemon's own facts with `state`; where no daemon answers, what is known without it, with `advice`."""
    from fluidfs.control.lookup import client_of

    facts: dict[str, Any] = {"state": mount.state, "source": mount.source, "mountpoint": mount.mountpoint}
    record = mount.record
    if record is not None:
        facts |= {
            "pid": record.pid,
            "version": record.version,
            "uptime_s": max(time.time() - record.started_s, 0.0) if mount.state == "live" else None,
            "log_file": record.log_file,
        }
    if mount.state == "dead":
        facts["advice"] = (
            "its daemon is gone and every access fails: mount it again, or clear it away with `fluidfs umount`"
        )
    elif mount.state == "unreachable":
        owner = "another user" if mount.user_id != os.geteuid() else "a daemon whose record is elsewhere"
        facts["advice"] = f"it is served by {owner}; its user or root can ask"
    else:
        try:
            with client_of(mount) as client:
                facts = client.status() | {name: facts[name] for name in ("state", "uptime_s", "log_file")}
        except ControlError as error:
            facts |= {"state": "silent", "advice": f"{error.message}; `fluidfs umount --lazy` ends it"}
    return facts
