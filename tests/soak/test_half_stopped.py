"""A daemon, or its Python half, that stands still for longer than any watchdog waits."""

from __future__ import annotations

import errno
import os
import signal
import time
from pathlib import Path

import pytest

from fluidfs.cache.maintenance import evict
from fluidfs.config import LevelSpec
from tests.conftest import Bucket, Mounter
from tests.soak.bodies import BODIES, EXPECTED, fill
from tests.support.accounts import Account
from tests.support.compared import comparing, write_tree
from tests.support.halting import halted
from tests.support.latency import measuring
from tests.support.mounts import Mount
from tests.support.reading import MIB, content, digest, reader

WAYS = ("sequentially", "at_random", "mapped", "small_files", "walk")
# Python that gives no sign of life for 30 s is given up, and that is looked at every few seconds.
STOPPED_S = 45.0
COLD = content("cold", 5 * MIB)


@pytest.fixture
def warm(bucket: Bucket, me: Account, mounted: Mounter) -> Mount:
    fill(bucket)
    mount = mounted(bucket.uri, "--metadata-ttl", "1h", account=me)
    assert mount.tree() == EXPECTED
    return mount


def test_a_daemon_that_is_stopped_for_long_goes_on_without_an_error(warm: Mount) -> None:
    """Time that passed while all of it stood still is no sign that anything in it hangs."""
    copy = write_tree(warm.account.make_directory("copy"), BODIES)
    evict(LevelSpec(str(warm.account.cache), None, "SSD"), everything=True)
    with comparing(warm, copy, WAYS, seed="stopped") as readers:
        readers.must_go_on()
        (daemon,) = warm.daemons
        os.kill(daemon, signal.SIGSTOP)
        time.sleep(STOPPED_S)
        os.kill(daemon, signal.SIGCONT)
        readers.must_go_on(answers=20)
        assert [r.errors() for r in readers] == [{}] * len(WAYS)


@pytest.mark.parametrize("account", ["root"], indirect=True)
def test_what_only_a_python_half_that_stands_still_could_answer_is_eio(
    bucket: Bucket, account: Account, mounted: Mounter
) -> None:
    """And what is cached is read on."""
    fill(bucket)
    bucket.put("cold.bin", COLD)
    copy = write_tree(account.make_directory("copy"), BODIES)
    mount = mounted(bucket.uri, "--metadata-ttl", "1h", account=account)
    known = account.run("diff", "--recursive", "--brief", copy, mount.path)
    assert known.stdout == f"Only in {mount.path}: cold.bin\n"
    (daemon,) = mount.daemons
    with comparing(mount, copy, WAYS[:-1], seed="halted") as readers:
        readers.must_go_on()
        with halted(daemon), reader(account, mount.path / "cold.bin", [(0, 1)]) as answers:
            end = time.monotonic() + 25
            while time.monotonic() < end:
                readers.must_go_on(timeout_s=10)
            assert answers(STOPPED_S - 25) == [errno.EIO]
            readers.must_go_on(timeout_s=10)
        assert [r.errors() for r in readers] == [{}] * len(WAYS[:-1])
    assert mount.digest("cold.bin") == digest(COLD), "once it goes on, so does all that it does"


def test_reads_of_what_is_cached_while_the_python_half_is_busy_with_a_hundred_thousand_names(
    me: Account, mounted: Mounter
) -> None:
    """Figures; the bound is what a person would call a hang."""
    source = write_tree(me.make_directory("source"), {"read.bin": COLD})
    names = source / "names"
    names.mkdir()
    for number in range(100_000):
        (names / f"{number:06}").touch()
    write_tree(source, {f"warm/{number}": content(number, 20_000) for number in range(5000)})
    mount = mounted(f"file://{source}", account=me)
    assert mount.digest("read.bin") == digest(COLD)
    work: dict[str, list[str | Path]] = {
        "nothing": ["sleep", "3"],
        "a listing of 100,000 names": ["ls", "-f", mount.path / "names"],
        "a warm-up of 5,000 files": [me.python, "-m", "fluidfs", "warm", mount.path / "warm"],
        "a walk with a stat of each": ["find", mount.path, "-size", "+1k", "-name", "nothing"],
    }
    for name, command in work.items():
        with measuring(me, mount.path / "read.bin") as result:
            done = me.run(*command, timeout_s=600)
            latency = result()
        assert done.returncode == 0, done.stderr
        print(f"{name}: {latency}")
        assert latency.longest_s < 10.0
