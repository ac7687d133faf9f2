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


class Troubles:
    """The failures of many files, by what their bytes are known as; those that never failed cost nothing."""

    __slots__ = ("_changed", "_failures")

    def __init__(self) -> None:
        self._failures: dict[int, RecentFailure] = {}
        self._changed: set[int] = set()

    @contextmanager
    def guarding(self, content: int, wanted: Extent) -> Iterator[None]:
        """As RecentFailure.guarding, for one of the files."""
        failure = self._failures.get(content) or RecentFailure()
        try:
            with failure.guarding(wanted):
                yield
        except StoreUnavailable:
            self._failures[content] = failure
            raise

    def changed(self, content: int) -> bool:
        """Notes that the object was seen to have changed. False: it was before, and its name may stand for the new one
        already.
        """
        news = content not in self._changed
        self._changed.add(content)
        return news

    def forget(self, content: int) -> None:
        """The file is not open any more."""
        self._failures.pop(content, None)
        self._changed.discard(content)
