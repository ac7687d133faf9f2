"""The text of `fluidfs status`. Daemons of other versions may say less or more: what is missing is a dash."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from fluidfs.cli.terminal import shown
from fluidfs.units import format_duration, format_size

_MISSING = "–"
_HIDDEN_SHOWN = 3


def status_lines(facts: dict[str, Any]) -> Iterator[str]:
    """One mount: a line that names it, then a line for each room that has something to say."""
    yield f"{_text(facts.get('mountpoint'))}  ←  {_text(facts.get('source'))}"
    for label, content in _rows(facts):
        yield f"  {label:<11} {content}"


def _rows(facts: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "state", _state(facts)
    if "advice" in facts:
        yield "", _text(facts["advice"])
    if facts.get("state") != "live":
        return
    plane = _part(facts, "data_plane")
    yield "data plane", _text(plane.get("mode")) + (f" ({_text(plane['why'])})" if plane.get("why") else "")
    yield from _requests(plane)
    for number, level in enumerate(_items(facts, "cache")):
        yield "cache" if number == 0 else "", _level(level)
    reads = _part(facts, "reads")
    yield (
        "reads",
        f"{_count(reads.get('count'))}, {_size(reads.get('bytes'))}, {_percent(reads.get('hit_ratio'))} from the cache",
    )
    fetch = _part(facts, "fetch")
    yield (
        "store",
        (
            f"{_count(fetch.get('requests'))} requests, {_size(fetch.get('bytes'))} at "
            f"{_size(fetch.get('throughput_bytes_per_s'))}/s; {_count(fetch.get('in_flight'))} in flight, "
            f"{_count(fetch.get('retries'))} retries, {_count(fetch.get('errors'))} errors"
        ),
    )
    yield "integrity", f"{_count(_part(facts, 'integrity').get('bad_blocks'))} bad blocks found"
    yield from _names(_part(facts, "names"))
    memory = _part(facts, "memory")
    yield "memory", f"{_size(memory.get('anon_bytes'))} anonymous, {_size(memory.get('shmem_bytes'))} shared"


def _state(facts: dict[str, Any]) -> str:
    parts = [_text(facts.get("state"))]
    if isinstance(facts.get("uptime_s"), int | float):
        parts.append(f"for {format_duration(facts['uptime_s'])}")
    if facts.get("read_only"):
        parts.append("read-only")
    if "pid" in facts:
        parts.append(f"pid {_text(facts['pid'])}")
    if "version" in facts:
        parts.append(f"fluidfs {_text(facts['version'])}")
    if facts.get("log_file"):
        parts.append(f"log {_text(facts['log_file'])}")
    return ", ".join(parts)


def _requests(plane: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Only a native data plane counts them; its watchdog is worth a line when it had to do something."""
    if "requests" not in plane:
        return
    requests = _part(plane, "requests")
    native, python = (_count(_sum(_part(requests, by))) for by in ("native", "python"))
    yield "", f"{native} requests answered natively, {python} by Python; {_count(plane.get('waiting'))} waiting"
    opens = f"{_count(plane.get('opens'))} opens, {_count(plane.get('passthrough_opens'))} of them passthrough"
    yield "", f"{opens}; {_count(plane.get('open_files'))} files open"
    watchdog = _part(plane, "watchdog")
    if _sum(watchdog):
        overdue, killed = _count(watchdog.get("given_up")), _count(watchdog.get("interrupted"))
        yield "", f"given up by the watchdog: {overdue} overdue, {killed} of killed processes"


def _sum(counts: dict[str, Any]) -> float:
    return float(sum(number for number in counts.values() if _is_number(number)))


def _level(level: dict[str, Any]) -> str:
    used, quota = level.get("used_bytes"), level.get("quota_bytes")
    share = f" ({_percent(used / quota)})" if _is_number(used) and _is_number(quota) and quota else ""
    state = _text(level.get("state"))
    why = f": {_text(level['why'])}" if level.get("why") else ""
    return (
        f"{_text(level.get('medium'))} {_text(level.get('path'))}  {_size(used)} of {_size(quota)}{share}  {state}{why}"
    )


def _names(names: dict[str, Any]) -> Iterator[tuple[str, str]]:
    hidden = _part(names, "hidden")
    total = _sum(hidden)
    yield "names", f"{_count(names.get('known'))} known" + (f", {_count(total)} keys cannot be shown" if total else "")
    for reason, number in hidden.items():
        yield "", f"{_count(number)}: {_text(reason)}"
    for sample in _items(names, "hidden_sample")[:_HIDDEN_SHOWN]:
        yield "", f"  for example {_text(sample.get('key'))}"


def _part(facts: dict[str, Any], name: str) -> dict[str, Any]:
    value = facts.get(name)
    return value if isinstance(value, dict) else {}


def _items(facts: dict[str, Any], name: str) -> list[dict[str, Any]]:
    value = facts.get(name)
    items: Iterable[Any] = value if isinstance(value, list) else ()
    return [item for item in items if isinstance(item, dict)]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _count(value: Any) -> str:
    return f"{value:,.0f}" if _is_number(value) else _MISSING


def _size(value: Any) -> str:
    return format_size(value) if _is_number(value) else _MISSING


def _percent(value: Any) -> str:
    return f"{value * 100:.1f} %" if _is_number(value) else _MISSING


def _text(value: Any) -> str:
    return _MISSING if value is None or value == "" else shown(str(value))
