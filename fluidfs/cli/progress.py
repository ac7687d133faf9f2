"""A bar that moves, for what takes over a second and on a terminal only."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from typing import TextIO

from fluidfs.units import format_duration, format_size

# What is over before this needs no bar.
_PATIENCE_S = 1.0
_REDRAW_S = 0.1
_BAR_CHARS = 20
_CLEAR = "\r\x1b[K"


class ProgressBar:
    """One line on `stream`, redrawn. A context manager that wipes the line at its end."""

    def __init__(self, label: str, *, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._label = label
        self._stream = stream
        self._clock = clock
        self._begun_s = clock()
        self._due_s = self._begun_s + _PATIENCE_S
        self._enabled = stream.isatty()
        self._dirty = False

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, *_: object) -> None:
        if self._dirty:
            self._stream.write(_CLEAR)
            self._stream.flush()

    def update(self, done_bytes: int, total_bytes: int | None, *, note: str = "") -> None:
        """How far it is. A total of None is one that is not known yet."""
        now_s = self._clock()
        if not self._enabled or now_s < self._due_s:
            return
        self._due_s = now_s + _REDRAW_S
        self._dirty = True
        line = describe(self._label, done_bytes, total_bytes, elapsed_s=now_s - self._begun_s, note=note)
        # A line that wraps could not be wiped.
        self._stream.write(_CLEAR + line[: shutil.get_terminal_size().columns - 1])
        self._stream.flush()


def describe(label: str, done_bytes: int, total_bytes: int | None, *, elapsed_s: float, note: str = "") -> str:
    """`label [####----]  50%  1.00GiB of 2.00GiB  210MiB/s  5.0s left`."""
    rate = done_bytes / elapsed_s if elapsed_s > 0 else 0.0
    parts = [label]
    if total_bytes:
        share = min(done_bytes / total_bytes, 1.0)
        filled = int(share * _BAR_CHARS)
        parts.append(f"[{'#' * filled}{'-' * (_BAR_CHARS - filled)}] {int(share * 100):3}%")
        parts.append(f"{format_size(done_bytes)} of {format_size(total_bytes)}")
    else:
        parts.append(format_size(done_bytes))
    parts.append(f"{format_size(rate)}/s")
    if total_bytes and rate > 0:
        parts.append(f"{format_duration(max(total_bytes - done_bytes, 0) / rate)} left")
    if note:
        parts.append(note)
    return "  ".join(parts)
