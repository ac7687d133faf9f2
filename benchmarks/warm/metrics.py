"""What is measured: one row per figure."""

from __future__ import annotations

from benchmarks.metric import Metric

METRICS = (
    Metric("sequential", "sequential read, 1 MiB at a time", "MB/s", True),
    Metric("sequential_direct", "sequential read, O_DIRECT", "MB/s", True),
    Metric("cpu", "client CPU, sequential", "s/GiB", False, 2),
    Metric("switches", "client context switches, sequential", "/GiB", False),
    Metric("random_1", "random 4 KiB, 1 reader", "/s", True),
    Metric("random_1_direct", "random 4 KiB, 1 reader, O_DIRECT", "/s", True),
    Metric("random_4", "random 4 KiB, 4 readers", "/s", True),
    Metric("random_4_direct", "random 4 KiB, 4 readers, O_DIRECT", "/s", True),
    Metric("mapped", "mapped file, random pages of 4 KiB", "/s", True),
    Metric("half_sequential", "half cached: sequential read of all", "MB/s", True),
    Metric("half_random", "half cached: random 4 KiB of that half, O_DIRECT", "/s", True),
    Metric("small", "small files, 16 readers", "files/s", True),
    Metric("small_names", "small files, 16 readers, names dropped too", "files/s", True),
    Metric("find", "find over all names", "s", False, 3),
    Metric("find_names", "find over all names, names dropped", "s", False, 3),
    Metric("find_size", "find with the size of each", "s", False, 3),
    Metric("find_size_names", "find with the size of each, names dropped", "s", False, 3),
    Metric("trips", "FUSE requests per small file", "", False, 2),
    Metric("python_reads", "reads that came to Python in a round", "", False),
)
