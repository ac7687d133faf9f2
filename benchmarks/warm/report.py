"""A warm run as JSON and as Markdown: the points first, then every figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.clients.fluidfs import Requests
from benchmarks.result import Run
from benchmarks.warm.points import ROUNDS_TO_JUDGE, Verdict, python_reads, verdicts
from benchmarks.warm.ratio import CONFIDENCE
from benchmarks.warm.rows import OURS, USER, USER_PEERS

# They have a table of their own.
USERS = (USER, *USER_PEERS)


def facts(
    run: Run,
    *,
    cached_bytes: Mapping[str, int],
    requests: Mapping[str, Sequence[Requests]],
    data_planes: Mapping[str, Mapping[str, Any]],
) -> dict[str, object]:
    """The run as JSON types: also what lay in each cache before it, and what our mounts say of themselves."""
    return {
        **run.facts(),
        "confidence": CONFIDENCE,
        "points": [{**verdict.facts(), "verdict": word(verdict)} for verdict in verdicts(run)],
        "python_reads": python_reads(run),
        "cached_bytes": dict(cached_bytes),
        "data_planes": dict(data_planes),
        "requests": {
            row: [
                {name: {"native": native, "python": python} for name, (native, python) in counts.items()}
                for counts in rounds
            ]
            for row, rounds in requests.items()
        },
    }


def markdown(run: Run) -> str:
    """Two tables and what there is to know about them."""
    groups = ([row for row in run.rounds if row not in USERS], [row for row in run.rounds if row in USERS])
    tables = [table for group in groups if group for table in ("\n".join(run.table(group, spread=False)), "")]
    points = _points(run) if any(row in OURS for row in run.rounds) else []
    return "\n".join([*points, *tables, *run.notes(spread=False)]) + "\n"


def _points(run: Run) -> list[str]:
    lines = ["| point | ours | against | ratio | 95 % interval | bound | |", "|---|---|---|---|---|---|---|"]
    for verdict in verdicts(run):
        point, ratio = verdict.point, verdict.ratio
        cells = [
            f"{point.number}. {point.title}",
            point.ours,
            verdict.against,
            "" if ratio is None else f"{ratio.median:.2f}",
            "" if ratio is None else f"{ratio.low:.2f}–{ratio.high:.2f}",
            "" if point.bound is None else f"≥ {point.bound:g}",
            word(verdict),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    reads = python_reads(run)
    outcome = "not counted" if reads is None else "holds" if reads == 0 else "does not hold"
    number = "" if reads is None else f"{reads:.0f}"
    lines.append(f"| 4. reads of warm files that came to Python | all mounts | | {number} | | 0 | {outcome} |")
    notes = [
        "A ratio says how many times as fast ours is: the median of the ratios of all rounds, its interval by the",
        "bootstrap over rounds. A point holds if the interval reaches the bound. All caches lie in memory, and the",
        "kernel's page cache is emptied before each read; where O_DIRECT is said, it is out of play altogether.",
    ]
    return [*lines, "", *notes, ""]


def word(verdict: Verdict) -> str:
    """What came of a point, in words."""
    point, ratio = verdict.point, verdict.ratio
    if ratio is None:
        return "not measured"
    if point.bound is None:
        return "reported"
    if verdict.holds is None:
        return f"needs {ROUNDS_TO_JUDGE} rounds"
    if not verdict.holds:
        return "does not hold"
    return "holds" if ratio.median >= point.bound else "holds by its interval"
