"""A proxy in front of an S3 server that counts requests and spoils answers on demand.

It passes bytes on as they are, so signatures stay valid (the client signs the proxy's address, and the server takes
the Host header at its word). One thread serves one client connection, with one connection to the server behind it.
"""

from __future__ import annotations

import re
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from io import BufferedReader
from types import TracebackType
from typing import Self
from urllib.parse import unquote, urlsplit

HOST = "127.0.0.1"
CHUNK_BYTES = 256 * 1024
# What S3 calls the statuses that a fault may answer with.
CODES = {400: "ExpiredToken", 403: "AccessDenied", 404: "NoSuchKey", 500: "InternalError", 501: "NotImplemented"}


@dataclass(frozen=True, slots=True)
class Request:
    """One request as the client sent it. `key` is decoded and without the bucket; "" where there is none."""

    method: str
    target: str
    headers: dict[str, str]

    @property
    def bucket(self) -> str:
        return unquote(urlsplit(self.target).path.lstrip("/").partition("/")[0])

    @property
    def key(self) -> str:
        return unquote(urlsplit(self.target).path.lstrip("/").partition("/")[2])

    @property
    def operation(self) -> str:
        """`GET` is the bytes of an object and nothing else; asking a bucket for its keys is `LIST`."""
        return "LIST" if self.method == "GET" and not self.key else self.method


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What becomes of a request: the fields that are set, in the order of their declaration.

    `status` answers without asking the server; `reset` breaks the connection instead of answering; `truncate_at`
    sends so many bytes of the body under the full Content-Length, then closes; `content_range` and `etag` replace
    those headers; `flip_at` inverts one byte of the body; `drip_bytes_s` slows the body down.
    """

    delay_s: float = 0.0
    status: int | None = None
    reset: bool = False
    truncate_at: int | None = None
    content_range: str | None = None
    etag: str | None = None
    flip_at: int | None = None
    drip_bytes_s: int | None = None


NO_FAULT = Fault()


@dataclass(slots=True)
class _Rule:
    fault: Fault
    applies: Callable[[Request], bool]
    left: int | None


class CountingProxy:
    """Listens on a free port of 127.0.0.1 while the context lasts and forwards to `server_port`."""

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._lock = threading.Lock()
        self._requests: list[Request] = []
        self._body_bytes = 0
        self._rules: list[_Rule] = []
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server((HOST, 0), backlog=256)
        self._closing = False

    @property
    def endpoint_url(self) -> str:
        return f"http://{HOST}:{self._listener.getsockname()[1]}"

    @property
    def requests(self) -> tuple[Request, ...]:
        """All since the start or the last `forget`, in the order of their arrival."""
        with self._lock:
            return tuple(self._requests)

    @property
    def body_bytes(self) -> int:
        """Bytes of objects that were passed to clients since the start or the last `forget`; listings do not count."""
        with self._lock:
            return self._body_bytes

    def counts(self) -> Counter[str]:
        """How many of each `Request.operation`; what never came counts 0."""
        return Counter(request.operation for request in self.requests)

    def forget(self) -> None:
        """Counts from 0 again."""
        with self._lock:
            self._requests.clear()
            self._body_bytes = 0

    def inject(
        self, fault: Fault, *, when: Callable[[Request], bool] = lambda request: True, times: int | None = None
    ) -> None:
        """From now on requests that `when` picks meet `fault`, the next `times` of them or all. First rule wins."""
        with self._lock:
            self._rules.append(_Rule(fault, when, times))

    def heal(self) -> None:
        """Ends all injected faults."""
        with self._lock:
            self._rules.clear()

    def break_connections(self) -> None:
        """Cuts every open connection; new ones are served."""
        with self._lock:
            victims = list(self._open)
        for victim in victims:
            with suppress(OSError):
                victim.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        self._spawn(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._closing = True
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.break_connections()
        for thread in list(self._threads):
            thread.join(timeout=10)

    def _spawn(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._closing:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._spawn(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with client, socket.socket() as server:
            with self._lock:
                self._open |= {client, server}
            try:
                server.connect((HOST, self._server_port))
                server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                _Exchange(self, client, server).run()
            except OSError:
                # Either side is gone, as a fault or of its own will; closing both is all that a proxy can do.
                pass
            finally:
                with self._lock:
                    self._open -= {client, server}

    def _take(self, request: Request) -> Fault:
        with self._lock:
            self._requests.append(request)
            for rule in self._rules:
                if rule.left != 0 and rule.applies(request):
                    if rule.left is not None:
                        rule.left -= 1
                    return rule.fault
        return NO_FAULT

    def _add_body_bytes(self, count: int) -> None:
        with self._lock:
            self._body_bytes += count


class _Exchange:
    """The requests of one client connection, one after the other."""

    def __init__(self, proxy: CountingProxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy = proxy
        self._client = client
        self._server = server
        self._from_client = client.makefile("rb")
        self._from_server = server.makefile("rb")

    def run(self) -> None:
        with self._from_client, self._from_server:
            while self._one():
                pass

    def _one(self) -> bool:
        """Whether the connection can carry another request."""
        head = _read_head(self._from_client)
        if not head:
            return False
        method, target, _ = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ", 2)
        request = Request(method, target, _headers(head))
        fault = self._proxy._take(request)
        if fault.delay_s:
            time.sleep(fault.delay_s)
        if fault.reset:
            # Linger of 0 makes close send RST instead of FIN.
            self._client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return False
        if fault.status is not None:
            self._answer(fault.status, request)
            return False
        self._server.sendall(head)
        if request.headers.get("expect", "").lower() == "100-continue":
            self._client.sendall(_read_head(self._from_server))
        for chunk in _body(self._from_client, request.headers, default=0):
            self._server.sendall(chunk)
        return self._pass_answer(request, fault)

    def _answer(self, status: int, request: Request) -> None:
        code = CODES.get(status, "SlowDown")
        text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>as the test wants it</Message></Error>"
        body = b"" if request.method == "HEAD" else text.encode()
        head = f"HTTP/1.1 {status} Injected\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\n"
        self._client.sendall(head.encode() + b"Connection: close\r\n\r\n" + body)

    def _pass_answer(self, request: Request, fault: Fault) -> bool:
        head = _read_head(self._from_server)
        if not head:
            return False
        headers = _headers(head)
        for name, value in ((b"content-range", fault.content_range), (b"etag", fault.etag)):
            if value is not None:
                head = re.sub(rb"(?i)(\r\n" + name + rb": )[^\r]*", rb"\g<1>" + value.encode(), head)
        self._client.sendall(head)
        status = int(head.split(b" ", 2)[1])
        if request.method == "HEAD" or status in (204, 304):
            return True
        sent = 0
        for part in _body(self._from_server, headers, default=None):
            chunk = bytearray(part)
            if fault.flip_at is not None and sent <= fault.flip_at < sent + len(chunk):
                chunk[fault.flip_at - sent] ^= 0xFF
            if fault.truncate_at is not None and sent + len(chunk) > fault.truncate_at:
                self._client.sendall(chunk[: fault.truncate_at - sent])
                return False
            if fault.drip_bytes_s:
                time.sleep(len(chunk) / fault.drip_bytes_s)
            self._client.sendall(chunk)
            sent += len(chunk)
            if request.operation == "GET":
                self._proxy._add_body_bytes(len(chunk))
        return headers.get("connection", "").lower() != "close" and _is_framed(headers)


def _read_head(stream: BufferedReader) -> bytes:
    """Everything up to the empty line, with it; b"" at the end of the stream."""
    lines = []
    while True:
        line = stream.readline(64 * 1024)
        if not line:
            return b""
        lines.append(line)
        if line == b"\r\n":
            return b"".join(lines)


def _headers(head: bytes) -> dict[str, str]:
    pairs = (line.split(":", 1) for line in head.decode("latin-1").split("\r\n")[1:] if ":" in line)
    return {name.strip().lower(): value.strip() for name, value in pairs}


def _is_framed(headers: dict[str, str]) -> bool:
    return "content-length" in headers or headers.get("transfer-encoding", "").lower() == "chunked"


def _body(stream: BufferedReader, headers: dict[str, str], *, default: int | None) -> Iterator[bytes]:
    """The body as it is on the wire (chunk framing included); `default` bytes, None = to the end, if nothing tells."""
    if headers.get("transfer-encoding", "").lower() == "chunked":
        while True:
            line = stream.readline(1024)
            size = int(line.split(b";")[0], 16)
            yield line
            if size == 0:
                yield stream.readline(1024)
                return
            yield stream.read(size + 2)
    left = int(headers["content-length"]) if "content-length" in headers else default
    while left is None or left > 0:
        chunk = stream.read1(CHUNK_BYTES if left is None else min(CHUNK_BYTES, left))
        if not chunk:
            return
        if left is not None:
            left -= len(chunk)
        yield chunk
