"""The composition root of a mount: a device, the layers below it, a control socket, and the way it all ends."""

from __future__ import annotations

import logging
import os
import resource
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from functools import partial

import trio

from fluidfs.config import MountOptions
from fluidfs.control.claim import claimed
from fluidfs.control.detach import detach
from fluidfs.control.exporter import serving_metrics
from fluidfs.control.mounts import FLUIDFS_TYPE, mount_at, probe
from fluidfs.control.place import make_place, place_of
from fluidfs.control.registry import own_record
from fluidfs.control.server import serve_control
from fluidfs.control.unmounting import Unmounting
from fluidfs.errors import FluidfsError, MountpointBusy
from fluidfs.fuse.data_plane import DataPlane, open_data_plane
from fluidfs.fuse.device import MountFacts, Tuning, open_mounted, tune
from fluidfs.model import WarmProgress, WarmRequest, WarmResult
from fluidfs.plane import Plane, open_plane
from fluidfs.status import export_gauges, status_of
from fluidfs.version import VERSION

log = logging.getLogger(__name__)

Report = Callable[[WarmProgress], Awaitable[None]]

# Throughput is told over the last so many seconds.
_THROUGHPUT_S = 5.0
# How often the mount table is looked at for an end that the session does not tell of.
_WATCH_S = 1.0
# How often a stop that finds the mount in use tries again until its timeout.
_STOP_RETRY_S = 0.1


def run_mount(options: MountOptions, *, ready: Callable[[], None]) -> None:
    """Mounts, calls `ready` when the mount can be used, and returns when it is unmounted.

    Raises a FluidfsError before `ready` when the mount cannot be made; nothing is left mounted then.
    """
    started_s = time.time()
    with (
        make_place(place_of(os.environ, os.geteuid()), uid=os.geteuid()) as place,
        claimed(place, options.mountpoint),
        one_error(),
    ):
        replace_dead_mount(options.mountpoint)
        raise_descriptor_limit()
        trio.run(_serve_mount, options, ready, started_s)


@contextmanager
def one_error() -> Iterator[None]:
    """Raises the FluidfsError that nurseries wrapped into groups, the first if there are several, by itself.

    A group with any other error in it is a bug, and passes as it is.
    """
    try:
        yield
    except BaseExceptionGroup as group:
        expected, others = group.split(FluidfsError)
        if others is not None or expected is None:
            raise
        first: BaseException = expected
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        raise first from None


def raise_descriptor_limit() -> None:
    """Lets this process have as many descriptors as it may: each open version of an object takes one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def replace_dead_mount(mountpoint: str) -> None:
    """Detaches a mount of ours whose daemon is gone; refuses to mount over one that lives."""
    entry = mount_at(mountpoint)
    if entry is None or entry.fs_type != FLUIDFS_TYPE:
        return
    if probe(mountpoint) != "dead":
        raise MountpointBusy(f"{mountpoint} has {entry.source} mounted already: `fluidfs umount {mountpoint}` ends it")
    log.warning("dead mount replaced", extra={"mountpoint": mountpoint})
    detach(mountpoint, lazy=True)


async def _serve_mount(options: MountOptions, ready: Callable[[], None], started_s: float) -> None:
    # From the moment that something is mounted, a signal must not just kill us.
    async with open_plane(options) as plane:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            device_fd = open_mounted(
                MountFacts(str(plane.source), options.mountpoint, options.read_only, options.allow_other)
            )
            # Threads for what concerns the mount as a whole: a detach, beside the first look at the root.
            limiter = trio.CapacityLimiter(2)
            unmounting = Unmounting(options.mountpoint, limiter)
            try:
                async with open_data_plane(plane.layers, device_fd, disabled=options.fuse_disable) as data_plane:
                    await Mount(options, plane, data_plane, unmounting, started_s).run(ready, signals, limiter)
            finally:
                await unmounting.ensure()


class Mount:
    """A mount while it is served; the MountService of its control socket."""

    def __init__(
        self, options: MountOptions, plane: Plane, data_plane: DataPlane, unmounting: Unmounting, started_s: float
    ) -> None:
        self._options = options
        self._plane = plane
        self._data_plane = data_plane
        self._unmounting = unmounting
        self._started_s = started_s
        self._ended = trio.Event()
        self._tuning = Tuning(read_ahead_kib=128, max_background=12)
        self._throughput = 0.0

    async def run(self, ready: Callable[[], None], signals: AsyncIterator[int], limiter: trio.CapacityLimiter) -> None:
        """Serves the device, the control socket and signals, until unmounted or told to stop."""
        metrics = self._plane.metrics
        metrics.before_export += (self._data_plane.export, self._export_gauges)
        place = make_place(place_of(os.environ, os.geteuid()), uid=os.geteuid())
        with place, serving_metrics(metrics, self._options.metrics):
            record = own_record(self._options, started_s=self._started_s)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._serve, nursery.cancel_scope)
                nursery.start_soon(self._end_on_signal, signals)
                nursery.start_soon(self._measure_throughput)
                # Nothing of the mount can be asked before the session answers. If it fails to, the device is closed
                # in the end, and the thread that is left behind here gets its error then.
                device = await trio.to_thread.run_sync(
                    os.stat, self._options.mountpoint, abandon_on_cancel=True, limiter=limiter
                )
                self._tuning = tune(device.st_dev, max_background=self._data_plane.max_background)
                await nursery.start(partial(serve_control, self, place=place, record=record))
                nursery.start_soon(self._watch_mount_table)
                log.info("mounted", extra={"source": str(self._plane.source), "mountpoint": self._options.mountpoint})
                ready()

    async def _serve(self, everything_else: trio.CancelScope) -> None:
        """Answers the kernel to the end of the session, with its time to drain; all else ends with it."""
        await self._data_plane.serve(self._ended)
        everything_else.cancel()

    async def _watch_mount_table(self) -> None:
        """A lazy unmount from outside takes the name away and leaves the session standing: it ends us all the same."""
        while not self._ended.is_set():
            await trio.sleep(_WATCH_S)
            with suppress(OSError):
                if mount_at(self._options.mountpoint) is None:
                    self._ended.set()

    async def _measure_throughput(self) -> None:
        before = self._plane.engine.statistics().bytes_received
        while True:
            await trio.sleep(_THROUGHPUT_S)
            now = self._plane.engine.statistics().bytes_received
            self._throughput = (now - before) / _THROUGHPUT_S
            before = now

    async def _end_on_signal(self, signals: AsyncIterator[int]) -> None:
        async for number in signals:
            log.info("told to end", extra={"signal": signal.Signals(number).name})
            try:
                await self._detach(lazy=True)
            except FluidfsError as error:
                # The session ends all the same; `Unmounting.ensure` has another try, and the last word.
                log.warning("not unmounted at once", extra={"reason": str(error)})
                self._ended.set()

    # ---- the MountService

    async def status(self) -> dict[str, object]:
        """See MountService."""
        return {
            "source": str(self._plane.source),
            "mountpoint": self._options.mountpoint,
            "pid": os.getpid(),
            "version": VERSION,
            "started_s": self._started_s,
            "read_only": self._options.read_only,
            "verify": self._options.verify,
            **status_of(
                self._plane,
                data_plane={**self._data_plane.status(), **asdict(self._tuning)},
                names_known=self._data_plane.names_known,
                throughput_bytes_per_s=self._throughput,
            ),
        }

    async def warm(self, request: WarmRequest, report: Report) -> WarmResult:
        """See MountService."""
        return await self._plane.warmer.warm(request, report)

    async def stop(self, *, lazy: bool, timeout_s: float) -> None:
        """See MountService."""
        deadline = trio.current_time() + timeout_s
        while True:
            try:
                await self._detach(lazy=lazy)
                return
            except MountpointBusy:
                if trio.current_time() >= deadline:
                    raise
            await trio.sleep(_STOP_RETRY_S)

    def metrics_text(self) -> bytes:
        """See MountService."""
        return self._plane.metrics.text()

    # ---- the end

    async def _detach(self, *, lazy: bool) -> None:
        await self._unmounting.detach(lazy=lazy)
        self._ended.set()

    def _export_gauges(self) -> None:
        export_gauges(self._plane, names_known=self._data_plane.names_known)


async def warm_uri(options: MountOptions, request: WarmRequest, report: Report) -> WarmResult:
    """A warm-up without a mount, in this process: what `fluidfs warm s3://…` does. Raises as `run_mount` does."""
    raise_descriptor_limit()
    with one_error():
        async with open_plane(options) as plane:
            return await plane.warmer.warm(request, report)
    raise AssertionError("open_plane swallows no exception")
