"""Before Streamlit: nobody gets in without a log-in, nothing can be framed, and every answer is guarded.

Streamlit runs a script for each visitor over a websocket. This middleware stands in front of all of it:
pages, uploads, media and the websocket itself need the cookie of a log-in, and what changes something must
come from this site (its ``Origin`` names the host that was asked).
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Final
from urllib.parse import quote, urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request, cookie_parser
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from everlearn.dashboard.document import ROOM
from everlearn.dashboard.logins import Place
from everlearn.dashboard.views.first_paint import FIRST, OUTLINE, frame, overview
from everlearn.errors import EverlearnError

OPEN: Final = ("/login", "/logout", "/icon.svg", "/_stcore/health")
OPEN_BELOW: Final = ("/static/",)
"""Streamlit's own script and style files: the same for everyone."""
SHUT: Final = ("/_stcore/agent", "/_stcore/metrics", "/oauth2callback", "/auth/")
"""What Streamlit has and we do not use."""

POLICY: Final = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; "
    "font-src 'self' data:; connect-src 'self' ws: wss:; worker-src 'self' blob:; "
    "object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)
"""Streamlit's charts compile expressions and its style is inline; nothing comes from another host."""

SOON: Final = 0.8
"""Seconds that a page waits for the overview before it shows an outline."""

_HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}


class Gate:
    """ASGI middleware: see the module. ``document`` is the page that starts Streamlit in the browser."""

    def __init__(self, app: ASGIApp, place: Place, document: str, paths: frozenset[str]) -> None:
        self.app = app
        self._place = place
        self._document = document
        self._paths = paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, or send away."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        send = _guarded(send)
        path, headers = str(scope["path"]), Headers(scope=scope)
        if path.startswith(SHUT):
            await _refuse(scope, receive, send, 404)
        elif _acts(scope) and not same_site(headers):
            await _refuse(scope, receive, send, 403)
        elif path in OPEN or path.startswith(OPEN_BELOW):
            await self.app(scope, receive, send)
        elif self._place.logins.find(cookie_of(headers, self._place.cookie)) is None:
            await self._away(scope, receive, send)
        elif scope["type"] == "http" and path in self._paths and scope["method"] == "GET":
            first = frame(await self._overview(headers) if path == "/" else OUTLINE)
            page = self._document.replace(ROOM, first)
            await HTMLResponse(page, headers={"Cache-Control": "no-store"})(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _overview(self, headers: Headers) -> str:
        """The overview for a first paint; its outline, where the API takes longer than a page may."""
        login = self._place.logins.find(cookie_of(headers, self._place.cookie))
        try:
            asked = run_in_threadpool(lambda: login.client().overview(limit=FIRST) if login else None)
            found = await asyncio.wait_for(asked, SOON)
        except (EverlearnError, TimeoutError):
            return OUTLINE
        return OUTLINE if found is None else overview(found, datetime.now(UTC))

    async def _away(self, scope: Scope, receive: Receive, send: Send) -> None:
        """To the log-in, for a page; else a refusal."""
        if scope["type"] == "websocket" or scope["path"] not in self._paths:
            await _refuse(scope, receive, send, 401)
            return
        onward = onward_of(Request(scope).url.path + ("?" + scope["query_string"].decode("latin-1")))
        await RedirectResponse(f"/login?onward={quote(onward, safe='')}", 303)(scope, receive, send)


def onward_of(text: str) -> str:
    """A path on this site to go on to, whatever was given; other sites are never gone to.

    >>> onward_of("/model?model=shop"), onward_of("//evil.example"), onward_of("https://evil.example/")
    ('/model?model=shop', '/', '/')
    """
    text = text.removesuffix("?")
    plain = text.startswith("/") and not text.startswith("//") and "\\" not in text and text.isprintable()
    return text if plain and not text.startswith(("/login", "/logout")) else "/"


def cookie_of(headers: Headers, name: str) -> str | None:
    """A cookie of a request."""
    return cookie_parser(headers.get("cookie", "")).get(name)


def same_site(headers: Headers) -> bool:
    """Whether a page of this very site asks, as far as the browser says; other programs may ask."""
    origin = headers.get("origin")
    if origin is None:
        return headers.get("sec-fetch-site", "same-origin") in ("same-origin", "none")
    return urlsplit(origin).netloc == headers.get("host")


def _acts(scope: Scope) -> bool:
    return scope["type"] == "websocket" or scope["method"] not in ("GET", "HEAD")


async def _refuse(scope: Scope, receive: Receive, send: Send, status: int) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 4000 + status})
        return
    told = {401: "Log in at /login", 403: "This came from another site", 404: "There is no such page"}
    await PlainTextResponse(told[status] + "\n", status)(scope, receive, send)


def _guarded(send: Send) -> Send:
    async def guarded(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers[name] = value
        await send(message)

    return guarded
