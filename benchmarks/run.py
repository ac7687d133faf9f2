"""A whole run: one server, one data set, all clients in turn in every round, results after each of them."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType

from benchmarks.clients.base import Bench, BenchError, MountedClient
from benchmarks.clients.fluidfs import Fluidfs
from benchmarks.clients.juicefs import JuiceFS
from benchmarks.clients.local import Local
from benchmarks.clients.raw import Raw
from benchmarks.clients.rclone import Rclone
from benchmarks.clients.s3fs import S3fs
from benchmarks.dataset import DataSet, upload
from benchmarks.machine import describe
from benchmarks.metrics import METRICS, Results
from benchmarks.result import Run
from benchmarks.sequence import Plan, measure_mounted
from fluidfs.demo.seaweed import SeaweedServer

BUCKET = "bench"
RAW_STREAMS = (1, 4, 8)
CLIENTS: dict[str, type[MountedClient]] = {
    "fluidfs": Fluidfs,
    "rclone": Rclone,
    "s3fs": S3fs,
    "juicefs": JuiceFS,
    "local": Local,
}
NAMES = ("fluidfs", "rclone", "s3fs", "juicefs", "raw", "local")
# The store's copy and JuiceFS's, in memory; everything else is on disk.
STORE_COPIES = 2
SHARED_MEMORY = Path("/dev/shm")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a run is asked for."""

    clients: tuple[str, ...]
    only: frozenset[str]
    rounds: int
    large_bytes: int
    small_files: int
    names: int
    random_seconds: float
    work: Path
    small_bytes: int = 100 * 1024


def run(settings: Settings, *, report: Callable[[str], None], after_round: Callable[[Run], None]) -> Run:
    """Measures; `after_round` gets what is known so far. Needs root, to drop the page cache. Leaves nothing behind."""
    plan = Plan(only=settings.only, random_seconds=settings.random_seconds)
    data = DataSet(
        large_bytes=settings.large_bytes,
        small_files=settings.small_files if plan.wants("small_cold", "small_warm") else 0,
        small_bytes=settings.small_bytes,
        names=settings.names if plan.wants("find_cold") else 0,
    )
    with _interruptible(), ExitStack() as undo:
        work = Path(
            undo.enter_context(tempfile.TemporaryDirectory(prefix="fluidfs-bench-", dir=settings.work))
        ).resolve()
        local = work / "local"
        report(f"writing the data: {data.large_bytes:,} B, {data.small_files:,} small files, {data.names:,} names")
        data.write_to(local)
        store = _store_directory(data, work, undo)
        server = undo.enter_context(SeaweedServer(store))
        report(f"uploading to SeaweedFS, which keeps them in {store.parent}")
        upload(server, BUCKET, data, local)
        bench = Bench(server, BUCKET, data, local, work)
        clients = _clients(settings.clients, bench)
        rounds: dict[str, list[Results]] = {client.name: [] for client in clients}
        broken = _prepare(clients, undo, report)
        result = Run(
            rounds=rounds,
            versions={client.name: client.version() for client in clients if client.name not in broken},
            machine=describe(work),
            settings={**asdict(settings), "work": str(settings.work), "only": sorted(settings.only)},
        )
        for number in range(settings.rounds):
            # Whoever comes first in one round comes last in the next.
            turn = number % len(clients)
            for client in [*clients[turn:], *clients[:turn]]:
                report(f"round {number + 1} of {settings.rounds}: {client.name}")
                rounds[client.name].append(_measure(client, plan, broken, verify=number == 0))
            after_round(result)
    return result


def _measure(client: MountedClient | Raw, plan: Plan, broken: dict[str, str], *, verify: bool) -> Results:
    if client.name in broken:
        return {metric.key: broken[client.name] for metric in METRICS if plan.wants(metric.key)}
    if isinstance(client, Raw):
        return client.measure(plan)
    return measure_mounted(client, plan, verify=verify)


def _clients(names: Sequence[str], bench: Bench) -> list[MountedClient | Raw]:
    clients: list[MountedClient | Raw] = []
    for name in names:
        if name == "raw":
            clients += [Raw(bench, streams=streams, is_whole=streams == RAW_STREAMS[0]) for streams in RAW_STREAMS]
        else:
            clients.append(CLIENTS[name](bench))
    return clients


def _prepare(clients: Sequence[MountedClient | Raw], undo: ExitStack, report: Callable[[str], None]) -> dict[str, str]:
    """Prepares each client; returns the reasons of those that cannot be measured."""
    broken = {}
    for client in clients:
        undo.callback(client.finish)
        report(f"preparing {client.name}")
        try:
            client.prepare()
        except (BenchError, OSError) as error:
            broken[client.name] = str(error)
            report(f"{client.name} cannot be measured: {error}")
    return broken


def _store_directory(data: DataSet, work: Path, undo: ExitStack) -> Path:
    """In memory where there is room: then a dropped page cache slows down the clients' caches and not the store."""
    needed = STORE_COPIES * (data.large_bytes + data.small_files * data.small_bytes) * 5 // 4 + 1024**3
    if not (SHARED_MEMORY.is_dir() and shutil.disk_usage(SHARED_MEMORY).free > 2 * needed):
        return work / "store"
    place = tempfile.mkdtemp(prefix="fluidfs-bench-", dir=SHARED_MEMORY)
    undo.callback(shutil.rmtree, place, ignore_errors=True)
    return Path(place) / "store"


@contextmanager
def _interruptible() -> Iterator[None]:
    """SIGTERM unwinds the stack as Ctrl-C does."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def is_allowed() -> bool:
    """Only root drops the page cache."""
    return os.geteuid() == 0
