"""Cutting what is missing into the ranges that are asked for. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from fluidfs.model import Extent


def cut(extent: Extent, *, range_bytes: int) -> Iterator[Extent]:
    """Pieces of `extent` that end at multiples of `range_bytes`.

    Whole blocks come from one GET this way, and their checksum is taken while they pass.
    """
    offset = extent.offset
    while offset < extent.end:
        stop = min((offset // range_bytes + 1) * range_bytes, extent.end)
        yield Extent(offset, stop - offset)
        offset = stop


def subtract(extent: Extent, others: Iterable[Extent]) -> list[Extent]:
    """What is left of `extent` without `others`, in order."""
    left = [extent]
    for other in others:
        left = [piece for kept in left for piece in _without(kept, other)]
        if not left:
            break
    return left


def _without(extent: Extent, other: Extent) -> list[Extent]:
    if other.end <= extent.offset or extent.end <= other.offset:
        return [extent]
    pieces = []
    if extent.offset < other.offset:
        pieces.append(Extent(extent.offset, other.offset - extent.offset))
    if other.end < extent.end:
        pieces.append(Extent(other.end, extent.end - other.end))
    return pieces


def overlaps(extent: Extent, other: Extent) -> bool:
    """Whether they share a byte."""
    return extent.offset < other.end and other.offset < extent.end
