"""Carries completions from the native engine's threads into trio, in batches."""

from __future__ import annotations

from collections.abc import Callable

import trio

from fluidfs._native.engine import Completion, Endpoint, Engine
from fluidfs._native.sink import Sink
from fluidfs.model import Extent


class Pump:
    """The engine, as tasks see it: one job, awaited. Belongs to one trio run; `run` must be running.

    Python wakes once per batch of completions, however many there are in it.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._jobs: dict[int, _Job] = {}

    async def run(self) -> None:
        """Hands completions to the tasks that wait for them, until cancelled."""
        fd = self._engine.fileno()
        while True:
            await trio.lowlevel.wait_readable(fd)
            for completion in self._engine.drain():
                job = self._jobs.get(completion.ticket)
                if job is None:
                    continue
                if completion.kind == "progress":
                    job.on_progress()
                else:
                    job.completion = completion
                    job.done.set()

    async def get(
        self,
        endpoint: Endpoint,
        *,
        target: bytes,
        extent: Extent,
        size: int,
        version: str,
        sink: Sink,
        urgent: bool,
        on_progress: Callable[[], None] = lambda: None,
    ) -> Completion:
        """Runs one job to its end and returns how it ended; cancelling the caller cancels the job.

        The sink may be used again only after this has returned or raised.
        """
        ticket = self._engine.submit(
            endpoint,
            target=target,
            offset=extent.offset,
            length=extent.length,
            size=size,
            version=version,
            sink=sink,
            urgent=urgent,
        )
        job = self._jobs[ticket] = _Job(on_progress)
        try:
            await job.done.wait()
        except trio.Cancelled:
            self._engine.cancel(ticket)
            # The worker may be writing into the sink's memory until it has seen the cancellation, which it does within
            # a poll slice.
            with trio.CancelScope(shield=True), trio.move_on_after(5):
                await job.done.wait()
            raise
        finally:
            del self._jobs[ticket]
        assert job.completion is not None
        return job.completion


class _Job:
    __slots__ = ("completion", "done", "on_progress")

    def __init__(self, on_progress: Callable[[], None]) -> None:
        self.on_progress = on_progress
        self.done = trio.Event()
        self.completion: Completion | None = None
