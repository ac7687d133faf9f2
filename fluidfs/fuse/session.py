"""One FUSE session on a device that is mounted already: from INIT to the end of the connection."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pyfuse3
import trio

from fluidfs.fuse.adapter import Adapter

# READs that may be answered at once; each costs a task and, while it carries data, the size of its reply.
MAX_TASKS = 64
# How long a daemon that was told to end waits for the requests it is answering.
DRAIN_S = 5.0


@asynccontextmanager
async def session(adapter: Adapter, device_fd: int) -> AsyncIterator[None]:
    """Has libfuse take over the device; it closes it in the end, which aborts the connection if it still stands."""
    # libfuse takes `/dev/fd/N` for a device that is mounted already.
    pyfuse3.init(adapter, f"/dev/fd/{device_fd}", set())
    try:
        yield
    finally:
        pyfuse3.close(unmount=False)
        adapter.close_all()


async def serve(ended: trio.Event) -> None:
    """Answers requests until the file system is unmounted, or `ended` is set."""

    async def end_when_told() -> None:
        await ended.wait()
        pyfuse3.terminate()
        await trio.sleep(DRAIN_S)
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(end_when_told)
        # The connection was aborted (ENODEV, ENOTCONN) or unmounted while a task was waiting: an end like any other.
        with suppress(OSError):
            await pyfuse3.main(1, MAX_TASKS)
        nursery.cancel_scope.cancel()


def forget_entry(parent_nodeid: int, name: str) -> None:
    """Has the kernel look a name up again. Sent by pyfuse3's own thread: a serving one could deadlock."""
    pyfuse3.invalidate_entry_async(
        pyfuse3.InodeT(parent_nodeid), pyfuse3.FileNameT(os.fsencode(name)), ignore_enoent=True
    )
