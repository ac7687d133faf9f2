"""Taking a daemon's own mount away: at most once, and in the end in any case."""

from __future__ import annotations

import logging
from functools import partial

import trio

from fluidfs.control.detach import detach
from fluidfs.control.mounts import FLUIDFS_TYPE, mount_at
from fluidfs.errors import FluidfsError

log = logging.getLogger(__name__)


class Unmounting:
    """The end of the mount at `mountpoint`. Threads that it waits in are counted by `limiter`."""

    def __init__(self, mountpoint: str, limiter: trio.CapacityLimiter) -> None:
        self._mountpoint = mountpoint
        self._limiter = limiter
        self._detached = False

    async def detach(self, *, lazy: bool) -> None:
        """As `control.detach.detach`; once that has worked, it does nothing: another mount may be there by then."""
        if not self._detached:
            await trio.to_thread.run_sync(partial(detach, self._mountpoint, lazy=lazy), limiter=self._limiter)
            self._detached = True

    async def ensure(self) -> None:
        """Leaves no mount behind, whatever ended us. What still has files open gets errors from now on."""
        entry = mount_at(self._mountpoint)
        if self._detached or entry is None or entry.fs_type != FLUIDFS_TYPE:
            return
        with trio.CancelScope(shield=True):
            try:
                await self.detach(lazy=True)
            except FluidfsError as error:
                log.error("not unmounted", extra={"mountpoint": self._mountpoint, "reason": str(error)})
