"""Mixes of options that cannot be meant, each refused with one line."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from fluidfs.config.table import BY_NAME
from fluidfs.config.values import DEFAULT_BLOCK_SIZE, DEFAULT_MEMORY_BYTES, LevelSpec, Medium
from fluidfs.errors import UsageError
from fluidfs.units import exact_size

_SPEED: tuple[Medium, ...] = ("MEM", "SSD", "HDD")

Values = Mapping[str, tuple[Any, str]]


def refuse_foolish_mixes(values: Values, *, source: str) -> None:
    """Raises UsageError for the first mix found. `values` is what was given: name → (value, where it was given)."""
    _refuse_writing(values)
    _refuse_double_credentials(values)
    _refuse_s3_flags_elsewhere(values, source)
    _refuse_too_little_memory(values)
    if "cache" in values:
        _refuse_odd_levels(*values["cache"])


def _refuse_writing(values: Values) -> None:
    if "read-only" in values and not values["read-only"][0]:
        raise UsageError(f"{values['read-only'][1]}: this version of fluidfs mounts read-only")


def _refuse_double_credentials(values: Values) -> None:
    if "anonymous" not in values or not values["anonymous"][0]:
        return
    for name in ("profile", "request-payer"):
        if name in values and values[name][0]:
            why = (
                "unsigned requests use no profile"
                if name == "profile"
                else "the payer of unsigned requests is not known"
            )
            raise UsageError(f"{values['anonymous'][1]} with {values[name][1]}: {why}, leave one out")


def _refuse_s3_flags_elsewhere(values: Values, source: str) -> None:
    """Only what was typed for this source; an environment or a file may serve several sources."""
    if source.startswith("s3:"):
        return
    for name, (_, origin) in values.items():
        if BY_NAME[name].s3_only and origin.startswith("-"):
            raise UsageError(f"{origin}: means something to s3:// sources only, not to {source}")


def _refuse_too_little_memory(values: Values) -> None:
    memory_bytes, _ = values.get("memory", (DEFAULT_MEMORY_BYTES, ""))
    block_size, _ = values.get("block-size", (DEFAULT_BLOCK_SIZE, ""))
    if 2 * block_size > memory_bytes:
        blame = values["memory"][1] if "memory" in values else values["block-size"][1]
        raise UsageError(
            f"{blame}: {exact_size(memory_bytes)} of memory must hold two blocks of {exact_size(block_size)}; "
            "raise --memory or lower --block-size"
        )
    readahead_bytes, origin = values.get("readahead", (0, ""))
    if readahead_bytes > memory_bytes:
        raise UsageError(
            f"{origin}: a readahead of {exact_size(readahead_bytes)} does not fit the memory of "
            f"{exact_size(memory_bytes)}; raise --memory or lower --readahead"
        )


def _refuse_odd_levels(levels: Sequence[LevelSpec], origin: str) -> None:
    for faster, slower in itertools.pairwise(levels):
        if _SPEED.index(faster.medium) > _SPEED.index(slower.medium):
            raise UsageError(f"{origin}: the fastest level comes first, and {faster.medium} is before {slower.medium}")
    for index, one in enumerate(levels):
        for other in levels[:index]:
            if inside(one.path, other.path) or inside(other.path, one.path):
                raise UsageError(f"{origin}: {one.path} and {other.path} lie one inside the other; keep levels apart")


def refuse_cache_in_mount(levels: Sequence[LevelSpec], mountpoint: str) -> None:
    """A cache below its own mount would read itself."""
    for one in levels:
        if inside(one.path, mountpoint):
            raise UsageError(f"--cache {one.path}: lies inside the mountpoint {mountpoint}")


def inside(path: str, directory: str) -> bool:
    """Whether `path` is `directory` or below it; both absolute and normal."""
    return path == directory or path.startswith(directory.rstrip("/") + "/")
