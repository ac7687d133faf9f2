"""Readers of all kinds, and everything that may go wrong, for as long as it is told to last."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from fluidfs.demo.seaweed import SeaweedServer
from tests.conftest import Bucket, Mounter
from tests.soak.bodies import BODIES, EXPECTED, fill
from tests.soak.conftest import Plan
from tests.soak.mishaps import Mishaps
from tests.support.accounts import Account
from tests.support.compared import comparing, write_tree
from tests.support.proxy import CountingProxy

WAYS = ("sequentially", "at_random", "at_random", "mapped", "small_files", "walk")
# No request to the store is tried for longer; those that wait behind it are tried after it.
_RECOVERED_WITHIN_S = 60.0


@pytest.mark.parametrize("account", ["root"], indirect=True)
def test_whatever_happens_bytes_are_right_and_readers_come_back(
    account: Account, own_s3_server: SeaweedServer, mounted: Mounter, plan: Plan, ram: Path, tmp_path: Path
) -> None:
    rng = plan.rng("mixed load")
    # A daemon that crashes says where.
    variables = {**own_s3_server.environment(), "PYTHONFAULTHANDLER": "1"}
    del variables["AWS_ENDPOINT_URL"]
    client = own_s3_server.client()
    client.create_bucket(Bucket="mixed")
    fill(Bucket("mixed", client))
    client.close()
    copy = write_tree(account.make_directory("copy"), BODIES)
    with CountingProxy(own_s3_server.port) as proxy:
        mount = mounted(
            "s3://mixed",
            "--metadata-ttl",
            "3s",
            account=replace(account, variables=variables),
            endpoint_url=proxy.endpoint_url,
            cache=f"{ram}:35M:MEM",
        )
        with comparing(mount, copy, WAYS, seed=plan.seed) as readers:
            mishaps = Mishaps(readers, ram, own_s3_server, proxy, tmp_path, rng)
            began = time.monotonic()
            try:
                while time.monotonic() - began < plan.duration_s:
                    time.sleep(rng.uniform(0.0, 3.0))
                    mishaps.must_live()
                    mishaps.next()
                    readers.must_go_on(timeout_s=_RECOVERED_WITHIN_S)
            except BaseException:
                log = mount.path.with_suffix(".log").read_text().splitlines()[-60:]
                print(f"{time.strftime('%H:%M:%S')}: {len(mishaps.history)} mishaps, the last of them:")
                print(*mishaps.history[-8:], readers.summary(), "the daemon's log ends so:", *log, sep="\n")
                raise
            print("\n".join(f"  {count:4} times {name}" for name, count in sorted(mishaps.counts().items())))
            print(readers.summary())
        assert mount.tree() == EXPECTED
        mount.unmount()
        account.fluidfs("cache", "gc", "--cache", ram)
        verified = account.fluidfs("cache", "verify", "--cache", ram)
        assert verified.returncode == 0, verified.stderr
