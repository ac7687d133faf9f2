"""What a native data plane tells of itself: for `fluidfs status` and the table of metrics."""

from __future__ import annotations

import errno
import threading

from prometheus_client import Counter

from fluidfs._native.relay import Facts, Relay
from fluidfs.fuse.passthrough import refused
from fluidfs.fuse.tickets import Tickets
from fluidfs.metrics import Metrics


class RelayReport:
    """The counters of a relay, brought into the metrics whenever somebody asks for those. Thread-safe: the server of
    metrics has threads of its own.
    """

    def __init__(
        self, relay: Relay, tickets: Tickets, metrics: Metrics, *, threads: int, why_no_passthrough: str | None
    ) -> None:
        self._relay = relay
        self._tickets = tickets
        self._metrics = metrics
        self._threads = threads
        self._why_no_passthrough = why_no_passthrough
        self._exporting = threading.Lock()
        self._exported: dict[Counter, int] = {}

    def status(self) -> dict[str, object]:
        """The room `data_plane` of a mount's status."""
        facts, session = self._relay.facts(), self._relay.session
        why = self._why_no_passthrough or refused(
            features=session.features,
            backing_errno=facts.backing_errno,
            passthrough_opens=facts.passthrough_opens,
        )
        return {
            "mode": "native" if why else "passthrough",
            "why": why,
            "features": sorted(session.features),
            "protocol": f"7.{session.minor}",
            "max_read_kib": session.max_read_bytes >> 10,
            "threads": self._threads,
            "clones": facts.clones,
            "requests": {"native": dict(facts.native), "python": dict(facts.python)},
            "opens": facts.opens,
            "passthrough_opens": facts.passthrough_opens,
            "open_files": facts.open_files,
            "waiting": facts.waiting,
            "watchdog": {"given_up": facts.given_up, "interrupted": facts.interrupted},
            "replies_failed": facts.replies_failed,
        }

    def export(self) -> None:
        """Adds to the metrics what was counted since the last time."""
        with self._exporting:
            self._export(self._relay.facts())

    def _export(self, facts: Facts) -> None:
        metrics = self._metrics
        self._raise(metrics.read_requests, facts.read_requests)
        self._raise(metrics.read_bytes, facts.read_bytes)
        self._raise(metrics.read_hit_bytes, facts.read_hit_bytes)
        # Errors that Python gave are in the metrics already; the others are the watchdog's.
        others = facts.read_errors - self._tickets.reads_failed
        self._raise(metrics.read_errors.labels(errno=str(errno.EIO)), max(0, others))
        self._raise(metrics.opens.labels(way="passthrough"), facts.passthrough_opens)
        self._raise(metrics.opens.labels(way="relayed"), facts.opens - facts.passthrough_opens)
        self._export_requests(facts)
        self._raise(metrics.requests_given_up.labels(why="overdue"), facts.given_up)
        self._raise(metrics.requests_given_up.labels(why="killed"), facts.interrupted)
        metrics.gauge("requests_waiting", facts.waiting)
        metrics.gauge("open_files", facts.open_files)

    def _export_requests(self, facts: Facts) -> None:
        for served_by, counts in (("native", facts.native), ("python", facts.python)):
            for request, count in counts.items():
                self._raise(self._metrics.requests.labels(request=request.lower(), served_by=served_by), count)

    def _raise(self, counter: Counter, value: int) -> None:
        """Counts up to `value`, of which others may have counted their own part."""
        counter.inc(max(0, value - self._exported.get(counter, 0)))
        self._exported[counter] = max(value, self._exported.get(counter, 0))
