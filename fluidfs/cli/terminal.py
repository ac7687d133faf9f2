"""What a command may write: facts to stdout, prose to stderr, JSON where it was asked for."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import TextIO


class Terminal:
    """The two streams of a command. A file name can hold anything; it reaches a terminal with its control characters
    escaped.
    """

    def __init__(self, out: TextIO | None = None, err: TextIO | None = None) -> None:
        self._out = sys.stdout if out is None else out
        self.err = sys.stderr if err is None else err

    def fact(self, line: str = "") -> None:
        """A line of what was asked for."""
        print(line, file=self._out)

    def say(self, line: str) -> None:
        """A line of prose, for the person."""
        print(line, file=self.err, flush=True)

    def json(self, value: object) -> None:
        """Facts for a machine: one document."""
        json.dump(value, self._out, indent=2)
        print(file=self._out)

    def table(self, rows: Iterable[Sequence[str]], *, right: frozenset[int] = frozenset()) -> None:
        """Facts in columns, as wide as their widest cell; the columns in `right` are flush right."""
        cells = [list(row) for row in rows]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        for row in cells:
            padded = (
                cell.rjust(width) if number in right else cell.ljust(width)
                for number, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            self.fact("  ".join(padded).rstrip())


def shown(text: str) -> str:
    """`text` without line ends, escape sequences and lone bytes that would not print."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
