"""The objects that all clients read: one large file, many small ones, and very many names."""

from __future__ import annotations

import hashlib
import http.client
import multiprocessing
import random
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import repeat
from pathlib import Path
from urllib.parse import urlsplit

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config

from fluidfs.demo.seaweed import SeaweedServer

CHUNK_BYTES = 8 * 1024 * 1024
PER_DIRECTORY = 100
# Two processes of eight threads keep a server of two cores busy.
UPLOAD_PROCESSES = 2
UPLOAD_THREADS = 8


@dataclass(frozen=True)
class DataSet:
    """Sizes of the data; keys and contents follow from them alone, so no two copies can differ."""

    large_bytes: int
    small_files: int
    small_bytes: int
    names: int

    large_key = "large/large.bin"

    @cached_property
    def small_keys(self) -> tuple[str, ...]:
        """Keys of the small files, a hundred in each directory."""
        return tuple(f"small/d{number // PER_DIRECTORY:04}/f{number:06}" for number in range(self.small_files))

    @cached_property
    def name_keys(self) -> tuple[str, ...]:
        """Keys of the empty objects that only `find` looks at."""
        return tuple(f"names/d{number // PER_DIRECTORY:04}/f{number:06}" for number in range(self.names))

    def small_body(self, number: int) -> bytes:
        """The content of small file `number`; like that of all files here, it does not compress."""
        return random.Random(number).randbytes(self.small_bytes)

    def write_to(self, root: Path) -> None:
        """Writes all files below `root`."""
        large = root / self.large_key
        large.parent.mkdir(parents=True)
        source = random.Random(-1)
        with large.open("wb") as file:
            for start in range(0, self.large_bytes, CHUNK_BYTES):
                file.write(source.randbytes(min(CHUNK_BYTES, self.large_bytes - start)))
        for number, key in enumerate(self.small_keys):
            path = root / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self.small_body(number))
        for key in self.name_keys:
            path = root / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's content."""
    with path.open("rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def upload(server: SeaweedServer, bucket: str, data: DataSet, local: Path) -> None:
    """Makes `bucket` and fills it from the files below `local`."""
    client = server.client()
    client.create_bucket(Bucket=bucket)
    transfer = TransferConfig(multipart_threshold=2 * CHUNK_BYTES, multipart_chunksize=CHUNK_BYTES, max_concurrency=4)
    client.upload_file(str(local / data.large_key), bucket, data.large_key, Config=transfer)
    client.close()
    keys = [*data.small_keys, *data.name_keys]
    shares = [keys[start :: UPLOAD_PROCESSES * UPLOAD_THREADS] for start in range(UPLOAD_PROCESSES * UPLOAD_THREADS)]
    groups = [shares[start::UPLOAD_PROCESSES] for start in range(UPLOAD_PROCESSES)]
    target = Target(server.endpoint_url, server.access_key, server.secret_key, server.region, bucket)
    with ProcessPoolExecutor(UPLOAD_PROCESSES, mp_context=multiprocessing.get_context("spawn")) as pool:
        for _ in pool.map(target.put_groups, groups, repeat(local)):
            pass


@dataclass(frozen=True, slots=True)
class Target:
    """A bucket, as another process can be told of it."""

    endpoint_url: str
    access_key: str
    secret_key: str
    region: str
    bucket: str

    def put_groups(self, shares: Sequence[Sequence[str]], local: Path) -> None:
        """PUTs the files of these keys below `local`, each share by a thread of its own."""
        client = boto3.client(
            "s3",
            endpoint_url=self.endpoint_url,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name=self.region,
            config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
        )

        def put(share: Sequence[str]) -> None:
            # Signed here, all at once, because boto3 would spend more time on each PUT than the server does.
            parameters = ({"Bucket": self.bucket, "Key": key} for key in share)
            urls = [client.generate_presigned_url("put_object", Params=each, ExpiresIn=3600) for each in parameters]
            _put_all(list(zip(urls, (local / key for key in share), strict=True)))

        with ThreadPoolExecutor(UPLOAD_THREADS) as pool:
            for _ in pool.map(put, shares):
                pass


def _put_all(share: list[tuple[str, Path]]) -> None:
    if not share:
        return
    connection = http.client.HTTPConnection(urlsplit(share[0][0]).netloc, timeout=60)
    for url, path in share:
        parts = urlsplit(url)
        connection.request("PUT", f"{parts.path}?{parts.query}", body=path.read_bytes())
        response = connection.getresponse()
        response.read()
        if response.status != http.client.OK:
            raise OSError(f"PUT {parts.path}: {response.status} {response.reason}")
    connection.close()
