"""Writes the pages of the reference that are made from the code; `--check` only says whether they are up to date.

python scripts/generate_docs.py [--check]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from fluidfs.cli.app import build_parser
from fluidfs.metrics import reference

DOCS = Path(__file__).resolve().parents[1] / "docs"


def parsers_of(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """The parser and those of its commands, as the help lists them. argparse tells of them only in `_actions`."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for child in action.choices.values():
                yield from parsers_of(child)


def cell(text: str) -> str:
    """Text as a cell of a table has it."""
    return " ".join(text.replace("%%", "%").split()).replace("|", "\\|")


def section(parser: argparse.ArgumentParser) -> Iterator[str]:
    """One command: what it is for, its examples, its options by group, its exit statuses."""
    summary, _, examples = (parser.description or "").partition("\n\nExamples:\n")
    yield f"## {parser.prog}"
    yield f"```text\n{(parser.usage or parser.prog).replace('%%', '%')}\n```"
    yield summary.strip()
    if examples:
        lines = "\n".join(line.removeprefix("  ") for line in examples.splitlines())
        yield f"```text\n{lines}\n```"
    for group in parser._action_groups:
        rows = [
            f"| `{cell(', '.join(action.option_strings) or str(action.metavar))}`"
            f"{f' `{cell(str(action.metavar))}`' if action.option_strings and action.metavar else ''}"
            f" | {cell(action.help or '')} |"
            for action in group._group_actions
            if action.help != argparse.SUPPRESS and not isinstance(action, argparse._SubParsersAction)
        ]
        if rows:
            yield "\n".join([f"| {group.title} | |", "|---|---|", *rows])
    _, _, exits = (parser.epilog or "").partition("Exit status:\n")
    if exits:
        rows = [
            f"| {status} | {cell(meaning)} |"
            for status, meaning in (line.split(None, 1) for line in exits.splitlines())
        ]
        yield "\n".join(["| exit status | |", "|---|---|", *rows])


def command_line() -> str:
    """The page of all commands."""
    head = """# Commands and options

Made from the command line itself by `make docs`; every command says the same with `--help`.

Sizes are written `64M`, `1.5Gi` (a suffix counts by 1,024, with or without the `i`), times `90s`, `1h30m`. An option
of `mount` may also be given as `-o NAME=VALUE`, in the environment as `FLUIDFS_NAME`, and in the YAML file of
`--config`; the flag beats the environment, which beats the file."""
    parts = [head, *(part for parser in parsers_of(build_parser()) for part in section(parser))]
    return "\n\n".join(parts) + "\n"


def readme() -> str:
    """README.md with the tables that the last `make bench` printed between its marks."""
    text = (DOCS.parent / "README.md").read_text()
    before, _, rest = text.partition("<!-- benchmark -->")
    _, _, after = rest.partition("<!-- /benchmark -->")
    tables = [(DOCS / "benchmark" / "benchmark.md").read_text().strip()]
    warm = DOCS / "benchmark" / "warm.md"
    if warm.exists():
        tables += [
            "Warm, all caches in memory ([how it is measured](docs/benchmark/README.md)):",
            warm.read_text().strip(),
        ]
        if warm.with_suffix(".svg").exists():
            tables.append("![The warm figures as bars](docs/benchmark/warm.svg)")
    joined = "\n\n".join(tables)
    return f"{before}<!-- benchmark -->\n{joined}\n<!-- /benchmark -->{after}"


def pages() -> dict[Path, str]:
    """Every page that is made here, by its path."""
    return {
        DOCS / "reference" / "command-line.md": command_line(),
        DOCS / "reference" / "metrics.md": reference(),
        DOCS.parent / "README.md": readme(),
    }


def main() -> int:
    """Writes what differs, or with `--check` names it and fails."""
    check = "--check" in sys.argv[1:]
    stale = [path for path, text in pages().items() if not path.exists() or path.read_text() != text]
    for path in stale:
        if check:
            print(f"{path.relative_to(DOCS.parent)} is out of date: make docs", file=sys.stderr)
        else:
            path.write_text(pages()[path])
            print(f"wrote {path.relative_to(DOCS.parent)}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
