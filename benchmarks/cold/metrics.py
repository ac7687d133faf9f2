"""What is measured: one row per figure."""

from __future__ import annotations

from benchmarks.metric import Metric

METRICS = (
    Metric("find_cold", "find over all names, cold", "s", False, 2),
    Metric("sequential_cold", "sequential read, cold", "MB/s", True),
    Metric("sequential_disk", "sequential read, from the cache on disk", "MB/s", True),
    Metric("random_cold", "random 4 KiB, cold, 1 reader", "/s", True),
    Metric("small_cold", "small files, cold, 16 readers", "files/s", True),
    Metric("small_disk", "small files, from the cache on disk, 16 readers", "files/s", True),
    Metric("cpu_cold", "client CPU, sequential cold", "s/GiB", False, 2),
    Metric("cpu_disk", "client CPU, sequential from disk", "s/GiB", False, 2),
    Metric("memory_private", "peak anonymous and shared memory", "MiB", False),
    Metric("memory_resident", "peak resident memory", "MiB", False),
)
