"""How much a level may hold, and what goes first when it holds too much. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

# Of the disk, when nobody said a quota: enough to be useful, and no surprise on a shared disk.
DEFAULT_DISK_SHARE = 0.10
# Eviction starts when the level is this full, and goes on until it is that full: the gap keeps a steady stream of new
# data from evicting at every block.
HIGH_SHARE = 0.95
LOW_SHARE = 0.85
# A slab holds this share of the quota at most, so that evicting one is not evicting half the cache.
SLAB_SHARE = 1 / 16
MAX_SLAB_BYTES = 256 << 20
MIN_SLAB_BYTES = 1 << 20
# Below it a level cannot hold one block of the largest kind and is of no use.
MIN_QUOTA_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Limits:
    """A level's quota and its watermarks, in bytes."""

    quota_bytes: int
    high_bytes: int
    low_bytes: int


def limits_of(quota_bytes: int) -> Limits:
    """The watermarks that go with a quota."""
    quota_bytes = max(quota_bytes, MIN_QUOTA_BYTES)
    return Limits(quota_bytes, int(quota_bytes * HIGH_SHARE), int(quota_bytes * LOW_SHARE))


def slab_capacity(quota_bytes: int) -> int:
    """How large a new slab is: a power of two within the bounds above."""
    wanted = max(MIN_SLAB_BYTES, min(MAX_SLAB_BYTES, int(quota_bytes * SLAB_SHARE)))
    return 1 << (wanted.bit_length() - 1)


@dataclass(frozen=True, slots=True)
class Candidate:
    """Something that could be evicted: a version, or a whole slab."""

    stem: Path
    kind: str
    size_bytes: int
    last_use_s: int


def choose_victims(candidates: Iterable[Candidate], *, excess_bytes: int) -> list[Candidate]:
    """The least recently used candidates that together hold `excess_bytes`, in the order to evict them.

    Of equally old ones the largest goes first: fewer files go for the same room.
    """
    victims: list[Candidate] = []
    for candidate in sorted(candidates, key=lambda item: (item.last_use_s, -item.size_bytes, item.stem.name)):
        if excess_bytes <= 0:
            break
        victims.append(candidate)
        excess_bytes -= candidate.size_bytes
    return victims
