"""How the caches become warm: every client is mounted, and reads all that it will be measured with."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from benchmarks.clients.base import BenchError, MountedClient
from benchmarks.stage import Report
from benchmarks.warm.rounds import FAULTS
from benchmarks.warm.rows import LARGE, NAMES, SMALL, expected_bytes

# Filling waits for the store more than it works.
FILLED_AT_ONCE = 3
# Caches are also written behind their reader's back; a file is cached when all but this part of it is there.
FILL_TIMEOUT_S = 10.0
FILL_TOLERANCE = 0.02


def fill_all(
    clients: Sequence[MountedClient], broken: dict[str, str], undo: ExitStack, report: Report
) -> dict[str, int]:
    """Mounts them, until `undo`, and fills them; what the cache of each then holds. Who fails is added to `broken`."""
    cached_bytes: dict[str, int] = {}

    def fill(client: MountedClient) -> None:
        report(f"filling {client.name}")
        try:
            cached_bytes[client.name] = _fill(client)
        except FAULTS as error:
            broken[client.name] = f"{type(error).__name__}: {error}"
            report(f"{client.name} cannot be measured: {error}")

    wanted = [client for client in clients if client.name not in broken]
    for client in wanted:
        undo.callback(client.unmount)
    # The last rows first: some of them take gigabytes while they fetch, which are there before the caches are full.
    own = [client for client in reversed(wanted) if client.cache.parent == client.home]
    # Those who find the cache of another full come when it is.
    for wave in (own, [client for client in wanted if client not in own]):
        with ThreadPoolExecutor(FILLED_AT_ONCE) as pool:
            for _ in pool.map(fill, wave):
                pass
    return {client.name: cached_bytes[client.name] for client in wanted if client.name in cached_bytes}


def _fill(client: MountedClient) -> int:
    """BenchError if the client's cache does not come to hold what was read."""
    client.mount()
    data = client.bench.data
    if client.name in LARGE:
        client.reader.sequential(client.root / data.large_key)
    if client.name in SMALL and data.small_files:
        client.reader.small_files(client.root, data.small_keys)
    if client.name in NAMES and data.names:
        client.reader.find(client.root / "names", expected=data.names)
    if not client.has_processes:
        return 0
    wanted = expected_bytes(client.name, data) * (1 - FILL_TOLERANCE)
    deadline = time.monotonic() + FILL_TIMEOUT_S
    while (cached := client.cached_bytes()) < wanted:
        if time.monotonic() > deadline:
            raise BenchError(f"of {wanted:,.0f} B that were read its cache holds {cached:,} B")
        time.sleep(0.1)
    return cached
