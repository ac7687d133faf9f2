"""The native readahead window decides as readahead/window.py does, read for read."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fluidfs._native.protocol import plan as native_plan
from fluidfs.model import Extent
from fluidfs.readahead.window import BACKWARD_BYTES, FIRST_WINDOW_BYTES, FORWARD_BYTES, STEP_BYTES, Stream, plan

KIB, MIB, GIB, TIB = 1 << 10, 1 << 20, 1 << 30, 1 << 40
# Steps between one read and the next at which a decision turns.
TURNS = [
    0,
    4096,
    FIRST_WINDOW_BYTES,
    STEP_BYTES,
    FORWARD_BYTES,
    FORWARD_BYTES + 1,
    -BACKWARD_BYTES,
    -BACKWARD_BYTES - 1,
]
LENGTHS = [1, 4096, 128 * KIB, MIB]
SIZES = [1, 4096, MIB, 40 * MIB, GIB, 8 * TIB]
WINDOWS = [0, 1, 4096, MIB, 3 * MIB, STEP_BYTES, 64 * MIB, GIB]


class Both:
    """One handle's reads, decided twice."""

    def __init__(self, *, size: int, max_window: int) -> None:
        self.size, self.max_window = size, max_window
        self.stream, self.native = Stream(), (0, 0, 0)

    def read(self, offset: int, length: int) -> Extent | None:
        """Fails unless both decide alike; what is to be fetched ahead."""
        wanted = plan(self.stream, Extent(offset, length), size_bytes=self.size, max_window_bytes=self.max_window)
        self.native, ahead = native_plan(
            self.native, offset, length, size_bytes=self.size, max_window_bytes=self.max_window
        )
        self.stream = wanted.stream
        assert self.native == (self.stream.expected, self.stream.window_bytes, self.stream.asked_to)
        assert ahead == (None if wanted.ahead is None else (wanted.ahead.offset, wanted.ahead.end))
        return wanted.ahead


STEPS = st.lists(
    st.tuples(
        # From the end of the last read: near it, at a turn, or anywhere.
        st.one_of(st.sampled_from(TURNS), st.integers(-2 * FORWARD_BYTES, 2 * FORWARD_BYTES), st.integers(-TIB, TIB)),
        st.one_of(st.sampled_from(LENGTHS), st.integers(1, MIB)),
        # So often in a row, each where the last one ended.
        st.integers(1, 60),
    ),
    max_size=60,
)


@settings(max_examples=300, deadline=None)
@given(
    STEPS,
    st.one_of(st.sampled_from(SIZES), st.integers(1, 4 * TIB)),
    st.one_of(st.sampled_from(WINDOWS), st.integers(0, 2 * GIB)),
)
def test_both_decide_alike_however_a_file_is_read(
    steps: list[tuple[int, int, int]], size: int, max_window: int
) -> None:
    both, at = Both(size=size, max_window=max_window), 0
    for step, length, times in steps:
        at = max(0, at + step)
        for _ in range(times):
            both.read(at, length)
            at += length


@settings(max_examples=200, deadline=None)
@given(
    st.tuples(st.integers(0, 4 * TIB), st.one_of(st.just(0), st.just(1), st.integers(0, GIB)), st.integers(0, GIB)),
    st.integers(0, 4 * TIB),
    st.integers(0, MIB),
    st.integers(0, 4 * TIB),
    st.sampled_from(WINDOWS),
)
def test_both_decide_alike_from_any_state(
    state: tuple[int, int, int], offset: int, length: int, size: int, max_window: int
) -> None:
    both = Both(size=size, max_window=max_window)
    expected, window, further = state
    both.stream = Stream(expected, window, expected + further)
    both.native = (expected, window, expected + further)
    both.read(offset, length)


@pytest.mark.parametrize("max_window", WINDOWS)
@pytest.mark.parametrize("length", LENGTHS[1:])
def test_a_long_stream_with_a_few_seeks_is_the_same_for_both(length: int, max_window: int) -> None:
    rng, both, at, ahead = random.Random(7), Both(size=GIB, max_window=max_window), 0, 0
    for _ in range(20_000):
        if rng.random() < 0.002:
            at = rng.randrange(GIB)
        if rng.random() < 0.1:
            at = max(0, at + rng.choice(TURNS))
        extent = both.read(at % GIB, length)
        ahead += 0 if extent is None else extent.length
        at = at % GIB + length
    assert (ahead > 0) == (max_window > 0)


def test_a_handle_that_was_never_read_begins_with_zeros() -> None:
    assert native_plan((0, 0, 0), 0, 4096, size_bytes=GIB, max_window_bytes=64 * MIB) == (
        (4096, MIB, MIB + 4096),
        (4096, MIB + 4096),
    )
