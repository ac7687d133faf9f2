"""`fluidfs mount`: leaves a daemon in the background, or stays."""

from __future__ import annotations

import argparse
import os
import stat
import sys
from collections.abc import Callable

from fluidfs.cli.parsing import EXITS, Commands, add_table_flags, finish
from fluidfs.cli.settings import mount_options
from fluidfs.cli.terminal import Terminal, shown
from fluidfs.config import MountOptions, table
from fluidfs.errors import EnvironmentLacking, ExitStatus, MountError, MountpointBusy


def add(commands: Commands) -> None:
    """Adds the command."""
    parser = commands.add(
        "mount",
        usage="[OPTIONS] SOURCE MOUNTPOINT",
        brief="mount a bucket or a directory",
        summary=(
            "Mounts SOURCE at MOUNTPOINT and returns when it can be used, leaving a daemon in the background.\n"
            "Every option may also be given as -o NAME=VALUE, as an environment variable FLUIDFS_NAME and as\n"
            "a key of the file of --config; a flag beats the environment, which beats the file.\n"
            "Sizes: 64M, 1.5Gi. Times: 90s, 1h30m. A switch is taken back by --no-NAME."
        ),
        examples=(
            ("fluidfs mount s3://bucket/prefix /mnt/data", "AWS, credentials from where boto3 looks"),
            ("fluidfs mount s3://bucket /mnt/data --endpoint-url http://127.0.0.1:9000 --path-style", "any S3 server"),
            ("fluidfs mount s3://bucket /mnt/data --cache /dev/shm/f:8G:MEM --cache /ssd/f:200G", "memory before SSD"),
            ("fluidfs mount file:///nfs/dataset /mnt/data", "a slow directory, cached"),
            ("s3://bucket /mnt/data fluidfs ro,_netdev,allow_other,region=eu-west-1 0 0", "a line of /etc/fstab"),
        ),
        exits=EXITS,
        run=run,
    )
    where = parser.add_argument_group("Arguments")
    where.add_argument("source", metavar="SOURCE", help="s3://BUCKET[/PREFIX] or file:///DIRECTORY")
    where.add_argument("mountpoint", metavar="MOUNTPOINT", help="an existing directory")
    add_table_flags(parser, table.STORE, table.NAMES, table.CACHE, table.FETCHING, table.RUNNING)
    parser.add_argument_group("As mount(8) has it").add_argument(
        "-o", dest="typed", metavar="NAME=VALUE,…", action="append", default=[], help="options by name, comma separated"
    )
    finish(parser)


def run(args: argparse.Namespace, terminal: Terminal) -> int:
    """Mounts."""
    options = mount_options(args, source=args.source, mountpoint=args.mountpoint, typed=args.typed)
    mount(options, terminal)
    return ExitStatus.DONE


def mount(options: MountOptions, terminal: Terminal) -> None:
    """Returns when the mount is ready; with `foreground`, when it has ended. Raises FluidfsError."""
    from fluidfs.control.background import run_in_background
    from fluidfs.control.mounts import canonical, mount_table
    from fluidfs.control.place import make_place, place_of
    from fluidfs.control.registry import mount_id

    options = _replaced(options, mountpoint=canonical(options.mountpoint, mount_table()))
    check(options)
    with make_place(place_of(os.environ, os.geteuid()), uid=os.geteuid()) as place:
        log_file = options.log_file or (
            None if options.foreground else f"{place.path}/{mount_id(options.mountpoint)}.log"
        )
    options = _replaced(options, log_file=log_file)
    told = f"{shown(options.source)} is mounted at {shown(options.mountpoint)}"
    if options.foreground:
        serve(options, lambda: terminal.say(f"{told}; Ctrl-C unmounts"))
    else:
        run_in_background(lambda ready: serve(options, ready), log_file=log_file or os.devnull)
        terminal.say(told)


def serve(options: MountOptions, ready: Callable[[], None]) -> None:
    """Is the daemon, in this process."""
    from fluidfs import logs
    from fluidfs.daemon import run_mount

    stream = sys.stderr
    if options.foreground and options.log_file is not None:
        stream = open(options.log_file, "a", encoding="utf-8", opener=_private)  # noqa: SIM115 - as long as the process
    logs.configure(level=options.log_level, as_json=options.log_json, stream=stream)
    run_mount(options, ready=ready)


def check(options: MountOptions) -> None:
    """What can be said before anything starts. Raises UsageError, MountError, MountpointBusy, EnvironmentLacking."""
    from fluidfs.store.source import parse_source

    parse_source(options.source)
    _refuse_what_is_mounted(options.mountpoint)
    if options.allow_other and os.geteuid() != 0 and not _others_are_allowed():
        raise EnvironmentLacking(
            "--allow-other needs a line `user_allow_other` in /etc/fuse.conf, which root can write"
        )


def _refuse_what_is_mounted(mountpoint: str) -> None:
    from fluidfs.control.mounts import FLUIDFS_TYPE, mount_at, mount_table
    from fluidfs.control.place import readable_places
    from fluidfs.control.registry import list_mounts

    mount_entries = mount_table()
    entry = mount_at(mountpoint, mount_entries)
    if entry is None:
        _check_directory(mountpoint)
        return
    if entry.fs_type == FLUIDFS_TYPE:
        uid = os.geteuid()
        known = list_mounts(readable_places(os.environ, uid=uid), table=mount_entries, uid=uid)
        if any(mount.mountpoint == mountpoint and mount.state == "dead" for mount in known):
            return  # a mount without a daemon serves nobody: the daemon takes its place
    raise MountpointBusy(
        f"{mountpoint} has {entry.source} ({entry.fs_type}) mounted on it already: "
        f"`{'fluidfs umount' if entry.fs_type == FLUIDFS_TYPE else 'umount'} {mountpoint}`, or use another directory"
    )


def _check_directory(mountpoint: str) -> None:
    try:
        facts = os.stat(mountpoint)
    except FileNotFoundError as error:
        raise MountError(f"{mountpoint} does not exist: mkdir -p {mountpoint}") from error
    except OSError as error:
        raise MountError(f"{mountpoint} cannot be a mountpoint: {error.strerror}") from error
    if not stat.S_ISDIR(facts.st_mode):
        raise MountError(f"{mountpoint} is not a directory")
    if os.geteuid() != 0 and not os.access(mountpoint, os.W_OK):
        raise MountError(f"{mountpoint} is not writable by you, and fusermount3 mounts only over what is: chown it")


def _others_are_allowed() -> bool:
    from fluidfs.doctor.machine import others_are_allowed

    return others_are_allowed()


def _replaced(options: MountOptions, **changes: str | None) -> MountOptions:
    from dataclasses import replace

    return replace(options, **changes)  # type: ignore[arg-type]


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
