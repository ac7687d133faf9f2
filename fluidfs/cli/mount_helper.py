"""`mount.fluidfs`, the helper that mount(8) and /etc/fstab call, with the exit statuses of mount(8).

    mount.fluidfs SOURCE MOUNTPOINT [-sfnv] [-N NAMESPACE] [-t TYPE] [-o OPTIONS]

mount(8) looks for it in /sbin: `ln -s "$(command -v mount.fluidfs)" /sbin/` after installing into a virtual
environment.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from fluidfs.cli.mount import check, mount
from fluidfs.cli.parsing import Parser
from fluidfs.cli.settings import mount_options
from fluidfs.cli.terminal import Terminal, shown
from fluidfs.errors import EnvironmentLacking, FluidfsError, UsageError

# mount(8), "EXIT STATUS".
MOUNTED, WRONG_USAGE, SYSTEM_ERROR, INTERRUPTED, MOUNT_FAILED = 0, 1, 2, 8, 32


def main(argv: Sequence[str] | None = None) -> int:
    """Mounts as mount(8) asks, in the background."""
    terminal = Terminal()
    try:
        _mount(list(sys.argv[1:] if argv is None else argv), terminal)
    except UsageError as error:
        return _fail(terminal, error.message, WRONG_USAGE)
    except EnvironmentLacking as error:
        return _fail(terminal, error.message, SYSTEM_ERROR)
    except FluidfsError as error:
        return _fail(terminal, error.message, MOUNT_FAILED)
    except KeyboardInterrupt:
        return INTERRUPTED
    except SystemExit:
        return MOUNTED
    except Exception as error:  # noqa: BLE001 - the last frame: whatever it is, mount(8) gets a status
        terminal.say(f"mount.fluidfs: {type(error).__name__}: {error}")
        return SYSTEM_ERROR
    return MOUNTED


def _mount(arguments: list[str], terminal: Terminal) -> None:
    args = _parser().parse_args(arguments)
    options = mount_options(args, source=args.source, mountpoint=args.mountpoint, typed=args.typed, sloppy=args.sloppy)
    if args.fake:
        check(options)
    else:
        mount(options, terminal)


def _parser() -> Parser:
    parser = Parser(
        prog="mount.fluidfs",
        usage="SOURCE MOUNTPOINT [-sfnv] [-N NAMESPACE] [-t TYPE] [-o OPTIONS]",
        summary="Mounts SOURCE at MOUNTPOINT for mount(8) and /etc/fstab. `fluidfs mount --help` explains the options.",
        examples=(
            ("s3://bucket /mnt/data fluidfs ro,_netdev,region=eu-west-1 0 0", "a line of /etc/fstab"),
            ("mount -t fluidfs s3://bucket /mnt/data -o endpoint_url=http://127.0.0.1:9000,path-style", "by hand"),
        ),
        exits=(
            (MOUNTED, "mounted"),
            (WRONG_USAGE, "wrong usage"),
            (SYSTEM_ERROR, "the machine lacks something"),
            (INTERRUPTED, "interrupted"),
            (MOUNT_FAILED, "the mount failed"),
        ),
    )
    parser.add_argument("source", metavar="SOURCE", help="s3://BUCKET[/PREFIX] or file:///DIRECTORY")
    parser.add_argument("mountpoint", metavar="MOUNTPOINT", help="an existing directory")
    parser.add_argument(
        "-o", dest="typed", metavar="OPTIONS", action="append", default=[], help="options, comma separated"
    )
    parser.add_argument("-s", dest="sloppy", action="store_true", help="ignore unknown options")
    parser.add_argument("-f", dest="fake", action="store_true", help="check everything, mount nothing")
    parser.add_argument("-v", action="store_true", help="accepted for mount(8)")
    for ignored in ("-n", "-w", "-r"):
        parser.add_argument(ignored, action="store_true", help=argparse.SUPPRESS)
    for ignored in ("-N", "-t"):
        parser.add_argument(ignored, help=argparse.SUPPRESS)
    parser.add_argument("-h", "--help", action="help", help="show this help")
    return parser


def _fail(terminal: Terminal, message: str, status: int) -> int:
    terminal.say(f"mount.fluidfs: {shown(' '.join(message.split()))}")
    return status
