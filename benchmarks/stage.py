"""What a suite stands on while it runs: the data on a disk and in a server, a reader, and clients made ready."""

from __future__ import annotations

import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Protocol

from benchmarks.clients.base import Bench, BenchError
from benchmarks.dataset import DataSet, upload
from benchmarks.reading import compile_reader
from fluidfs.demo.seaweed import SeaweedServer

BUCKET = "bench"
SHARED_MEMORY = Path("/dev/shm")

Report = Callable[[str], None]


class Preparable(Protocol):
    """What takes part in a run: a mounted client, or requests without one."""

    name: str

    def prepare(self) -> None:
        """Called once, before anything is measured."""

    def finish(self) -> None:
        """Called once, at the end, also when `prepare` failed."""


@contextmanager
def stage(
    data: DataSet, *, work: Path, disk: Path, store: Path, names_ttl_s: int | None, report: Report
) -> Iterator[Bench]:
    """The files below `work`, the same in a bucket of a server that keeps it in `store` and lives as long as this.

    `disk` is for the program that reads: a tmpfs may allow none to be run.
    """
    local = work / "local"
    report(f"writing the data: {data.large_bytes:,} B, {data.small_files:,} small files, {data.names:,} names")
    data.write_to(local)
    reader = disk / "reader"
    compile_reader(reader)
    with SeaweedServer(store) as server:
        report(f"uploading to SeaweedFS, which keeps them in {store}")
        upload(server, BUCKET, data, local)
        yield Bench(
            server=server, bucket=BUCKET, data=data, local=local, work=work, reader=reader, names_ttl_s=names_ttl_s
        )


def make_directory(undo: ExitStack, parent: Path) -> Path:
    """A new directory that every user may pass through, removed at the end."""
    path = Path(tempfile.mkdtemp(prefix="fluidfs-bench-", dir=parent)).resolve()
    undo.callback(shutil.rmtree, path, ignore_errors=True)
    path.chmod(0o755)
    return path


def prepare(clients: Sequence[Preparable], undo: ExitStack, report: Report) -> dict[str, str]:
    """Prepares each client, finished by `undo`; returns the reasons of those that cannot be measured."""
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


@contextmanager
def interruptible() -> Iterator[None]:
    """SIGTERM unwinds the stack as Ctrl-C does."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
