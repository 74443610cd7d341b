"""How long the server waits for a caller: for the head of a request, for its body, and for its reading.

uvicorn waits for all three without end, takes heads of any length, and adds the trailers that follow a body
to the headers that came before it, where no proxy looks for them. Here each of these has a limit.
"""

from __future__ import annotations

import asyncio
from enum import Enum, auto
from http import HTTPStatus
from random import getrandbits
from typing import ClassVar, Final

from loguru import logger
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from everlearn.api.problems import MEDIA_TYPE, problem

MAX_HEAD: Final = 64 * 1024
"""Bytes of a request's line and headers."""

SLOWEST: Final = 500
"""Bytes a second by which a body must grow once the patience is spent."""

MAX_FRAMING: Final = 16
"""Bytes that may come for each byte of a body: in chunks of one byte it is six."""


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
        self._received += len(data)
        super().data_received(data)
        if self._phase is _Phase.HEAD and self._received > MAX_HEAD:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"The head is over {MAX_HEAD} bytes")
        elif self._phase is _Phase.BODY and self._received > MAX_HEAD + MAX_FRAMING * self._body:
            self._refuse(HTTPStatus.BAD_REQUEST, "The body is little but chunk headers or trailers")

    def on_message_begin(self) -> None:
        """A head begins."""
        super().on_message_begin()
        self._enter(_Phase.HEAD)

    def on_headers_complete(self) -> None:
        """A head is whole: what is called a header from here on is a trailer, and nobody reads those."""
        super().on_headers_complete()
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
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        body = bytes(problem(request_id, status, status.phrase, detail).body)
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: {MEDIA_TYPE}\r\n"
            f"content-length: {len(body)}\r\nx-request-id: {request_id}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()


def patient(seconds: float) -> type[asyncio.Protocol]:
    """The protocol with this patience."""
    return type("Patient", (Patient,), {"patience": seconds})
