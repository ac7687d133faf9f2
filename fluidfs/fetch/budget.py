"""One byte budget for all data in flight, so that memory is bounded whatever is read."""

from __future__ import annotations

from collections import deque

import trio


class ByteBudget:
    """`total_bytes` that tasks take from and give back to. Belongs to one trio run.

    First come, first served among those who wait: a large request is not starved by small ones. A request for more
    than the total is served as the total, when nothing else is in flight. Takers give back what they asked for.
    """

    def __init__(self, total_bytes: int) -> None:
        if total_bytes <= 0:
            raise ValueError("a budget has at least one byte")
        self.total_bytes = total_bytes
        self._taken = 0
        self._waiting: deque[tuple[int, trio.Event]] = deque()

    @property
    def taken_bytes(self) -> int:
        """Bytes in flight now."""
        return self._taken

    def try_take(self, size_bytes: int) -> bool:
        """Takes without waiting; False when there is not enough, or others wait already."""
        size_bytes = min(size_bytes, self.total_bytes)
        if self._waiting or self._taken + size_bytes > self.total_bytes:
            return False
        self._taken += size_bytes
        return True

    async def take(self, size_bytes: int) -> None:
        """Waits until so many bytes are free, and takes them."""
        if self.try_take(size_bytes):
            return
        place = (min(size_bytes, self.total_bytes), trio.Event())
        self._waiting.append(place)
        try:
            await place[1].wait()
        except trio.Cancelled:
            if place[1].is_set():
                self.give(size_bytes)
            else:
                self._waiting.remove(place)
                self._serve()
            raise

    def give(self, size_bytes: int) -> None:
        """Gives back what was taken."""
        self._taken -= min(size_bytes, self.total_bytes)
        self._serve()

    def _serve(self) -> None:
        while self._waiting and self._taken + self._waiting[0][0] <= self.total_bytes:
            size_bytes, event = self._waiting.popleft()
            self._taken += size_bytes
            event.set()
