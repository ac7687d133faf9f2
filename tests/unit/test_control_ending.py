"""Ending mounts: which way is taken for a live, a dead and a silent daemon. Real mounts are ended in tests/mount."""

import os
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import trio

from fluidfs.config import LevelSpec, MountOptions
from fluidfs.control import ending
from fluidfs.control.mounts import MountEntry
from fluidfs.control.place import Place, make_place
from fluidfs.control.registry import MountRecord, own_record, write_record
from fluidfs.control.server import serve_control
from fluidfs.errors import ControlError, MountError, MountpointBusy
from tests.unit.small_service import SmallService

MOUNTPOINT = "/mnt/of/this/test"


class Kernel:
    """A mount table with one mount, and what was done to it."""

    def __init__(self) -> None:
        self.mounted = True
        self.detached: list[bool] = []

    def table(self) -> list[MountEntry]:
        return [MountEntry(MOUNTPOINT, "fuse.fluidfs", "s3://b", os.geteuid())] if self.mounted else []

    def mount_at(self, mountpoint: str) -> MountEntry | None:
        return next((entry for entry in self.table() if entry.mountpoint == mountpoint), None)

    def detach(self, mountpoint: str, *, lazy: bool) -> None:
        assert mountpoint == MOUNTPOINT
        self.detached.append(lazy)
        self.mounted = False


class EndingService(SmallService):
    """A daemon whose mount can be ended."""

    def __init__(self, kernel: Kernel, *, fault: Exception | None = None) -> None:
        super().__init__(fault=fault)
        self.kernel = kernel

    async def stop(self, *, lazy: bool, timeout_s: float) -> None:
        await super().stop(lazy=lazy, timeout_s=timeout_s)
        self.kernel.mounted = False


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    kernel = Kernel()
    monkeypatch.setattr("fluidfs.control.lookup.mount_table", kernel.table)
    monkeypatch.setattr(ending, "mount_at", kernel.mount_at)
    monkeypatch.setattr(ending, "detach", kernel.detach)
    return kernel


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with make_place(str(tmp_path / "run"), uid=os.geteuid()) as place:
        yield place


@pytest.fixture
def record() -> MountRecord:
    options = MountOptions(source="s3://b", mountpoint=MOUNTPOINT, cache=(LevelSpec("/cache"),))
    return own_record(options, started_s=1.0)


def end(place: Place, *, lazy: bool = False, timeout_s: float = 0.2) -> None:
    environment = {"FLUIDFS_RUNTIME_DIR": place.path}
    ending.end_mount(MOUNTPOINT, environment=environment, uid=os.geteuid(), lazy=lazy, timeout_s=timeout_s)


def ended_pid() -> int:
    with subprocess.Popen(["true"]) as child:
        child.wait()
        return child.pid


async def test_a_live_daemon_is_asked_to_end(kernel: Kernel, place: Place, record: MountRecord) -> None:
    service = EndingService(kernel)
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(serve_control, service, place=place, record=record))
        await trio.to_thread.run_sync(partial(end, place, lazy=True))
        nursery.cancel_scope.cancel()
    assert service.asked == [(True, 0.2)]
    assert kernel.detached == []


async def test_an_end_waits_for_the_daemon_and_says_who_is_left(
    kernel: Kernel, place: Place, record: MountRecord
) -> None:
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(serve_control, EndingService(kernel), place=place, record=record))
        # The daemon of this test is the test itself, which does not end.
        with pytest.raises(MountError, match=f"still served by process {os.getpid()}"):
            await trio.to_thread.run_sync(end, place)
        nursery.cancel_scope.cancel()


async def test_a_mount_in_use_stays(kernel: Kernel, place: Place, record: MountRecord) -> None:
    service = EndingService(kernel, fault=MountpointBusy("in use"))
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(serve_control, service, place=place, record=record))
        with pytest.raises(MountpointBusy, match="in use"):
            await trio.to_thread.run_sync(end, place)
        nursery.cancel_scope.cancel()
    assert kernel.mounted


def test_what_a_killed_daemon_left_is_detached_and_forgotten(kernel: Kernel, place: Place, record: MountRecord) -> None:
    write_record(place, replace(record, pid=ended_pid()))
    end(place)
    assert kernel.detached == [True]
    assert place.names() == []


def test_a_daemon_that_is_silent_keeps_its_mount_unless_lazy(
    kernel: Kernel, place: Place, record: MountRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fluidfs.control.client.ANSWER_TIMEOUT_S", 0.1)
    write_record(place, record)
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(place.reach(f"{record.mount_id}.sock"))
        mute.listen()
        with pytest.raises(ControlError, match="--lazy"):
            end(place)
        assert kernel.mounted
        end(place, lazy=True)
    assert kernel.detached == [True]


def test_what_is_no_mount_of_ours_is_left_alone(kernel: Kernel, place: Place) -> None:
    kernel.mounted = False
    with pytest.raises(MountError, match="is not a mount of fluidfs"):
        end(place)
    assert kernel.detached == []
