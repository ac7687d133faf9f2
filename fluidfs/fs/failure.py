"""What a file's bytes could not be had for a moment ago, so that nobody waits for the same answer twice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import trio

from fluidfs.errors import StoreUnavailable
from fluidfs.model import Extent

# Where its readahead got an error, the kernel asks at once for the one page that the program needs. All attempts over
# again would double the time until the program hears of it; a program's own next try is to be a real one.
HOLDS_S = 1.0


class RecentFailure:
    """The last failure of one open file. Belongs to one trio run."""

    __slots__ = ("_error", "_extent", "_until")

    def __init__(self) -> None:
        self._extent: Extent | None = None
        self._error: StoreUnavailable | None = None
        self._until = 0.0

    @contextmanager
    def guarding(self, wanted: Extent) -> Iterator[None]:
        """Raises what bytes of `wanted` failed with a moment ago, instead of asking; remembers what they fail with."""
        if self._error is not None and self._touches(wanted) and trio.current_time() < self._until:
            raise type(self._error)(self._error.message) from self._error
        try:
            yield
        except StoreUnavailable as error:
            self._extent, self._error, self._until = wanted, error, trio.current_time() + HOLDS_S
            raise

    def _touches(self, wanted: Extent) -> bool:
        return self._extent is not None and wanted.offset < self._extent.end and self._extent.offset < wanted.end
