"""How much a level may hold, and what goes first."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fluidfs.cache.quota import (
    MAX_SLAB_BYTES,
    MIN_QUOTA_BYTES,
    MIN_SLAB_BYTES,
    Candidate,
    choose_victims,
    limits_of,
    slab_capacity,
)

CANDIDATES = st.lists(
    st.builds(
        Candidate,
        st.integers(0, 99).map(lambda number: Path(f"/{number}")),
        st.sampled_from(("object", "slab")),
        st.integers(0, 100),
        st.integers(0, 5),
    ),
    max_size=20,
)


@given(st.integers(0, 1 << 60))
def test_the_watermarks_lie_in_order_below_the_quota(quota_bytes: int) -> None:
    limits = limits_of(quota_bytes)
    assert 0 < limits.low_bytes < limits.high_bytes < limits.quota_bytes
    assert limits.quota_bytes == max(quota_bytes, MIN_QUOTA_BYTES)


@given(st.integers(1, 1 << 60))
def test_a_slab_is_a_power_of_two_and_a_small_part_of_the_quota(quota_bytes: int) -> None:
    capacity = slab_capacity(quota_bytes)
    assert MIN_SLAB_BYTES <= capacity <= MAX_SLAB_BYTES
    assert capacity & (capacity - 1) == 0
    assert capacity == MIN_SLAB_BYTES or capacity <= quota_bytes / 16


@given(CANDIDATES, st.integers(-5, 300))
def test_the_longest_unused_go_and_no_more_than_needed(candidates: list[Candidate], excess_bytes: int) -> None:
    victims = choose_victims(candidates, excess_bytes=excess_bytes)
    kept = list(candidates)
    for victim in victims:
        kept.remove(victim)
    assert all(victim.last_use_s <= other.last_use_s for victim in victims for other in kept)
    freed = sum(victim.size_bytes for victim in victims)
    assert freed >= excess_bytes or not kept
    if victims:
        assert freed - victims[-1].size_bytes < excess_bytes


def test_of_equally_old_ones_the_largest_goes_first() -> None:
    ages = {"old": (1, 5), "small": (2, 10), "large": (2, 90), "new": (3, 500)}
    candidates = [Candidate(Path(name), "object", size, age) for name, (age, size) in ages.items()]
    assert [victim.stem.name for victim in choose_victims(candidates, excess_bytes=90)] == ["old", "large"]


@pytest.mark.parametrize("excess_bytes", [0, -1])
def test_nothing_goes_when_there_is_room(excess_bytes: int) -> None:
    assert choose_victims([Candidate(Path("a"), "object", 1, 1)], excess_bytes=excess_bytes) == []
