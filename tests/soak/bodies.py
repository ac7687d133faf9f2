"""What the buckets of the long tests hold: a few files of many blocks, and many that lie in slabs."""

from __future__ import annotations

from collections.abc import Mapping

from tests.conftest import Bucket
from tests.support.reading import MIB, content, digest, in_threads

BODIES: Mapping[str, bytes] = {
    "one.bin": content("soak one", 23 * MIB + 4321),
    "two.bin": content("soak two", 16 * MIB),
    "three.bin": content("soak three", 4 * MIB - 1),
    "four.bin": content("soak four", 300_000),
    **{f"small/{number % 11}/{number:03}": content(f"soak {number}", 331 * number) for number in range(300)},
}
EXPECTED = {key: (len(body), digest(body)) for key, body in BODIES.items()}


def fill(bucket: Bucket) -> None:
    """Stores all of it."""

    def put(number: int) -> None:
        for key in list(BODIES)[number::4]:
            bucket.put(key, BODIES[key])

    in_threads(4, put)
