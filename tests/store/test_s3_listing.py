"""Listings and heads against a real S3 server: keys, pages, versions, and the tree that comes of them."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection

import boto3
import pytest
import trio
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials as BotocoreCredentials
from moto.server import ThreadedMotoServer

from fluidfs.demo.seaweed import SeaweedServer
from fluidfs.errors import ObjectNotFound
from fluidfs.meta.entries import DirectoryEntry
from fluidfs.meta.keys import HiddenKey, WhyHidden
from fluidfs.meta.names import Names
from fluidfs.store.base import HttpTransport
from fluidfs.store.open import open_store
from fluidfs.store.s3 import S3Store
from fluidfs.store.source import parse_source
from tests.conftest import Bucket

ODD_KEYS = [
    "space in name",
    "plus+and%41percent",
    "new\nline",
    "tab\tx",
    "quote'\"&amp;<>",
    "q?x#y=z",
    "ünï/cødé",
    "日本語/😀",
    "~tilde/*(paren)!",
    "a-b",
    "a/x",
    "a.c",
    "a/deep/er/f",
    "marker/",
    "k" * 200 + "/" + "l" * 200 + "/" + "m" * 200 + "/" + "n" * 200 + "/" + "o" * 220,
]


@pytest.fixture
def _credentials(s3_server: SeaweedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)


def store_of(uri: str) -> S3Store:
    store = open_store(parse_source(uri))
    assert isinstance(store, S3Store)
    return store


def keys_of(store: S3Store, prefix: str = "", delimiter: str = "", limit: int = 1000) -> list[str]:
    keys: list[str] = []
    token: str | None = None
    while True:
        page = store.list_page(prefix, delimiter=delimiter, token=token, limit=limit)
        assert len(page.objects) + len(page.prefixes) <= limit
        keys += [*(info.key for info in page.objects), *page.prefixes]
        token = page.next_token
        if token is None:
            return keys


@pytest.mark.usefixtures("_credentials")
@pytest.mark.parametrize("limit", [1, 2, 5, 1000])
def test_every_odd_key_is_listed_once_whatever_the_pages(bucket: Bucket, limit: int) -> None:
    for key in ODD_KEYS:
        bucket.put(key, b"" if key.endswith("/") else key.encode())
    store = store_of(bucket.uri)
    assert sorted(keys_of(store, limit=limit)) == sorted(ODD_KEYS)
    assert sorted(keys_of(store, "a/", limit=limit)) == ["a/deep/er/f", "a/x"]
    assert sorted(keys_of(store, "a", "/", limit=limit)) == ["a-b", "a.c", "a/"]
    top = {key.partition("/")[0] + ("/" if "/" in key else "") for key in ODD_KEYS}
    assert sorted(keys_of(store, "", "/", limit=limit)) == sorted(top)


@pytest.mark.usefixtures("_credentials")
def test_a_listing_and_a_head_tell_the_same_version_and_so_does_boto3(bucket: Bucket) -> None:
    store = store_of(bucket.uri)
    for key in ODD_KEYS:
        if key.endswith("/"):
            continue
        etag = bucket.put(key, key.encode())
        info = store.head(key)
        assert (info.key, info.size, info.version) == (key, len(key.encode()), etag)
        assert info in store.list_page(key).objects
    with pytest.raises(ObjectNotFound):
        store.head("nothing")


@pytest.mark.usefixtures("_credentials")
def test_an_object_in_parts_has_its_etag_as_version(bucket: Bucket) -> None:
    upload = bucket.client.create_multipart_upload(Bucket=bucket.name, Key="big")["UploadId"]
    parts = []
    for number in (1, 2):
        part = bucket.client.upload_part(
            Bucket=bucket.name, Key="big", UploadId=upload, PartNumber=number, Body=b"x" * (5 << 20)
        )
        parts.append({"PartNumber": number, "ETag": part["ETag"]})
    done = bucket.client.complete_multipart_upload(
        Bucket=bucket.name,
        Key="big",
        UploadId=upload,
        MultipartUpload={"Parts": parts},  # type: ignore[typeddict-item]
    )
    store = store_of(bucket.uri)
    assert store.head("big").version == done["ETag"].strip('"') == store.list_page("big").objects[0].version
    assert store.head("big").size == 10 << 20


@pytest.mark.usefixtures("_credentials")
def test_the_transport_leads_to_the_bytes_of_each_object(bucket: Bucket) -> None:
    store = store_of(bucket.uri)
    transport = store.transport
    assert isinstance(transport, HttpTransport)
    credentials = store.credentials()
    assert credentials is not None
    connection = HTTPConnection(transport.host, transport.port, timeout=20)
    for key in ODD_KEYS:
        if key.endswith("/"):
            continue
        etag = bucket.put(key, key.encode())
        target = store.target(key).decode("ascii")
        request = AWSRequest("GET", f"http://{transport.host_header}{target}", headers={"if-match": f'"{etag}"'})
        S3SigV4Auth(
            BotocoreCredentials(credentials.access_key, credentials.secret_key), "s3", transport.region
        ).add_auth(request)
        connection.request("GET", target, headers=dict(request.headers.items()))
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (200, key.encode())
    connection.close()


@pytest.mark.usefixtures("_credentials")
async def test_a_tree_of_many_pages_is_what_was_put_there(bucket: Bucket) -> None:
    keys = {f"d{number % 3}/sub{number % 5}/f{number:04d}" for number in range(1300)} | {"top-1", "top/x", "top.2"}
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: bucket.put(key, b""), keys))
    names = Names(store_of(bucket.uri), prefix="", ttl_s=60, limiter=trio.CapacityLimiter(4))

    async def below(directory: str) -> set[str]:
        found: set[str] = set()
        for entry in await names.entries(directory):
            path = f"{directory}/{entry.name}" if directory else entry.name
            found |= await below(path) if isinstance(entry, DirectoryEntry) else {path}
        return found

    assert await below("") == keys
    assert {path async for path, _ in names.walk("")} == keys
    assert (await names.lookup("d1/sub1", "f0001")).name == "f0001"
    assert isinstance(await names.lookup("", "top"), DirectoryEntry)


# SeaweedFS keeps keys as paths of its own file system and refuses these; other servers have them. Moto stands in.
IMPOSSIBLE = {
    "a": b"a file beside a directory",
    "a/b": b"",
    "//x": b"",
    "e//f": b"",
    "./dot": b"",
    "d/../up": b"",
    "m/": b"content",
    "l/" + "x" * 256: b"",
    "fine": b"",
}


@pytest.fixture
def moto_endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKMOTO")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "moto")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    server = ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.mark.parametrize("ttl_s", [0, 60])
async def test_keys_that_cannot_be_shown_do_no_harm(moto_endpoint: str, ttl_s: float) -> None:
    client = boto3.client("s3", endpoint_url=moto_endpoint, config=Config(s3={"addressing_style": "path"}))
    client.create_bucket(Bucket="odd")
    for key, body in IMPOSSIBLE.items():
        client.put_object(Bucket="odd", Key=key, Body=body)
    client.close()
    store = open_store(parse_source("s3://odd"), endpoint_url=moto_endpoint)
    names = Names(store, prefix="", ttl_s=ttl_s, limiter=trio.CapacityLimiter(4))
    assert [entry.name for entry in await names.entries("")] == ["a", "d", "e", "fine", "l", "m"]
    for directory, inside in {"a": ["b"], "d": [], "e": [], "l": [], "m": []}.items():
        assert isinstance(await names.lookup("", directory), DirectoryEntry)
        assert [entry.name for entry in await names.entries(directory)] == inside
    assert sorted([path async for path, _ in names.walk("")]) == ["a/b", "fine"]
    assert set(names.hidden.sample()) == {
        HiddenKey("a", WhyHidden.SHADOWED),
        HiddenKey("/", WhyHidden.EMPTY),
        HiddenKey("e//", WhyHidden.EMPTY),
        HiddenKey("./", WhyHidden.DOT),
        HiddenKey("d/../", WhyHidden.DOT),
        HiddenKey("m/", WhyHidden.MARKER_WITH_BYTES),
        HiddenKey("l/" + "x" * 256, WhyHidden.LONG),
    }
