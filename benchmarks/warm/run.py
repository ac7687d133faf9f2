"""A whole warm run: all clients mounted and filled once, measured in rounds, the results after each of them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import ExitStack

from benchmarks.clients.base import BenchError
from benchmarks.machine import available_memory_bytes, describe
from benchmarks.result import Outcome, Run
from benchmarks.settings import Settings
from benchmarks.stage import SHARED_MEMORY, Report, interruptible, make_directory, prepare, stage
from benchmarks.warm.filling import fill_all
from benchmarks.warm.half import HalfCached
from benchmarks.warm.metrics import METRICS
from benchmarks.warm.report import facts, markdown
from benchmarks.warm.rounds import Rounds
from benchmarks.warm.rows import make_clients, memory_bytes
from benchmarks.warm.steps import steps

# Longer than any run: what is known stays known, and nobody refreshes names while another is measured.
NAMES_TTL_S = 3600
# What the daemons of all clients, and the server, take beside the caches.
PROCESSES_BYTES = 4 * 1024**3


def run(settings: Settings, *, report: Report, after_round: Callable[[Outcome], None]) -> None:
    """Measures; `after_round` gets what is known so far. Needs root. Leaves nothing behind.

    Raises BenchError if the memory has no room for all the caches.
    """
    data = settings.data(
        small=settings.wants("small", "small_names", "trips"),
        names=settings.wants("find", "find_names", "find_size", "find_size_names"),
    )
    caches = memory_bytes(settings.clients, data)
    free = min(available_memory_bytes() - PROCESSES_BYTES, shutil.disk_usage(SHARED_MEMORY).free)
    if free < caches:
        raise BenchError(f"all caches lie in memory: {caches:,} B of it are needed, {free:,} B are free; see --size")
    with interruptible(), ExitStack() as undo:
        work, disk = make_directory(undo, SHARED_MEMORY), make_directory(undo, settings.work)
        staged = stage(data, work=work, disk=disk, store=disk / "store", names_ttl_s=NAMES_TTL_S, report=report)
        bench = undo.enter_context(staged)
        clients = make_clients(bench, settings.clients, disk=disk, undo=undo)
        with_half = "fluidfs" in settings.clients and settings.wants("half_sequential", "half_random")
        half = HalfCached(bench) if with_half else None
        broken = prepare([*clients, *([half] if half else [])], undo, report)
        rounds = Rounds(clients, broken)
        known = Run(
            metrics=METRICS,
            rounds=rounds.results,
            versions={client.name: client.version() for client in clients if client.name not in broken},
            machine=describe(work),
            settings=settings.facts(),
        )
        cached_bytes = fill_all(clients, broken, undo, report)
        for number in range(settings.rounds):
            report(f"round {number + 1} of {settings.rounds}")
            plan = [
                step
                for step in steps(seconds=settings.random_seconds, seed=number, half=half)
                if settings.wants(*step.keys) and not (step.once and number > 0)
            ]
            rounds.measure(plan, count_requests=settings.wants("python_reads"))
            found = facts(known, cached_bytes=cached_bytes, requests=rounds.requests, data_planes=rounds.data_planes)
            after_round(Outcome(known, found, markdown(known)))
