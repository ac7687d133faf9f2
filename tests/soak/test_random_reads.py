"""Many processes read at random for a long time, in every mode; nothing breaks, so no read may fail or be wrong."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.conftest import Bucket, Mounter
from tests.soak.bodies import BODIES, EXPECTED, fill
from tests.soak.conftest import Plan
from tests.support.accounts import Account
from tests.support.compared import comparing, write_tree

WAYS = ("at_random", "at_random", "at_random", "mapped", "sequentially", "small_files", "walk")
MODES = {
    "as it comes": (),
    "every read compared": ("--verify", "always", "--block-size", "256K"),
    "little memory": ("--memory", "16M", "--readahead", "0", "--metadata-ttl", "1s"),
}
# All of it does not fit: versions are evicted while they are read.
QUOTA = "30M"


@pytest.mark.parametrize("mode", MODES)
def test_random_reads_of_many_processes_are_right(
    bucket: Bucket, me: Account, mounted: Mounter, plan: Plan, ram: Path, mode: str
) -> None:
    rng = plan.rng(mode)
    fill(bucket)
    copy = write_tree(me.make_directory("copy"), BODIES)
    mount = mounted(bucket.uri, *MODES[mode], account=me, cache=f"{ram}:{QUOTA}:MEM")
    with comparing(mount, copy, WAYS, seed=f"{plan.seed} {mode}") as readers:
        end = time.monotonic() + plan.duration_s / len(MODES)
        while time.monotonic() < end:
            time.sleep(rng.uniform(0.5, 3.0))
            readers.must_go_on()
            drop_caches()
        print(f"{mode}:\n{readers.summary()}")
        assert [reader.errors() for reader in readers] == [{}] * len(WAYS)
    assert mount.tree() == EXPECTED


def drop_caches() -> None:
    """The kernel forgets pages, names and attributes that nobody uses; needs root."""
    Path("/proc/sys/vm/drop_caches").write_text("3")
