"""Parsers whose help reads in the order people look: what it does, examples, options, exit statuses."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable, Iterable, Sequence
from typing import NoReturn

from fluidfs.cli.terminal import Terminal
from fluidfs.config.table import OPTIONS, Option
from fluidfs.errors import UsageError

Run = Callable[[argparse.Namespace, Terminal], int]

_MAX_WIDTH = 110

# What every command can end with, unless it says otherwise.
EXITS: tuple[tuple[int, str], ...] = (
    (0, "done"),
    (1, "failed; a line on stderr says why"),
    (2, "wrong usage: an option, an argument or a configuration file"),
    (4, "the machine lacks something; the line says what to do"),
    (130, "interrupted"),
)


class _Formatter(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=30, width=min(shutil.get_terminal_size().columns, _MAX_WIDTH))

    def add_usage(
        self,
        usage: str | None,
        actions: Iterable[argparse.Action],
        groups: Iterable[argparse._MutuallyExclusiveGroup],
        prefix: str | None = None,
    ) -> None:
        """`Usage:`, as the other headings are written."""
        super().add_usage(usage, actions, groups, "Usage: ")


class Parser(argparse.ArgumentParser):
    """An argparse parser that raises UsageError and takes no abbreviations."""

    def __init__(
        self,
        *,
        prog: str,
        usage: str = "",
        summary: str = "",
        examples: Sequence[tuple[str, str]] = (),
        exits: Sequence[tuple[int, str]] = (),
    ) -> None:
        super().__init__(
            prog=prog,
            usage=f"{prog} {usage}".strip().replace("%", "%%"),
            description=f"{summary}\n\n{_examples(examples)}".rstrip() if examples else summary,
            epilog=_exits(exits) if exits else None,
            formatter_class=_Formatter,
            allow_abbrev=False,
            add_help=False,
        )
        self.summary = summary

    def error(self, message: str) -> NoReturn:
        """What argparse has to say, as one line."""
        raise UsageError(f"{message.replace(chr(10), ' ')} (`{self.prog} --help` shows how)")


class Commands:
    """Where commands add themselves: the subparsers of `parent`."""

    def __init__(self, parent: Parser, *, dest: str = "command") -> None:
        self.parent = parent
        # argparse would indent its own list of them by what it calls the longest; ours is the group's description.
        self._list = parent.add_argument_group("Commands", "")
        self._subparsers = parent.add_subparsers(
            dest=dest, metavar="COMMAND", help=argparse.SUPPRESS, parser_class=Parser
        )

    def add(
        self,
        name: str,
        *,
        usage: str,
        summary: str,
        brief: str,
        examples: Sequence[tuple[str, str]],
        exits: Sequence[tuple[int, str]] = EXITS,
        run: Run | None = None,
    ) -> Parser:
        """A new command's parser, which knows `--debug` only; `finish` gives it `--help`. `brief` is for the list of
        commands.
        """
        parser: Parser = self._subparsers.add_parser(
            name,
            help=brief,
            prog=f"{self.parent.prog} {name}",
            usage=usage,
            summary=summary,
            examples=examples,
            exits=exits,
        )
        self._list.description = f"{self._list.description or ''}\n{name:<12} {brief}".lstrip("\n")
        if run is not None:
            parser.set_defaults(run=run)
        return parser


def finish(parser: Parser, *, json: bool = False) -> None:
    """Adds the options that all commands have, at the end of the list."""
    group = parser.add_argument_group("General")
    if json:
        group.add_argument("--json", action="store_true", help="print facts as JSON")
    group.add_argument(
        "--debug", action="store_true", default=argparse.SUPPRESS, help="on an unexpected error print a traceback"
    )
    group.add_argument("-h", "--help", action="help", help="show this help")


def add_table_flags(parser: Parser, *groups: str, only: Sequence[str] = (), config: bool = True) -> None:
    """The flags of the option table's `groups` (`only` some), with `--config`. They arrive as text, unread."""
    for title in groups:
        group = parser.add_argument_group(title)
        for option in OPTIONS:
            if option.group == title and (not only or option.name in only):
                _add_flag(group, option)
    if config:
        group = parser.add_argument_group("Where options may come from too")
        group.add_argument(
            "--config", metavar="FILE", help="YAML with option names as keys [environment: FLUIDFS_CONFIG]"
        )


def table_flags(args: argparse.Namespace) -> dict[str, str | list[str]]:
    """What was typed, by name in the table."""
    typed = {option.name: getattr(args, _dest(option), None) for option in OPTIONS}
    return {name: text for name, text in typed.items() if text is not None}


def _add_flag(group: argparse._ArgumentGroup, option: Option) -> None:
    text = option.help.replace("%", "%%")
    if option.default:
        text += f" [{option.default.replace('%', '%%')}]"
    if option.value is None:
        letters = [f"-{option.letter}"] if option.letter else []
        group.add_argument(*letters, option.flag, dest=_dest(option), action="store_const", const="true", help=text)
        group.add_argument(
            f"--no-{option.name}", dest=_dest(option), action="store_const", const="false", help=argparse.SUPPRESS
        )
    else:
        action = "append" if option.repeatable else "store"
        group.add_argument(option.flag, dest=_dest(option), action=action, metavar=option.value, help=text)


def _dest(option: Option) -> str:
    return f"option_{option.name.replace('-', '_')}"


def _examples(examples: Sequence[tuple[str, str]]) -> str:
    """Each command under the comment that says what it is for."""
    lines = ["Examples:"]
    for command, comment in examples:
        lines += [f"  # {comment}", f"  {command}"]
    return "\n".join(lines)


def _exits(exits: Sequence[tuple[int, str]]) -> str:
    return "\n".join(["Exit status:", *(f"  {status:<4} {meaning}" for status, meaning in exits)])
