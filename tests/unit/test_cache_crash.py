"""Whatever is killed, and whoever works on a level at the same time: what it says is there is right."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def run(what: str, directory: Path, count: int) -> None:
    command = [sys.executable, "-m", "tests.unit.cache_load", what, str(directory), str(count)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "right\n"), done.stderr[-5000:]


def test_after_a_kill_at_any_moment_every_byte_that_is_called_present_is_right(tmp_path: Path) -> None:
    run("killed", tmp_path, 40)


def test_processes_that_write_read_punch_and_evict_together_never_see_a_wrong_byte(tmp_path: Path) -> None:
    run("together", tmp_path, 1200)
