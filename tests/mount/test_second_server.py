"""Another real S3 server: keys that the first one does not keep, and regions that it does not check."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fluidfs.demo.traces import daemons_of, is_mounted
from tests.conftest import Mounter
from tests.support.accounts import Account
from tests.support.reading import MIB, content, digest
from tests.support.versity import Versity, versity_server

BODIES = {
    "plain": content("plain", 100),
    "back\\slash": content("back", 1000),
    "\\": content("one", 70_000),
    "C:\\dir\\file.txt": content("windows", 300_000),
    "dir\\ectory/file\\": content("both", 5 * MIB),
    "new\nline/\\n": content("newline", 10),
    "large": content("large", 30 * MIB),
}


@pytest.fixture(scope="module")
def versity(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Versity]:
    with versity_server(tmp_path_factory.mktemp("versity"), region="eu-west-1") as server:
        client = server.client()
        client.create_bucket(Bucket="second", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
        for key, body in BODIES.items():
            client.put_object(Bucket="second", Key=key, Body=body)
        client.close()
        yield server


@pytest.fixture
def customer(me: Account, versity: Versity) -> Account:
    """Has the credentials of this server, and says no region."""
    variables = {name: value for name, value in me.variables.items() if "REGION" not in name}
    keys = {"AWS_ACCESS_KEY_ID": versity.access_key, "AWS_SECRET_ACCESS_KEY": versity.secret_key}
    return replace(me, variables={**variables, **keys})


def test_every_byte_is_equal(customer: Account, versity: Versity, mounted: Mounter) -> None:
    mount = mounted("s3://second", "--region", "eu-west-1", account=customer, endpoint_url=versity.endpoint_url)
    expected = {key: (len(body), digest(body)) for key, body in BODIES.items()}
    assert mount.tree() == expected
    assert mount.tree() == expected


@pytest.mark.parametrize("options", [("--region", "us-east-1"), ()], ids=["wrong", "none"])
def test_a_wrong_region_is_told_with_the_right_one(
    customer: Account, versity: Versity, options: tuple[str, ...]
) -> None:
    mountpoint: Path = customer.make_directory("mnt")
    result = customer.fluidfs(
        "mount", "s3://second", mountpoint, "--endpoint-url", versity.endpoint_url, "--cache", customer.cache, *options
    )
    assert result.returncode == 1
    assert result.stderr == "fluidfs: bucket 'second' is in region eu-west-1: pass --region eu-west-1\n"
    assert not is_mounted(mountpoint)
    assert not daemons_of(mountpoint)
