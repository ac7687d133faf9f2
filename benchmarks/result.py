"""The figures of a run: medians and spread over its rounds, as JSON and as a Markdown table."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.metric import Metric, Results


@dataclass(frozen=True, slots=True)
class Cell:
    """One metric of one client: a figure of each round, or None, and the last reason for having none, if any."""

    rounds: tuple[float | None, ...]
    error: str | None

    @property
    def values(self) -> tuple[float, ...]:
        """The figures that there are."""
        return tuple(value for value in self.rounds if value is not None)

    @property
    def median(self) -> float | None:
        """None without any figure."""
        return statistics.median(self.values) if self.values else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Everything that a run of a suite found out. `rounds` maps a client to its rounds in order."""

    metrics: Sequence[Metric]
    rounds: Mapping[str, Sequence[Results]]
    versions: Mapping[str, str]
    machine: Mapping[str, str]
    settings: Mapping[str, object]

    def cell(self, client: str, metric: Metric) -> Cell | None:
        """None where the client has no such figure."""
        found = [results.get(metric.key) for results in self.rounds[client]]
        if all(value is None for value in found):
            return None
        errors = [value for value in found if isinstance(value, str)]
        rounds = tuple(None if isinstance(value, str) else value for value in found)
        return Cell(rounds, errors[-1] if errors else None)

    def facts(self) -> dict[str, object]:
        """The run as JSON types, each round's figures included."""
        return {
            "machine": dict(self.machine),
            "settings": dict(self.settings),
            "versions": dict(self.versions),
            "metrics": {
                metric.key: {
                    "title": metric.title,
                    "unit": metric.unit,
                    "higher_is_better": metric.higher_is_better,
                    "clients": {
                        client: {"median": cell.median, "rounds": list(cell.rounds), "error": cell.error}
                        for client in self.rounds
                        if (cell := self.cell(client, metric)) is not None
                    },
                }
                for metric in self.metrics
            },
        }

    def markdown(self) -> str:
        """The table of all clients and what there is to know about it."""
        return "\n".join([*self.table(list(self.rounds)), "", *self.notes()]) + "\n"

    def table(self, clients: Sequence[str], *, spread: bool = True) -> list[str]:
        """Its lines: medians, with `spread` the lowest and highest in brackets, the best client in bold.

        What is a limit is no client.
        """
        lines = ["| | " + " | ".join(clients) + " |", "|---" * (len(clients) + 1) + "|"]
        for metric in self.metrics:
            cells = {client: cell for client in clients if (cell := self.cell(client, metric)) is not None}
            if cells:
                best = self._best(metric, cells)
                shown = [_shown(metric, cells.get(client), bold=client == best, spread=spread) for client in clients]
                lines.append(f"| {_titled(metric)} | " + " | ".join(shown) + " |")
        return lines

    def notes(self, *, spread: bool = True) -> list[str]:
        """Lines on how and where it was measured, and what."""
        number = max((len(rounds) for rounds in self.rounds.values()), default=0)
        machine = "; ".join(f"{name}: {value}" for name, value in self.machine.items())
        brackets = ", lowest and highest in brackets" if spread else ""
        return [
            f"Medians of {number} interleaved rounds{brackets}; bold is the best client.",
            f"Machine: {machine}.",
            f"Versions: {'; '.join(dict.fromkeys(version for version in self.versions.values() if version))}.",
        ]

    def _best(self, metric: Metric, cells: Mapping[str, Cell]) -> str | None:
        figures = {
            client: cell.median
            for client, cell in cells.items()
            if cell.median is not None and not client.startswith(("raw", "local"))
        }
        choose = max if metric.higher_is_better else min
        return choose(figures, key=lambda client: figures[client]) if len(figures) > 1 else None


@dataclass(frozen=True, slots=True)
class Outcome:
    """A run, so far, with what is written of it: JSON types and Markdown."""

    run: Run
    facts: Mapping[str, object]
    markdown: str


def _titled(metric: Metric) -> str:
    return f"{metric.title}, {metric.unit}" if metric.unit else metric.title


def _shown(metric: Metric, cell: Cell | None, *, bold: bool, spread: bool) -> str:
    if cell is None:
        return ""
    if cell.median is None:
        return "failed"
    digits = metric.digits
    text = f"{cell.median:,.{digits}f}"
    text = f"**{text}**" if bold else text
    if spread and len(cell.values) > 1:
        text += f" ({min(cell.values):,.{digits}f}–{max(cell.values):,.{digits}f})"
    return text + (" ⚠" if cell.error else "")
