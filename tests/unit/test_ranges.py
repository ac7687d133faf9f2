"""Cutting what is missing into ranges, against sets of bytes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fluidfs.fetch.ranges import cut, overlaps, subtract
from fluidfs.model import Extent

EXTENTS = st.builds(Extent, st.integers(0, 60), st.integers(1, 40))


def bytes_of(extent: Extent) -> set[int]:
    return set(range(extent.offset, extent.end))


@given(EXTENTS, st.integers(1, 50))
def test_pieces_adjoin_and_end_at_multiples(extent: Extent, range_bytes: int) -> None:
    pieces = list(cut(extent, range_bytes=range_bytes))
    assert [piece.offset for piece in pieces] == [extent.offset, *(piece.end for piece in pieces[:-1])]
    assert pieces[-1].end == extent.end
    assert all(piece.end % range_bytes == 0 for piece in pieces[:-1])
    assert all(0 < piece.length <= range_bytes for piece in pieces)


def test_nothing_is_cut_into_nothing() -> None:
    assert list(cut(Extent(5, 0), range_bytes=3)) == []


@given(EXTENTS, st.lists(EXTENTS, max_size=5))
def test_what_is_left_is_what_the_others_do_not_have(extent: Extent, others: list[Extent]) -> None:
    left = subtract(extent, others)
    assert set().union(*map(bytes_of, left)) == bytes_of(extent).difference(*map(bytes_of, others))
    assert left == sorted(left)
    assert all(piece.length > 0 for piece in left)
    assert sum(piece.length for piece in left) == len(set().union(*map(bytes_of, left)))


@given(EXTENTS, EXTENTS)
def test_extents_overlap_when_they_share_a_byte(one: Extent, other: Extent) -> None:
    assert overlaps(one, other) == overlaps(other, one) == bool(bytes_of(one) & bytes_of(other))
