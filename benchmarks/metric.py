"""One kind of figure: its unit and which way is better."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Metric:
    """One row of a result. `digits` is how many places after the point a table shows."""

    key: str
    title: str
    unit: str
    higher_is_better: bool
    digits: int = 0


# What a client returns by the keys of metrics: a figure, or why there is none.
Results = dict[str, float | str]
