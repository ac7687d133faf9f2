"""Why the kernel does not read a file by itself."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from fluidfs.cache import kernel_reads
from fluidfs.cache.kernel_reads import file_system_type, refused_for
from fluidfs.cache.level import Level
from fluidfs.config import LevelSpec
from fluidfs.fuse import passthrough
from fluidfs.fuse.passthrough import may_register, refused, unwanted

PROC_SUPER_MAGIC = 0x9FA0
NOTHING: frozenset[str] = frozenset()
OFFERED = frozenset({"passthrough"})


@pytest.fixture
def privileged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passthrough, "may_register", lambda: True)


@pytest.mark.usefixtures("privileged")
def test_it_is_wanted_where_any_level_allows_it() -> None:
    assert unwanted(disabled=NOTHING, verify="first", refusals=[None]) is None
    assert unwanted(disabled=NOTHING, verify="never", refusals=["/a lies on NFS", None]) is None


@pytest.mark.usefixtures("privileged")
def test_what_was_asked_for_or_cannot_be_is_said() -> None:
    assert unwanted(disabled=OFFERED, verify="first", refusals=[None]) == "--fuse-disable passthrough"
    assert "--verify=always" in str(unwanted(disabled=NOTHING, verify="always", refusals=[None]))
    assert unwanted(disabled=NOTHING, verify="first", refusals=[]) == "there is no cache"
    assert unwanted(disabled=NOTHING, verify="first", refusals=["/a lies on NFS", "/b has failed before"]) == (
        "/a lies on NFS; /b has failed before"
    )


def test_without_the_capability_it_is_not_even_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passthrough, "may_register", lambda: False)
    assert unwanted(disabled=NOTHING, verify="first", refusals=[None]) == "backing files need CAP_SYS_ADMIN"


def test_the_capability_is_read_from_the_process() -> None:
    effective = int(Path("/proc/self/status").read_text().partition("CapEff:")[2].split()[0], 16)
    assert may_register() == bool(effective & 1 << 21)


def test_what_the_kernel_says_to_it_is_told() -> None:
    assert "Linux 6.9" in str(refused(features=NOTHING, backing_errno=0, passthrough_opens=0))
    assert refused(features=OFFERED, backing_errno=0, passthrough_opens=0) is None
    assert "stacked" in str(refused(features=OFFERED, backing_errno=errno.ELOOP, passthrough_opens=0))
    assert "CAP_SYS_ADMIN" in str(refused(features=OFFERED, backing_errno=errno.EPERM, passthrough_opens=0))
    assert "not supported" in str(refused(features=OFFERED, backing_errno=errno.EOPNOTSUPP, passthrough_opens=0))
    # One level may be refused, and another not.
    assert refused(features=OFFERED, backing_errno=errno.ELOOP, passthrough_opens=3) is None


# ---- levels


def test_the_type_of_a_file_system_is_told_by_the_kernel(tmp_path: Path) -> None:
    assert file_system_type(Path("/proc/self")) == PROC_SUPER_MAGIC
    assert file_system_type(tmp_path / "no such directory") == 0
    assert refused_for(tmp_path) is None


def test_a_level_on_a_network_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_reads, "file_system_type", lambda _: 0x6969)
    level = Level(LevelSpec(str(tmp_path), 64 << 20), block_bytes=1 << 20)
    assert level.refuses_kernel_reads == f"{tmp_path} lies on NFS"
    level.close()


def test_a_level_that_has_failed_refuses_for_ever(tmp_path: Path) -> None:
    now_s = 0.0
    level = Level(LevelSpec(str(tmp_path), 64 << 20), block_bytes=1 << 20, clock=lambda: now_s)
    assert level.refuses_kernel_reads is None
    level.report_fault("Input/output error")
    now_s = 1e6
    assert level.fault is None
    assert level.refuses_kernel_reads == f"{tmp_path} has failed before"
    level.close()
