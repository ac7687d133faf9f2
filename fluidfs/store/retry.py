"""How long to wait between attempts: capped exponential backoff with full jitter, as a pure schedule."""

from __future__ import annotations

import random
from collections.abc import Iterator


def delays(attempts: int, *, base_s: float, cap_s: float, rng: random.Random) -> Iterator[float]:
    """The `attempts - 1` pauses, in seconds, between `attempts` attempts.

    Pause n is drawn evenly from 0 to `base_s * 2**n`, and never above `cap_s`. The even draw ("full jitter") spreads
    out clients that all failed at the same moment; a fixed share of the pause would send them back together.
    """
    for attempt in range(attempts - 1):
        # The exponent is bounded so that a long schedule cannot overflow; the cap has long been reached by then.
        yield rng.uniform(0.0, min(cap_s, base_s * 2.0 ** min(attempt, 60)))
