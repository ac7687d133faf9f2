"""Mapped files that are cut short under us: a process goes on, and what it no longer shares it no longer believes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

COMMON = """
import faulthandler, mmap, os, signal, sys
from pathlib import Path
from tests.unit.caching import BLOCK, KIB, MIB, content, lone, slab_in, usage_in
directory = Path(sys.argv[1])
usage = usage_in(directory)

def code_of(call):
    try:
        return call()
    except OSError as error:
        return error.errno
"""


def run(directory: Path, script: str, *flags: str) -> subprocess.CompletedProcess[str]:
    """A process of its own, for what might end it."""
    command = [sys.executable, *flags, "-c", COMMON + script, str(directory)]
    # AddressSanitizer, where the tests run with it, would take the signal for itself.
    options = f"{os.environ.get('ASAN_OPTIONS', '')}:handle_sigbus=0"
    return subprocess.run(
        command, capture_output=True, text=True, timeout=30, env={**os.environ, "ASAN_OPTIONS": options}
    )


def check(directory: Path, script: str, *flags: str) -> None:
    done = run(directory, script, *flags)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


@pytest.mark.parametrize("left_bytes", [0, 4096])
@pytest.mark.parametrize("flags", [(), ("-X", "faulthandler")])
def test_a_map_cut_short_is_a_map_of_misses(tmp_path: Path, left_bytes: int, flags: tuple[str, ...]) -> None:
    check(
        tmp_path,
        f"""
files = lone(directory, 300 * BLOCK)  # its map is three pages
file = files.open()
first, last = 0, 299 * BLOCK
for offset in (first, last):
    file.sink().write(offset, content(BLOCK, offset))
sink = file.sink()
assert not file.damaged
os.truncate(files.map, {left_bytes})
assert file.read(last, BLOCK) is None
assert file.damaged
# From here on nothing is read, kept, dropped, punched or sealed: others may see another map than we do.
assert file.read(first, BLOCK) is None
assert code_of(lambda: sink.write(BLOCK, content(BLOCK, 1))) == 117, "EUCLEAN"
assert code_of(lambda: file.drop_block(0, punch=True)) == 117
assert file.verify_block(299) is None
assert not file.seal()
assert os.pread(file.fileno(), BLOCK, first) == content(BLOCK, first)
sink = None
file.close()
assert code_of(lambda: files.open(create=False)) == 117
print("done")
""",
        *flags,
    )


def test_an_index_cut_short_is_an_empty_slab_that_is_full(tmp_path: Path) -> None:
    check(
        tmp_path,
        """
slab = slab_in(directory, usage)
slot = slab.put(bytes(16), b"who", b"bytes")
os.truncate(directory / "1.idx", 0)
assert slab.find(bytes(16)) is None
assert slab.read(slot, 0, 5) is None
assert slab.put(bytes(16), b"who", b"other") is None
assert slab.room_bytes == 0 and slab.entries() == []
assert os.pread(slab.fileno(), 8, 0) == b"whobytes"
slab.close()
print("done")
""",
    )


def test_a_level_file_cut_short_is_a_level_without_room(tmp_path: Path) -> None:
    check(
        tmp_path,
        """
from fluidfs.cache.level import Level
from fluidfs.config import LevelSpec
level = Level(LevelSpec(str(directory / "cache"), 64 * MIB), block_bytes=BLOCK)
assert level.has_room(1) and level.fault is None
os.truncate(level.files.level, 0)
assert not level.has_room(1) and level.excess_bytes == 0
assert "damaged" in level.fault
print("done")
""",
    )


def test_guards_end_with_their_mappings(tmp_path: Path) -> None:
    check(
        tmp_path,
        """
files = lone(directory, BLOCK)
for _ in range(3000):
    files.open().close()
file = files.open()
os.truncate(files.map, 0)
assert file.read(0, 1) is None and file.damaged
print("done")
""",
    )


FOREIGN = """
files = lone(directory, BLOCK)
file = files.open()
(directory / "foreign").write_bytes(bytes(4096))
with open(directory / "foreign", "r+b") as foreign:
    mapped = mmap.mmap(foreign.fileno(), 4096)
    os.truncate(directory / "foreign", 0)
"""


@pytest.mark.parametrize("way", ["mapped[0]", "os.kill(os.getpid(), signal.SIGBUS)"])
def test_a_bus_error_that_is_none_of_ours_ends_the_process_as_ever(tmp_path: Path, way: str) -> None:
    assert run(tmp_path, f"{FOREIGN}\n{way}\n").returncode == -signal.SIGBUS


def test_a_handler_that_was_there_before_gets_what_is_not_ours(tmp_path: Path) -> None:
    done = run(tmp_path, f"{FOREIGN}\nmapped[0]\n", "-X", "faulthandler")
    assert done.returncode == -signal.SIGBUS
    assert "Fatal Python error: Bus error" in done.stderr
