"""A MountService without a mount, for tests of the control socket."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from fluidfs.model import WarmProgress, WarmRequest, WarmResult

Report = Callable[[WarmProgress], Awaitable[None]]


class SmallService:
    """A mount of nothing: it answers what it was made with, and notes what it was asked."""

    def __init__(self, *, fault: Exception | None = None, failures: int = 0) -> None:
        self.fault = fault
        self.failures = failures
        self.asked: list[object] = []
        self.warm_cancelled = trio.Event()
        self.endless = False

    async def status(self) -> dict[str, object]:
        if self.fault is not None:
            raise self.fault
        return {"source": "s3://b", "odd": "ä\udc80"}

    async def warm(self, request: WarmRequest, report: Report) -> WarmResult:
        self.asked.append(request)
        await report(WarmProgress(objects_done=1, objects_total=2, bytes_done=10, bytes_total=None, failed=0))
        try:
            await trio.sleep(0 if not self.endless else float("inf"))
        finally:
            self.warm_cancelled.set()
        failures = tuple((f"k{number}", "no") for number in range(self.failures))
        return WarmResult(objects=2, bytes_fetched=15, bytes_present=5, failures=failures)

    async def stop(self, *, lazy: bool, timeout_s: float) -> None:
        self.asked.append((lazy, timeout_s))
        if self.fault is not None:
            raise self.fault

    def metrics_text(self) -> bytes:
        return b"fluidfs_reads_total 1\n"
