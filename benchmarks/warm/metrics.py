"""What is measured: one row per figure."""

from __future__ import annotations

from benchmarks.metric import Metric

METRICS = (
    Metric("sequential", "sequential read, 1 MiB at a time", "MB/s", True),
    Metric("sequential_direct", "– with O_DIRECT", "MB/s", True),
    Metric("cpu", "– CPU time of the client, without O_DIRECT", "s/GiB", False, 2),
    Metric("switches", "– its context switches", "/GiB", False),
    Metric("random_1", "random 4 KiB, 1 reader", "/s", True),
    Metric("random_1_direct", "– with O_DIRECT", "/s", True),
    Metric("random_4", "random 4 KiB, 4 readers", "/s", True),
    Metric("random_4_direct", "– with O_DIRECT", "/s", True),
    Metric("mapped", "mapped file, random pages of 4 KiB", "/s", True),
    Metric("half_sequential", "sequential read, every other 16 MiB cached", "MB/s", True),
    Metric("half_random", "– random 4 KiB in the cached half, O_DIRECT", "/s", True),
    Metric("small", "small files, 16 readers", "files/s", True),
    Metric("small_names", "– names dropped too", "files/s", True),
    Metric("find", "find over all names", "s", False, 3),
    Metric("find_names", "– names dropped", "s", False, 3),
    Metric("find_size", "find with the size of each", "s", False, 3),
    Metric("find_size_names", "– names dropped", "s", False, 3),
    Metric("trips", "FUSE requests per small file read", "", False, 2),
    Metric("python_reads", "reads that came to Python, of a round", "", False),
)
