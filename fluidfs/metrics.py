"""The one table of metrics, and the object that counts them.

Names are `fluidfs_<what>_<unit>[_total]`. `docs/reference/metrics.md` is made from the table. A "stable" metric keeps
its name and meaning within a major version; an "alpha" one may change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, generate_latest
from prometheus_client.registry import Collector

Kind = Literal["counter", "gauge", "histogram"]
Stability = Literal["stable", "alpha"]


@dataclass(frozen=True, slots=True)
class MetricRow:
    """One metric: `name` without the prefix and without `_total`."""

    name: str
    kind: Kind
    unit: str
    labels: tuple[str, ...]
    stability: Stability
    meaning: str


METRICS: tuple[MetricRow, ...] = (
    MetricRow("read_requests", "counter", "requests", (), "stable", "READ requests answered, errors included"),
    MetricRow("read_bytes", "counter", "bytes", (), "stable", "Bytes given to readers"),
    MetricRow("read_hit_bytes", "counter", "bytes", (), "stable", "Bytes given to readers that were cached already"),
    MetricRow("read_through_bytes", "counter", "bytes", (), "stable", "Bytes read from the store and kept nowhere"),
    MetricRow("read_errors", "counter", "requests", ("errno",), "stable", "READ requests answered with an error"),
    MetricRow("opens", "counter", "opens", ("way",), "alpha", "Files opened, `passthrough` or `relayed`"),
    MetricRow("requests", "counter", "requests", ("request", "served_by"), "alpha", "Served by `native` or `python`"),
    MetricRow("requests_given_up", "counter", "requests", ("why",), "alpha", "Given up, `overdue` or `killed`"),
    MetricRow("requests_waiting", "gauge", "requests", (), "alpha", "Requests that wait for an answer"),
    MetricRow("open_files", "gauge", "files", (), "alpha", "Files that are open, once for each time"),
    MetricRow("fetch_requests", "counter", "requests", ("status",), "stable", "Ranged GETs, by how they ended"),
    MetricRow("fetch_bytes", "counter", "bytes", (), "stable", "Bytes received from the store"),
    MetricRow("fetch_retries", "counter", "requests", (), "stable", "GETs that were tried again"),
    MetricRow("fetch_seconds", "histogram", "seconds", (), "alpha", "How long a ranged GET took, without its retries"),
    MetricRow("fetch_in_flight_bytes", "gauge", "bytes", (), "stable", "Bytes of the --memory budget that are taken"),
    MetricRow("cache_used_bytes", "gauge", "bytes", ("level",), "stable", "What a cache level holds"),
    MetricRow("cache_quota_bytes", "gauge", "bytes", ("level",), "stable", "What a cache level may hold"),
    MetricRow("cache_evicted_bytes", "gauge", "bytes", ("level",), "stable", "Ever evicted from a level, by whomever"),
    MetricRow("cache_bad_blocks", "gauge", "blocks", ("level",), "stable", "Checksum mismatches ever found in a level"),
    MetricRow("cache_level_up", "gauge", "bool", ("level",), "stable", "1 in use, 0 left alone after a fault"),
    MetricRow("names_known", "gauge", "names", (), "alpha", "Node ids that the kernel knows"),
    MetricRow("keys_hidden", "gauge", "keys", (), "alpha", "Keys seen that no file system can show"),
)  # fmt: skip

_ROWS = {row.name: row for row in METRICS}


class _Refresh(Collector):
    """Has no metrics of its own; being collected, it brings those that follow up to date."""

    def __init__(self, refreshes: list[Callable[[], None]]) -> None:
        self._refreshes = refreshes

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterable[Metric]:
        for refresh in self._refreshes:
            refresh()
        return ()


class Metrics:
    """Counts what the table names. Thread-safe, as prometheus_client's metrics are."""

    def __init__(self) -> None:
        # What is read when somebody asks, by whichever way, instead of being counted all the time.
        self.before_export: list[Callable[[], None]] = []
        self.registry = CollectorRegistry()
        # Collectors are asked in the order of their registration.
        self.registry.register(_Refresh(self.before_export))
        self.read_requests = self._counter("read_requests")
        self.read_bytes = self._counter("read_bytes")
        self.read_hit_bytes = self._counter("read_hit_bytes")
        self.read_through_bytes = self._counter("read_through_bytes")
        self.read_errors = self._counter("read_errors")
        self.opens = self._counter("opens")
        self.requests = self._counter("requests")
        self.requests_given_up = self._counter("requests_given_up")
        self.fetch_requests = self._counter("fetch_requests")
        self.fetch_bytes = self._counter("fetch_bytes")
        self.retries = self._counter("fetch_retries")
        row = _ROWS["fetch_seconds"]
        self.fetch_seconds = Histogram(f"fluidfs_{row.name}", row.meaning, registry=self.registry)
        self._gauges = {
            row.name: Gauge(f"fluidfs_{row.name}", row.meaning, row.labels, registry=self.registry)
            for row in METRICS
            if row.kind == "gauge"
        }

    def _counter(self, name: str) -> Counter:
        row = _ROWS[name]
        return Counter(f"fluidfs_{name}", row.meaning, row.labels, registry=self.registry)

    def gauge(self, name: str, value: float, **labels: str) -> None:
        """Sets a gauge of the table."""
        metric = self._gauges[name]
        (metric.labels(**labels) if labels else metric).set(value)

    def observe_get(self, status: str, size_bytes: int, seconds: float) -> None:
        """Counts a GET that ended."""
        self.fetch_requests.labels(status=status.lower()).inc()
        self.fetch_bytes.inc(size_bytes)
        self.fetch_seconds.observe(seconds)

    def refresh(self) -> None:
        """Brings up to date what is read only when somebody asks."""
        for refresh in self.before_export:
            refresh()

    def text(self) -> bytes:
        """Everything, in Prometheus' text format."""
        return generate_latest(self.registry)


def value_of(counter: Counter) -> float:
    """What a counter stands at, its labels summed up."""
    return sum(
        sample.value for metric in counter.collect() for sample in metric.samples if sample.name.endswith("_total")
    )


def reference() -> str:
    """The table as the Markdown of `docs/reference/metrics.md`."""
    lines = [
        "# Metrics",
        "",
        "`fluidfs status --metrics` prints them, and `fluidfs mount --metrics ADDR:PORT` serves them over HTTP,",
        "both in the text format of Prometheus. A *stable* metric keeps its name and meaning within a major version;",
        "an *alpha* one may change. Counters restart from 0 with each daemon; what a cache level counts is kept in its",
        "directory.",
        "",
        "A file opened with `passthrough` is read by the kernel itself: its reads are not seen, and are in no counter.",
        "",
        "| Name | Kind | Unit | Labels | Stability | Meaning |",
        "|---|---|---|---|---|---|",
    ]
    for row in METRICS:
        name = f"fluidfs_{row.name}" + ("_total" if row.kind == "counter" else "")
        labels = ", ".join(f"`{label}`" for label in row.labels) or "–"
        lines.append(f"| `{name}` | {row.kind} | {row.unit} | {labels} | {row.stability} | {row.meaning} |")
    return "\n".join(lines) + "\n"
