"""Objects of any name and any size: every byte is equal through the mount, whoever mounts."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.conftest import Mounter, empty_bucket
from tests.support.accounts import Account
from tests.support.reading import MIB, content, digest

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

OBJECTS = 300

# Each stands for something that a shell, an URL, an XML parser or a signature might trip over. Backslashes are in
# test_second_server.py: this server takes them for slashes.
ODD_NAMES = (
    "plain.txt",
    "with space",
    "  leading and trailing  ",
    "two  spaces",
    "new\nline",
    "\n",
    "carriage\rreturn",
    "tab\there",
    "'single'",
    '"double"',
    "100%",
    "%20",
    "%2F",
    "%",
    "a+b",
    "a&b=c;d",
    "?query=1#fragment",
    "#",
    "*.glob[a-z]{x,y}",
    "$(echo no) `no` ${HOME}",
    '<xml attribute="&amp;">',
    "]]>",
    "-rf",
    "--help",
    ".hidden",
    "...",
    "..two",
    "~",
    ":",
    "C:|name",
    "@at",
    "é composed \u00e9",
    "é combining e\u0301",
    "\u0301 combining alone",
    "日本語のファイル名",
    "العربية",
    "עברית",
    "עברית mixed english 123",
    "😀",
    "👩\u200d👩\u200d👧\u200d👦 family",
    "\U0001f1e9\U0001f1ea flag",
    "zero\u200bwidth",
    "\u202eoverride",
    "\ufeffmark",
    "\u00a0no-break space",
    "Ω≈ç√∫",
    "\U00020000",
    "\ue000 private",
    "\x7f delete",
    "x" * 255,
    "é" * 127,
    "😀" * 63,
)

# Around the borders of what the cache does: sub-blocks, slabs, blocks, ranges.
SIZES = (
    0,
    1,
    2,
    4095,
    4096,
    4097,
    65_535,
    65_536,
    65_537,
    262_143,
    262_144,
    262_145,
    MIB,
    MIB + 1,
    4 * MIB - 1,
    4 * MIB,
    4 * MIB + 1,
    8 * MIB + 12_345,
)
LARGE_BYTES = 300 * MIB


def long_key(seed: object, length: int = 1024) -> str:
    """A key of exactly `length` bytes, with parts of all lengths up to 255."""
    rng = random.Random(f"{seed}")
    parts: list[str] = []
    left = length
    while left > 0:
        size = min(left, rng.choice((1, 7, 100, 254, 255)))
        if left - size == 1:
            size -= 1  # else a slash would be the last byte
        if size < 1:
            size = left
        parts.append(rng.choice("abcdefgh") * size)
        left -= size + 1
    return "/".join(parts)


def odd_objects() -> dict[str, int]:
    """Size by key: 300 objects."""
    rng = random.Random("odd objects")
    keys = [*ODD_NAMES]
    keys += [f"{name} (dir)/{ODD_NAMES[-1 - index]}" for index, name in enumerate(ODD_NAMES) if len(name) < 60]
    keys += [long_key(number) for number in range(20)]
    keys += [f"long/{long_key(number, 1019)}" for number in range(5)]
    while len(keys) < OBJECTS - 1:
        parts = rng.choices(ODD_NAMES[:50], k=rng.randint(1, 4))
        keys.append("/".join([f"deep {len(keys)}", *parts]))
    small = SIZES[:-6]
    sizes = {key: rng.choice(small) if index >= len(SIZES) else SIZES[index] for index, key in enumerate(keys)}
    return sizes | {"large \U0001f40b.bin": LARGE_BYTES}


@dataclass(frozen=True, slots=True)
class OddBucket:
    name: str
    facts: Mapping[str, tuple[int, str]]


@pytest.fixture(scope="module")
def odd_bucket(s3_client: S3Client) -> Iterator[OddBucket]:
    name = "odd-objects"
    sizes = odd_objects()
    s3_client.create_bucket(Bucket=name)

    def put(item: tuple[str, int]) -> tuple[str, tuple[int, str]]:
        key, size = item
        body = content(key, size)
        s3_client.put_object(Bucket=name, Key=key, Body=body)
        return key, (size, digest(body))

    with ThreadPoolExecutor(4) as pool:
        facts = dict(pool.map(put, sizes.items()))
    yield OddBucket(name, facts)
    empty_bucket(s3_client, name)


def test_the_objects_are_what_they_should_be() -> None:
    sizes = odd_objects()
    assert len(sizes) == OBJECTS
    assert max(len(key.encode()) for key in sizes) == 1024
    assert all(len(part.encode()) <= 255 for key in sizes for part in key.split("/"))
    assert sum(sizes.values()) < 512 * MIB


def test_every_byte_of_odd_objects_is_equal_through_the_mount(
    odd_bucket: OddBucket, account: Account, mounted: Mounter
) -> None:
    mount = mounted(f"s3://{odd_bucket.name}", account=account)
    assert mount.tree() == odd_bucket.facts, "cold"
    assert mount.tree() == odd_bucket.facts, "warm"
    assert mount.status()["names"]["hidden"] == {}  # type: ignore[index]


def test_a_prefix_of_odd_bytes_can_be_mounted(odd_bucket: OddBucket, me: Account, mounted: Mounter) -> None:
    directory = next(key for key in odd_bucket.facts if key.startswith("new\nline (dir)/")).partition("/")[0]
    below = {
        key.removeprefix(f"{directory}/"): facts
        for key, facts in odd_bucket.facts.items()
        if key.startswith(f"{directory}/")
    }
    mount = mounted(f"s3://{odd_bucket.name}/{directory}", account=me)
    assert mount.tree() == below
