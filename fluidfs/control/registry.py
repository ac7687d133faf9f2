"""The records of mounts: which daemon serves which mountpoint, and what became of it.

One `<id>.json` lies beside each `<id>.sock`. A record counts as live while the process that wrote it runs; the start
time goes with the pid because pids are used again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Literal

from fluidfs.config import MountOptions
from fluidfs.config.checks import inside
from fluidfs.control.mounts import FLUIDFS_TYPE, MountEntry, mount_at, probe
from fluidfs.control.place import Place
from fluidfs.control.processes import is_alive, start_ticks
from fluidfs.errors import MountError
from fluidfs.version import VERSION

# A record is some hundred bytes; what is larger was not written by us.
_MAX_RECORD_BYTES = 64 * 1024
_FORMAT = 1

State = Literal["live", "dead", "unreachable"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MountRecord:
    """What a daemon leaves on disk about itself. `started_s` is seconds since the epoch, `log_file` None means
    stderr.
    """

    mount_id: str
    pid: int
    pid_start_ticks: int
    source: str
    mountpoint: str
    started_s: float
    cache: tuple[str, ...]
    version: str
    log_file: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownMount:
    """A mount of this machine.

    live: its daemon runs (`mounted` says whether the mount is still in the table). dead: its daemon is gone and the
    mount is left over. unreachable: mounted, but by nobody whose record we may read. `place` is where record and
    socket lie.
    """

    state: State
    mountpoint: str
    source: str
    mounted: bool
    record: MountRecord | None
    place: str | None
    user_id: int | None


def mount_id(mountpoint: str) -> str:
    """A file name for the mount at this path: legible, short and different for different paths."""
    digest = hashlib.blake2s(os.fsencode(mountpoint), digest_size=6).hexdigest()
    legible = re.sub(r"[^A-Za-z0-9]+", "-", mountpoint).strip("-")[-24:].strip("-")
    return f"{legible}-{digest}" if legible else digest


def own_record(options: MountOptions, *, started_s: float) -> MountRecord:
    """The record of this very process as the daemon of `options`."""
    ticks = start_ticks(os.getpid())
    if ticks is None:
        raise MountError("/proc does not show this process: mount it (mount -t proc proc /proc)")
    return MountRecord(
        mount_id=mount_id(options.mountpoint),
        pid=os.getpid(),
        pid_start_ticks=ticks,
        source=options.source,
        mountpoint=options.mountpoint,
        started_s=started_s,
        cache=tuple(level.path for level in options.cache),
        version=VERSION,
        log_file=options.log_file,
    )


def write_record(place: Place, record: MountRecord) -> None:
    """Writes the record, whole or not at all, readable by its user only."""
    content = json.dumps({"format": _FORMAT, **asdict(record)}).encode("ascii")
    name, temporary = f"{record.mount_id}.json", f".{record.mount_id}.{record.pid}"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600, dir_fd=place.fd)
    try:
        os.write(fd, content)
    finally:
        os.close(fd)
    os.rename(temporary, name, src_dir_fd=place.fd, dst_dir_fd=place.fd)


def remove_record(place: Place, identifier: str) -> None:
    """Removes record and socket, as far as they are there. The log stays."""
    for suffix in (".json", ".sock"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(identifier + suffix, dir_fd=place.fd)


def read_record(place: Place, identifier: str) -> MountRecord | None:
    """The record, or None where there is none that we understand."""
    try:
        fd = os.open(f"{identifier}.json", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=place.fd)
    except OSError:
        return None
    try:
        content = os.read(fd, _MAX_RECORD_BYTES)
    except OSError:
        return None
    finally:
        os.close(fd)
    return _decoded(content, identifier)


def list_mounts(places: Iterable[Place], *, table: list[MountEntry], uid: int) -> list[KnownMount]:
    """All mounts of fluidfs that `uid` can see, sorted by mountpoint; files of daemons long gone are removed on the
    way.
    """
    found: dict[str, KnownMount] = {}
    for place in places:
        for name in place.names():
            record = read_record(place, name.removesuffix(".json")) if name.endswith(".json") else None
            if record is None or record.mountpoint in found:
                continue
            known = _judged(record, place.path, mount_at(record.mountpoint, table))
            if known is not None:
                found[record.mountpoint] = known
            elif place.uid == uid:
                remove_record(place, record.mount_id)
    for entry in table:
        if entry.fs_type == FLUIDFS_TYPE and entry.mountpoint not in found:
            found[entry.mountpoint] = _unrecorded(entry, uid)
    return [found[mountpoint] for mountpoint in sorted(found)]


def mount_of(path: str, mounts: Iterable[KnownMount]) -> KnownMount | None:
    """The mount that the absolute `path` lies in: the longest mountpoint that is its prefix."""
    holding = [mount for mount in mounts if inside(path, mount.mountpoint)]
    return max(holding, key=lambda mount: len(mount.mountpoint), default=None)


def _judged(record: MountRecord, place: str, entry: MountEntry | None) -> KnownMount | None:
    """What a record stands for now; None when nothing is left of it."""
    mounted = entry is not None and entry.fs_type == FLUIDFS_TYPE
    alive = is_alive(record.pid, record.pid_start_ticks)
    if not alive and not mounted:
        return None
    return KnownMount(
        state="live" if alive else "dead",
        mountpoint=record.mountpoint,
        source=record.source,
        mounted=mounted,
        record=record,
        place=place,
        user_id=entry.user_id if entry is not None else None,
    )


def _unrecorded(entry: MountEntry, uid: int) -> KnownMount:
    """A mount in the table of which no record tells. One that is ours to stat is asked whether it lives."""
    mine = entry.user_id == uid or uid == 0
    return KnownMount(
        state="dead" if mine and probe(entry.mountpoint) == "dead" else "unreachable",
        mountpoint=entry.mountpoint,
        source=entry.source,
        mounted=True,
        record=None,
        place=None,
        user_id=entry.user_id,
    )


def _decoded(content: bytes, identifier: str) -> MountRecord | None:
    try:
        fields = json.loads(content)
        if fields.pop("format") != _FORMAT or fields["mount_id"] != identifier:
            return None
        record = MountRecord(**{**fields, "cache": tuple(fields["cache"])})
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    numbers = all(type(value) in (int, float) for value in (record.pid, record.pid_start_ticks, record.started_s))
    texts = all(type(value) is str for value in (record.source, record.mountpoint, record.version, *record.cache))
    log_ok = record.log_file is None or type(record.log_file) is str
    return record if numbers and texts and log_ok and record.mountpoint.startswith("/") else None
