"""The two ways to serve a mount: natively, or all of it in Python, which is the slow oracle and the fallback."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

import trio

from fluidfs.fs.filesystem import parent_of
from fluidfs.fs.layers import Layers
from fluidfs.fuse.adapter import Adapter
from fluidfs.fuse.relay import relayed
from fluidfs.fuse.session import forget_entry, serve, session
from fluidfs.meta.inodes import ROOT_NODEID, hashed_nodeid


class DataPlane(Protocol):
    """What answers the kernel."""

    async def serve(self, ended: trio.Event) -> None:
        """Answers until the connection ends, or `ended` is set; what is under way then has a few seconds."""
        ...

    def status(self) -> dict[str, object]:
        """Its facts, as JSON has them; `mode` and `why` not a better one, always."""
        ...

    def export(self) -> None:
        """Brings the metrics up to date."""
        ...

    @property
    def names_known(self) -> int:
        """How many nodes the kernel knows."""
        ...

    @property
    def max_background(self) -> int | None:
        """How many requests INIT agreed on that may be under way; None: it was left at the kernel's default."""
        ...


class InPython:
    """Every request passes through pyfuse3."""

    def __init__(self, layers: Layers) -> None:
        self._layers = layers

    async def serve(self, ended: trio.Event) -> None:
        """See DataPlane."""
        await serve(ended)

    def status(self) -> dict[str, object]:
        """See DataPlane."""
        return {"mode": "relayed", "why": "--fuse-disable relay"}

    def export(self) -> None:
        """See DataPlane: the metrics are counted as things happen."""

    @property
    def names_known(self) -> int:
        """See DataPlane."""
        return len(self._layers.inodes)

    @property
    def max_background(self) -> int | None:
        """See DataPlane."""
        return None


@asynccontextmanager
async def open_data_plane(layers: Layers, device_fd: int, *, disabled: frozenset[str]) -> AsyncIterator[DataPlane]:
    """What serves the mount on this device, which it closes in the end. Raises MountError when it cannot be started."""
    if "relay" in disabled:
        async with session(Adapter(layers.filesystem), device_fd):
            layers.filesystem.on_changed = forget_path
            yield InPython(layers)
        return
    async with relayed(layers, device_fd, disabled=disabled) as native:
        yield native


def forget_path(path: str) -> None:
    """Has the kernel forget a name whose object changed, where node ids are hashed."""
    directory, name = parent_of(path)
    if name:
        forget_entry(hashed_nodeid(directory, None) if directory else ROOT_NODEID, name)
