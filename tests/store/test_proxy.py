"""The proxy of the tests counts what passes and spoils what it is told to, against the real server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError, IncompleteReadError, ResponseStreamingError

from fluidfs.demo.seaweed import SeaweedServer
from tests.conftest import Bucket
from tests.support.proxy import CountingProxy, Fault, Request

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

BODY = bytes(range(256)) * 4096


@pytest.fixture
def client(s3_server: SeaweedServer, counting_proxy: CountingProxy) -> Iterator[S3Client]:
    session = boto3.session.Session(s3_server.access_key, s3_server.secret_key, region_name=s3_server.region)
    config = Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}, proxies={})
    client = session.client("s3", endpoint_url=counting_proxy.endpoint_url, config=config)
    yield client
    client.close()


def is_get(request: Request) -> bool:
    return request.operation == "GET"


def test_every_request_is_counted_by_what_it_asks_for(
    client: S3Client, counting_proxy: CountingProxy, bucket: Bucket
) -> None:
    client.put_object(Bucket=bucket.name, Key="a b/ü", Body=BODY)
    client.head_object(Bucket=bucket.name, Key="a b/ü")
    assert client.get_object(Bucket=bucket.name, Key="a b/ü", Range="bytes=1-4")["Body"].read() == BODY[1:5]
    client.list_objects_v2(Bucket=bucket.name)
    assert counting_proxy.counts() == {"PUT": 1, "HEAD": 1, "GET": 1, "LIST": 1}
    get = next(filter(is_get, counting_proxy.requests))
    assert (get.bucket, get.key, get.headers["range"]) == (bucket.name, "a b/ü", "bytes=1-4")
    counting_proxy.forget()
    assert counting_proxy.counts()["GET"] == 0


def test_a_fault_meets_only_what_it_was_made_for_and_only_so_often(
    client: S3Client, counting_proxy: CountingProxy, bucket: Bucket
) -> None:
    bucket.put("k", BODY)
    counting_proxy.inject(Fault(status=503), when=is_get, times=1)
    client.head_object(Bucket=bucket.name, Key="k")
    with pytest.raises(ClientError, match="SlowDown"):
        client.get_object(Bucket=bucket.name, Key="k")
    assert client.get_object(Bucket=bucket.name, Key="k")["Body"].read() == BODY


def test_a_broken_connection_is_seen_as_one(client: S3Client, counting_proxy: CountingProxy, bucket: Bucket) -> None:
    bucket.put("k", BODY)
    counting_proxy.inject(Fault(reset=True), when=is_get)
    with pytest.raises(ConnectionClosedError):
        client.get_object(Bucket=bucket.name, Key="k")
    counting_proxy.heal()
    assert client.get_object(Bucket=bucket.name, Key="k")["Body"].read() == BODY


def test_a_body_can_end_early_or_carry_a_wrong_byte(
    client: S3Client, counting_proxy: CountingProxy, bucket: Bucket
) -> None:
    bucket.put("k", BODY)
    counting_proxy.inject(Fault(truncate_at=1000), when=is_get, times=1)
    with pytest.raises((IncompleteReadError, ResponseStreamingError)):
        client.get_object(Bucket=bucket.name, Key="k")["Body"].read()
    counting_proxy.inject(Fault(flip_at=500_000), when=is_get, times=1)
    read = client.get_object(Bucket=bucket.name, Key="k")["Body"].read()
    assert [index for index in range(len(BODY)) if read[index] != BODY[index]] == [500_000]


def test_a_restarted_server_has_its_data_and_its_address(own_s3_server: SeaweedServer) -> None:
    client = own_s3_server.client()
    client.create_bucket(Bucket="kept")
    client.put_object(Bucket="kept", Key="k", Body=BODY)
    url = own_s3_server.endpoint_url
    own_s3_server.kill()
    own_s3_server.start()
    assert own_s3_server.endpoint_url == url
    assert client.get_object(Bucket="kept", Key="k")["Body"].read() == BODY
    client.close()
