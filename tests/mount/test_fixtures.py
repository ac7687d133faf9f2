"""The mounts that tests are given are real ones, and the proxy in front of the store sees what they ask for."""

from __future__ import annotations

import hashlib
import os

from tests.conftest import Bucket, Mounter
from tests.support.accounts import Account
from tests.support.proxy import CountingProxy


def test_each_account_reads_its_mount_and_the_second_mount_asks_for_no_bytes(
    mounted: Mounter, account: Account, bucket: Bucket, counting_proxy: CountingProxy
) -> None:
    body = os.urandom(5_000_000)
    bucket.put("a/b c.bin", body)
    mount = mounted(bucket.uri, account=account, endpoint_url=counting_proxy.endpoint_url)
    expected = {"a/b c.bin": (len(body), hashlib.sha256(body).hexdigest())}
    assert mount.tree() == expected
    assert counting_proxy.counts()["GET"] > 0
    mount.kill_daemon()
    counting_proxy.forget()
    mount.start()
    assert mount.tree() == expected
    assert counting_proxy.counts()["GET"] == 0
