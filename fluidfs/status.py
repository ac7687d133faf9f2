"""What `fluidfs status` and the metrics endpoint tell of a running mount: facts gathered, nothing changed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from fluidfs.cache.level import Level
from fluidfs.metrics import value_of
from fluidfs.plane import Plane


def status_of(
    plane: Plane, *, data_plane: Mapping[str, object], names_known: int, throughput_bytes_per_s: float
) -> dict[str, object]:
    """The facts of a mount but for its identity, as JSON has them. `reads` knows nothing of passthrough reads."""
    plane.metrics.refresh()
    metrics, engine = plane.metrics, plane.engine.statistics()
    read, hit = value_of(metrics.read_bytes), value_of(metrics.read_hit_bytes)
    hidden = plane.names.hidden
    return {
        "data_plane": dict(data_plane),
        "cache": [_level(level) for level in plane.cache.levels],
        "reads": {
            "count": int(value_of(metrics.read_requests)),
            "errors": int(value_of(metrics.read_errors)),
            "bytes": int(read),
            "hit_bytes": int(hit),
            "miss_bytes": int(read - hit),
            "hit_ratio": round(hit / read, 4) if read else None,
            "read_through_bytes": int(value_of(metrics.read_through_bytes)),
        },
        "fetch": {
            "requests": engine.requests_sent,
            "bytes": engine.bytes_received,
            "retries": int(value_of(metrics.retries)),
            "errors": _failed_gets(plane),
            "in_flight": engine.in_flight,
            "in_flight_bytes": plane.budget.taken_bytes,
            "connections_opened": engine.connections_opened,
            "throughput_bytes_per_s": round(throughput_bytes_per_s),
        },
        "integrity": {"bad_blocks": sum(level.usage.bad_blocks for level in plane.cache.levels)},
        "names": {
            "known": names_known,
            "hidden": {reason.value: count for reason, count in hidden.counts().items() if count},
            "hidden_sample": [{"key": key.key, "reason": key.reason.value} for key in hidden.sample()],
        },
        "memory": memory(),
    }


def _level(level: Level) -> dict[str, object]:
    usage = level.usage
    return {
        "path": level.spec.path,
        "medium": level.spec.medium,
        "used_bytes": usage.used_bytes,
        "quota_bytes": usage.quota_bytes,
        "evicted_bytes": usage.evicted_bytes,
        "state": "ok" if level.fault is None else "out of use",
        "why": level.fault,
    }


def _failed_gets(plane: Plane) -> int:
    samples = (sample for metric in plane.metrics.fetch_requests.collect() for sample in metric.samples)
    ended = [sample for sample in samples if sample.name.endswith("_total")]
    return int(sum(sample.value for sample in ended if sample.labels["status"] not in ("ok", "cancelled")))


def memory() -> dict[str, int]:
    """Anonymous and shared memory of this process, in bytes, as the kernel counts them."""
    text = Path("/proc/self/status").read_text()
    kib = {key: int(value) for key, value in re.findall(r"^(RssAnon|RssShmem):\s+(\d+) kB", text, re.MULTILINE)}
    return {"anon_bytes": kib.get("RssAnon", 0) * 1024, "shmem_bytes": kib.get("RssShmem", 0) * 1024}


def export_gauges(plane: Plane, *, names_known: int) -> None:
    """Sets the gauges of the metrics table to what holds now."""
    metrics = plane.metrics
    for level in plane.cache.levels:
        path, usage = level.spec.path, level.usage
        metrics.gauge("cache_used_bytes", usage.used_bytes, level=path)
        metrics.gauge("cache_quota_bytes", usage.quota_bytes, level=path)
        metrics.gauge("cache_evicted_bytes", usage.evicted_bytes, level=path)
        metrics.gauge("cache_bad_blocks", usage.bad_blocks, level=path)
        metrics.gauge("cache_level_up", 0 if level.fault else 1, level=path)
    metrics.gauge("fetch_in_flight_bytes", plane.budget.taken_bytes)
    metrics.gauge("names_known", names_known)
    metrics.gauge("keys_hidden", sum(plane.names.hidden.counts().values()))
