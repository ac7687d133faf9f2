"""Finding mounts by path, and the way from a mount to its daemon."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

from fluidfs.control.client import ControlClient
from fluidfs.control.mounts import canonical, mount_table
from fluidfs.control.place import open_place, readable_places
from fluidfs.control.registry import KnownMount, list_mounts, mount_of
from fluidfs.errors import ControlError, MountError


def known_mounts(environment: Mapping[str, str], *, uid: int) -> list[KnownMount]:
    """All mounts of fluidfs that `uid` can see on this machine, sorted by mountpoint."""
    return list_mounts(readable_places(environment, uid=uid), table=mount_table(), uid=uid)


def mount_at_path(path: str, mounts: list[KnownMount]) -> KnownMount:
    """The mount whose mountpoint is the absolute `path`. Raises MountError."""
    wanted = canonical(path, mount_table())
    for mount in mounts:
        if mount.mountpoint in (path, wanted):
            return mount
    inside = mount_of(wanted, mounts)
    hint = f"; it is inside {inside.mountpoint}" if inside is not None else "; `fluidfs status` lists them"
    raise MountError(f"{path} is not a mount of fluidfs{hint}")


@contextlib.contextmanager
def client_of(mount: KnownMount) -> Iterator[ControlClient]:
    """A client of the mount's daemon. Raises ControlError when we know of none."""
    if mount.record is None or mount.place is None or mount.state != "live":
        raise ControlError(f"{mount.mountpoint} has no daemon that could be asked")
    with open_place(mount.place) as place:
        yield ControlClient(place, mount.record.mount_id)
