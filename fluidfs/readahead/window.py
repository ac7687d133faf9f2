"""A window that doubles while a handle is read in order, and closes when it is not."""

from __future__ import annotations

from dataclasses import dataclass

from fluidfs.model import Extent

# The first range of a stream is small, so that its first bytes come early; it also covers the kernel's own readahead.
FIRST_WINDOW_BYTES = 1 << 20
# More is asked for when the reader has used up so much of a wide window: one range of the fetcher, so that as many
# ranges as the window holds are always under way.
STEP_BYTES = 16 << 20
# The kernel sends the reads of its readahead out of order by a few requests of at most 1 MiB, and readers of indexed
# files skip and step back a little: none of that is a seek.
BACKWARD_BYTES = 4 << 20
FORWARD_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class Stream:
    """What is remembered of a handle's reads.

    `expected` is where the next read of a stream would begin, `window_bytes` how far ahead of it to fetch (0: the
    reads are not in order), `asked_to` up to where that has been asked for already.
    """

    expected: int = 0
    window_bytes: int = 0
    asked_to: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """The stream after a read, and what to fetch ahead because of it (None: nothing new)."""

    stream: Stream
    ahead: Extent | None


def plan(stream: Stream, read: Extent, *, size_bytes: int, max_window_bytes: int) -> Plan:
    """What a read of `read` means for a file of `size_bytes`.

    A read that continues the stream (near enough) doubles its window up to `max_window_bytes`; the first read of a
    handle at offset 0 opens one. Any other read is a seek: the window closes, and opens again when the next read
    follows on it. More is asked for when half of a small window, or
    STEP_BYTES of a wide one, are used up, so that ranges stay large.
    """
    if max_window_bytes <= 0:
        return Plan(Stream(read.end, 0, read.end), None)
    follows = stream.expected - BACKWARD_BYTES <= read.offset <= stream.expected + FORWARD_BYTES
    started = stream.window_bytes > 0
    # Only a read that follows exactly starts a stream: random readers hit a near place by chance.
    continues = follows if started else read.offset == stream.expected
    if not continues:
        return Plan(Stream(read.end, 0, read.end), None)
    expected = max(read.end, stream.expected) if started else read.end
    window = stream.window_bytes
    asked_to = max(stream.asked_to, expected) if started else read.end
    if asked_to - expected > window - min(window // 2, STEP_BYTES) or asked_to >= size_bytes:
        return Plan(Stream(expected, max(window, 1), asked_to), None)
    window = min(max(window * 2, FIRST_WINDOW_BYTES), max_window_bytes)
    wanted_to = min(expected + window, size_bytes)
    if wanted_to <= asked_to:
        return Plan(Stream(expected, window, asked_to), None)
    return Plan(Stream(expected, window, wanted_to), Extent(asked_to, wanted_to - asked_to))
