"""The composition root of a mount: a device, the layers below it, a control socket, and the way it all ends."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Awaitable, Callable
from functools import partial

import trio
from prometheus_client import start_http_server

from fluidfs.config import MountOptions
from fluidfs.control.detach import detach
from fluidfs.control.mounts import FLUIDFS_TYPE, mount_at, probe
from fluidfs.control.place import make_place, place_of
from fluidfs.control.registry import own_record
from fluidfs.control.server import serve_control
from fluidfs.errors import EnvironmentLacking, FluidfsError, MountpointBusy
from fluidfs.fs.filesystem import parent_of
from fluidfs.fuse.adapter import Adapter
from fluidfs.fuse.device import MountFacts, Tuning, open_mounted, tune
from fluidfs.fuse.session import forget_entry, serve, session
from fluidfs.meta.inodes import ROOT_NODEID, hashed_nodeid
from fluidfs.model import WarmProgress, WarmRequest, WarmResult
from fluidfs.plane import Plane, open_plane
from fluidfs.status import export_gauges, status_of
from fluidfs.version import VERSION

log = logging.getLogger(__name__)

Report = Callable[[WarmProgress], Awaitable[None]]

# Throughput is told over the last so many seconds.
_THROUGHPUT_S = 5.0
# How often a stop that finds the mount in use tries again until its timeout.
_STOP_RETRY_S = 0.1


def run_mount(options: MountOptions, *, ready: Callable[[], None]) -> None:
    """Mounts, calls `ready` when the mount can be used, and returns when it is unmounted.

    Raises a FluidfsError before `ready` when the mount cannot be made; nothing is left mounted then.
    """
    started_s = time.time()
    replace_dead_mount(options.mountpoint)
    try:
        trio.run(_serve_mount, options, ready, started_s)
    except BaseExceptionGroup as group:
        error = _only_error(group)
        if error is None:
            raise
        raise error from group


def _only_error(group: BaseExceptionGroup[BaseException]) -> FluidfsError | None:
    """The FluidfsError that a nursery wrapped, where it is one."""
    found: list[BaseException] = [group]
    while len(found) == 1 and isinstance(found[0], BaseExceptionGroup):
        found = list(found[0].exceptions)
    return found[0] if len(found) == 1 and isinstance(found[0], FluidfsError) else None


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
    async with open_plane(options) as plane:
        adapter = Adapter(plane.filesystem, names_ttl_s=options.metadata_ttl_s)
        device_fd = open_mounted(
            MountFacts(str(plane.source), options.mountpoint, options.read_only, options.allow_other)
        )
        mount = Mount(options, plane, started_s)
        try:
            async with session(adapter, device_fd):
                plane.filesystem.on_changed = forget_path
                await mount.run(ready)
        finally:
            await mount.ensure_unmounted()


class Mount:
    """A mount while it is served; the MountService of its control socket."""

    def __init__(self, options: MountOptions, plane: Plane, started_s: float) -> None:
        self._options = options
        self._plane = plane
        self._started_s = started_s
        self._ended = trio.Event()
        self._detached = False
        self._tuning = Tuning(read_ahead_kib=128, max_background=12)
        self._throughput = 0.0

    async def run(self, ready: Callable[[], None]) -> None:
        """Serves the device, the control socket and signals, until unmounted or told to stop."""
        self._plane.metrics.before_export.append(partial(export_gauges, self._plane))
        place = make_place(place_of(os.environ, os.geteuid()), uid=os.geteuid())
        with place:
            record = own_record(self._options, started_s=self._started_s)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(serve, self._ended)
                nursery.start_soon(self._measure_throughput)
                self._serve_metrics()
                # Nothing of the mount can be asked before the session answers, which it does from here on.
                device = await trio.to_thread.run_sync(os.stat, self._options.mountpoint)
                self._tuning = tune(device.st_dev)
                await nursery.start(partial(serve_control, self, place=place, record=record))
                nursery.start_soon(self._end_on_signal)
                log.info("mounted", extra={"source": str(self._plane.source), "mountpoint": self._options.mountpoint})
                ready()
                nursery.start_soon(self._cancel_when_unmounted, nursery)

    async def _cancel_when_unmounted(self, nursery: trio.Nursery) -> None:
        """The session ends by itself when the kernel ends the connection; everything else ends with it."""
        while mount_at(self._options.mountpoint) is not None and not self._ended.is_set():
            with trio.move_on_after(1.0):
                await self._ended.wait()
        self._ended.set()
        nursery.cancel_scope.cancel()

    def _serve_metrics(self) -> None:
        if self._options.metrics is None:
            return
        host, _, port = self._options.metrics.rpartition(":")
        try:
            start_http_server(int(port), addr=host.strip("[]"), registry=self._plane.metrics.registry)
        except OSError as error:
            raise EnvironmentLacking(
                f"metrics cannot be served at {self._options.metrics}: {error.strerror}"
            ) from error

    async def _measure_throughput(self) -> None:
        before = self._plane.engine.statistics().bytes_received
        while True:
            await trio.sleep(_THROUGHPUT_S)
            now = self._plane.engine.statistics().bytes_received
            self._throughput = (now - before) / _THROUGHPUT_S
            before = now

    async def _end_on_signal(self) -> None:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async for number in signals:
                log.info("told to end", extra={"signal": signal.Signals(number).name})
                await self._detach(lazy=True)
                return

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
            **status_of(self._plane, throughput_bytes_per_s=self._throughput, tuning=self._tuning),
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
        if not self._detached:
            await trio.to_thread.run_sync(partial(detach, self._options.mountpoint, lazy=lazy))
            self._detached = True
        self._ended.set()

    async def ensure_unmounted(self) -> None:
        """Leaves no mount behind, whatever ended us. What still has files open gets errors from now on."""
        entry = mount_at(self._options.mountpoint)
        if self._detached or entry is None or entry.fs_type != FLUIDFS_TYPE:
            return
        with trio.CancelScope(shield=True):
            try:
                await trio.to_thread.run_sync(partial(detach, self._options.mountpoint, lazy=True))
            except FluidfsError as error:
                log.error("not unmounted", extra={"mountpoint": self._options.mountpoint, "reason": str(error)})


def forget_path(path: str) -> None:
    """Has the kernel forget a name whose object changed."""
    directory, name = parent_of(path)
    if name:
        forget_entry(hashed_nodeid(directory, None) if directory else ROOT_NODEID, name)


async def warm_uri(options: MountOptions, request: WarmRequest, report: Report) -> WarmResult:
    """A warm-up without a mount, in this process: what `fluidfs warm s3://…` does. Raises as `run_mount` does."""
    async with open_plane(options) as plane:
        return await plane.warmer.warm(request, report)
