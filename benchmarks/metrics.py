"""What is measured: one row per figure, with its unit and which way is better."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Metric:
    """One row of the result. `digits` is how many places after the point a table shows."""

    key: str
    title: str
    unit: str
    higher_is_better: bool
    digits: int = 0


METRICS = (
    Metric("find_cold", "find over all names, cold", "s", False, 2),
    Metric("sequential_cold", "sequential read, cold", "MB/s", True),
    Metric("sequential_warm", "sequential read, warm, page cache dropped", "MB/s", True),
    Metric("sequential_ram", "sequential read, warm, cache in RAM", "MB/s", True),
    Metric("random_cold", "random 4 KiB, cold, 1 reader", "/s", True),
    Metric("random_warm_1", "random 4 KiB, warm, 1 reader", "/s", True),
    Metric("random_warm_4", "random 4 KiB, warm, 4 readers", "/s", True),
    Metric("small_cold", "small files, cold, 16 readers", "files/s", True),
    Metric("small_warm", "small files, warm, 16 readers", "files/s", True),
    Metric("cpu_cold", "client CPU, sequential cold", "s/GiB", False, 2),
    Metric("cpu_warm", "client CPU, sequential warm", "s/GiB", False, 2),
    Metric("memory_private", "peak anonymous and shared memory", "MiB", False),
    Metric("memory_resident", "peak resident memory", "MiB", False),
)

# What a client returns: a figure, or why there is none.
Results = dict[str, float | str]
