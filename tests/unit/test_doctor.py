"""What the doctor finds on machines that have less than this one."""

import os
from pathlib import Path

import pytest

from fluidfs.config import LevelSpec
from fluidfs.control.mounts import MountEntry
from fluidfs.doctor.cache import file_system_of, level_check
from fluidfs.doctor.credentials import credentials_check
from fluidfs.doctor.machine import (
    cgroup_limit_bytes,
    control_directory,
    fuse_device,
    kernel_version,
    machine_checks,
    others_are_allowed,
)


def test_every_check_of_the_machine_says_something(tmp_path: Path) -> None:
    checks = machine_checks({"FLUIDFS_RUNTIME_DIR": str(tmp_path / "run")})
    assert len({check.name for check in checks}) == len(checks) >= 8
    assert all(check.found for check in checks)
    assert all(check.advice for check in checks if check.state != "ok")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_device_is_a_failure_with_advice(tmp_path: Path) -> None:
    check = fuse_device(str(tmp_path / "fuse"))
    assert (check.state, check.found) == ("fail", "missing")
    assert "modprobe fuse" in check.advice


def test_a_control_directory_that_is_not_ours_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "run").symlink_to("/")
    assert control_directory({"FLUIDFS_RUNTIME_DIR": str(tmp_path / "run")}).state == "fail"


def test_a_kernel_is_known_by_its_two_first_numbers() -> None:
    assert kernel_version("6.18.44-fc-v669") == (6, 18)
    assert kernel_version("5.10.0-26-amd64") == (5, 10)
    assert kernel_version("Plan 9") == (0, 0)


def test_only_a_line_of_its_own_allows_other_users(tmp_path: Path) -> None:
    conf = tmp_path / "fuse.conf"
    assert not others_are_allowed(str(conf))
    conf.write_text("# user_allow_other\nmount_max = 10\n")
    assert not others_are_allowed(str(conf))
    conf.write_text("mount_max = 10\nuser_allow_other\n")
    assert others_are_allowed(str(conf))


def test_the_memory_limit_is_the_smallest_on_the_way_up_in_v2(tmp_path: Path) -> None:
    membership, hierarchy = tmp_path / "cgroup", tmp_path / "sys"
    membership.write_text("0::/a/b\n")
    (hierarchy / "a" / "b").mkdir(parents=True)
    assert cgroup_limit_bytes(membership, hierarchy) is None
    (hierarchy / "a" / "b" / "memory.max").write_text("max\n")
    (hierarchy / "a" / "memory.max").write_text("1048576\n")
    assert cgroup_limit_bytes(membership, hierarchy) == 1 << 20


def test_the_memory_limit_of_v1_is_found_and_its_infinity_is_none(tmp_path: Path) -> None:
    membership, hierarchy = tmp_path / "cgroup", tmp_path / "sys"
    membership.write_text("5:cpu,cpuacct:/x\n4:memory:/x\n1:name=systemd:/\n")
    (hierarchy / "memory" / "x").mkdir(parents=True)
    (hierarchy / "memory" / "memory.limit_in_bytes").write_text("9223372036854771712\n")
    assert cgroup_limit_bytes(membership, hierarchy) is None
    (hierarchy / "memory" / "x" / "memory.limit_in_bytes").write_text("2097152\n")
    assert cgroup_limit_bytes(membership, hierarchy) == 2 << 20


def test_a_level_is_tried_where_it_would_be_made_and_nothing_is_left(tmp_path: Path) -> None:
    table = [MountEntry("/", "ext4", "/dev/vda", None)]
    check = level_check(LevelSpec(str(tmp_path / "not" / "yet")), table)
    assert check.state in ("ok", "warn")
    assert "ext4" in check.found
    assert list(tmp_path.iterdir()) == []


def test_a_level_on_a_network_is_warned_of(tmp_path: Path) -> None:
    table = [MountEntry("/", "ext4", "/dev/vda", None), MountEntry(str(tmp_path), "nfs4", "server:/", None)]
    check = level_check(LevelSpec(str(tmp_path)), table)
    assert check.state == "warn"
    assert "network" in check.advice


def test_a_level_that_cannot_be_written_is_a_failure() -> None:
    check = level_check(LevelSpec("/proc/fluidfs"), [])
    assert check.state == "fail"
    assert "--cache" in check.advice


def test_the_newest_mount_of_a_place_is_what_counts() -> None:
    table = [
        MountEntry("/", "ext4", "a", None),
        MountEntry("/c", "xfs", "b", None),
        MountEntry("/c", "tmpfs", "c", None),
    ]
    assert file_system_of("/c/d", table) == "tmpfs"
    assert file_system_of("/d", table) == "ext4"
    assert file_system_of("/d", []) == "unknown"


@pytest.fixture
def _no_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.mark.usefixtures("_no_credentials")
def test_credentials_are_told_by_where_they_are_never_by_what_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    assert credentials_check(profile=None, anonymous=True, needed=True).state == "ok"
    assert credentials_check(profile=None, anonymous=False, needed=False).state == "warn"
    assert credentials_check(profile=None, anonymous=False, needed=True).state == "fail"
    assert credentials_check(profile="nobody", anonymous=False, needed=True).state == "fail"
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "SESAME1")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "SESAME2")
    check = credentials_check(profile=None, anonymous=False, needed=True)
    assert check.state == "ok"
    assert "AWS_ACCESS_KEY_ID" in check.found
    assert "SESAME" not in repr(check)
