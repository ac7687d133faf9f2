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
        self.recall(wanted)
        try:
            yield
        except StoreUnavailable as error:
            self.note(wanted, error)
            raise

    def recall(self, wanted: Extent) -> None:
        """Raises what bytes of `wanted` failed with a moment ago, if they did."""
        if self._error is not None and not self.is_over and self._touches(wanted):
            raise type(self._error)(self._error.message) from self._error

    def note(self, wanted: Extent, error: StoreUnavailable) -> None:
        """Remembers what `wanted` failed with."""
        self._extent, self._error, self._until = wanted, error, trio.current_time() + HOLDS_S

    @property
    def is_over(self) -> bool:
        """Whether nothing is remembered any more."""
        return trio.current_time() >= self._until

    def _touches(self, wanted: Extent) -> bool:
        return self._extent is not None and wanted.offset < self._extent.end and self._extent.offset < wanted.end


class Troubles:
    """What was wrong with many open files: recent failures by handle, changed objects by content. Those with which
    nothing was wrong cost nothing.
    """

    __slots__ = ("_changed", "_failures")

    def __init__(self) -> None:
        self._changed: set[int] = set()
        self._failures: dict[int, RecentFailure] = {}

    def recall(self, handle: int, wanted: Extent) -> None:
        """As RecentFailure.recall, for one of the handles."""
        failure = self._failures.get(handle)
        if failure is not None:
            failure.recall(wanted)

    def note(self, handle: int, wanted: Extent, error: StoreUnavailable) -> None:
        """As RecentFailure.note."""
        self._failures.setdefault(handle, RecentFailure()).note(wanted, error)

    def changed(self, content: int) -> bool:
        """Notes that the object was seen to have changed. False: it was before, and its name may stand for the new one
        already.
        """
        news = content not in self._changed
        self._changed.add(content)
        return news

    def forget(self, content: int) -> None:
        """The content has gone."""
        self._changed.discard(content)

    def settle(self) -> None:
        """Forgets failures that are over; to be called once in a while."""
        self._failures = {handle: failure for handle, failure in self._failures.items() if not failure.is_over}
