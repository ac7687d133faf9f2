"""A whole run: one server, one data set, all clients in turn in every round, results after each of them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from benchmarks.clients.base import Bench, MountedClient
from benchmarks.clients.fluidfs import Fluidfs
from benchmarks.clients.juicefs import JuiceFS
from benchmarks.clients.local import Local
from benchmarks.clients.rclone import Rclone
from benchmarks.clients.s3fs import S3fs
from benchmarks.cold.metrics import METRICS
from benchmarks.cold.raw import Raw
from benchmarks.cold.sequence import measure_mounted
from benchmarks.dataset import DataSet
from benchmarks.machine import describe
from benchmarks.metric import Results
from benchmarks.result import Outcome, Run
from benchmarks.settings import Settings
from benchmarks.stage import SHARED_MEMORY, Report, interruptible, make_directory, prepare, stage

RAW_STREAMS = (1, 4, 8)
CLIENTS: dict[str, Callable[[Bench], MountedClient]] = {
    "fluidfs": Fluidfs,
    "rclone": Rclone,
    "s3fs": S3fs,
    "juicefs": JuiceFS,
    "local": Local,
}
NAMES = ("fluidfs", "rclone", "s3fs", "juicefs", "raw", "local")
# The store's copy and JuiceFS's, in memory; everything else is on disk.
STORE_COPIES = 2


def run(settings: Settings, *, report: Report, after_round: Callable[[Outcome], None]) -> None:
    """Measures; `after_round` gets what is known so far. Needs root, to drop the page cache. Leaves nothing behind."""
    data = settings.data(small=settings.wants("small_cold", "small_disk"), names=settings.wants("find_cold"))
    with interruptible(), ExitStack() as undo:
        work = make_directory(undo, settings.work)
        store = _store_directory(data, work, undo)
        bench = undo.enter_context(stage(data, work=work, disk=work, store=store, names_ttl_s=None, report=report))
        clients = _clients(settings.clients, bench)
        rounds: dict[str, list[Results]] = {client.name: [] for client in clients}
        broken = prepare(clients, undo, report)
        result = Run(
            metrics=METRICS,
            rounds=rounds,
            versions={client.name: client.version() for client in clients if client.name not in broken},
            machine=describe(work),
            settings=settings.facts(),
        )
        for number in range(settings.rounds):
            # Whoever comes first in one round comes last in the next.
            turn = number % len(clients)
            for client in [*clients[turn:], *clients[:turn]]:
                report(f"round {number + 1} of {settings.rounds}: {client.name}")
                rounds[client.name].append(_measure(client, settings, broken, verify=number == 0))
            after_round(Outcome(result, result.facts(), result.markdown()))


def _measure(client: MountedClient | Raw, settings: Settings, broken: dict[str, str], *, verify: bool) -> Results:
    if client.name in broken:
        return {metric.key: broken[client.name] for metric in METRICS if settings.wants(metric.key)}
    if isinstance(client, Raw):
        return client.measure(settings)
    return measure_mounted(client, settings, verify=verify)


def _clients(names: Sequence[str], bench: Bench) -> list[MountedClient | Raw]:
    clients: list[MountedClient | Raw] = []
    for name in names:
        if name == "raw":
            clients += [Raw(bench, streams=streams, is_whole=streams == RAW_STREAMS[0]) for streams in RAW_STREAMS]
        else:
            clients.append(CLIENTS[name](bench))
    return clients


def _store_directory(data: DataSet, work: Path, undo: ExitStack) -> Path:
    """In memory where there is room: then a dropped page cache slows down the clients' caches and not the store."""
    needed = STORE_COPIES * (data.large_bytes + data.small_files * data.small_bytes) * 5 // 4 + 1024**3
    if not (SHARED_MEMORY.is_dir() and shutil.disk_usage(SHARED_MEMORY).free > 2 * needed):
        return work / "store"
    return make_directory(undo, SHARED_MEMORY) / "store"
