"""Records of mounts: who is live, who is dead, what is cleared away, and what is never trusted."""

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fluidfs.config import LevelSpec, MountOptions
from fluidfs.control.mounts import MountEntry, mount_at, parse_mountinfo, probe
from fluidfs.control.place import Place, make_place, place_of, readable_places
from fluidfs.control.processes import holders, is_alive, start_ticks
from fluidfs.control.registry import (
    MountRecord,
    list_mounts,
    mount_id,
    mount_of,
    own_record,
    read_record,
    remove_record,
    write_record,
)
from fluidfs.errors import EnvironmentLacking

UID = os.geteuid()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with make_place(str(tmp_path / "run"), uid=UID) as place:
        yield place


def record_of(mountpoint: str, **changes: object) -> MountRecord:
    options = MountOptions(source="s3://b", mountpoint=mountpoint, cache=(LevelSpec("/c"),))
    return dataclasses.replace(own_record(options, started_s=1.5), **changes)  # type: ignore[arg-type]


def table_of(*mountpoints: str) -> list[MountEntry]:
    return [MountEntry(mountpoint, "fuse.fluidfs", "s3://b", UID) for mountpoint in mountpoints]


def test_a_record_reads_back_as_written(place: Place) -> None:
    record = record_of("/mnt/ä b\udc80")
    write_record(place, record)
    assert read_record(place, record.mount_id) == record
    remove_record(place, record.mount_id)
    assert read_record(place, record.mount_id) is None
    remove_record(place, record.mount_id)


def test_a_mount_whose_daemon_runs_is_live(place: Place) -> None:
    write_record(place, record_of("/mnt/a"))
    (mount,) = list_mounts([place], table=table_of("/mnt/a"), uid=UID)
    assert (mount.state, mount.mounted, mount.place) == ("live", True, place.path)
    (mount,) = list_mounts([place], table=[], uid=UID)
    assert (mount.state, mount.mounted) == ("live", False)


def test_a_mount_whose_daemon_is_gone_is_dead(place: Place) -> None:
    write_record(place, record_of("/mnt/a", pid=ended_pid()))
    (mount,) = list_mounts([place], table=table_of("/mnt/a"), uid=UID)
    assert mount.state == "dead"


def test_a_pid_that_is_used_again_does_not_make_a_mount_live(place: Place) -> None:
    write_record(place, record_of("/mnt/a", pid_start_ticks=1))
    (mount,) = list_mounts([place], table=table_of("/mnt/a"), uid=UID)
    assert mount.state == "dead"


def test_what_a_daemon_long_gone_left_is_cleared_away(place: Place) -> None:
    record = record_of("/mnt/a", pid=ended_pid())
    write_record(place, record)
    Path(place.path, f"{record.mount_id}.sock").touch()
    assert list_mounts([place], table=[], uid=UID) == []
    assert place.names() == []


def test_records_of_others_are_not_cleared_away(place: Place) -> None:
    write_record(place, record_of("/mnt/a", pid=ended_pid()))
    assert list_mounts([place], table=[], uid=UID + 1) == []
    assert len(place.names()) == 1


def test_a_mount_without_a_record_is_listed_all_the_same(place: Place) -> None:
    table = [MountEntry("/mnt/theirs", "fuse.fluidfs", "s3://b", UID + 1), MountEntry("/", "ext4", "/dev/vda", None)]
    mounts = list_mounts([place], table=table, uid=UID or 1)
    assert [(mount.state, mount.mountpoint, mount.record) for mount in mounts] == [("unreachable", "/mnt/theirs", None)]


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "null", "{}", '{"format": 2}', json.dumps({"format": 1, "mount_id": "x", "pid": "1"}), "9" * 5000],
)
def test_a_record_that_makes_no_sense_is_passed_over(place: Place, content: str) -> None:
    Path(place.path, "x.json").write_text(content)
    assert read_record(place, "x") is None
    assert list_mounts([place], table=[], uid=UID) == []


@pytest.mark.parametrize(
    "change", [{"pid": "1"}, {"mountpoint": "mnt"}, {"cache": [1]}, {"log_file": 1}, {"more": 1}, {"mount_id": "y"}]
)
def test_a_record_with_a_wrong_field_is_passed_over(place: Place, change: dict[str, object]) -> None:
    record = record_of("/mnt/a")
    write_record(place, record)
    path = Path(place.path, f"{record.mount_id}.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    assert read_record(place, record.mount_id) is None


def test_a_record_that_is_a_link_or_a_pipe_is_not_opened(place: Place, tmp_path: Path) -> None:
    record = record_of("/mnt/a")
    write_record(place, record)
    os.rename(f"{place.path}/{record.mount_id}.json", tmp_path / "real")
    Path(place.path, f"{record.mount_id}.json").symlink_to(tmp_path / "real")
    assert read_record(place, record.mount_id) is None
    os.mkfifo(f"{place.path}/pipe.json")
    assert read_record(place, "pipe") is None


def test_the_mount_of_a_path_is_the_one_with_the_longest_prefix(place: Place) -> None:
    for mountpoint in ("/mnt/a", "/mnt/a/b", "/mnt/ab"):
        write_record(place, record_of(mountpoint))
    mounts = list_mounts([place], table=[], uid=UID)

    def found(path: str) -> str | None:
        mount = mount_of(path, mounts)
        return mount.mountpoint if mount is not None else None

    assert found("/mnt/a/b/c") == "/mnt/a/b"
    assert found("/mnt/a/bc") == "/mnt/a"
    assert found("/mnt/a") == "/mnt/a"
    assert found("/mnt/abc") is None


def test_ids_are_legible_short_and_different() -> None:
    ids = {mount_id(path) for path in ("/mnt/a b", "/mnt/a-b", "/mnt/a/b", "/", "/" + "x" * 4000, "/ü")}
    assert len(ids) == 6
    assert all(len(identifier) <= 40 and identifier.replace("-", "").isalnum() for identifier in ids)
    assert mount_id("/mnt/data").startswith("mnt-data-")


def test_the_place_is_roots_own_or_the_users_runtime_directory_or_in_tmp() -> None:
    assert place_of({"XDG_RUNTIME_DIR": "/run/user/5"}, 0) == "/run/fluidfs"
    assert place_of({"XDG_RUNTIME_DIR": "/run/user/5/"}, 5) == "/run/user/5/fluidfs"
    assert place_of({"XDG_RUNTIME_DIR": "relative"}, 5) == "/tmp/fluidfs-5"
    assert place_of({}, 5) == "/tmp/fluidfs-5"
    assert place_of({"FLUIDFS_RUNTIME_DIR": "/r/"}, 0) == "/r"


def test_a_place_is_made_private_and_narrowed_if_it_was_not(tmp_path: Path) -> None:
    path = tmp_path / "run"
    make_place(str(path), uid=UID).close()
    assert path.stat().st_mode & 0o777 == 0o700
    path.chmod(0o755)
    make_place(str(path), uid=UID).close()
    assert path.stat().st_mode & 0o777 == 0o700


def test_a_place_that_others_prepared_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "file").touch()
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    for name, uid in (("link", UID), ("file", UID), ("open", UID), ("real", UID + 1), ("no/such", UID)):
        with pytest.raises(EnvironmentLacking, match="cannot be used"):
            make_place(str(tmp_path / name), uid=uid)


def test_a_place_that_is_not_there_has_no_mounts(tmp_path: Path) -> None:
    assert list(readable_places({"FLUIDFS_RUNTIME_DIR": str(tmp_path / "none")}, uid=UID)) == []


def test_mountinfo_is_read_with_its_escapes() -> None:
    text = (
        "22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n"
        "90 22 0:50 / /mnt/a\\040b\\134 rw,nosuid,nodev - fuse.fluidfs s3://b\\040c ro,user_id=1000,group_id=5\n"
        "91 22 0:51 / /mnt/x rw master:3 propagate_from:2 - tmpfs tmpfs rw\n"
        "nonsense\n"
    )
    entries = parse_mountinfo(text)
    assert [entry.mountpoint for entry in entries] == ["/", "/mnt/a b\\", "/mnt/x"]
    assert entries[1] == MountEntry("/mnt/a b\\", "fuse.fluidfs", "s3://b c", 1000)
    assert mount_at("/mnt/x", [*entries, MountEntry("/mnt/x", "proc", "p", None)]) == MountEntry(
        "/mnt/x", "proc", "p", None
    )
    assert mount_at("/mnt", entries) is None


def test_a_directory_that_works_answers(tmp_path: Path) -> None:
    assert probe(str(tmp_path)) == "answers"


def test_processes_that_hold_a_directory_are_found(tmp_path: Path) -> None:
    held = tmp_path / "held"
    held.mkdir()
    (held / "f").write_text("x")
    program = "import sys; f = open('held/f'); print(flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert [(holder.pid, holder.what) for holder in holders(str(held))] == [(child.pid, f"{held}/f")]
        assert holders(str(tmp_path / "hel")) == []
        child.communicate()
    assert holders(str(held)) == []


def test_a_process_is_known_by_its_start() -> None:
    ticks = start_ticks(os.getpid())
    assert ticks is not None
    assert is_alive(os.getpid(), ticks)
    assert not is_alive(os.getpid(), ticks + 1)
    assert start_ticks(ended_pid()) is None


def ended_pid() -> int:
    with subprocess.Popen(["true"]) as child:
        child.wait()
        return child.pid
