"""Reads that came together: which of them wait together."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import given

from fluidfs._native.relay import Ask
from fluidfs.fuse.read_asks import TOGETHER_BYTES, gathered

KIB = 1 << 10


def ask(offset: int, length: int) -> Ask:
    return Ask("read", 1, 2, b"", 3, 4, offset, length, None, 1)


def runs(*extents: tuple[int, int]) -> list[list[tuple[int, int]]]:
    return [[(one.offset, one.length) for one in run] for run in gathered(ask(*extent) for extent in extents)]


def test_neighbours_in_any_order_are_one_run_and_gaps_end_it() -> None:
    assert runs((128 * KIB, KIB), (0, 128 * KIB), (200 * KIB, KIB)) == [
        [(0, 128 * KIB), (128 * KIB, KIB)],
        [(200 * KIB, KIB)],
    ]


def test_one_read_inside_another_belongs_to_it() -> None:
    assert runs((0, 100), (10, 10), (50, 60)) == [[(0, 100), (10, 10), (50, 60)]]


def test_a_run_is_no_longer_than_the_largest_read() -> None:
    assert [len(run) for run in runs(*((number * 128 * KIB, 128 * KIB) for number in range(20)))] == [8, 8, 4]


@given(st.lists(st.tuples(st.integers(0, 4 << 20), st.integers(1, TOGETHER_BYTES)), max_size=40))
def test_every_read_is_in_one_run_and_no_run_has_a_gap(extents: list[tuple[int, int]]) -> None:
    found = runs(*extents)
    assert sorted(extent for run in found for extent in run) == sorted(extents)
    for run in found:
        end = run[0][0]
        for offset, length in run:
            assert run[0][0] <= offset <= end
            end = max(end, offset + length)
        assert end - run[0][0] <= TOGETHER_BYTES or len(run) == 1
