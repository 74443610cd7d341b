"""What every request passes first: its id, its log line, the security headers, and the last resort."""

from __future__ import annotations

import re
import time
from random import getrandbits

from loguru import logger
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from everlearn.adapters.tracing import Span
from everlearn.api.instruments import Instruments
from everlearn.api.problems import unexpected

SAFE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_MODEL = re.compile(r"/v1/models/([A-Za-z0-9][A-Za-z0-9._-]{0,99})(?:/|$)")
UNMATCHED = "unmatched"
"""What stands in the place of a route where there is none."""

SECURITY_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)
"""What every answer carries; the documentation's pages bring their own policy, the last."""


def header(scope: Scope, wanted: bytes) -> str:
    """The value of a request header, or the empty text."""
    for name, value in scope["headers"]:
        if name == wanted:
            return str(value.decode("latin-1"))
    return ""


def template_of(scope: Scope) -> str:
    """The path of the matched route with its parameters' names, for metrics and logs; never the values."""
    template = getattr(scope.get("route"), "path_format", None)
    return template if isinstance(template, str) else UNMATCHED


class Context:
    """Gives a request its id, answers with the security headers, counts and logs it.

    A caller's ``X-Request-ID`` is taken over if it is short and harmless. An error that nobody handled
    becomes a problem that tells nothing, and a log entry that tells all but data.
    """

    def __init__(self, app: ASGIApp, instruments: Instruments) -> None:
        self.app = app
        self._instruments = instruments

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = header(scope, b"x-request-id")
        request_id = given if SAFE_ID.fullmatch(given) else f"{getrandbits(128):032x}"
        scope.setdefault("state", {})["request_id"] = request_id
        answer = _Answer(send, request_id, scope["path"])
        started = time.perf_counter()
        about = {"request_id": request_id}
        if named := _MODEL.match(scope["path"]):
            about["model"] = named[1]
        caller = header(scope, b"traceparent")
        with (
            logger.contextualize(**about),
            self._instruments.tracer.span(scope["method"], caller, server=True, **about) as span,
        ):
            try:
                await self.app(scope, receive, answer.send)
            except Exception as error:
                await _last_resort(error, bool(answer.status), scope, receive, answer.send)
            finally:
                self._tell(scope, answer.status, time.perf_counter() - started, span)

    def _tell(self, scope: Scope, status: int, seconds: float, span: Span) -> None:
        # A request that is refused comes to no route; what it asked for is known all the same.
        template = template_of(scope)
        if template == UNMATCHED:
            template = scope["state"].get("asked") or UNMATCHED
        method = scope["method"]
        span.tell(f"{method} {template}", failed=status >= 500, method=method, route=template, status=status)
        self._instruments.request(method, template, status, seconds, span.trace_id)
        quiet = template in ("/health", "/v1/health/ready", "/metrics") or scope["state"].get("quiet", False)
        level = "DEBUG" if quiet else "INFO"
        logger.log(level, "{} {} {} {:.1f} ms", scope["method"], template, status or "gone", seconds * 1000)


class LastResort:
    """Within the framework, whose own last resort would answer in plain text and raise the error again."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        begun = False

        async def noted(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self.app(scope, receive, noted)
        except Exception as error:
            if scope["type"] != "http" or begun:
                raise
            await _last_resort(error, False, scope, receive, send)


async def _last_resort(error: Exception, begun: bool, scope: Scope, receive: Receive, send: Send) -> None:
    """What becomes of an error that nobody handled; it is raised again where an answer has begun."""
    if isinstance(error, ClientDisconnect):
        logger.debug("The caller is gone before its request was whole")
        return
    logger.opt(exception=error).error("A request failed unexpectedly")
    if begun:
        raise error
    await unexpected(scope["state"]["request_id"])(scope, receive, send)


class _Answer:
    """Adds the headers to a response and remembers its status (0: none was sent)."""

    def __init__(self, send: Send, request_id: str, path: str) -> None:
        self._send = send
        self._request_id = request_id
        self._docs = path.startswith("/docs")
        self.status = 0

    async def send(self, message: Message) -> None:
        """Send one message on."""
        if message["type"] == "http.response.start":
            self.status = int(message["status"])
            own = SECURITY_HEADERS[:-1] if self._docs else SECURITY_HEADERS
            given = {name for name, _ in message.get("headers", ())}
            message["headers"] = [
                *message.get("headers", ()),
                (b"x-request-id", self._request_id.encode()),
                *(header for header in own if header[0] not in given),
            ]
        await self._send(message)
