"""The other end of the control socket: plain blocking sockets with timeouts, for commands."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any

from fluidfs.control.place import Place
from fluidfs.control.protocol import (
    MAX_REPLY_BYTES,
    Failures,
    Fault,
    MetricsRequest,
    Reply,
    Request,
    Result,
    StatusRequest,
    StopRequest,
    decode_reply,
    decode_warm_result,
    encode_request,
)
from fluidfs.errors import ControlError
from fluidfs.model import WarmProgress, WarmRequest, WarmResult

# A daemon answers from memory; it sends a sign of life every five seconds of a warm-up.
ANSWER_TIMEOUT_S = 5.0
_SILENCE_TIMEOUT_S = 60.0


class ControlClient:
    """Asks the daemon of one mount. Every call is a connection of its own. Raises ControlError, or what the daemon
    raised.
    """

    def __init__(self, place: Place, mount_id: str) -> None:
        self._place = place
        self._name = f"{mount_id}.sock"

    def status(self) -> dict[str, Any]:
        """The daemon's facts."""
        return self._ask(StatusRequest(), timeout_s=ANSWER_TIMEOUT_S)

    def metrics(self) -> str:
        """The text of the metrics."""
        text = self._ask(MetricsRequest(), timeout_s=ANSWER_TIMEOUT_S).get("text")
        if not isinstance(text, str):
            raise ControlError("the daemon's answer is malformed")
        return text

    def stop(self, *, lazy: bool, timeout_s: float) -> None:
        """Returns when the mount is gone; the daemon may still be ending. Raises MountpointBusy."""
        self._ask(StopRequest(lazy=lazy, timeout_s=timeout_s), timeout_s=timeout_s + ANSWER_TIMEOUT_S)

    def warm(self, request: WarmRequest, report: Callable[[WarmProgress], None]) -> WarmResult:
        """Warms, however long that takes while the daemon shows life. Closing the connection (Ctrl-C) ends it there
        too.
        """
        failures: list[tuple[str, str]] = []
        with _Connection(self._place, self._name, _SILENCE_TIMEOUT_S) as connection:
            for reply in connection.exchange(request):
                match reply:
                    case WarmProgress():
                        report(reply)
                    case Failures():
                        failures += reply.items
                    case Result():
                        return decode_warm_result(reply.value, tuple(failures))
                    case Fault():
                        raise reply.error
        raise ControlError("the daemon ended before the warm-up did; its log says why")

    def _ask(self, request: Request, *, timeout_s: float) -> dict[str, Any]:
        with _Connection(self._place, self._name, timeout_s) as connection:
            for reply in connection.exchange(request):
                match reply:
                    case Result():
                        return reply.value
                    case Fault():
                        raise reply.error
                    case _:
                        raise ControlError("the daemon's answer is malformed")
        raise ControlError("the daemon closed the connection without an answer")


class _Connection:
    """One request and its replies. `timeout_s` bounds the wait for each line, not for each byte of it."""

    def __init__(self, place: Place, name: str, timeout_s: float) -> None:
        self._where = f"{place.path}/{name}"
        self._timeout_s = timeout_s
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self._socket.settimeout(ANSWER_TIMEOUT_S)
        self._received = bytearray()
        try:
            self._socket.connect(place.reach(name))
        except OSError as error:
            self._socket.close()
            raise ControlError(f"no daemon answers at {self._where}: {error.strerror or error}") from error

    def __enter__(self) -> _Connection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def exchange(self, request: Request) -> Iterator[Reply]:
        """The replies, until the daemon closes the connection."""
        line: bytes | None = encode_request(request)
        try:
            self._socket.sendall(line or b"")
            while (line := self._line()) is not None:
                yield decode_reply(line)
        except TimeoutError as error:
            raise ControlError(f"the daemon at {self._where} did not answer in {self._timeout_s:.0f} s") from error
        except ConnectionError as error:
            # The daemon refuses a request before it has read all of it, and what it said may still be there.
            if (line := self._rest()) is None:
                raise ControlError(f"the daemon at {self._where} broke the connection") from error
            yield decode_reply(line)

    def _line(self) -> bytes | None:
        deadline_s = time.monotonic() + self._timeout_s
        while (end := self._received.find(b"\n")) < 0:
            if len(self._received) > MAX_REPLY_BYTES:
                raise ControlError("the daemon's answer is too long")
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                raise TimeoutError
            self._socket.settimeout(left_s)
            part = self._socket.recv(1 << 16)
            if not part:
                return None
            self._received += part
        line = bytes(self._received[:end])
        del self._received[: end + 1]
        return line

    def _rest(self) -> bytes | None:
        try:
            return self._line()
        except OSError:
            return None
