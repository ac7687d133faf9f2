"""A loopback HTTP server that a test scripts down to the byte: what it gets is kept, what it sends is the test's."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

RANGE = re.compile(r"bytes=(\d+)-(\d+)$")


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it came. Header names are lower case."""

    method: str
    target: str
    headers: Mapping[str, str]
    connection: int

    @property
    def extent(self) -> tuple[int, int]:
        """First and last byte of its Range."""
        match = RANGE.match(self.headers["range"])
        assert match is not None
        return int(match[1]), int(match[2])


@dataclass(slots=True)
class Exchange:
    """One request, and the means to answer it."""

    request: Request
    connection: socket.socket
    number: int
    closing: threading.Event
    keep: bool = True

    def send(self, data: bytes) -> None:
        self.connection.sendall(data)

    def hang_up(self) -> None:
        """Ends the connection after what was sent so far."""
        self.keep = False

    def drip(self, data: bytes, *, every_s: float) -> None:
        """Sends one byte at a time until the other side goes or the server closes."""
        for byte in data:
            if self.closing.wait(every_s):
                return
            self.send(bytes([byte]))

    def hold(self) -> None:
        """Sends nothing until the other side goes or the server closes."""
        self.connection.settimeout(0.05)
        while not self.closing.is_set():
            try:
                if self.connection.recv(1) == b"":
                    break
            except TimeoutError:
                continue
        self.keep = False


Script = Callable[[Exchange], None]


def answer(status: str, headers: Mapping[str, object], body: bytes = b"", *, length: bool = True) -> bytes:
    """A response, with a Content-Length unless told not to."""
    lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in headers.items())]
    if length:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def chunked(body: bytes, *, size: int, extension: str = "", trailer: str = "") -> bytes:
    """`body` in the chunked transfer coding."""
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    framed = b"".join(f"{len(part):x}{extension}\r\n".encode() + part + b"\r\n" for part in parts)
    return framed + f"0\r\n{trailer}\r\n".encode()


def part_of(exchange: Exchange, data: bytes, *, etag: str | None = None) -> dict[str, object]:
    """The headers of a proper 206 to the request."""
    first, last = exchange.request.extent
    headers: dict[str, object] = {"Content-Range": f"bytes {first}-{last}/{len(data)}"}
    if etag is not None:
        headers["ETag"] = f'"{etag}"'
    return headers


def s3_error(code: str, message: str = "", *, region: str | None = None) -> bytes:
    where = f"<Region>{region}</Region>" if region is not None else ""
    return f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message>{where}</Error>".encode()


def serving(data: bytes, *, etag: str | None = None) -> Script:
    """Answers every range of `data` as it should be."""

    def script(exchange: Exchange) -> None:
        first, last = exchange.request.extent
        exchange.send(answer("206 Partial Content", part_of(exchange, data, etag=etag), data[first : last + 1]))

    return script


@dataclass(slots=True)
class HttpServer:
    """Runs `script` for each request, on a free port of 127.0.0.1. `script` may be replaced at any time.

    With `tls` the server's side of TLS is put on each connection; `tunnel_to` makes it a proxy that answers CONNECT
    with a tunnel to that port.
    """

    script: Script
    tls: ssl.SSLContext | None = None
    tunnel_to: int | None = None
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    _listener: socket.socket = field(init=False)
    _closing: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)
    _open: list[socket.socket] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._start(self._accept)

    @property
    def port(self) -> int:
        port = self._listener.getsockname()[1]
        assert isinstance(port, int)
        return port

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        for opened in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                opened.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive()
        for opened in (self._listener, *self._open):
            opened.close()

    def _start(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(connection)
            self._start(self._serve, connection, self.connections)

    def _serve(self, connection: socket.socket, number: int) -> None:
        with contextlib.suppress(OSError, ssl.SSLError):
            if self.tls is not None:
                connection = self.tls.wrap_socket(connection, server_side=True)
                self._open.append(connection)
            while not self._closing.is_set():
                request = _receive(connection, number)
                if request is None:
                    break
                self.requests.append(request)
                if request.method == "CONNECT" and self.tunnel_to is not None:
                    connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                    self._tunnel(connection, self.tunnel_to)
                    return
                exchange = Exchange(request, connection, len(self.requests), self._closing)
                self.script(exchange)
                if not exchange.keep:
                    break
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
        connection.close()

    def _tunnel(self, near: socket.socket, port: int) -> None:
        far = socket.create_connection(("127.0.0.1", port))
        self._open.append(far)
        self._start(_pump, far, near)
        _pump(near, far)


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    for end in (source, sink):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def _receive(connection: socket.socket, number: int) -> Request | None:
    head = b""
    while b"\r\n\r\n" not in head:
        received = connection.recv(65536)
        if not received:
            return None
        head += received
    first, *lines = head.decode("latin-1").split("\r\n")
    method, target, _ = first.split(" ")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines if line)}
    return Request(method, target, headers, number)
