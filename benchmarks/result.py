"""The figures of a run: medians and spread over its rounds, as JSON and as a Markdown table."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.metrics import METRICS, Metric, Results


@dataclass(frozen=True, slots=True)
class Cell:
    """One metric of one client over all rounds. `error` is the last round's reason for having no figure."""

    values: tuple[float, ...]
    error: str | None

    @property
    def median(self) -> float | None:
        """None without any figure."""
        return statistics.median(self.values) if self.values else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Everything that a run of the benchmark found out. `rounds` maps a client to its rounds in order."""

    rounds: Mapping[str, Sequence[Results]]
    versions: Mapping[str, str]
    machine: Mapping[str, str]
    settings: Mapping[str, object]

    def cell(self, client: str, metric: Metric) -> Cell | None:
        """None where the client has no such figure."""
        found = [results[metric.key] for results in self.rounds[client] if metric.key in results]
        if not found:
            return None
        errors = [value for value in found if isinstance(value, str)]
        return Cell(tuple(value for value in found if not isinstance(value, str)), errors[-1] if errors else None)

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
                        client: {"median": cell.median, "rounds": list(cell.values), "error": cell.error}
                        for client in self.rounds
                        if (cell := self.cell(client, metric)) is not None
                    },
                }
                for metric in METRICS
            },
        }

    def markdown(self) -> str:
        """The table: medians, with lowest and highest in brackets, the best client in bold; limits are no clients."""
        clients = list(self.rounds)
        lines = ["| | " + " | ".join(clients) + " |", "|---" * (len(clients) + 1) + "|"]
        for metric in METRICS:
            cells = {client: cell for client in clients if (cell := self.cell(client, metric)) is not None}
            if cells:
                best = self._best(metric, cells)
                shown = [_shown(metric, cells.get(client), bold=client == best) for client in clients]
                lines.append(f"| {metric.title}, {metric.unit} | " + " | ".join(shown) + " |")
        number = max((len(rounds) for rounds in self.rounds.values()), default=0)
        machine = "; ".join(f"{name}: {value}" for name, value in self.machine.items())
        versions = "; ".join(f"{name}: {value}" for name, value in self.versions.items() if value)
        notes = [
            f"Medians of {number} interleaved rounds, lowest and highest in brackets; bold is the best client.",
            f"Machine: {machine}.",
            f"Versions: {versions}.",
        ]
        return "\n".join([*lines, "", *notes]) + "\n"

    def _best(self, metric: Metric, cells: Mapping[str, Cell]) -> str | None:
        figures = {
            client: cell.median
            for client, cell in cells.items()
            if cell.median is not None and not client.startswith(("raw", "local"))
        }
        choose = max if metric.higher_is_better else min
        return choose(figures, key=lambda client: figures[client]) if len(figures) > 1 else None


def _shown(metric: Metric, cell: Cell | None, *, bold: bool) -> str:
    if cell is None:
        return ""
    if cell.median is None:
        return "failed"
    digits = metric.digits
    text = f"{cell.median:,.{digits}f}"
    text = f"**{text}**" if bold else text
    if len(cell.values) > 1:
        text += f" ({min(cell.values):,.{digits}f}–{max(cell.values):,.{digits}f})"
    return text + (" ⚠" if cell.error else "")
