"""The settings of one mount, with their defaults."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Medium = Literal["MEM", "SSD", "HDD"]
Addressing = Literal["path", "virtual"]
Verify = Literal["first", "always", "never"]

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30

# A GET of 4 MiB reached the throughput of one of 8 MiB in our measurements, and its sub-blocks are the 64 KiB that a
# small random read should cost.
DEFAULT_BLOCK_SIZE = 4 * MIB
DEFAULT_MEMORY_BYTES = 128 * MIB
DEFAULT_READAHEAD_BYTES = 64 * MIB
DEFAULT_METADATA_TTL_S = 60.0

# What the native data plane uses of FUSE where the kernel has it (`fluidfs._native.relay.FEATURES`), and itself.
FUSE_FEATURES = (
    *("relay", "passthrough", "clone", "max-pages", "parallel-dirops", "readdirplus", "cache-dir", "no-flush"),
    *("async-read", "resend", "idmap", "request-timeout"),
)


@dataclass(frozen=True, slots=True)
class LevelSpec:
    """One cache level: a directory, how much it may hold, and what it lies on.

    `path` is absolute. `quota_bytes` None leaves the choice to the cache: 10 % of the file system.
    """

    path: str
    quota_bytes: int | None = None
    medium: Medium = "SSD"


@dataclass(frozen=True, slots=True, kw_only=True)
class MountOptions:
    """Everything that is settled before a mount is made.

    Paths are absolute, because the daemon leaves the caller's directory. `source` is as typed. `mountpoint` is ""
    where a command works on a source without mounting it. `streams` 0 lets the fetcher adapt. `block_size` is a power
    of two.
    """

    source: str
    mountpoint: str

    endpoint_url: str | None = None
    region: str | None = None
    profile: str | None = None
    anonymous: bool = False
    addressing: Addressing | None = None
    ca_bundle: str | None = None
    proxy: str | None = None
    """`http://HOST:PORT`, nothing else."""
    sse_c_key_file: str | None = None
    request_payer: bool = False

    read_only: bool = True
    allow_other: bool = False
    uid: int = 0
    gid: int = 0
    file_mode: int = 0o444
    dir_mode: int = 0o555
    metadata_ttl_s: float = DEFAULT_METADATA_TTL_S

    cache: tuple[LevelSpec, ...] = ()
    """From the fastest level to the slowest."""
    block_size: int = DEFAULT_BLOCK_SIZE
    verify: Verify = "first"

    memory_bytes: int = DEFAULT_MEMORY_BYTES
    streams: int = 0
    readahead_bytes: int = DEFAULT_READAHEAD_BYTES

    log_level: str = "info"
    log_json: bool = False
    log_file: str | None = None
    metrics: str | None = None
    """`HOST:PORT`, an IPv6 host in brackets."""
    foreground: bool = False
    fuse_disable: frozenset[str] = frozenset()
    """Names of FUSE_FEATURES."""
