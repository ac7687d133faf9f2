"""`fluidfs completion`: completion scripts, made from the parser itself."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

from fluidfs.cli.parsing import Commands, Parser, finish
from fluidfs.cli.terminal import Terminal
from fluidfs.errors import ExitStatus

SHELLS = ("bash", "zsh", "fish")


def add(commands: Commands) -> None:
    """Adds the command."""
    parser = commands.add(
        "completion",
        usage="bash|zsh|fish",
        brief="print a completion script for a shell",
        summary="Prints a script that makes the shell complete commands and options.",
        examples=(
            ("source <(fluidfs completion bash)", "in ~/.bashrc"),
            ('fluidfs completion zsh > "${fpath[1]}/_fluidfs"', "once"),
            ("fluidfs completion fish > ~/.config/fish/completions/fluidfs.fish", "once"),
        ),
        exits=((0, "done"), (2, "wrong usage")),
    )
    group = parser.add_argument_group("Arguments")
    group.add_argument("shell", metavar="SHELL", choices=SHELLS, help="bash, zsh or fish")
    finish(parser)
    whole = commands.parent
    parser.set_defaults(run=lambda args, terminal: _run(whole, args, terminal))


@dataclass(frozen=True, slots=True)
class _Flag:
    names: tuple[str, ...]
    help: str
    takes_value: bool
    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Command:
    """A command as it is typed (`cache ls`), what it is for, and what may follow it."""

    path: str
    help: str
    flags: tuple[_Flag, ...]
    words: tuple[str, ...]


def _run(parser: Parser, args: argparse.Namespace, terminal: Terminal) -> int:
    commands = list(_commands(parser, path="", help=""))
    script = {"bash": _bash, "zsh": _zsh, "fish": _fish}[args.shell]
    for line in script(commands):
        terminal.fact(line)
    return ExitStatus.DONE


def _commands(parser: argparse.ArgumentParser, *, path: str, help: str) -> Iterator[_Command]:
    """The parser and all below it. argparse tells of its actions only in `_actions`, unchanged since Python 2.7."""
    flags, words = [], []
    below: list[tuple[str, argparse.ArgumentParser, str]] = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            helps = {choice.dest: choice.help or "" for choice in action._choices_actions}
            below += ((name, child, helps.get(name, "")) for name, child in action.choices.items())
        elif action.option_strings and action.help != argparse.SUPPRESS:
            choices = tuple(str(choice) for choice in action.choices or ())
            text = (action.help or "").replace("%%", "%")
            flags.append(_Flag(tuple(action.option_strings), text, action.nargs != 0, choices))
        elif action.choices:
            words += [str(choice) for choice in action.choices]
    yield _Command(path, help, tuple(flags), (*words, *(name for name, _, _ in below)))
    for name, child, child_help in below:
        yield from _commands(child, path=f"{path} {name}".strip(), help=child_help)


def _bash(commands: list[_Command]) -> Iterator[str]:
    """Words for the longest command typed so far; files where an option or an argument wants a value."""
    yield "# bash completion for fluidfs; made by `fluidfs completion bash`"
    yield "_fluidfs() {"
    yield '    local current="${COMP_WORDS[COMP_CWORD]}" previous="${COMP_WORDS[COMP_CWORD-1]}" typed="" word words'
    yield '    for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do'
    yield '        case "${typed:+$typed }$word" in'
    paths = [command.path for command in commands if command.path]
    yield f'            {"|".join(_quoted(path) for path in paths)}) typed="${{typed:+$typed }}$word" ;;'
    yield "        esac"
    yield "    done"
    yield '    case "$typed" in'
    for command in commands:
        names = [name for flag in command.flags for name in flag.names]
        valued = [name for flag in command.flags if flag.takes_value for name in flag.names]
        yield f"        {_quoted(command.path)})"
        if valued:
            yield f'            case "$previous" in {"|".join(valued)})'
            yield "                COMPREPLY=(); compopt -o default; return ;; esac"
        yield f"            words={_quoted(' '.join((*command.words, *names)))} ;;"
    yield "    esac"
    yield '    COMPREPLY=($(compgen -W "$words" -- "$current"))'
    yield "    [[ ${#COMPREPLY[@]} -eq 0 ]] && compopt -o default"
    yield "    return 0"
    yield "}"
    yield "complete -F _fluidfs fluidfs"


def _zsh(commands: list[_Command]) -> Iterator[str]:
    """Words and flags with their help by `_describe`; files else."""
    yield "#compdef fluidfs"
    yield "# zsh completion for fluidfs; made by `fluidfs completion zsh`"
    yield "_fluidfs() {"
    yield '    local typed="" word'
    yield "    local -a words_now"
    yield '    for word in "${(@)words[2,CURRENT-1]}"; do'
    yield '        case "${typed:+$typed }$word" in'
    paths = [command.path for command in commands if command.path]
    yield f'            {"|".join(_quoted(path) for path in paths)}) typed="${{typed:+$typed }}$word" ;;'
    yield "        esac"
    yield "    done"
    yield '    case "$typed" in'
    by_path = {command.path: command for command in commands}
    for command in commands:
        yield f"        {_quoted(command.path)}) words_now=("
        for word in command.words:
            child = by_path.get(f"{command.path} {word}".strip())
            yield f"            {_quoted(f'{word}:{child.help}' if child else word)}"
        for flag in command.flags:
            text = flag.help.replace(":", "\\:")
            for name in flag.names:
                yield f"            {_quoted(f'{name}:{text}')}"
        yield "        ) ;;"
    yield "    esac"
    yield "    _describe fluidfs words_now"
    yield "    _files"
    yield "}"
    yield "compdef _fluidfs fluidfs"


def _fish(commands: list[_Command]) -> Iterator[str]:
    """One `complete` line for each word and flag, under the condition that its command was typed."""
    yield "# fish completion for fluidfs; made by `fluidfs completion fish`"
    tops = [command.path for command in commands if command.path and " " not in command.path]
    by_path = {command.path: command for command in commands}
    for command in commands:
        seen = " ".join(f"__fish_seen_subcommand_from {word};and" for word in command.path.split())
        condition = seen.removesuffix(";and") if command.path else f"not __fish_seen_subcommand_from {' '.join(tops)}"
        for word in command.words:
            child = by_path.get(f"{command.path} {word}".strip())
            help_text = f" -d {_quoted(child.help)}" if child else ""
            yield f"complete -c fluidfs -f -n {_quoted(condition)} -a {_quoted(word)}{help_text}"
        for flag in command.flags:
            names = [f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in flag.names]
            value = " -r" if flag.takes_value else ""
            yield f"complete -c fluidfs -n {_quoted(condition)} {' '.join(names)}{value} -d {_quoted(flag.help)}"


def _quoted(text: str) -> str:
    """`text` as one word of any of the three shells."""
    return "'" + text.replace("'", "'\\''") + "'"
