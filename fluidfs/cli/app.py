"""The entry point: picks the command, runs it, and turns what it raises into one line and an exit status."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence

from fluidfs.cli import cache, completion, demo, doctor, mount, status, umount, warm
from fluidfs.cli.parsing import Commands, Parser
from fluidfs.cli.terminal import Terminal, shown
from fluidfs.errors import ExitStatus, FluidfsError, facts_of
from fluidfs.version import VERSION

# What a shell makes of a program that SIGINT ended.
INTERRUPTED = 130

# The order in which a newcomer meets them.
_COMMANDS = (mount, umount, status, warm, cache, doctor, demo, completion)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `fluidfs argv…` and returns its exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    terminal = Terminal()
    try:
        return _run(arguments, terminal)
    except (Exception, KeyboardInterrupt, BaseExceptionGroup) as error:  # noqa: BLE001 - the last frame: all end in a line
        return _ended_by(_at_heart(error), terminal, debug="--debug" in arguments)


def _ended_by(error: BaseException, terminal: Terminal, *, debug: bool) -> int:
    """Says what a command ended with, and returns the exit status for it."""
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    if isinstance(error, BrokenPipeError) and not isinstance(error, FluidfsError):
        # Whoever read our output has seen enough; what is buffered must not raise again at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return ExitStatus.FAILED
    if debug:
        traceback.print_exception(error)
    if isinstance(error, FluidfsError):
        _say(terminal, error.message)
        return facts_of(type(error)).exit_status
    _say(terminal, f"{type(error).__name__}: {error} (this is a bug or a surprise: --debug prints a traceback)")
    return ExitStatus.FAILED


def _at_heart(error: BaseException) -> BaseException:
    """What a nursery wrapped: an interruption wherever it is, else the one error that there is, else the group
    itself.
    """
    if not isinstance(error, BaseExceptionGroup):
        return error
    inner = [_at_heart(one) for one in error.exceptions]
    interrupted = next((one for one in inner if isinstance(one, KeyboardInterrupt)), None)
    return interrupted or (inner[0] if len(inner) == 1 else error)


def build_parser() -> Parser:
    """The parser of the whole command line."""
    parser = Parser(
        prog="fluidfs",
        usage="COMMAND [OPTIONS] …",
        summary="A bucket as a local disk: mounts object stores through a cache that stays.",
        examples=(
            ("fluidfs demo", "see it work, without any set-up"),
            ("fluidfs mount s3://bucket/data /mnt/data", "mount a bucket; credentials come from where boto3 looks"),
            ("fluidfs status", "what is mounted, and how well the cache does"),
            ("fluidfs umount /mnt/data", "end it"),
        ),
        exits=(
            (0, "done"),
            (1, "failed; a line on stderr says why"),
            (2, "wrong usage"),
            (3, "partly done: some objects failed and are listed"),
            (4, "the machine lacks something; the line says what to do (`fluidfs doctor` looks for more)"),
            (130, "interrupted"),
        ),
    )
    commands = Commands(parser)
    for command in _COMMANDS:
        command.add(commands)
    group = parser.add_argument_group("General")
    group.add_argument("--version", action="version", version=f"fluidfs {VERSION}", help="print the version")
    group.add_argument("--debug", action="store_true", help="on an unexpected error print a traceback")
    group.add_argument("-h", "--help", action="help", help="show this help; `fluidfs COMMAND --help` shows a command's")
    return parser


def _run(arguments: list[str], terminal: Terminal) -> int:
    parser = build_parser()
    try:
        args = parser.parse_args(arguments)
    except SystemExit as end:
        # --help and --version have printed; nothing else exits.
        return int(end.code or 0)
    if not hasattr(args, "run"):
        parser.print_help(terminal.err)
        return ExitStatus.USAGE
    status = int(args.run(args, terminal))
    sys.stdout.flush()
    return status


def _say(terminal: Terminal, message: str) -> None:
    terminal.say(f"fluidfs: {shown(' '.join(message.split()))}")
