"""The daemon is killed a hundred times under its readers."""

from __future__ import annotations

from pathlib import Path

from fluidfs.cache.maintenance import evict
from fluidfs.config import LevelSpec
from tests.conftest import Bucket, Mounter
from tests.soak.bodies import BODIES, EXPECTED, fill
from tests.soak.conftest import Plan
from tests.support.accounts import Account
from tests.support.compared import comparing, write_tree
from tests.support.killing import kill_again_and_again
from tests.support.proxy import CountingProxy, Fault

WAYS = ("sequentially", "at_random", "mapped", "small_files", "walk")


def test_killed_a_hundred_times_at_random_moments(
    bucket: Bucket, me: Account, mounted: Mounter, counting_proxy: CountingProxy, plan: Plan, ram: Path
) -> None:
    rng = plan.rng("kills")
    fill(bucket)
    copy = write_tree(me.make_directory("copy"), BODIES)
    mount = mounted(
        bucket.uri, "--metadata-ttl", "5s", account=me, endpoint_url=counting_proxy.endpoint_url, cache=f"{ram}:1G:MEM"
    )
    # Something is always under way.
    counting_proxy.inject(Fault(delay_s=0.15), when=lambda request: rng.random() < 0.3)

    def between(turn: int) -> None:
        if rng.random() < 0.3:
            evict(LevelSpec(str(ram), None, "MEM"), everything=True)
        if turn % 10 == 9:
            print(f"{turn + 1} kills")

    with comparing(mount, copy, WAYS, seed=plan.seed) as readers:
        kill_again_and_again(readers, kills=plan.kills, rng=rng, between=between)
        print(readers.summary())
    assert mount.tree() == EXPECTED
    mount.kill_daemon()
    mount.start()
    counting_proxy.forget()
    assert mount.tree() == EXPECTED
    assert counting_proxy.counts()["GET"] == 0, "the next mount serves the cache"
    verified = me.fluidfs("cache", "verify", "--cache", ram)
    assert verified.returncode == 0, verified.stderr
