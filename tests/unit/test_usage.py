"""The counters of a level, which all processes share."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from fluidfs._native.usage import LevelUsage
from tests.unit.caching import BLOCK, lone, usage_in


def opened(path: Path) -> LevelUsage:
    with path.open("r+b") as file:
        return LevelUsage(file.fileno())


def test_counters_and_limits_are_seen_by_all_who_have_the_file_open(tmp_path: Path) -> None:
    one = usage_in(tmp_path, quota_bytes=100)
    other = opened(tmp_path / "level")
    one.used_bytes = 70
    other.count_evicted(30)
    one.count_slab_change()
    assert (other.used_bytes, one.evicted_bytes, other.slab_generation) == (40, 30, 1)
    other.set_limits(quota_bytes=5, high_bytes=4, low_bytes=3)
    assert (one.quota_bytes, one.high_bytes, one.low_bytes, one.bad_blocks) == (5, 4, 3, 0)


def test_the_used_bytes_never_go_below_zero(tmp_path: Path) -> None:
    usage = usage_in(tmp_path)
    usage.used_bytes = 10
    usage.subtract(11)
    assert usage.used_bytes == 0
    usage.count_evicted(1 << 62)
    assert (usage.used_bytes, usage.evicted_bytes) == (0, 1 << 62)


@pytest.mark.parametrize("left", [b"", bytes(100), bytes(4096)])
def test_a_file_whose_maker_was_killed_is_made_anew(tmp_path: Path, left: bytes) -> None:
    (tmp_path / "level").write_bytes(left)
    usage = opened(tmp_path / "level")
    assert (usage.used_bytes, usage.quota_bytes) == (0, 0)
    assert (tmp_path / "level").stat().st_size == 4096
    assert (tmp_path / "level").read_bytes()[:12] == struct.pack("<8sI", b"FLUIDLVL", 1)


@pytest.mark.parametrize(
    "foreign",
    [b"x", b"FLUIDLVL" + bytes(100), bytes(4095) + b"x", bytes(4097), b"FLUIDLVL\2".ljust(4096, b"\0"), b"x" * 4096],
)
def test_a_file_of_another_kind_or_format_is_left_as_it_is(tmp_path: Path, foreign: bytes) -> None:
    (tmp_path / "level").write_bytes(foreign)
    with pytest.raises(ValueError, match="not a level file"):
        opened(tmp_path / "level")
    assert (tmp_path / "level").read_bytes() == foreign


ADDER = """
import sys
from pathlib import Path
from tests.unit.caching import content, lone, usage_in
directory, times = Path(sys.argv[1]), int(sys.argv[2])
usage = usage_in(directory)
here = directory / sys.argv[3]
here.mkdir()
from tests.unit.caching import BLOCK, Lone
file = Lone(here, BLOCK, usage).open()
for _ in range(times):
    file.sink().write(0, content(BLOCK))
    file.drop_block(0, punch=False)
file.sink().write(0, content(BLOCK))
"""


def test_no_count_is_lost_between_processes(tmp_path: Path) -> None:
    usage = usage_in(tmp_path)
    adders = [subprocess.Popen([sys.executable, "-c", ADDER, str(tmp_path), "200", name]) for name in "ab"]
    assert [adder.wait(timeout=30) for adder in adders] == [0, 0]
    assert usage.used_bytes == 2 * BLOCK


def test_the_bytes_of_two_versions_add_up(tmp_path: Path) -> None:
    files = lone(tmp_path, 3 * BLOCK + 1)
    file = files.filled()
    assert files.usage.used_bytes == files.size
    file.drop_block(3, punch=True)
    assert files.usage.used_bytes == 3 * BLOCK


def test_a_counter_outlives_the_descriptor_it_was_made_of(tmp_path: Path) -> None:
    fd = os.open(tmp_path / "level", os.O_RDWR | os.O_CREAT)
    usage = LevelUsage(fd)
    os.close(fd)
    usage.used_bytes = 3
    assert opened(tmp_path / "level").used_bytes == 3
