"""Ranged GETs without any client: the limit of everything that comes from the store.

Plain sockets, requests signed beforehand, bodies received into one buffer per thread and thrown away.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from urllib.parse import urlsplit

from benchmarks.clients.base import Bench
from benchmarks.metric import Results
from benchmarks.settings import Settings

RANGE_BYTES = 8 * 1024 * 1024
BLOCK_BYTES = 4096
SMALL_READERS = 16
# A stride that is odd and far from any block or stripe size visits the file in no order that a server could guess.
STRIDE_BLOCKS = 40_503


class Connection:
    """One keep-alive connection that GETs and forgets. `get` raises OSError for all but 200 and 206."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._host = f"127.0.0.1:{port}"
        self._buffer = bytearray(1024 * 1024)

    def get(self, target: str, *, first: int | None = None, last: int | None = None) -> int:
        """Receives a body and returns its length in bytes."""
        wanted = "" if first is None else f"Range: bytes={first}-{last}\r\n"
        self._socket.sendall(f"GET {target} HTTP/1.1\r\nHost: {self._host}\r\n{wanted}\r\n".encode())
        received = self._socket.recv_into(self._buffer)
        while (end := self._buffer.find(b"\r\n\r\n", 0, received)) < 0:
            more = self._socket.recv_into(memoryview(self._buffer)[received:])
            if not more:
                raise OSError("the server closed the connection within a header")
            received += more
        head = bytes(self._buffer[:end]).lower()
        status = int(head.split(b" ", 2)[1])
        length = int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        left = length - (received - end - 4)
        while left > 0:
            more = self._socket.recv_into(self._buffer, min(left, len(self._buffer)))
            if not more:
                raise OSError("the server closed the connection within a body")
            left -= more
        if status not in (200, 206):
            raise OSError(f"GET: status {status}")
        return length

    def close(self) -> None:
        """Closes the connection."""
        self._socket.close()


class Raw:
    """So many streams; `find` and the rest are measured by the one that has `is_whole`."""

    def __init__(self, bench: Bench, *, streams: int, is_whole: bool) -> None:
        self.name = f"raw GET ×{streams}"
        self._bench = bench
        self._streams = streams
        self._is_whole = is_whole
        self._large = ""
        self._small: list[str] = []

    def prepare(self) -> None:
        """Signs every request that will be made."""
        client = self._bench.server.client()

        def signed(key: str) -> str:
            parameters = {"Bucket": self._bench.bucket, "Key": key}
            parts = urlsplit(client.generate_presigned_url("get_object", Params=parameters, ExpiresIn=7 * 24 * 3600))
            return f"{parts.path}?{parts.query}"

        self._large = signed(self._bench.data.large_key)
        self._small = [signed(key) for key in self._bench.data.small_keys] if self._is_whole else []
        client.close()

    def measure(self, settings: Settings) -> Results:
        """One round of what makes sense without a file system; a failed step gives the reason."""
        steps: dict[str, Callable[[], float]] = {"sequential_cold": self._sequential}
        if self._is_whole:
            seconds = settings.random_seconds
            steps |= {
                "find_cold": self._list,
                "random_cold": lambda: self._random(readers=1, seconds=seconds),
                "small_cold": self._small_files,
            }
        results: Results = {}
        for key, step in steps.items():
            if settings.wants(key):
                try:
                    results[key] = step()
                except OSError as error:
                    results[key] = f"{type(error).__name__}: {error}"
        return results

    def finish(self) -> None:
        """Nothing was written."""

    def version(self) -> str:
        """None: there is no program."""
        return ""

    def _sequential(self) -> float:
        size = self._bench.data.large_bytes
        starts = iter(range(0, size, RANGE_BYTES))

        def work(connection: Connection) -> int:
            total = 0
            # The iterator is shared by all threads: the next range goes to whoever is free.
            for start in starts:
                total += connection.get(self._large, first=start, last=min(start + RANGE_BYTES, size) - 1)
            return total

        return self._by_all(self._streams, work, expected=size) / 1e6

    def _small_files(self) -> float:
        targets = iter(self._small)

        def work(connection: Connection) -> int:
            return sum(connection.get(target) for target in targets)

        data = self._bench.data
        bytes_per_s = self._by_all(SMALL_READERS, work, expected=data.small_files * data.small_bytes)
        return bytes_per_s / data.small_bytes

    def _random(self, *, readers: int, seconds: float) -> float:
        blocks = self._bench.data.large_bytes // BLOCK_BYTES
        turns = count()
        deadline = time.monotonic() + seconds

        def work(connection: Connection) -> int:
            total = 0
            while time.monotonic() < deadline:
                first = next(turns) * STRIDE_BLOCKS % blocks * BLOCK_BYTES
                total += connection.get(self._large, first=first, last=first + BLOCK_BYTES - 1)
            return total

        return self._by_all(readers, work, expected=None) / BLOCK_BYTES

    def _list(self) -> float:
        client = self._bench.server.client()
        started = time.monotonic()
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=self._bench.bucket, Prefix="names/")
        seen = sum(len(page.get("Contents", ())) for page in pages)
        seconds = time.monotonic() - started
        client.close()
        if seen != self._bench.data.names:
            raise OSError(f"LIST saw {seen} of {self._bench.data.names} objects")
        return seconds

    def _by_all(self, threads: int, work: Callable[[Connection], int], *, expected: int | None) -> float:
        """Bytes per second that `threads` connections receive together."""
        connections = [Connection(self._bench.server.port) for _ in range(threads)]
        with ThreadPoolExecutor(threads) as pool:
            started = time.monotonic()
            total = sum(pool.map(work, connections))
            seconds = time.monotonic() - started
        for connection in connections:
            connection.close()
        if expected is not None and total != expected:
            raise OSError(f"received {total} of {expected} bytes")
        return total / seconds
