"""How two rows compare: the median of the ratios of their rounds, with an interval by the bootstrap."""

from __future__ import annotations

import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

RESAMPLES = 10_000
CONFIDENCE = 0.95
# The same rounds give the same interval, whoever computes it.
SEED = 4


@dataclass(frozen=True, slots=True)
class Ratio:
    """`low` and `high` bound the median of the ratios with `CONFIDENCE`."""

    median: float
    low: float
    high: float
    rounds: int


def ratio_of(ratios: Sequence[float]) -> Ratio:
    """From the ratios of at least one round. Resamples whole rounds, since what disturbs a round disturbs both rows."""
    draw = random.Random(SEED)
    medians = sorted(statistics.median(draw.choices(ratios, k=len(ratios))) for _ in range(RESAMPLES))
    edge = round(RESAMPLES * (1 - CONFIDENCE) / 2)
    return Ratio(statistics.median(ratios), medians[edge], medians[-1 - edge], len(ratios))
