"""When a handle's reads are a stream, and how far ahead of it to fetch."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fluidfs.model import Extent
from fluidfs.readahead.window import FIRST_WINDOW_BYTES, FORWARD_BYTES, Stream, plan

MIB = 1 << 20
SIZE = 1 << 30
MAX = 64 * MIB


def read_all(reads: list[Extent], *, size: int = SIZE, max_window: int = MAX) -> tuple[Stream, list[Extent]]:
    """The stream after all reads, and everything that was asked for ahead of them."""
    stream, ahead = Stream(), []
    for read in reads:
        decision = plan(stream, read, size_bytes=size, max_window_bytes=max_window)
        stream = decision.stream
        if decision.ahead is not None:
            ahead.append(decision.ahead)
    return stream, ahead


def in_order(start: int, count: int, length: int = 128 << 10) -> list[Extent]:
    return [Extent(start + index * length, length) for index in range(count)]


def test_reading_from_the_start_opens_a_small_window_at_once() -> None:
    _, ahead = read_all(in_order(0, 1))
    assert ahead == [Extent(128 << 10, FIRST_WINDOW_BYTES)]


def test_a_stream_is_asked_for_once_without_gaps_and_never_falls_behind() -> None:
    stream, asked_to = Stream(), 128 << 10
    for index, read in enumerate(in_order(0, 4000)):
        if index > 0:
            assert read.end <= asked_to  # asked for before it is read
        decision = plan(stream, read, size_bytes=SIZE, max_window_bytes=MAX)
        stream = decision.stream
        if decision.ahead is not None:
            assert decision.ahead.offset == asked_to
            asked_to = decision.ahead.end
            assert asked_to - read.end <= MAX
    assert stream.window_bytes == MAX


@pytest.mark.parametrize("shuffled", [1, 2, 4])
def test_reads_a_little_out_of_order_are_one_stream(shuffled: int) -> None:
    rng, reads = random.Random(2), in_order(0, 400, MIB)
    for start in range(0, len(reads), shuffled):
        part = reads[start : start + shuffled]
        rng.shuffle(part)
        reads[start : start + shuffled] = part
    stream, _ = read_all([Extent(0, 4096), *reads])
    assert stream.window_bytes == MAX


def test_a_seek_closes_the_window_and_the_next_read_in_order_opens_it() -> None:
    stream, _ = read_all(in_order(0, 100))
    far = Extent(SIZE // 2, 4096)
    decision = plan(stream, far, size_bytes=SIZE, max_window_bytes=MAX)
    assert decision.ahead is None
    assert decision.stream.window_bytes == 0
    decision = plan(decision.stream, Extent(far.end, 4096), size_bytes=SIZE, max_window_bytes=MAX)
    assert decision.ahead == Extent(far.end + 4096, FIRST_WINDOW_BYTES)


def test_a_small_skip_forward_does_not_end_a_stream() -> None:
    stream, _ = read_all(in_order(0, 100, MIB))
    decision = plan(stream, Extent(100 * MIB + FORWARD_BYTES, 4096), size_bytes=SIZE, max_window_bytes=MAX)
    assert decision.stream.window_bytes >= stream.window_bytes > 0


def test_random_reads_fetch_nothing_ahead() -> None:
    rng = random.Random(4)
    reads = [Extent(rng.randrange(1, SIZE // 4096) * 4096, 4096) for _ in range(2000)]
    stream, ahead = read_all(reads)
    # By chance one of them may follow on another; no window grows from that.
    assert sum(extent.length for extent in ahead) <= 4 * FIRST_WINDOW_BYTES
    assert stream.window_bytes == 0


def test_no_window_means_no_readahead() -> None:
    stream, ahead = read_all(in_order(0, 100), max_window=0)
    assert (ahead, stream.window_bytes) == ([], 0)


READS = st.lists(
    st.one_of(
        st.builds(Extent, st.integers(0, 40 * MIB), st.integers(1, MIB)),
        st.builds(lambda at: Extent(at * MIB, MIB), st.integers(0, 40)),
    ),
    max_size=40,
)


@given(READS, st.booleans(), st.integers(0, 3 * MIB), st.integers(1, 40 * MIB))
def test_what_is_asked_for_lies_ahead_in_the_file_and_within_the_window(
    reads: list[Extent], sequential: bool, max_window: int, size: int
) -> None:
    stream, offset = Stream(), 0
    for each in reads:
        read = Extent(offset, each.length) if sequential else each
        offset = read.end
        if read.offset >= size:
            continue
        read = Extent(read.offset, min(read.length, size - read.offset))
        decision = plan(stream, read, size_bytes=size, max_window_bytes=max_window)
        if decision.ahead is not None:
            assert 0 < decision.ahead.length <= max_window
            assert read.end <= decision.ahead.offset or stream.window_bytes > 0
            assert decision.ahead.end <= min(size, decision.stream.expected + max_window)
            assert decision.ahead.end == decision.stream.asked_to
        assert 0 <= decision.stream.window_bytes <= max(max_window, 1)
        stream = decision.stream
