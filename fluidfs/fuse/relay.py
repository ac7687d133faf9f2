"""The life of a mount's native data plane: started on the device, fed with answers, stopped when the mount ends."""

from __future__ import annotations

import logging
import os
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Final

import trio

from fluidfs._native.contents import Contents
from fluidfs._native.names import NameTable
from fluidfs._native.relay import Ask, Relay
from fluidfs.cache.level import boot_id
from fluidfs.cache.slabs import SMALL_OBJECT_BYTES
from fluidfs.cache.version import VERIFY_CODES
from fluidfs.errors import MountError
from fluidfs.fs.facts import NodeFacts
from fluidfs.fs.failure import Troubles
from fluidfs.fs.holdings import Holdings
from fluidfs.fs.layers import Layers
from fluidfs.fs.misses import Misses
from fluidfs.fuse.adapter import FactsAdapter
from fluidfs.fuse.name_asks import NameAsks
from fluidfs.fuse.passthrough import unwanted
from fluidfs.fuse.read_asks import ReadAsks
from fluidfs.fuse.relay_report import RelayReport
from fluidfs.fuse.session import DRAIN_S, answer_until, session
from fluidfs.fuse.tickets import Tickets
from fluidfs.meta.nodes import NativeNodes, entry_maker

log = logging.getLogger(__name__)

# Threads that serve: one at the device for each of the cores that may be busy with it, and enough others that one which
# gives a large answer is replaced at once. More of them only cost their 2 MiB of buffers each.
THREADS: Final = max(4, min(16, len(os.sched_getaffinity(0)) + 2))
# Of those, at the device at the same time. One alone wakes for a lone reader's requests, which is the shortest way;
# with four cores to each, several keep up with many readers.
AT_DEVICE: Final = max(1, min(8, len(os.sched_getaffinity(0)) // 4))
# Threads that wait for the cache's disks, as many as the cache itself would use.
WORKERS: Final = 8
# A program that reads again and again comes back within some 20 µs: sleeping in between would cost more than that.
SPIN_US: Final = 50
# No request waits for longer. The store has been given up long before (after some 30 s); what is left is a bug of ours,
# or a store that sends one byte at a time.
GIVE_UP_S: Final = 300.0
# Trio tells that it lives each second; a Python half that is stuck for so long is not coming back in time for anybody.
SILENCE_S: Final = 30.0
BEAT_S: Final = 1.0
# Versions that nobody has open: kept for a while, because a second `open` is then answered without Python, and each
# costs a descriptor. As `upkeep` does it.
IDLE_S: Final = 10.0
MAX_IDLE: Final = 256
# Listings that nobody renewed: dropped some time after they expired, in rounds.
EXPIRED_FOR_S: Final = 600.0
SWEEP_EVERY_BEATS: Final = 60
# How often a daemon that is told to end looks whether all requests are answered.
_DRAIN_POLL_S: Final = 0.02


class Relayed:
    """The native data plane of a mount, and what answers its questions out of `layers`. A DataPlane of one trio run."""

    def __init__(self, layers: Layers, device_fd: int, *, disabled: frozenset[str]) -> None:
        """Nothing runs yet; the device is the caller's until `start`."""
        cache, ownership = layers.cache, layers.settings.ownership
        self._layers = layers
        why_no_passthrough = unwanted(
            disabled=disabled,
            verify=cache.verify,
            refusals=[level.refuses_kernel_reads for level in cache.levels],
        )
        table = NameTable(
            uid=ownership.uid,
            gid=ownership.gid,
            file_mode=ownership.file_mode,
            dir_mode=ownership.dir_mode,
            root_mtime_ns=layers.root_mtime_ns,
            entry_of=entry_maker(layers.key_prefix),
        )
        contents = Contents()
        self.relay = Relay(
            device_fd,
            names=table,
            contents=contents,
            disabled=disabled,
            passthrough=why_no_passthrough is None,
            verify=VERIFY_CODES[cache.verify],
            boot_id=boot_id(),
            small_max_bytes=SMALL_OBJECT_BYTES,
            max_window_bytes=layers.settings.max_window_bytes,
            threads=THREADS,
            at_device=AT_DEVICE,
            workers=WORKERS,
            spin_us=SPIN_US,
            give_up_s=GIVE_UP_S,
            silence_s=SILENCE_S,
        )
        self.nodes = NativeNodes(table, root_mtime_ns=layers.root_mtime_ns)
        self.tickets = Tickets(self.relay, layers.metrics)
        self.report = RelayReport(
            self.relay, self.tickets, layers.metrics, threads=THREADS, why_no_passthrough=why_no_passthrough
        )
        self._opened = 0  # large files, since the last time that some were let go of
        self._troubles = Troubles()
        self._holdings = Holdings(
            contents,
            cache,
            may_pass=lambda level: level.refuses_kernel_reads is None,
            on_gone=self._troubles.forget,
        )
        self._names = NameAsks(self.relay, self.tickets, names=layers.names, nodes=self.nodes)
        self._misses = Misses(holdings=self._holdings, cache=cache, fetcher=layers.fetcher)

    def start(self) -> None:
        """Takes over the device. Raises MountError; then it is still the caller's."""
        try:
            self.relay.start()
        except OSError as error:
            raise MountError(f"the threads of the data plane cannot be started: {error.strerror}") from error
        self._layers.filesystem.on_changed = self._names.forget_path
        self._layers.cache.let_go = self._let_go

    async def stop(self) -> None:
        """What waits still gets EIO; the device is closed."""
        limiter = trio.CapacityLimiter(1)
        with trio.CancelScope(shield=True):
            if not await trio.to_thread.run_sync(self.relay.stop, limiter=limiter):
                log.error("a thread of the data plane is left behind: a disk of the cache does not answer")
        # All handles are closed by now: the cache gets back what they used.
        self._let_go()
        self._layers.cache.let_go = lambda: None
        self._layers.filesystem.on_changed = lambda _: None

    async def serve(self, ended: trio.Event) -> None:
        """Answers questions until the connection ends, or until `ended`: what waits then has DRAIN_S to be answered."""
        over = trio.Event()
        async with trio.open_nursery() as nursery:
            reads = ReadAsks(
                self.relay,
                self.tickets,
                filesystem=self._layers.filesystem,
                nodes=self.nodes,
                holdings=self._holdings,
                misses=self._misses,
                troubles=self._troubles,
                nursery=nursery,
            )
            nursery.start_soon(self._listen, reads, nursery, over)
            nursery.start_soon(self._beat, reads, nursery)
            nursery.start_soon(self._end_when_idle, ended, over)
            nursery.start_soon(answer_until, over)
            await over.wait()
            nursery.cancel_scope.cancel()

    def status(self) -> dict[str, object]:
        """See DataPlane."""
        return self.report.status()

    def export(self) -> None:
        """See DataPlane."""
        self.report.export()

    @property
    def names_known(self) -> int:
        """See DataPlane."""
        return len(self.nodes)

    @property
    def max_background(self) -> int | None:
        """See DataPlane."""
        return self.relay.session.max_background

    # ---- questions

    async def _listen(self, reads: ReadAsks, nursery: trio.Nursery, over: trio.Event) -> None:
        while not self.relay.ended:
            await trio.lowlevel.wait_readable(self.relay)
            self._answer(self.relay.drain(), reads, nursery)
        log.info("the kernel's connection ended")
        over.set()

    def _answer(self, asks: Iterable[Ask], reads: ReadAsks, nursery: trio.Nursery) -> None:
        missed: list[Ask] = []
        listings: defaultdict[int, list[Ask]] = defaultdict(list)
        for ask in asks:
            match ask.kind:
                case "read":
                    missed.append(ask)
                case "ahead":
                    reads.ahead(ask)
                case "open":
                    self._opened += 1
                    reads.open(ask)
                case "lookup":
                    nursery.start_soon(self._names.lookup, ask)
                case "directory":
                    listings[ask.node].append(ask)
                case "due":
                    nursery.start_soon(self._names.renew, ask.node)
        for node, waiting in listings.items():
            nursery.start_soon(self._names.directory, node, waiting)
        reads.read(missed)
        if self._opened > MAX_IDLE:
            # Who opens file after file is not to have them all open until the second is over.
            self.settle()

    # ---- once in a while

    async def _beat(self, reads: ReadAsks, nursery: trio.Nursery) -> None:
        beats = 0
        while True:
            self.relay.beat()
            self.settle()
            # Listings that are due are told with what else there is to answer, which may be nothing for long.
            self._answer(self.relay.drain(), reads, nursery)
            beats += 1
            if beats % SWEEP_EVERY_BEATS == 0:
                self.nodes.sweep(EXPIRED_FOR_S)
            await trio.sleep(BEAT_S)

    def settle(self) -> None:
        """What is done each second: files that nobody has had open for a while are let go of, and so on."""
        self.relay.detach_idle(idle_for_s=IDLE_S, keep_most=MAX_IDLE)
        self._holdings.settle()
        self._names.settle()
        self._troubles.settle()
        self._opened = 0

    def _let_go(self) -> None:
        self.relay.detach_idle(idle_for_s=0.0, keep_most=0)
        self._holdings.settle()

    async def _end_when_idle(self, ended: trio.Event, over: trio.Event) -> None:
        await ended.wait()
        with trio.move_on_after(DRAIN_S):
            while self.relay.facts().waiting:  # noqa: ASYNC110 - native threads know no trio.Event
                await trio.sleep(_DRAIN_POLL_S)
        over.set()


@asynccontextmanager
async def relayed(layers: Layers, device_fd: int, *, disabled: frozenset[str]) -> AsyncIterator[Relayed]:
    """The data plane on a device that is mounted; it closes the device in the end, which aborts the connection if it
    still stands. Raises MountError when it cannot be started.
    """
    try:
        data_plane = Relayed(layers, device_fd, disabled=disabled)
        data_plane.start()
    except BaseException:
        os.close(device_fd)
        raise
    try:
        facts = NodeFacts(nodes=data_plane.nodes, cache=layers.cache, store_identity=layers.store_identity)
        async with session(FactsAdapter(facts), data_plane.relay.take_pair()):
            yield data_plane
    finally:
        await data_plane.stop()
