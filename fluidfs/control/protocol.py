"""The language of the control socket: one request, then replies, each a JSON object on a line of its own. No I/O.

    → {"v": 1, "op": "warm", "paths": ["a/*.tar"], "metadata_only": false, "parallel": 8}
    ← {"v": 1, "kind": "progress", "progress": {…}}          any number of times
    ← {"v": 1, "kind": "failures", "failures": [[path, why], …]}
    ← {"v": 1, "kind": "result", "result": {…}}              or {"v": 1, "kind": "error", "error": "MountpointBusy",
    "message": …}

A connection carries one request. Lines are ASCII (other characters and bytes that are not UTF-8 are escaped) and
bounded, and a line that breaks a rule raises ControlError, whatever it holds.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import fluidfs.errors
from fluidfs.errors import ControlError, FluidfsError
from fluidfs.model import WarmProgress, WarmRequest, WarmResult

VERSION = 1

# What a client may make the daemon hold per connection: some ten thousand paths of a warm-up.
MAX_REQUEST_BYTES = 1 << 20
# What a daemon may make a client hold: a status with a sample of hidden keys, or the text of all metrics.
MAX_REPLY_BYTES = 16 << 20

_FAILURES_PER_LINE = 200
_MAX_MESSAGE_CHARS = 4096
_MAX_PARALLEL = 1024
_MAX_STOP_TIMEOUT_S = 86_400.0


@dataclass(frozen=True, slots=True)
class StatusRequest:
    """Asks for the daemon's facts."""


@dataclass(frozen=True, slots=True)
class MetricsRequest:
    """Asks for the text of the metrics."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StopRequest:
    """Asks the daemon to unmount and to end."""

    lazy: bool
    timeout_s: float


Request = StatusRequest | MetricsRequest | StopRequest | WarmRequest


@dataclass(frozen=True, slots=True)
class Result:
    """The last line of an answer that went well."""

    value: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Failures:
    """Some of the paths that a warm-up could not bring in."""

    items: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Fault:
    """The last line of an answer that went wrong; `error` is what the client shall raise."""

    error: FluidfsError


Reply = Result | Failures | Fault | WarmProgress


def encode_request(request: Request) -> bytes:
    """The line that asks. Raises ControlError when it would be too long."""
    match request:
        case StatusRequest():
            fields: dict[str, Any] = {"op": "status"}
        case MetricsRequest():
            fields = {"op": "metrics"}
        case StopRequest():
            fields = {"op": "stop", **asdict(request)}
        case WarmRequest():
            fields = {"op": "warm", **asdict(request)}
    line = _line(fields)
    if len(line) > MAX_REQUEST_BYTES:
        raise ControlError("the request is too long for the control socket")
    return line


def decode_request(line: bytes) -> Request:
    """What a client asks. Raises ControlError for what is no request."""
    fields = _fields(line, MAX_REQUEST_BYTES)
    match fields:
        case {"op": "status"}:
            return StatusRequest()
        case {"op": "metrics"}:
            return MetricsRequest()
        case {"op": "stop", "lazy": bool(lazy), "timeout_s": int() | float() as timeout_s}:
            if isinstance(timeout_s, bool) or not 0 <= timeout_s <= _MAX_STOP_TIMEOUT_S:
                raise ControlError("stop: a timeout is from 0 to 86400 seconds")
            return StopRequest(lazy=lazy, timeout_s=float(timeout_s))
        case {"op": "warm", "paths": list(paths), "metadata_only": bool(metadata_only), "parallel": int(parallel)}:
            if isinstance(parallel, bool) or not 1 <= parallel <= _MAX_PARALLEL or not paths:
                raise ControlError(f"warm: at least one path, and from 1 to {_MAX_PARALLEL} at a time")
            if not all(isinstance(path, str) and "\0" not in path for path in paths):
                raise ControlError("warm: a path is a text")
            return WarmRequest(paths=tuple(paths), metadata_only=metadata_only, parallel=parallel)
        case _:
            raise ControlError("not a request of the control socket")


def encode_result(value: dict[str, Any]) -> bytes:
    """The line that ends an answer."""
    return _line({"kind": "result", "result": value})


def encode_progress(progress: WarmProgress) -> bytes:
    """A line on the way."""
    return _line({"kind": "progress", "progress": asdict(progress)})


def encode_warm_result(result: WarmResult) -> Iterator[bytes]:
    """The lines that end a warm-up: the failures in pieces, then the sums."""
    for start in range(0, len(result.failures), _FAILURES_PER_LINE):
        part = result.failures[start : start + _FAILURES_PER_LINE]
        yield _line({"kind": "failures", "failures": [[path, why[:_MAX_MESSAGE_CHARS]] for path, why in part]})
    sums = {"objects": result.objects, "bytes_fetched": result.bytes_fetched, "bytes_present": result.bytes_present}
    yield encode_result(sums)


def encode_fault(error: FluidfsError) -> bytes:
    """The line that ends an answer with an error."""
    return _line({"kind": "error", "error": type(error).__name__, "message": error.message[:_MAX_MESSAGE_CHARS]})


def decode_reply(line: bytes) -> Reply:
    """What a daemon answers. Raises ControlError for what is no reply."""
    match _fields(line, MAX_REPLY_BYTES):
        case {"kind": "result", "result": dict(value)}:
            return Result(value)
        case {"kind": "error", "error": str(name), "message": str(message)}:
            return Fault(error_named(name, message))
        case {"kind": "progress", "progress": dict(progress)}:
            return _progress(progress)
        case {"kind": "failures", "failures": list(items)}:
            pairs = [tuple(item) if isinstance(item, list) else () for item in items]
            if not all(len(pair) == 2 and all(isinstance(text, str) for text in pair) for pair in pairs):
                raise ControlError("the daemon's list of failures is malformed")
            return Failures(tuple((pair[0], pair[1]) for pair in pairs))
        case _:
            raise ControlError("the daemon's answer is malformed")


def decode_warm_result(value: dict[str, Any], failures: tuple[tuple[str, str], ...]) -> WarmResult:
    """The sums of a warm-up and the failures that came before them."""
    try:
        return WarmResult(failures=failures, **{name: _count(value[name]) for name in _WARM_SUMS})
    except (KeyError, TypeError) as error:
        raise ControlError("the daemon's answer is malformed") from error


def error_named(name: str, message: str) -> FluidfsError:
    """The error of fluidfs.errors with this class name; ControlError for other names."""
    kind = getattr(fluidfs.errors, name, None)
    if isinstance(kind, type) and issubclass(kind, FluidfsError):
        return kind(message)
    return ControlError(message)


_WARM_SUMS = ("objects", "bytes_fetched", "bytes_present")


def _progress(fields: dict[str, Any]) -> WarmProgress:
    try:
        return WarmProgress(
            objects_done=_count(fields["objects_done"]),
            objects_total=None if fields["objects_total"] is None else _count(fields["objects_total"]),
            bytes_done=_count(fields["bytes_done"]),
            bytes_total=None if fields["bytes_total"] is None else _count(fields["bytes_total"]),
            failed=_count(fields["failed"]),
        )
    except (KeyError, TypeError) as error:
        raise ControlError("the daemon's progress is malformed") from error


def _count(value: object) -> int:
    if type(value) is not int or value < 0:
        raise TypeError("not a count")
    return value


def _line(fields: dict[str, Any]) -> bytes:
    return json.dumps({"v": VERSION, **fields}, separators=(",", ":")).encode("ascii") + b"\n"


def _fields(line: bytes, limit_bytes: int) -> dict[str, Any]:
    if len(line) > limit_bytes:
        raise ControlError("a line on the control socket is too long")
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ControlError("what came over the control socket is not JSON") from error
    if not isinstance(fields, dict) or "v" not in fields:
        raise ControlError("what came over the control socket is not of our protocol")
    if fields["v"] != VERSION:
        raise ControlError(
            f"the other side speaks version {str(fields['v'])[:20]} of the control protocol, this one {VERSION}: "
            "umount and mount again with one version of fluidfs"
        )
    return fields
