"""Requests that the native data plane has parked, which are to be answered by their tickets whatever happens."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from fluidfs._native.relay import Ask, Relay
from fluidfs.fuse.adapter import errno_told
from fluidfs.metrics import Metrics


class Tickets:
    """Answers requests that went wrong. Belongs to one trio run."""

    def __init__(self, relay: Relay, metrics: Metrics) -> None:
        self._relay = relay
        self._metrics = metrics
        # READs that were told an error here, and counted: the relay counts them too.
        self.reads_failed = 0

    @contextmanager
    def failing(
        self, operation: str, asks: Sequence[Ask], *, seen: Callable[[Exception], None] = lambda _: None
    ) -> Iterator[None]:
        """Answers `asks` with the errno of what is raised inside, after `seen` has looked at it. Without any, it is
        only logged.

        Cancellation passes; the relay answers what is left when it is stopped.
        """
        try:
            yield
        except Exception as error:  # noqa: BLE001 - `errno_told` logs it
            seen(error)
            number = errno_told(error, operation)
            for ask in asks:
                if ask.kind == "read":
                    self.reads_failed += 1
                    self._metrics.read_errors.labels(errno=str(number)).inc()
                self._relay.fail(ask.ticket, number)
