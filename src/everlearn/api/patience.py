"""How long the server waits for a caller: for the head of a request, for its body, and for its reading.

uvicorn waits for all three without end, takes heads of any length, and adds the trailers that follow a body
to the headers that came before it, where no proxy looks for them. Here each of these has a limit.

A request that may go the short way (:mod:`everlearn.api.short_way`) is not handed to the app before its body
is whole, and not at all if it is answered there.
"""

from __future__ import annotations

import asyncio
from enum import Enum, auto
from http import HTTPStatus
from random import getrandbits
from typing import Any, ClassVar, Final

from loguru import logger
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from everlearn.api.problems import MEDIA_TYPE, problem
from everlearn.api.short_way import ShortWay

MAX_HEAD: Final = 64 * 1024
"""Bytes of a request's line and headers."""

SLOWEST: Final = 500
"""Bytes a second by which a body must grow once the patience is spent."""

MAX_FRAMING: Final = 16
"""Bytes that may come for each byte of a body: in chunks of one byte it is six."""


PIECE: Final = 16 * 1024
"""Bytes that are parsed at once. What came before a head in the same piece counts as part of it."""


class _Phase(Enum):
    HEAD = auto()
    BODY = auto()
    WHOLE = auto()


class Patient(HttpToolsProtocol):
    """uvicorn's protocol, which gives up on callers that keep it waiting for ``patience`` seconds.

    A head must be there by then. A body may take that long and a second more for every 500 bytes of it; time
    in which the server itself does not read does not count. An answer that is not read at all for that long
    is dropped with its connection.
    """

    patience: ClassVar[float] = 20.0
    short_way: ClassVar[ShortWay | None] = None
    _held: Any = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to look at the connection now and then: that costs a request nothing."""
        super().connection_made(transport)
        self._enter(_Phase.HEAD)
        self._unread, self._stalled = 0, 0.0
        self._tick = min(1.0, self.patience / 4)
        self._next = self.loop.call_later(self._tick, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        """Look no more."""
        self._next.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what comes, and refuse a head or the wrapping of a body that takes too much room."""
        if len(data) <= PIECE:
            self._take(data)
            return
        for start in range(0, len(data), PIECE):
            if self.transport.is_closing() or self.transport.get_protocol() is not self:
                return
            self._take(data[start : start + PIECE])

    def _take(self, piece: bytes) -> None:
        self._piece = len(piece)
        self._received += len(piece)
        super().data_received(piece)
        if self._phase is _Phase.HEAD and self._received > MAX_HEAD:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"The head is over {MAX_HEAD} bytes")
        elif self._phase is _Phase.BODY and self._received > MAX_HEAD + MAX_FRAMING * self._body:
            self._refuse(HTTPStatus.BAD_REQUEST, "The body is little but chunk headers or trailers")

    def on_message_begin(self) -> None:
        """A head begins."""
        super().on_message_begin()
        self._enter(_Phase.HEAD)
        self._received = self._piece  # where in it the head begins is not known

    def handle_websocket_upgrade(self) -> None:
        """From here on it is another protocol's connection, with limits and pings of its own."""
        self._next.cancel()
        super().handle_websocket_upgrade()

    def on_headers_complete(self) -> None:
        """A head is whole: what is called a header from here on is a trailer, and nobody reads those."""
        super().on_headers_complete()
        if not (self.parser.should_upgrade() and self._should_upgrade()):  # uvicorn looks at them once more
            self.headers = []
        self._enter(_Phase.BODY)

    def on_body(self, body: bytes) -> None:
        """A piece of a body."""
        self._body += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """A request is whole."""
        super().on_message_complete()
        self._enter(_Phase.WHOLE)
        if self._held is not None:
            app, self._held = self._held, None
            self._start_asgi_task(self.cycle, app)

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        """Begin with a request: uvicorn's own name; were it another, every request would go the usual way."""
        short = self.short_way
        if short is not None and app is self.app and short.expects(cycle.scope):
            if cycle.more_body:
                self._held = app
                return
            if not self.flow.write_paused and short.begin(
                cycle.scope, bytes(cycle.body), _Reply(self, cycle)
            ):
                return
        self.run(cycle, app)

    def run(self, cycle: Any, app: Any) -> None:
        """Let an app answer a request."""
        super()._start_asgi_task(cycle, app)

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP request."""
        self._refuse(HTTPStatus.BAD_REQUEST, msg)

    def _enter(self, phase: _Phase) -> None:
        self._phase, self._received, self._body, self._waited = phase, 0, 0, 0.0

    def _look(self) -> None:
        self._next = self.loop.call_later(self._tick, self._look)
        unread = self.transport.get_write_buffer_size()
        self._stalled = self._stalled + self._tick if 0 < self._unread <= unread else 0.0
        self._unread = unread
        if self._stalled > self.patience:
            logger.debug("A caller does not read its answer: its connection is dropped")
            self.transport.abort()
        elif not self.transport.is_closing() and self._waits():
            self._waited += self._tick
            if self._waited > self.patience + (self._received / SLOWEST if self._phase is _Phase.BODY else 0):
                self._refuse(HTTPStatus.REQUEST_TIMEOUT, "The request did not come in time")

    def _waits(self) -> bool:
        """Whether it is the caller's turn to send, and no other time-out of uvicorn runs."""
        if self._phase is _Phase.BODY:
            return not self.flow.read_paused
        return self._answered() and self.timeout_keep_alive_task is None

    def _answered(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _refuse(self, status: HTTPStatus, detail: str) -> None:
        """Say what is wrong if that can still be said, and close."""
        request_id = f"{getrandbits(128):032x}"
        logger.debug("Refused with {}: {}. Request {}", status.value, detail, request_id)
        if not self._answered():
            if self.cycle.response_started or self.pipeline or self._phase is _Phase.HEAD:
                # Another answer is on its way.
                self.transport.abort()
                return
            self._held = None
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        body = bytes(problem(request_id, status, status.phrase, detail).body)
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: {MEDIA_TYPE}\r\n"
            f"content-length: {len(body)}\r\nx-request-id: {request_id}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()


class _Reply:
    """The answer to one request, written at once; ``cycle`` is uvicorn's record of the request."""

    __slots__ = ("_cycle", "_protocol")

    def __init__(self, protocol: Patient, cycle: Any) -> None:
        self._protocol, self._cycle = protocol, cycle

    def whole(self, head: bytes, body: bytes) -> None:
        """See the protocol."""
        cycle, transport = self._cycle, self._protocol.transport
        if cycle.disconnected:
            return
        lines = [b"HTTP/1.1 200 OK\r\n"]
        lines += [name + b": " + value + b"\r\n" for name, value in cycle.default_headers]
        if not cycle.keep_alive:
            lines.append(b"connection: close\r\n")
        cycle.response_started = cycle.response_complete = True
        transport.write(b"%b%bcontent-length: %d\r\n\r\n%b" % (b"".join(lines), head, len(body), body))
        cycle.message_event.set()
        if not cycle.keep_alive:
            transport.close()
        cycle.on_response()

    def by(self, app: ASGIApp) -> None:
        """See the protocol."""
        self._protocol.run(self._cycle, app)


def patient(seconds: float, short_way: ShortWay | None = None) -> type[asyncio.Protocol]:
    """The protocol with this patience."""
    return type("Patient", (Patient,), {"patience": seconds, "short_way": short_way})
