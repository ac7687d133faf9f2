"""Who is measured: the local file systems, fluidfs in its forms, its peers as root and as an ordinary user."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from benchmarks.clients.base import Bench, MountedClient
from benchmarks.clients.fluidfs import Fluidfs
from benchmarks.clients.juicefs import JuiceFS
from benchmarks.clients.local import Local
from benchmarks.clients.rclone import Rclone
from benchmarks.clients.s3fs import S3fs
from benchmarks.dataset import DataSet
from benchmarks.person import ordinary_person

LOCAL = "local tmpfs"
DISK = "local disk"
SEALED = "fluidfs"
RELAYED = "fluidfs relayed"
USER = "fluidfs, user"
# Everything through pyfuse3, as on a kernel or in a sandbox that leaves no other way; measured when it is asked for.
PYTHON = "fluidfs in Python"
PEERS = ("rclone", "s3fs", "juicefs")
USER_PEERS = tuple(f"{peer}, user" for peer in PEERS)

# Every step names its rows out of these.
OURS = (SEALED, RELAYED, USER)
LARGE = (LOCAL, *OURS, PYTHON, *PEERS, *USER_PEERS)
SMALL = (LOCAL, *OURS, PYTHON, *PEERS)
NAMES = (LOCAL, DISK, *OURS, PYTHON, *PEERS)

# What `--clients` takes: each of these stands for all of its rows. Without the option it is all but the last.
FAMILIES = ("fluidfs", *PEERS, "local")
ALL_FAMILIES = (*FAMILIES, "python")

# The default quota, a tenth of the file system, would be too small on a tmpfs.
LEVEL = ":8G:MEM"


def make_clients(bench: Bench, families: Iterable[str], *, disk: Path, undo: ExitStack) -> list[MountedClient]:
    """The rows of these families in the order of the table, not yet prepared; the names are also written to `disk`."""
    user = undo.enter_context(ordinary_person())
    chosen: list[MountedClient] = []
    for family in families:
        if family == "local":
            chosen += [Local(bench, name=LOCAL), _names_on_disk(bench, disk)]
        elif family == "fluidfs":
            sealed = Fluidfs(bench, name=SEALED, level=LEVEL)
            relayed = Fluidfs(bench, name=RELAYED, level=LEVEL, flags=("--fuse-disable", "passthrough"))
            # One directory for both, as all mounts of one user have it; what one has filled the other finds.
            relayed.cache = sealed.cache
            chosen += [sealed, relayed, Fluidfs(bench, person=user, name=USER, level=LEVEL)]
        elif family == "python":
            chosen.append(Fluidfs(bench, name=PYTHON, level=LEVEL, flags=("--fuse-disable", "relay")))
        elif family == "rclone":
            chosen += [Rclone(bench), Rclone(bench, person=user, name=f"{family}, user")]
        elif family == "s3fs":
            chosen += [S3fs(bench), S3fs(bench, person=user, name=f"{family}, user")]
        elif family == "juicefs":
            first = JuiceFS(bench)
            chosen += [first, JuiceFS(bench, person=user, name=f"{family}, user", volume=first.volume)]
    order = [LOCAL, DISK, *OURS, PYTHON, *PEERS, *USER_PEERS]
    return sorted(chosen, key=lambda client: order.index(client.name))


def expected_bytes(row: str, data: DataSet) -> int:
    """What the cache of a row holds when it is filled."""
    small = data.small_files * data.small_bytes if row in SMALL else 0
    return small + (data.large_bytes if row in LARGE else 0)


def memory_bytes(families: Iterable[str], data: DataSet) -> int:
    """What the files themselves and the caches of these families take of the memory that they lie in."""
    total = expected_bytes(LOCAL, data)
    for family in families:
        if family == "fluidfs":
            # A third cache holds the large file for the measurement of half of it.
            total += expected_bytes(SEALED, data) + expected_bytes(USER, data) + data.large_bytes
        elif family == "python":
            total += expected_bytes(PYTHON, data)
        elif family in PEERS:
            total += expected_bytes(family, data) + expected_bytes(f"{family}, user", data)
    return total


def _names_on_disk(bench: Bench, disk: Path) -> Local:
    data = replace(bench.data, large_bytes=0, small_files=0)
    root = disk / "names-on-disk"
    data.write_to(root)
    return Local(replace(bench, local=root), name=DISK)
