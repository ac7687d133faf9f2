"""Checks of a source: does it answer, how fast, and which of its keys cannot be shown."""

from __future__ import annotations

import select
import statistics
import time
from collections.abc import Iterator
from functools import partial

import trio

from fluidfs._native.engine import Engine, Status
from fluidfs._native.sink import MemorySink
from fluidfs.config import MountOptions
from fluidfs.doctor.check import Check
from fluidfs.errors import FluidfsError, NameNotFound
from fluidfs.fetch.source import endpoint_of
from fluidfs.meta.keys import HiddenKeys
from fluidfs.meta.names import Names
from fluidfs.model import ObjectInfo
from fluidfs.plane import connect
from fluidfs.store.base import Store
from fluidfs.units import format_duration, format_size

_LATENCY_REQUESTS = 7
# The first pages of a listing: enough to meet a rule that a bucket breaks everywhere.
_NAMES_LOOKED_AT = 5000
_RANGE_BYTES = 16 << 20
_RANGE_TIMEOUT_S = 60.0
# From here on requests, not bytes, are what takes the time.
_SLOW_S = 0.25


def source_checks(options: MountOptions) -> Iterator[Check]:
    """Each check as soon as it is done. The first that fails is the last."""
    try:
        source, store = connect(options)
        yield Check("source", "ok", f"{source} answers ({store.identity})")
        yield _latency(store, source.prefix)
        names = trio.run(partial(_names, store, source.prefix))
        yield _hidden_check(*names)
        yield _bandwidth(store, names[2])
    except FluidfsError as error:
        yield Check("source", "fail", error.message)


def _latency(store: Store, prefix: str) -> Check:
    taken_s = []
    for _ in range(_LATENCY_REQUESTS):
        begun_s = time.perf_counter()
        store.list_page(prefix, limit=1)
        taken_s.append(time.perf_counter() - begun_s)
    median_s = statistics.median(taken_s)
    found = f"{format_duration(median_s)} (median of {len(taken_s)} listings of one key)"
    if median_s > _SLOW_S:
        return Check(
            "latency", "warn", found, "the store is far away: use one in your region, or a longer --metadata-ttl"
        )
    return Check("latency", "ok", found)


async def _names(store: Store, prefix: str) -> tuple[int, HiddenKeys, ObjectInfo | None]:
    """How many files the first pages have, which keys they hide, and the largest file."""
    names = Names(store, prefix=prefix, ttl_s=60.0, limiter=trio.CapacityLimiter(1))
    count, largest = 0, None
    try:
        async for _, entry in names.walk(""):
            count += 1
            if largest is None or entry.info.size > largest.size:
                largest = entry.info
            if count >= _NAMES_LOOKED_AT:
                break
    except NameNotFound:
        pass  # an empty source is one
    return count, names.hidden, largest


def _hidden_check(count: int, hidden: HiddenKeys, largest: ObjectInfo | None) -> Check:
    looked = f"of the first {count:,} files" if count >= _NAMES_LOOKED_AT else f"{count:,} files"
    reasons = {str(reason.value): number for reason, number in hidden.counts().items() if number}
    if not reasons:
        return Check("names", "ok", f"{looked}, all keys can be shown")
    told = ", ".join(f"{number:,} with {reason}" for reason, number in reasons.items())
    example = next(iter(hidden.sample()), None)
    advice = "no path stands for these keys; other tools reach them" + (
        f", for example {example.key!r}" if example else ""
    )
    return Check("names", "warn", f"{looked}; keys that cannot be shown: {told}", advice)


def _bandwidth(store: Store, info: ObjectInfo | None) -> Check:
    if info is None or info.size == 0:
        return Check("bandwidth", "ok", "not measured: there is no object with content")
    length = min(info.size, _RANGE_BYTES)
    engine = Engine(workers=1)
    try:
        endpoint = endpoint_of(store, engine)
        credentials = store.credentials()
        if credentials is not None:
            endpoint.set_credentials(credentials.access_key, credentials.secret_key, credentials.token)
        begun_s = time.perf_counter()
        engine.submit(
            endpoint,
            target=store.target(info.key),
            offset=0,
            length=length,
            size=info.size,
            version=info.version,
            sink=MemorySink(0, length),
            urgent=True,
        )
        while not (done := [one for one in engine.drain() if one.kind == "done"]):
            if time.perf_counter() - begun_s > _RANGE_TIMEOUT_S:
                return Check("bandwidth", "warn", f"{format_size(length)} took longer than {_RANGE_TIMEOUT_S:.0f} s")
            select.select([engine], [], [], 1.0)
        taken_s = time.perf_counter() - begun_s
    finally:
        engine.close()
    if done[0].status != Status.OK:
        return Check("bandwidth", "fail", f"a GET of {info.key!r} failed: {done[0].status.name} {done[0].detail}")
    return Check(
        "bandwidth", "ok", f"{format_size(length / taken_s)}/s (one GET of {format_size(length)}, connection included)"
    )
