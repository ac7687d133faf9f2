"""Sizes and durations as people write them.

A size is a number and a suffix: `B`, `K`, `M`, `G`, `T`, `P`, `E`, with or without `i`, `B` or `iB` after the letter,
in either case. As with rclone the plain letter counts in 1024s: `64M`, `64Mi`, `64MB` and `64MiB` are all 67,108,864
bytes. A bare number is bytes.

A duration is one or more numbers with `ms`, `s`, `m`, `h` or `d`, largest first (`1h30m`, `90s`, `250ms`). A bare
number is seconds.
"""

from __future__ import annotations

import re
from decimal import Decimal

from fluidfs.errors import UsageError

_LETTERS = "KMGTPE"
_SIZE = re.compile(r"(?P<number>\d+(?:\.\d*)?|\.\d+)\s*(?:(?P<letter>[kmgtpe])i?)?b?", re.IGNORECASE | re.ASCII)

# Above this no store, disk or kernel interface (all of them signed 64 bit) can follow.
_MAX_SIZE_BYTES = 2**63 - 1

_UNIT_MS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}
_DURATION = re.compile(
    r"(?:(?P<d>{n})d)?(?:(?P<h>{n})h)?(?:(?P<m>{n})m(?!s))?(?:(?P<s>{n})s)?(?:(?P<ms>{n})ms)?".replace(
        "{n}", r"\d+(?:\.\d+)?"
    ),
    re.IGNORECASE | re.ASCII,
)
_BARE_NUMBER = re.compile(r"\d+(?:\.\d+)?", re.ASCII)

# A century: what is longer is a slip of the keyboard, and must not overflow a timeout further down.
_MAX_DURATION_MS = 36_525 * 86_400_000


def parse_size(text: str) -> int:
    """The bytes that `text` says; a fraction of a byte is dropped. Raises UsageError with what is allowed."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise UsageError(
            f"{text!r} is not a size: write bytes, or a number with K, M, G or T (1024-based), as in 64M or 1.5GiB"
        )
    power = _LETTERS.index(match["letter"].upper()) + 1 if match["letter"] else 0
    size_bytes = int(Decimal(match["number"]) * 1024**power)
    if size_bytes > _MAX_SIZE_BYTES:
        raise UsageError(f"{text!r} is too large: the largest size is 7.99EiB")
    return size_bytes


def exact_size(size_bytes: int) -> str:
    """The shortest text that `parse_size` reads as exactly `size_bytes` (`4M`, `1000`)."""
    power = 0
    while size_bytes and size_bytes % 1024 == 0 and power < len(_LETTERS):
        size_bytes //= 1024
        power += 1
    return f"{size_bytes}{_LETTERS[power - 1] if power else ''}"


def format_size(size_bytes: float) -> str:
    """`size_bytes` for a reader: three significant digits and a binary unit (`0B`, `1.50GiB`, `640MiB`)."""
    value, power = float(size_bytes), 0
    # 999.5 and not 1024: four digits before the unit are one too many.
    while value >= 999.5 and power < len(_LETTERS):
        value /= 1024
        power += 1
    if power == 0:
        return f"{value:.0f}B"
    decimals = 2 if value < 9.995 else 1 if value < 99.95 else 0
    return f"{value:.{decimals}f}{_LETTERS[power - 1]}iB"


def parse_duration(text: str) -> float:
    """The seconds that `text` says, to the millisecond. Raises UsageError with what is allowed."""
    stripped = text.strip()
    if _BARE_NUMBER.fullmatch(stripped):
        total_ms = Decimal(stripped) * 1000
    else:
        match = _DURATION.fullmatch(stripped) if stripped else None
        if match is None:
            raise UsageError(
                f"{text!r} is not a duration: write seconds, or numbers with d, h, m, s, ms, as in 90s, 5m or 1h30m"
            )
        total_ms = sum((Decimal(match[unit]) * ms for unit, ms in _UNIT_MS.items() if match[unit]), Decimal(0))
    if total_ms > _MAX_DURATION_MS:
        raise UsageError(f"{text!r} is too long: the longest duration is 36525d")
    return int(total_ms) / 1000


def exact_duration(duration_s: float) -> str:
    """The text that `parse_duration` reads as exactly `duration_s`, rounded to the millisecond (`1h30m`, `250ms`,
    `0s`).
    """
    rest_ms = round(duration_s * 1000)
    parts = []
    for unit, unit_ms in _UNIT_MS.items():
        count, rest_ms = divmod(rest_ms, unit_ms)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def format_duration(duration_s: float) -> str:
    """`duration_s` for a reader: its two largest units (`3d4h`, `2m05s`, `1.2s`, `250ms`, `0.4ms`)."""
    if duration_s < 1:
        return f"{duration_s * 1000:.{1 if 0 < duration_s < 0.00995 else 0}f}ms"
    if duration_s < 9.95:
        return f"{duration_s:.1f}s"
    seconds = round(duration_s)
    if seconds < 60:
        return f"{seconds}s"
    if seconds < 3600:
        return f"{seconds // 60}m{seconds % 60:02}s"
    if seconds < 86_400:
        return f"{seconds // 3600}h{seconds % 3600 // 60:02}m"
    return f"{seconds // 86_400}d{seconds % 86_400 // 3600}h"
