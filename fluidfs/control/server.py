"""The daemon's end of the control socket.

Whoever connects is held to be hostile until the kernel has named his uid, and clumsy after that: connections, line
lengths and the time to read and to write are all bounded, and nothing he sends reaches the daemon but a decoded
request.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Protocol

import trio

from fluidfs.control.place import Place
from fluidfs.control.protocol import (
    MAX_REQUEST_BYTES,
    MetricsRequest,
    Request,
    StatusRequest,
    StopRequest,
    decode_request,
    encode_fault,
    encode_progress,
    encode_result,
    encode_warm_result,
)
from fluidfs.control.registry import MountRecord, remove_record, write_record
from fluidfs.errors import AccessDenied, ControlError, FluidfsError, MountpointBusy
from fluidfs.model import WarmProgress, WarmRequest, WarmResult

log = logging.getLogger(__name__)

# People and a monitoring agent: some at a time. More is a fault or an attack.
MAX_CONNECTIONS = 32
# A client writes its request at once; the rest is patience with machines that swap.
REQUEST_TIMEOUT_S = 10.0
WRITE_TIMEOUT_S = 10.0
# Often enough for a bar that moves, and a sign of life for a client that waits.
_PROGRESS_INTERVAL_S = 0.2
_HEARTBEAT_S = 5.0
# How long an answer to `stop` may take beyond the time that the request allows.
_STOP_GRACE_S = 5.0

Report = Callable[[WarmProgress], Awaitable[None]]


class MountService(Protocol):
    """What a daemon can be asked. Errors of fluidfs are passed on to the client with their class."""

    async def status(self) -> dict[str, object]:
        """The facts about the mount, ready for JSON."""
        ...

    async def warm(self, request: WarmRequest, report: Report) -> WarmResult:
        """Fills the cache. Cancelled when the client goes away."""
        ...

    async def stop(self, *, lazy: bool, timeout_s: float) -> None:
        """Unmounts. Returns once the mount is gone; must not wait for the end of the daemon, which waits for this
        answer.

        Raises MountpointBusy.
        """
        ...

    def metrics_text(self) -> bytes:
        """The metrics in the text format of Prometheus."""
        ...


async def serve_control(
    service: MountService,
    *,
    place: Place,
    record: MountRecord,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serves the socket `<id>.sock` in `place`, with `record` beside it, until cancelled; removes both then.

    `started()` is called when clients can connect. Raises MountpointBusy when another daemon has the socket.
    """
    listener = _listen(place, record.mount_id)
    connections = _Connections(service)
    try:
        write_record(place, record)
        await trio.serve_listeners(connections.serve, [listener], task_status=_Started(task_status))
    finally:
        remove_record(place, record.mount_id)


class _Started(trio.TaskStatus[list[trio.SocketListener]]):
    """Tells our caller that serving has started, without the listeners that are no business of his."""

    def __init__(self, outer: trio.TaskStatus[None]) -> None:
        self._outer = outer

    def started(self, value: object = None) -> None:
        self._outer.started()


class _Connections:
    """The open connections of one socket."""

    def __init__(self, service: MountService) -> None:
        self._service = service
        self._open = 0

    async def serve(self, stream: trio.SocketStream) -> None:
        """One connection from its first byte to its last. Raises nothing but cancellation."""
        self._open += 1
        try:
            async with stream:
                await self._answer(stream)
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
            log.debug("control client went away")
        finally:
            self._open -= 1

    async def _answer(self, stream: trio.SocketStream) -> None:
        try:
            _check_peer(stream.socket)
            if self._open > MAX_CONNECTIONS:
                raise ControlError("too many connections to the control socket, try again")
            request = decode_request(await _read_line(stream))
            await self._carry_out(request, stream)
        except FluidfsError as error:
            await _send(stream, encode_fault(error))
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
            raise
        except Exception:
            log.exception("control request failed")
            await _send(stream, encode_fault(ControlError("the daemon failed to answer; its log says why")))

    async def _carry_out(self, request: Request, stream: trio.SocketStream) -> None:
        match request:
            case StatusRequest():
                await _send(stream, encode_result(await self._service.status()))
            case MetricsRequest():
                text = self._service.metrics_text().decode("utf-8", "replace")
                await _send(stream, encode_result({"text": text}))
            case StopRequest():
                await self._stop(request, stream)
            case WarmRequest():
                await self._warm(request, stream)

    async def _stop(self, request: StopRequest, stream: trio.SocketStream) -> None:
        """Shielded: the end of the mount cancels this server, and the client shall still hear how it went."""
        with trio.move_on_after(request.timeout_s + _STOP_GRACE_S, shield=True):
            try:
                await self._service.stop(lazy=request.lazy, timeout_s=request.timeout_s)
            except FluidfsError as error:
                await _send(stream, encode_fault(error))
            else:
                await _send(stream, encode_result({}))

    async def _warm(self, request: WarmRequest, stream: trio.SocketStream) -> None:
        latest = WarmProgress(objects_done=0, objects_total=None, bytes_done=0, bytes_total=None, failed=0)
        outcome: WarmResult | FluidfsError | None = None

        async def report(progress: WarmProgress) -> None:
            # Kept and not sent: a client that stalls must not stall the warm-up.
            nonlocal latest
            latest = progress

        async def send_progress() -> None:
            sent, sent_at_s = None, -_HEARTBEAT_S
            while True:
                if latest != sent or trio.current_time() - sent_at_s >= _HEARTBEAT_S:
                    sent, sent_at_s = latest, trio.current_time()
                    try:
                        await _send(stream, encode_progress(sent))
                    except (trio.BrokenResourceError, trio.TooSlowError):
                        nursery.cancel_scope.cancel()
                await trio.sleep(_PROGRESS_INTERVAL_S)

        async def watch_for_the_end() -> None:
            # A client says nothing after its request; whatever comes means that it is gone or confused.
            with contextlib.suppress(trio.BrokenResourceError):
                await stream.receive_some(1)
            nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send_progress)
            nursery.start_soon(watch_for_the_end)
            try:
                outcome = await self._service.warm(request, report)
            except FluidfsError as error:
                outcome = error
            except Exception:
                log.exception("warm-up failed")
                outcome = ControlError("the warm-up failed; the daemon's log says why")
            nursery.cancel_scope.cancel()
        if isinstance(outcome, FluidfsError):
            await _send(stream, encode_fault(outcome))
        elif outcome is not None:
            await _send(stream, encode_progress(latest))
            for line in encode_warm_result(outcome):
                await _send(stream, line)


def _listen(place: Place, mount_id: str) -> trio.SocketListener:
    """A listening socket that nobody could connect to before its mode was 0600."""
    path = place.reach(f"{mount_id}.sock")
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        try:
            sock.bind(path)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise ControlError(f"the control socket in {place.path} cannot be made: {error.strerror}") from error
            _replace_stale(place, f"{mount_id}.sock")
            sock.bind(path)
        os.chmod(path, 0o600)
        sock.listen(MAX_CONNECTIONS)
        sock.setblocking(False)
        return trio.SocketListener(trio.socket.from_stdlib_socket(sock))
    except BaseException:
        sock.close()
        raise


def _replace_stale(place: Place, name: str) -> None:
    """Removes a socket that nobody listens on. Raises MountpointBusy when somebody does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.settimeout(1.0)
        try:
            asking.connect(place.reach(name))
        except (ConnectionRefusedError, FileNotFoundError):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=place.fd)
            return
        except OSError:
            pass  # a full backlog or a timeout: somebody listens
    raise MountpointBusy(f"another daemon serves {place.path}/{name}: `fluidfs status` shows it")


def _check_peer(sock: trio.socket.SocketType) -> None:
    """The kernel's word for who connected: our own user or root."""
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, uid, _ = struct.unpack("3i", credentials)
    if uid not in (0, os.geteuid()):
        raise AccessDenied(f"this mount belongs to user {os.geteuid()}")


async def _read_line(stream: trio.SocketStream) -> bytes:
    """One line without its end. Raises ControlError when it is too long, too slow or cut off."""
    received = bytearray()
    with trio.move_on_after(REQUEST_TIMEOUT_S):
        while b"\n" not in received:
            part = await stream.receive_some(64 * 1024)
            if not part:
                raise ControlError("the request was cut off")
            received += part
            if len(received) > MAX_REQUEST_BYTES:
                raise ControlError("the request is too long")
        return bytes(received[: received.index(b"\n")])
    raise ControlError("the request did not come in time")


async def _send(stream: trio.SocketStream, line: bytes) -> None:
    with trio.fail_after(WRITE_TIMEOUT_S):
        await stream.send_all(line)
