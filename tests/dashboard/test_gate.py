"""The way in: nothing without a log-in, nothing from another site, and headers on everything."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from everlearn.dashboard.document import ROOM
from everlearn.dashboard.doors import TRIES_AT_ONCE, routes
from everlearn.dashboard.gate import Gate
from everlearn.dashboard.logins import Logins, Place

HERE = "http://dashboard.example"


async def inside(_: Any) -> PlainTextResponse:
    return PlainTextResponse("inside")


async def stream(socket: WebSocket) -> None:
    await socket.accept()
    await socket.send_text("inside")
    await socket.close()


@pytest.fixture
async def visitor(
    admin: dict[str, Any], card: dict[str, Any], answering: Any
) -> AsyncIterator[httpx.AsyncClient]:
    """A browser at a dashboard whose Streamlit only says that one is inside."""
    api = {
        "GET /v1/auth/me": lambda _, key: admin if key in ("the-key", "access") else 401,
        "POST /v1/auth/login": lambda request, _: (
            {"access_token": "access", "refresh_token": "refresh", "expires_in": 900}
            if b"right" in request.content
            else 401
        ),
        "POST /v1/auth/logout": {},
        "GET /v1/overview": {"items": [card], "next": None, "total": 1, "counts": {"healthy": 1}},
    }
    place = Place(Logins(answering(api)), "cookie")
    gate = Middleware(Gate, place=place, document=f"<p>the page</p>{ROOM}", paths=frozenset({"/", "/model"}))
    behind = [
        Route("/_stcore/upload_file", inside, methods=["GET", "PUT"]),
        Route("/_stcore/agent/interact", inside, methods=["POST"]),
        Route("/static/x.js", inside),
        WebSocketRoute("/_stcore/stream", stream),
    ]
    app = Starlette(routes=[*routes(place, "/data/key"), *behind], middleware=[gate])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=HERE) as client:
        yield client


async def log_in(visitor: httpx.AsyncClient, **form: str) -> httpx.Response:
    return await visitor.post("/login", data=form, headers={"Origin": HERE})


async def connects(visitor: httpx.AsyncClient, origin: str) -> bool:
    """Whether a page of this origin gets a websocket, with the visitor's cookies."""
    said: list[str] = []

    async def send(message: Any) -> None:
        said.append(message["type"])

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    cookies = "; ".join(f"{name}={value}" for name, value in visitor.cookies.items())
    headers = {"host": HERE.removeprefix("http://"), "origin": origin, "cookie": cookies}
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "websocket", "path": "/_stcore/stream", "headers": raw, "query_string": b""}
    transport: Any = visitor._transport
    await transport.app(scope, receive, send)
    return "websocket.accept" in said


async def test_without_a_log_in_there_is_only_the_log_in(visitor: httpx.AsyncClient) -> None:
    away = await visitor.get("/model?model=shop")
    assert (away.status_code, away.headers["location"]) == (303, "/login?onward=%2Fmodel%3Fmodel%3Dshop")
    assert (await visitor.get("/_stcore/upload_file")).status_code == 401
    assert not await connects(visitor, HERE)


async def test_with_a_log_in_one_is_inside(visitor: httpx.AsyncClient) -> None:
    answer = await log_in(visitor, name="ann", password="right", onward="/model?model=shop")
    assert (answer.status_code, answer.headers["location"]) == (303, "/model?model=shop")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert (await visitor.get("/model")).text.startswith("<p>the page</p>")
    assert (await visitor.get("/_stcore/upload_file")).text == "inside"
    assert await connects(visitor, HERE)


async def test_the_overview_stands_there_before_any_script_has_run(visitor: httpx.AsyncClient) -> None:
    await log_in(visitor, name="ann", password="right")
    page = (await visitor.get("/")).text
    assert "The one model is well." in page
    assert '<a href="/model?model=shop">shop</a>' in page
    assert "0.912" not in (await visitor.get("/model")).text


async def test_no_token_reaches_the_browser(visitor: httpx.AsyncClient) -> None:
    answer = await log_in(visitor, name="ann", password="right")
    assert "access" not in answer.headers["set-cookie"]
    assert "refresh" not in answer.headers["set-cookie"]


async def test_a_key_is_a_way_in(visitor: httpx.AsyncClient) -> None:
    assert (await log_in(visitor, **{"with": "key", "key": "the-key"})).status_code == 303
    assert (await visitor.get("/")).status_code == 200


async def test_behind_tls_the_cookie_is_for_tls_alone(visitor: httpx.AsyncClient) -> None:
    headers = {"Origin": HERE, "X-Forwarded-Proto": "https"}
    answer = await visitor.post("/login", data={"name": "ann", "password": "right"}, headers=headers)
    assert "Secure" in answer.headers["set-cookie"]


async def test_another_site_can_do_nothing(visitor: httpx.AsyncClient) -> None:
    await log_in(visitor, name="ann", password="right")
    elsewhere = {"Origin": "https://evil.example"}
    assert (await visitor.post("/login", data={}, headers=elsewhere)).status_code == 403
    assert (await visitor.put("/_stcore/upload_file", headers=elsewhere)).status_code == 403
    assert (await visitor.post("/logout", headers=elsewhere)).status_code == 403
    assert not await connects(visitor, "https://evil.example")
    await visitor.get("/logout", headers={"Sec-Fetch-Site": "cross-site"})
    assert visitor.cookies.get("cookie") is None  # the browser forgets; the log-in itself did not end


async def test_logging_out_ends_it_for_every_holder_of_the_cookie(visitor: httpx.AsyncClient) -> None:
    await log_in(visitor, name="ann", password="right")
    kept = visitor.cookies["cookie"]
    assert (await visitor.get("/logout", headers={"Sec-Fetch-Site": "same-origin"})).status_code == 303
    visitor.cookies.set("cookie", kept)
    assert (await visitor.get("/")).status_code == 303


async def test_one_is_never_sent_elsewhere(visitor: httpx.AsyncClient) -> None:
    for onward in ("//evil.example", "https://evil.example", "/\\evil.example", "/logout"):
        answer = await log_in(visitor, name="ann", password="right", onward=onward)
        assert answer.headers["location"] == "/"


async def test_what_is_wrong_is_said_and_nothing_is_given_away(visitor: httpx.AsyncClient, evil: str) -> None:
    answer = await log_in(visitor, name=evil, password="wrong", onward=f'/"{evil}')
    assert answer.status_code == 401
    assert 'role="alert"' in answer.text
    assert evil not in answer.text
    assert "wrong" not in answer.text.split("</style>")[1].split("<form")[1]


async def test_guessing_is_slowed(visitor: httpx.AsyncClient) -> None:
    answers = [
        (await log_in(visitor, name="ann", password="wrong")).status_code for _ in range(TRIES_AT_ONCE + 1)
    ]
    assert answers == [401] * TRIES_AT_ONCE + [429]


async def test_what_is_not_used_is_shut(visitor: httpx.AsyncClient) -> None:
    await log_in(visitor, name="ann", password="right")
    assert (await visitor.post("/_stcore/agent/interact", headers={"Origin": HERE})).status_code == 404


async def test_every_answer_is_guarded(visitor: httpx.AsyncClient) -> None:
    for path in ("/login", "/static/x.js", "/nowhere", "/"):
        headers = (await visitor.get(path)).headers
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert "http:" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"


async def test_the_log_in_page_has_a_label_for_every_field(visitor: httpx.AsyncClient) -> None:
    for way in ("user", "key", "invitation"):
        page = (await visitor.get(f"/login?with={way}")).text
        fields = re.findall(r'<input id="(\w+)"', page)
        assert fields
        assert all(f'<label for="{name}">' in page for name in fields)
        assert ("/data/key" in page) == (way == "key")
