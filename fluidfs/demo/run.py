"""The demonstration from beginning to end: store, data, mount, cold and warm reading, and nothing left.

It mounts by the same command line that people type, in a process of its own.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import FrameType

from fluidfs.demo.dataset import Kind, SourceFile, prepare, upload
from fluidfs.demo.figures import Figures, Row
from fluidfs.demo.measure import Reading, drop_page_cache, read_all
from fluidfs.demo.seaweed import SeaweedServer
from fluidfs.demo.traces import daemons_of, is_mounted
from fluidfs.errors import EnvironmentLacking, FluidfsError, MountError

BUCKET = "demo"
# The source, the store's copy and the cached copy, and a little to spare.
COPIES = 3
SPARE_BYTES = 512 * 1024 * 1024
COMMAND_TIMEOUT_S = 120.0
GONE_TIMEOUT_S = 15.0
LOG_LINES = 30


def run_demo(*, size_bytes: int, keep: bool, report: Callable[[str], None]) -> Figures:
    """Shows a bucket mounted and read, with a large file of `size_bytes`, and returns the figures.

    `report` gets a line per step. With `keep`, everything stays up until SIGINT or SIGTERM. Whatever happens, neither
    process nor mount nor file is left. Raises EnvironmentLacking for what the machine lacks, FluidfsError when bytes
    read differ from the source.
    """
    _check_environment(size_bytes)
    with _interruptible(), ExitStack() as undo:
        work = Path(tempfile.mkdtemp(prefix="fluidfs-demo-")).resolve()
        undo.callback(_remove, work, report)
        report("starting an S3 server (SeaweedFS) on 127.0.0.1")
        server = undo.enter_context(SeaweedServer(work / "store"))
        report("preparing real data: the Python standard library, a large file, model weights")
        (work / "source").mkdir()
        files = prepare(work / "source", large_bytes=size_bytes)
        report(f"uploading {len(files):,} objects, {sum(file.size_bytes for file in files) / 1e6:,.0f} MB")
        client = server.client()
        undo.callback(client.close)
        client.create_bucket(Bucket=BUCKET)
        upload(client, BUCKET, files)
        mountpoint, cache = work / "mnt", work / "cache"
        mountpoint.mkdir()
        report(f"$ fluidfs mount s3://{BUCKET} {mountpoint} --endpoint-url {server.endpoint_url} --cache {cache}")
        undo.enter_context(_mounted(server, mountpoint, cache, report))
        figures = _measure(mountpoint, cache, files, report)
        if keep:
            _wait_for_the_end(server, mountpoint, report)
    report("unmounted; no process, mount or file is left")
    if figures.wrong:
        raise FluidfsError(f"{len(figures.wrong)} files were read wrong, the first is {figures.wrong[0]!r}")
    return figures


def _measure(mountpoint: Path, cache: Path, files: Sequence[SourceFile], report: Callable[[str], None]) -> Figures:
    # Nothing has been read through this mount and its cache is empty: the first pass needs no preparation.
    cold = _pass_over(mountpoint, files, report, name="cold")
    drop_page_cache(mountpoint, cache)
    warm = _pass_over(mountpoint, files, report, name="warm, from the cache on disk")
    cached_bytes = sum(path.stat().st_blocks * 512 for path in cache.rglob("*") if path.is_file())
    rows = tuple(Row(kind.value, cold[kind], warm[kind]) for kind in Kind)
    return Figures(rows=rows, cached_bytes=cached_bytes, status=_status(mountpoint))


def _pass_over(
    mountpoint: Path, files: Sequence[SourceFile], report: Callable[[str], None], *, name: str
) -> dict[Kind, Reading]:
    report(f"reading everything {name}, comparing SHA-256 with the source")
    return {kind: read_all(mountpoint, [file for file in files if file.kind is kind]) for kind in Kind}


def _status(mountpoint: Path) -> dict[str, object]:
    """What the daemon says of itself; {} where it says nothing that can be read, which spoils no figure."""
    with suppress(MountError, ValueError):
        answer = json.loads(_fluidfs("status", str(mountpoint), "--json"))
        if isinstance(answer, list):
            answer = answer[0] if answer else {}
        return dict(answer)
    return {}


@contextmanager
def _mounted(server: SeaweedServer, mountpoint: Path, cache: Path, report: Callable[[str], None]) -> Iterator[None]:
    # Its log goes where the rest goes at the end.
    log = mountpoint.with_name("mount.log")
    place = ("--endpoint-url", server.endpoint_url, "--cache", str(cache), "--log-file", str(log))
    try:
        try:
            _fluidfs("mount", f"s3://{BUCKET}", str(mountpoint), *place, environment=server.environment())
        except MountError:
            _show_end_of(log, report)
            raise
        yield
        _fluidfs("umount", str(mountpoint))
        _wait_until_gone(mountpoint)
    finally:
        _force_away(mountpoint)


def _show_end_of(log: Path, report: Callable[[str], None]) -> None:
    """The log is removed with the rest, so what it says of a failure is said now."""
    with suppress(OSError):
        for line in log.read_text(errors="replace").splitlines()[-LOG_LINES:]:
            report(f"log: {line}")


def _fluidfs(*arguments: str, environment: dict[str, str] | None = None) -> str:
    """Runs the command line and returns its standard output; MountError with its own words when it fails."""
    # The user's own settings must not reach into the demonstration.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("FLUIDFS_", "AWS_"))}
    try:
        result = subprocess.run(
            [sys.executable, "-m", "fluidfs", *arguments],
            env={**inherited, **(environment or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise MountError(f"fluidfs {arguments[0]} did not end within {COMMAND_TIMEOUT_S:.0f} s") from error
    if result.returncode != 0:
        words = result.stderr.strip() or f"exit status {result.returncode}"
        raise MountError(f"fluidfs {arguments[0]} failed: {words}")
    return result.stdout


def _wait_until_gone(mountpoint: Path) -> None:
    deadline = time.monotonic() + GONE_TIMEOUT_S
    while is_mounted(mountpoint) or daemons_of(mountpoint):
        if time.monotonic() > deadline:
            raise MountError(f"after umount something of {mountpoint} is still there: {daemons_of(mountpoint)}")
        time.sleep(0.02)


def _force_away(mountpoint: Path) -> None:
    """For a demonstration that failed or was interrupted: kills the daemon, detaches the mount."""
    for pid in daemons_of(mountpoint):
        with suppress(OSError):
            os.kill(pid, signal.SIGKILL)
    if is_mounted(mountpoint):
        subprocess.run(["fusermount3", "-u", "-z", str(mountpoint)], check=False, capture_output=True)
    with suppress(MountError):
        _wait_until_gone(mountpoint)


def _remove(work: Path, report: Callable[[str], None]) -> None:
    if is_mounted(work / "mnt"):
        # Removing would go through the mount. This has not been seen; if it is, somebody has to look.
        report(f"{work} is left: its mount could not be removed")
        return
    shutil.rmtree(work)


def _wait_for_the_end(server: SeaweedServer, mountpoint: Path, report: Callable[[str], None]) -> None:
    report(f"the mount stays at {mountpoint}, the store at {server.endpoint_url}, until Ctrl-C")
    with suppress(KeyboardInterrupt):
        threading.Event().wait()


def _check_environment(size_bytes: int) -> None:
    if not Path("/dev/fuse").exists():
        raise EnvironmentLacking("/dev/fuse is missing: modprobe fuse; in a container, run it with --device /dev/fuse")
    if shutil.which("fusermount3") is None:
        raise EnvironmentLacking("fusermount3 is missing: apt-get install fuse3")
    needed = COPIES * size_bytes + SPARE_BYTES
    free = shutil.disk_usage(tempfile.gettempdir()).free
    if free < needed:
        raise EnvironmentLacking(
            f"{tempfile.gettempdir()} has {free / 1e9:.1f} GB free and the demonstration needs {needed / 1e9:.1f}: "
            "set TMPDIR to a larger disk, or ask for less with --size"
        )


@contextmanager
def _interruptible() -> Iterator[None]:
    """SIGTERM and SIGHUP unwind the stack as Ctrl-C does, so that they, too, leave nothing behind."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
