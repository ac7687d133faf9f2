"""One session of libfuse: on a device that is mounted already, or on the relay's end of a pair of sockets."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pyfuse3
import trio

from fluidfs.fuse.adapter import FactsAdapter

log = logging.getLogger(__name__)

# Requests that may be under way at once. A READ that waits for a slow store holds a task and no data; with too few of
# them, readers of one file that cannot be fetched would keep all others from their cached bytes.
MAX_TASKS = 256
# How long a daemon that was told to end waits for the requests it is answering.
DRAIN_S = 5.0


@asynccontextmanager
async def session(adapter: FactsAdapter, device_fd: int) -> AsyncIterator[None]:
    """Has libfuse take over the device; it closes it in the end, which aborts the connection if it still stands."""
    # libfuse takes `/dev/fd/N` for a device that is mounted already.
    pyfuse3.init(adapter, f"/dev/fd/{device_fd}", set())
    try:
        yield
    finally:
        pyfuse3.close(unmount=False)
        adapter.close_all()


async def serve(ended: trio.Event) -> None:
    """Answers requests until the file system is unmounted, or `ended` is set.

    Then the requests under way have DRAIN_S to be answered in; the rest get an error when the device is closed.
    """

    async def end_when_told() -> None:
        await ended.wait()
        pyfuse3.terminate()
        await trio.sleep(DRAIN_S)
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(end_when_told)
        try:
            await pyfuse3.main(1, MAX_TASKS)
        except* OSError as errors:
            # The connection was aborted (ENODEV, ECONNABORTED) while a task was reading: an end like any other.
            log.info("the kernel's connection ended", extra={"reason": str(errors.exceptions[0])})
        nursery.cancel_scope.cancel()


async def answer_until(over: trio.Event) -> None:
    """Answers what the relay passes on, until `over`. Whoever is not answered by then is by the relay."""

    async def end_when_over() -> None:
        await over.wait()
        # Before the relay closes its end: libfuse would report a message of no bytes.
        pyfuse3.terminate()
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(end_when_over)
        await pyfuse3.main(1, MAX_TASKS)
        if not over.is_set():
            log.error("pyfuse3 ended before the mount did")


def forget_entry(parent_nodeid: int, name: str) -> None:
    """Has the kernel look a name up again. Sent by pyfuse3's own thread: a serving one could deadlock."""
    pyfuse3.invalidate_entry_async(
        pyfuse3.InodeT(parent_nodeid), pyfuse3.FileNameT(os.fsencode(name)), ignore_enoent=True
    )
