"""What a mount's requests are answered out of, whoever answers them."""

from __future__ import annotations

from dataclasses import dataclass

from fluidfs.cache.levels import Cache
from fluidfs.fetch.fetcher import Fetcher
from fluidfs.fs.filesystem import FileSystem, ReadSettings
from fluidfs.meta.inodes import Inodes
from fluidfs.meta.names import Names
from fluidfs.metrics import Metrics


@dataclass(frozen=True, slots=True, kw_only=True)
class Layers:
    """The layers of one mount. `inodes` are the node ids that Python gives out; `key_prefix` with a path behind it is
    the path's key.
    """

    store_identity: str
    key_prefix: str
    root_mtime_ns: int
    settings: ReadSettings
    names: Names
    inodes: Inodes
    cache: Cache
    fetcher: Fetcher
    filesystem: FileSystem
    metrics: Metrics
