"""The measurements of a warm client in their order: which rows each has, and what is emptied before it."""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchmarks.clients.base import MountedClient
from benchmarks.clients.fluidfs import Fluidfs, difference, requests_of
from benchmarks.metric import Results
from benchmarks.processes import context_switches, cpu_seconds, switches_between
from benchmarks.reading import How, drop_caches
from benchmarks.warm.half import HalfCached
from benchmarks.warm.rows import LARGE, LOCAL, NAMES, OURS, PEERS, PYTHON, RELAYED, SEALED, SMALL, USER, USER_PEERS

GIB = 1024**3
# What a client of 500 small files per second reads of them; the fast ones read them all in a tenth of it.
SMALL_SECONDS = 2.0
TRIP_FILES = 1000
# A read that is over sooner is repeated: one switch of the scheduler would be a tenth of it.
SHORT_SECONDS = 0.25
SHORT_TIMES = 5

# The whole page cache before each row; or all of it, and the names, before the first; or nothing, which is for reads of
# one file that empty its own. No row brings in pages or names of another: pages are dropped row by row because together
# they would fill the memory.
Empties = Literal["pages", "names", "nothing"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """`measure` gets a mounted client that is warm and returns the figures of `keys`. `once` is in the first round."""

    keys: tuple[str, ...]
    rows: tuple[str, ...]
    empties: Empties
    measure: Callable[[MountedClient], Results]
    once: bool = False


def steps(*, seconds: float, seed: int, half: HalfCached | None) -> list[Step]:
    """All steps of one round. `seconds` is how long random reads last; `seed` orders the small files."""
    # Those who may meet the page cache are compared without it; passthrough and a tmpfs have none of their own.
    relayed = (RELAYED, USER, PYTHON, *PEERS)
    all_relayed = (*relayed, *USER_PEERS)
    found = [
        Step(keys=("sequential", "cpu", "switches"), rows=LARGE, empties="nothing", measure=_sequential),
        Step(keys=("sequential_direct",), rows=all_relayed, empties="nothing", measure=_sequential_direct),
        *(
            step
            for readers, rows in ((1, all_relayed), (4, relayed))
            for step in (
                _random(f"random_{readers}", (LOCAL, SEALED), readers=readers, seconds=seconds, how="buffered"),
                _random(f"random_{readers}_direct", rows, readers=readers, seconds=seconds, how="direct"),
            )
        ),
        Step(
            keys=("mapped",),
            rows=(LOCAL, SEALED, *relayed),
            empties="nothing",
            measure=lambda client: {"mapped": client.reader.mapped(_large(client), seconds=seconds)},
        ),
        Step(keys=("small",), rows=SMALL, empties="pages", measure=lambda client: _small(client, "small", seed)),
        Step(
            keys=("small_names",),
            rows=SMALL,
            empties="names",
            measure=lambda client: _small(client, "small_names", seed + 1),
        ),
        *(
            step
            for key, sizes in (("find", False), ("find_size", True))
            for step in (_find(f"{key}_names", "names", sizes=sizes), _find(key, "nothing", sizes=sizes))
        ),
        Step(keys=("trips",), rows=OURS, empties="nothing", measure=_trips, once=True),
    ]
    if half is not None:
        keys = ("half_random", "half_sequential")
        found.append(Step(keys=keys, rows=(SEALED,), empties="nothing", measure=lambda _: half.measure(seconds)))
    return found


def repeated(step: Step, client: MountedClient, *, seconds_of_first: float, first: Results) -> Results:
    """The medians of so many goes at a step whose first took next to no time; otherwise the first.

    Names are not dropped again: that would be at the cost of the other rows, too.
    """
    if seconds_of_first > SHORT_SECONDS or step.once or step.empties == "names":
        return first
    goes = [first]
    while len(goes) < SHORT_TIMES:
        if step.empties == "pages":
            drop_caches()
        goes.append(step.measure(client))
    return {key: statistics.median(float(go[key]) for go in goes) for key in first}


def _large(client: MountedClient) -> Path:
    return client.root / client.bench.data.large_key


def _sequential(client: MountedClient) -> Results:
    pids = client.processes()
    cpu_before, switches_before = cpu_seconds(pids), context_switches(pids)
    bytes_per_s = client.reader.sequential(_large(client))
    results: Results = {"sequential": bytes_per_s / 1e6}
    if client.has_processes:
        size = client.bench.data.large_bytes / GIB
        results["cpu"] = (cpu_seconds(pids) - cpu_before) / size
        results["switches"] = switches_between(switches_before, context_switches(pids)) / size
    return results


def _sequential_direct(client: MountedClient) -> Results:
    return {"sequential_direct": client.reader.sequential(_large(client), how="direct") / 1e6}


def _random(key: str, rows: tuple[str, ...], *, readers: int, seconds: float, how: How) -> Step:
    def measure(client: MountedClient) -> Results:
        # Where no page cache can answer, a block may come again: the time is then the same for all.
        again = how == "buffered"
        return {key: client.reader.random(_large(client), readers=readers, seconds=seconds, how=how, again=again)}

    return Step(keys=(key,), rows=rows, empties="nothing", measure=measure)


def _small(client: MountedClient, key: str, seed: int) -> Results:
    keys = list(client.bench.data.small_keys)
    random.Random(seed).shuffle(keys)
    return {key: client.reader.small_files(client.root, keys, seconds=SMALL_SECONDS)}


def _find(key: str, empties: Empties, *, sizes: bool) -> Step:
    def measure(client: MountedClient) -> Results:
        expected = client.bench.data.names
        return {key: client.reader.find(client.root / "names", expected=expected, sizes=sizes)}

    return Step(keys=(key,), rows=NAMES, empties=empties, measure=measure)


def _trips(client: MountedClient) -> Results:
    """Requests of all kinds while small files are read whose names the kernel knows and whose pages it does not."""
    assert isinstance(client, Fluidfs)
    keys = client.bench.data.small_keys[:TRIP_FILES]
    client.reader.small_files(client.root, keys)
    drop_caches()
    before = requests_of(client.data_plane())
    client.reader.small_files(client.root, keys)
    counts = difference(before, requests_of(client.data_plane()))
    return {"trips": sum(native + python for native, python in counts.values()) / len(keys)}
