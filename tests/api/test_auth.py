"""Deny by default: every route there is wants the key, but for the few that are open."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts

from everlearn.access.words import administrator
from everlearn.api.auth import OPEN, ApiKey, Authentication
from everlearn.api.permissions import NEEDS
from everlearn.errors import InvalidError


def routes(app: FastAPI) -> Iterator[tuple[str, str]]:
    """Every method and path that the app answers, with its parameters filled in."""
    for route in iter_route_contexts(app.router.routes):
        path = getattr(route, "path", None)
        for method in getattr(route, "methods", None) or ():
            yield method, re.sub(r"\{[^}]*\}", "1", str(path))


def test_all_routes_are_walked(make_app: Callable[..., FastAPI]) -> None:
    found = set(routes(make_app()))
    assert ("POST", "/v1/models/1/predict") in found
    assert ("GET", "/model-status") in found
    assert len(found) >= 30


@pytest.mark.parametrize(
    "authorization", [None, "Bearer wrong", "Basic a-key-for-the-tests", "Bearer ", "Bearer"]
)
async def test_every_route_but_the_open_ones_needs_the_key(
    make_app: Callable[..., FastAPI], connect: Callable[..., Any], authorization: str | None
) -> None:
    app = make_app()
    async with connect(app, key=None) as client:
        for method, path in routes(app):
            headers = {"Authorization": authorization} if authorization else {}
            answer = await client.request(method, path, headers=headers)
            assert (answer.status_code == 401) == (path not in OPEN), (method, path, answer.status_code)
            if path not in OPEN:
                problem = answer.json()
                assert answer.headers["content-type"] == "application/problem+json"
                assert answer.headers["www-authenticate"] == "Bearer"
                assert problem["type"] == "/errors/unauthorized"
                assert "Authorization: Bearer KEY" in problem["detail"]


async def test_every_route_denies_by_itself_too(
    make_app: Callable[..., FastAPI], connect: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Were a request to slip past the middleware, the router's dependency would refuse it."""

    async def open_to_all(self: Authentication, scope: Any, receive: Any, send: Any) -> None:
        await self.app(scope, receive, send)

    async def known_but_not_asked(self: Authentication, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            scope["state"].update(principal=administrator("key"), permitted="/health")
        await self.app(scope, receive, send)

    for passing, status in ((open_to_all, 401), (known_but_not_asked, 403)):
        monkeypatch.setattr(Authentication, "__call__", passing)
        app = make_app()
        async with connect(app, key=None) as client:
            for method, path in routes(app):
                if path in OPEN or method == "HEAD":
                    continue
                answer = await client.request(method, path, json={})
                assert answer.status_code == status, (method, path, answer.text)


async def test_an_unknown_path_tells_nothing_without_the_key(api: httpx.AsyncClient) -> None:
    assert (await api.get("/v1/nothing", headers={"Authorization": "Bearer no"})).status_code == 401
    assert (await api.get("/v1/nothing")).status_code == 404


async def test_the_key_is_asked_for_before_the_body_is_read(
    make_app: Callable[..., FastAPI], connect: Callable[..., Any]
) -> None:
    read = 0

    async def body() -> Any:
        nonlocal read
        for _ in range(100):
            read += 1
            yield b"x" * 1000

    async with connect(make_app(), key=None) as client:
        answer = await client.post("/v1/models/toy/predict", content=body())
    assert answer.status_code == 401
    assert read == 0


async def test_the_open_routes_are_open(api: httpx.AsyncClient) -> None:
    for name in (name for name, need in NEEDS.items() if need.open):
        method, _, path = name.partition(" ")
        answer = await api.request(method, path, headers={"Authorization": ""}, follow_redirects=True)
        assert answer.status_code == (200 if method == "GET" else 422), path


def test_the_key_makes_an_administrator() -> None:
    assert ApiKey("secret").authenticate("secret") == administrator("key")
    assert ApiKey("secret").authenticate("Secret") is None
    assert ApiKey("schlüssel").authenticate("schlüssel") is not None


def test_an_empty_key_is_refused() -> None:
    with pytest.raises(InvalidError, match="EVERLEARN_API_KEY"):
        ApiKey("  ")
