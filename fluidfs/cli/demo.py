"""`fluidfs demo`: shows a bucket mounted and read, without any set-up."""

from __future__ import annotations

import argparse

from fluidfs.cli.parsing import EXITS, Commands, finish
from fluidfs.cli.settings import size_flag
from fluidfs.cli.terminal import Terminal
from fluidfs.errors import EnvironmentLacking, ExitStatus


def add(commands: Commands) -> None:
    """Adds the command."""
    parser = commands.add(
        "demo",
        usage="[OPTIONS]",
        brief="see it work, without any set-up",
        summary=(
            "Starts an object store on this machine, fills a bucket with real data, mounts it, reads it cold and\n"
            "warm with checksums compared, prints the figures, and leaves nothing behind."
        ),
        examples=(
            ("fluidfs demo", "takes about a minute"),
            ("fluidfs demo --keep", "leave store and mount up to look around, until Ctrl-C"),
        ),
        exits=((0, "everything was read right"), (1, "something failed or was read wrong"), *EXITS[2:]),
        run=run,
    )
    group = parser.add_argument_group("Options")
    group.add_argument("--size", metavar="SIZE", default="512M", help="size of the large file [512M]")
    group.add_argument("--keep", action="store_true", help="keep store and mount up until Ctrl-C")
    finish(parser, json=True)


def run(args: argparse.Namespace, terminal: Terminal) -> int:
    """Demonstrates."""
    size_bytes = size_flag("--size", args.size)
    try:
        from fluidfs.demo.run import run_demo
    except ImportError as error:
        raise EnvironmentLacking(f"the demonstration needs {error.name}: pip install 'fluidfs[demo]'") from error
    figures = run_demo(size_bytes=size_bytes, keep=args.keep, report=terminal.say)
    if args.json:
        terminal.json(figures.facts())
    else:
        terminal.fact(figures.table())
    return ExitStatus.DONE
