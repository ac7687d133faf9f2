"""An engine with what a test of it needs: endpoints of loopback servers, and waiting for completions."""

from __future__ import annotations

import select
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from fluidfs._native.engine import Completion, Endpoint, Engine
from fluidfs._native.sink import MemorySink, Sink

WAIT_S = 20.0


class Fetching:
    """Drives one Engine."""

    def __init__(self, *, workers: int = 2, chunk_bytes: int = 262144) -> None:
        self.engine = Engine(workers=workers, chunk_bytes=chunk_bytes)
        self.progress: list[Completion] = []
        self._done: dict[int, Completion] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.engine.close()

    def endpoint(
        self,
        port: int,
        *,
        host: str = "127.0.0.1",
        tls: bool = False,
        host_header: str | None = None,
        ca_file: str | None = None,
        region: str = "us-east-1",
        headers: Sequence[tuple[str, str]] = (),
        proxy: tuple[str, int] | None = None,
        connect_timeout_s: float = 5.0,
        stall_timeout_s: float = 5.0,
    ) -> Endpoint:
        return self.engine.http_endpoint(
            host=host,
            port=port,
            tls=tls,
            host_header=host_header or f"{host}:{port}",
            ca_file=ca_file,
            region=region,
            headers=headers,
            proxy=proxy,
            connect_timeout_s=connect_timeout_s,
            stall_timeout_s=stall_timeout_s,
        )

    def submit(
        self,
        endpoint: Endpoint,
        sink: Sink,
        *,
        offset: int,
        length: int,
        size: int,
        target: bytes = b"/bucket/key",
        version: str = "v1",
        urgent: bool = False,
    ) -> int:
        return self.engine.submit(
            endpoint,
            target=target,
            offset=offset,
            length=length,
            size=size,
            version=version,
            sink=sink,
            urgent=urgent,
        )

    def fetch(
        self,
        endpoint: Endpoint,
        *,
        size: int,
        offset: int = 0,
        length: int | None = None,
        target: bytes = b"/bucket/key",
        version: str = "v1",
    ) -> tuple[Completion, bytes]:
        """Fetches a range (by default to the object's end) and waits. The bytes are those that were delivered."""
        length = size - offset if length is None else length
        sink = MemorySink(offset, length)
        ticket = self.submit(endpoint, sink, offset=offset, length=length, size=size, target=target, version=version)
        done = self.wait(ticket)
        return done, bytes(sink.buffer[: done.bytes_done])

    def step(self, deadline_s: float) -> None:
        """Waits for something to drain and drains it."""
        readable, _, _ = select.select([self.engine], [], [], max(0.0, deadline_s - time.monotonic()))
        assert readable, "the engine reported nothing for too long"
        for completion in self.engine.drain():
            if completion.kind == "done":
                self._done[completion.ticket] = completion
            else:
                self.progress.append(completion)

    def wait(self, ticket: int, *, timeout_s: float = WAIT_S) -> Completion:
        deadline_s = time.monotonic() + timeout_s
        while ticket not in self._done:
            self.step(deadline_s)
        return self._done.pop(ticket)

    def wait_for_progress(self, ticket: int) -> Completion:
        deadline_s = time.monotonic() + WAIT_S
        while not (seen := [completion for completion in self.progress if completion.ticket == ticket]):
            assert ticket not in self._done, f"ended instead: {self._done[ticket]}"
            self.step(deadline_s)
        return seen[-1]
