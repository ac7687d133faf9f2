"""What the data plane must show: each point a ratio of two rows in one run, held against its bound."""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass

from benchmarks.result import Run
from benchmarks.warm.ratio import Ratio, ratio_of
from benchmarks.warm.rows import DISK, LOCAL, OURS, PEERS, RELAYED, SEALED, USER, USER_PEERS

# Enough rounds for an interval of the median that means something.
ROUNDS_TO_JUDGE = 7


@dataclass(frozen=True, slots=True)
class Point:
    """`ours` is at least `bound` times as good as the best of `theirs`; without a bound it is only reported."""

    number: int
    title: str
    metric: str
    ours: str
    theirs: tuple[str, ...]
    bound: float | None


def _local(number: int, title: str, metric: str, bound: float | None, *, theirs: str = LOCAL) -> Point:
    return Point(number, title, metric, SEALED, (theirs,), bound)


POINTS = (
    _local(1, "sealed, sequential", "sequential", 0.95),
    _local(1, "sealed, random 4 KiB, 1 reader", "random_1", 0.9),
    _local(1, "sealed, random 4 KiB, 4 readers", "random_4", 0.9),
    Point(2, "relayed, sequential, page cache dropped", "sequential", RELAYED, PEERS, 1.5),
    Point(2, "relayed, sequential, O_DIRECT", "sequential_direct", RELAYED, PEERS, 1.5),
    Point(2, "relayed, random 4 KiB, O_DIRECT", "random_1_direct", RELAYED, PEERS, 2.0),
    Point(2, "user, sequential, page cache dropped", "sequential", USER, USER_PEERS, 1.0),
    Point(2, "user, sequential, O_DIRECT", "sequential_direct", USER, USER_PEERS, 1.0),
    Point(2, "user, random 4 KiB, O_DIRECT", "random_1_direct", USER, USER_PEERS, 1.0),
    _local(3, "small files", "small", 0.5),
    Point(3, "small files", "small", SEALED, PEERS, 4.0),
    _local(3, "small files, names dropped too", "small_names", None),
    Point(3, "small files, names dropped too", "small_names", SEALED, PEERS, None),
    _local(3, "find", "find", 1.0, theirs="juicefs"),
    _local(3, "find, names dropped", "find_names", 1.0, theirs="juicefs"),
    _local(3, "find with sizes, names dropped", "find_size_names", 1.0, theirs=DISK),
    _local(3, "find with sizes", "find_size", None, theirs=DISK),
)

JUDGED = frozenset((point.metric, row) for point in POINTS for row in (point.ours, *point.theirs))


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a point came out. `against` is the best of its rows; `holds` is None where nothing can be said."""

    point: Point
    against: str
    ratio: Ratio | None
    holds: bool | None

    def facts(self) -> dict[str, object]:
        """As JSON types."""
        return asdict(self)


def verdicts(run: Run) -> list[Verdict]:
    """Those of which any row was measured; one that failed, or has too few rounds, holds for nobody to say."""
    return [verdict for point in POINTS if (verdict := _verdict(run, point)) is not None]


def python_reads(run: Run) -> float | None:
    """Reads of warm files that reached Python in all rounds of all mounts; None where that was not counted."""
    found = [
        results["python_reads"] for row in OURS for results in run.rounds.get(row, ()) if "python_reads" in results
    ]
    counted = [value for value in found if not isinstance(value, str)]
    return sum(counted) if counted and len(counted) == len(found) else None


def _verdict(run: Run, point: Point) -> Verdict | None:
    higher = next(metric.higher_is_better for metric in run.metrics if metric.key == point.metric)
    if point.ours not in run.rounds or not any(row in run.rounds for row in point.theirs):
        return None
    medians = {row: statistics.median(values.values()) for row in point.theirs if (values := _values(run, point, row))}
    if not medians:
        return Verdict(point, " / ".join(point.theirs), None, None)
    against = (max if higher else min)(medians, key=lambda row: medians[row])
    ours, theirs = _values(run, point, point.ours), _values(run, point, against)
    ratios = [ours[number] / theirs[number] for number in ours if number in theirs]
    if not ratios:
        return Verdict(point, against, None, None)
    ratio = ratio_of(ratios if higher else [1 / value for value in ratios])
    judged = point.bound is not None and ratio.rounds >= ROUNDS_TO_JUDGE
    return Verdict(point, against, ratio, ratio.high >= point.bound if judged and point.bound is not None else None)


def _values(run: Run, point: Point, row: str) -> dict[int, float]:
    """The row's figures by round."""
    rounds = run.rounds.get(row, ())
    found = {number: results.get(point.metric) for number, results in enumerate(rounds)}
    return {number: value for number, value in found.items() if isinstance(value, float) and value > 0}
