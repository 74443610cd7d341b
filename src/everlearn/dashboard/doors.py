"""The routes beside Streamlit: log in, log out, the icon."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Final

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from everlearn.access.limits import Buckets
from everlearn.dashboard.gate import cookie_of, onward_of
from everlearn.dashboard.log_in_page import WAYS, page
from everlearn.dashboard.logins import Place
from everlearn.dashboard.pictures import ICON
from everlearn.errors import EverlearnError, UnauthorizedError

MOST_BYTES: Final = 16 << 10
TRIES_PER_SECOND: Final = 0.2
TRIES_AT_ONCE: Final = 10
"""Of each address: less than what the API allows the dashboard, so that one visitor cannot lock all out."""


def routes(place: Place, key_path: str) -> list[Route]:
    """The routes. ``key_path`` is where the installation's key stands, to be told; empty tells nothing."""
    tries = Buckets(TRIES_PER_SECOND, TRIES_AT_ONCE)
    return [
        Route("/login", partial(_show, place, key_path), methods=["GET"]),
        Route("/login", partial(_log_in, place, key_path, tries), methods=["POST"]),
        Route("/logout", partial(_log_out, place), methods=["GET", "POST"]),
        Route("/icon.svg", _icon, methods=["GET"]),
    ]


async def _show(place: Place, key_path: str, request: Request) -> Response:
    onward = onward_of(request.query_params.get("onward", "/"))
    if place.logins.find(cookie_of(request.headers, place.cookie)) is not None:
        return RedirectResponse(onward, 303)
    way = request.query_params.get("with", "user")
    return _page(way if way in WAYS else "user", onward, key_path)


async def _log_in(place: Place, key_path: str, tries: Buckets, request: Request) -> Response:
    if int(request.headers.get("content-length") or MOST_BYTES + 1) > MOST_BYTES:
        return Response("The form is too large\n", 413)
    form = {name: value for name, value in (await request.form()).items() if isinstance(value, str)}
    way, onward = form.get("with", "user"), onward_of(form.get("onward", "/"))
    name = form.get("name", "").strip()
    address = request.client.host if request.client else ""
    if wait := tries.take(address, time.monotonic()).wait:
        fault = f"Too many tries from your address: wait {wait:.0f} seconds."
        return _page(way, onward, key_path, fault, name, 429)
    try:
        sid = await run_in_threadpool(_attempt(place, way, name, form))
    except EverlearnError as error:
        return _page(way, onward, key_path, _fault(way, error), name, error.status)
    answer = RedirectResponse(onward, 303)
    secure = request.headers.get("x-forwarded-proto", request.url.scheme) == "https"
    answer.set_cookie(place.cookie, sid, httponly=True, samesite="lax", secure=secure, path="/")
    return answer


def _attempt(place: Place, way: str, name: str, form: dict[str, str]) -> Callable[[], str]:
    if way == "key":
        return partial(place.logins.by_key, form.get("key", "").strip())
    if way == "invitation":
        invite, password = form.get("invite", "").strip(), form.get("password", "")
        return partial(place.logins.by_invitation, name, invite, password)
    return partial(place.logins.by_password, name, form.get("password", ""))


def _fault(way: str, error: EverlearnError) -> str:
    """What went wrong, without the API's advice about headers."""
    if isinstance(error, UnauthorizedError) and way == "key":
        return "This key is wrong, has expired or was revoked."
    return str(error.detail)


async def _log_out(place: Place, request: Request) -> Response:
    """End the log-in. Following a link does it too, but only from a page of this site."""
    if request.method == "POST" or request.headers.get("sec-fetch-site") in ("same-origin", None):
        await run_in_threadpool(place.logins.end, cookie_of(request.headers, place.cookie))
    answer = RedirectResponse("/login", 303)
    answer.delete_cookie(place.cookie, path="/")
    return answer


async def _icon(_: Request) -> Response:
    return Response(ICON, media_type="image/svg+xml", headers={"Cache-Control": "max-age=86400"})


def _page(
    way: str, onward: str, key_path: str, fault: str = "", name: str = "", status: int = 200
) -> Response:
    text = page(way if way in WAYS else "user", onward, fault, name, key_path)
    return HTMLResponse(text, status, headers={"Cache-Control": "no-store"})
