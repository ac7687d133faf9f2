"""What tests are given: a real S3 server, buckets, accounts, mounts. A need that is missing fails the test."""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

from fluidfs.demo.seaweed import Identity, SeaweedServer
from fluidfs.errors import FluidfsError
from tests.support.accounts import Account, account_of, reachable_checkout
from tests.support.mounts import Mount, no_trace_of
from tests.support.proxy import CountingProxy

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import ObjectIdentifierTypeDef

# Knows the server and may do nothing on it: what a wrong bucket policy looks like.
POWERLESS = Identity("powerless", "POWERLESS0000000", "powerless-secret-powerless", ("Read:no-such-bucket",))


def _start(directory: Path) -> SeaweedServer:
    server = SeaweedServer(directory, identities=(POWERLESS,))
    try:
        server.start()
    except FluidfsError as error:
        notes = "\n".join(getattr(error, "__notes__", ()))
        pytest.fail(f"the S3 server of the tests: {error}\n{notes}")
    return server


@pytest.fixture(scope="session")
def s3_server() -> Iterator[SeaweedServer]:
    """A real S3 server for all tests. Who stops, kills or pauses it takes `own_s3_server` instead."""
    directory = Path(tempfile.mkdtemp(prefix="fluidfs-s3-"))
    server = _start(directory)
    yield server
    server.stop()
    shutil.rmtree(directory)


@pytest.fixture
def own_s3_server() -> Iterator[SeaweedServer]:
    """A server for one test, which may do with it what it likes."""
    directory = Path(tempfile.mkdtemp(prefix="fluidfs-s3-"))
    server = _start(directory)
    with server:
        yield server
    shutil.rmtree(directory)


@pytest.fixture(scope="session")
def s3_client(s3_server: SeaweedServer) -> Iterator[S3Client]:
    """A boto3 client of `s3_server` with all rights; safe to use from several threads."""
    client = s3_server.client()
    yield client
    client.close()


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket that is the test's own."""

    name: str
    client: S3Client

    @property
    def uri(self) -> str:
        return f"s3://{self.name}"

    def put(self, key: str, body: bytes) -> str:
        """Stores an object and returns its ETag without the quotes."""
        return self.client.put_object(Bucket=self.name, Key=key, Body=body)["ETag"].strip('"')

    def delete(self, key: str) -> None:
        """Deletes an object; one that is not there is no error, as S3 has it."""
        self.client.delete_object(Bucket=self.name, Key=key)


def empty_bucket(client: S3Client, name: str) -> None:
    """Deletes a bucket and all that is in it."""
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=name):
        keys: list[ObjectIdentifierTypeDef] = [{"Key": item["Key"]} for item in page.get("Contents", ())]
        if keys:
            client.delete_objects(Bucket=name, Delete={"Objects": keys, "Quiet": True})
    client.delete_bucket(Bucket=name)


@pytest.fixture
def bucket(s3_client: S3Client) -> Iterator[Bucket]:
    """An empty bucket of a name that no other test has."""
    name = f"test-{uuid.uuid4().hex[:16]}"
    s3_client.create_bucket(Bucket=name)
    yield Bucket(name, s3_client)
    empty_bucket(s3_client, name)


@pytest.fixture
def counting_proxy(s3_server: SeaweedServer) -> Iterator[CountingProxy]:
    """Stands before `s3_server`: give its `endpoint_url` to a client, and it counts and spoils what passes."""
    with CountingProxy(s3_server.port) as proxy:
        yield proxy


@pytest.fixture(scope="session")
def checkout() -> Iterator[Path]:
    """The code under test at a path that ordinary users reach."""
    with reachable_checkout() as code:
        yield code


@pytest.fixture(params=["root", "ordinary"])
def account(request: pytest.FixtureRequest, checkout: Path, s3_server: SeaweedServer) -> Iterator[Account]:
    """Each user in turn, with the credentials of `s3_server` but not its address."""
    with account_of(request.param, code=checkout) as account:
        yield _with_credentials(account, s3_server)


@pytest.fixture
def me(checkout: Path, s3_server: SeaweedServer) -> Iterator[Account]:
    """Whoever runs the tests, for those to which the user does not matter."""
    with account_of("root" if os.geteuid() == 0 else "ordinary", code=checkout) as account:
        yield _with_credentials(account, s3_server)


def _with_credentials(account: Account, server: SeaweedServer) -> Account:
    variables = server.environment()
    del variables["AWS_ENDPOINT_URL"]
    return replace(account, variables=variables)


class Mounter(Protocol):
    """Mounts `source`. Options are those of the command line, `--endpoint-url` and `--cache` among them by default."""

    def __call__(
        self, source: str, *options: str, account: Account, endpoint_url: str | None = None, cache: str | None = None
    ) -> Mount: ...


@pytest.fixture
def mounted(s3_server: SeaweedServer) -> Mounter:
    """Makes mounts by the real command line. They end with their account, and a trace of one fails the test."""
    if not Path("/dev/fuse").exists():
        pytest.fail("/dev/fuse is missing: modprobe fuse (in a container: --device /dev/fuse --cap-add SYS_ADMIN)")
    if shutil.which("fusermount3") is None:
        pytest.fail("fusermount3 is missing: apt-get install fuse3")

    def mount(
        source: str, *options: str, account: Account, endpoint_url: str | None = None, cache: str | None = None
    ) -> Mount:
        path = account.make_directory(f"mnt{uuid.uuid4().hex[:8]}")
        endpoint = ("--endpoint-url", endpoint_url or s3_server.endpoint_url) if source.startswith("s3:") else ()
        places = ("--cache", cache or str(account.cache), "--log-file", str(path.with_suffix(".log")))
        made = Mount(source, path, account, (*endpoint, *places, *options))
        account.closing.enter_context(no_trace_of(made))
        made.start()
        return made

    return mount


@pytest.fixture
def request_count(counting_proxy: CountingProxy) -> Callable[[str], int]:
    """How many requests of an operation (`GET`, `HEAD`, `LIST`, …) came by `counting_proxy` so far."""
    return lambda operation: counting_proxy.counts()[operation]
