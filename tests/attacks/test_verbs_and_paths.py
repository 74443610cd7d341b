"""Methods, paths and wire forms that might pass the permission table by.

Guards: ``Permissions`` (matches as the router does, and what matches nothing is refused), ``Authentication``,
``bearer`` and ``Patient``; llhttp for what is no HTTP. Every route × every role is in
``tests/api/test_permissions.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from typing import Any
from urllib.parse import unquote

import pytest
from fastapi import FastAPI

KEY = b"Authorization: Bearer a-key-for-the-tests\r\n"
HOST = b"Host: x\r\n"

PATHS = [
    "/v1/models/", "//v1/models", "/v1//models", "/./v1/models", "/v1/./models", "/v1/x/../models",
    "/v1/models/.", "/V1/models", "/v1/MODELS", "/v1/models;a=b", "/v1/models%20", "/v1/models%00",
    "/v1%2fmodels", "/v1%2Fmodels", "/%76%31/models", "/v1/models%2f", "/v1/models%2e", "/v1/models..",
    "/v1/models%5c", "/v1/models/toy/../../keys", "/health/../v1/models", "/health/..%2fv1/models",
    "/health%2f..%2fv1/keys", "/docs/../v1/keys", "/docs/%2e%2e/v1/keys", "/openapi.json/../v1/keys",
    "/health;/v1/models", "/v1/keys?x=/health", "/v1/keys#/health", "http://x/v1/keys", "/v2/", "/metrics/",
    "/v1/audit/",
]  # fmt: skip


METHODS = ("GET", "HEAD", "OPTIONS", "POST", "TRACE", "PROPFIND", "DEBUG")


async def test_no_spelling_of_a_path_is_open(make_app: Callable[..., FastAPI]) -> None:
    """Without a credential: 401, whatever the path may be taken for elsewhere. Guard: ``Authentication``."""
    app, told = make_app(), []

    async def send(message: Any) -> None:
        told.append(message)

    async def receive() -> Any:
        return {"type": "http.request", "body": b"{}", "more_body": False}

    for method, path in product(METHODS, PATHS):
        raw, _, query = path.partition("?")
        scope = {
            "type": "http", "method": method, "path": unquote(raw), "raw_path": raw.encode(), "headers": [],
            "query_string": query.encode(), "http_version": "1.1", "scheme": "http", "client": ("9.9.9.9", 1),
            "server": ("x", 80), "root_path": "",
        }  # fmt: skip
        told.clear()
        await app(scope, receive, send)
        assert told[0]["status"] == 401, (method, path)


OVERRIDES = [
    "X-HTTP-Method-Override: DELETE", "X-HTTP-Method: DELETE", "X-Method-Override: DELETE",
    "X-Original-URL: /v1/keys", "X-Rewrite-URL: /v1/keys", "X-Forwarded-Prefix: /health",
    "X-Forwarded-User: admin", "X-Remote-User: admin", "Remote-User: admin", "X-Real-IP: 127.0.0.1",
    "Forwarded: for=127.0.0.1", "X-Forwarded-Host: 127.0.0.1",
]  # fmt: skip


async def test_no_header_changes_what_is_asked_for(api: Any, store: Any) -> None:
    """The method and path of the request line count, and the credential alone says who asks."""
    for name, value in (header.split(": ") for header in OVERRIDES):
        answer = await api.get("/v1/models/toy", headers={name: value})
        assert (answer.status_code, answer.json()["name"]) == (200, "toy"), name
        nobody = await api.get("/v1/keys", headers={name: value, "Authorization": ""})
        assert nobody.status_code == 401, name
    assert [spec.name for spec in store.models.list().items] == ["toy"]


async def test_what_is_no_method_of_a_route_is_refused(api: Any) -> None:
    """With every right. ``HEAD`` and ``OPTIONS`` do nothing, and ``TRACE`` gives no header back."""
    for method in ("TRACE", "OPTIONS", "PUT", "CONNECT", "DELETE", "PROPFIND"):
        answer = await api.request(method, "/v1/models", headers={"Cookie": "to-be-kept"})
        assert answer.status_code == 405, method
        assert "to-be-kept" not in answer.text
    assert (await api.head("/v1/models/toy")).status_code in (200, 405)


async def test_head_needs_what_get_needs(make_app: Callable[..., FastAPI], connect: Any) -> None:
    """Guard: ``Permissions.asked`` takes ``HEAD`` for ``GET``."""
    async with connect(make_app(), key=None) as nobody:
        for path in ("/v1/models", "/v1/keys", "/metrics", "/v1/models/toy"):
            assert (await nobody.head(path)).status_code == 401


@pytest.fixture
def wire(make_app: Callable[..., FastAPI], host: Callable[..., Any]) -> Iterator[Any]:
    with host(make_app(), 5.0) as wire:
        yield wire


CLOSE = b"Connection: close\r\n"
SMUGGLED = b"GET /v1/keys HTTP/1.1\r\n" + HOST + KEY + b"\r\n"


POST = b"POST /health HTTP/1.1\r\n" + HOST
GET = b"GET /health HTTP/1.1\r\n"
AMBIGUOUS = {
    "both lengths": POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n012345",
    "plus": POST + b"Content-Length: +5\r\n\r\n01234",
    "minus": POST + b"Content-Length: -5\r\n\r\n",
    "hex": POST + b"Content-Length: 0x5\r\n\r\n01234",
    "another coding": POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "two codings": POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "huge chunk": POST + b"Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF1\r\n",
    "folded": GET + HOST + b"X-A: 1\r\n folded: 2\r\n\r\n",
    "space": GET + b"Host : x\r\n\r\n",
    "bare feed": b"GET /health HTTP/1.1\nHost: x\n\n",
    "NUL": GET + HOST + b"X-A: a\x00b\r\n\r\n",
    "no ASCII": b"GET /\xff\xfe HTTP/1.1\r\n" + HOST + b"\r\n",
    "version": b"GET /health HTTP/9.9\r\n" + HOST + b"\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
}


def test_what_is_ambiguous_is_no_request(wire: Any) -> None:
    """Request smuggling: a proxy and we must not see different requests. Nothing after it is answered."""
    for name, request in AMBIGUOUS.items():
        answer = wire.ask(request + SMUGGLED)
        assert b"HTTP/1.1 400" in answer, (name, answer)
        assert b"application/problem+json" in answer, name
        assert b'"items"' not in answer, name
        assert not answer.endswith(b"..."), name


def test_no_trailer_is_a_header(wire: Any) -> None:
    """uvicorn adds trailers to the headers. Guard: ``Patient.on_headers_complete``."""
    body = b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n"
    head = b"GET /v1/models HTTP/1.1\r\n" + HOST + CLOSE
    assert wire.ask(head + body + KEY + b"\r\n").startswith(b"HTTP/1.1 401")
    assert wire.ask(head + KEY + body + b"\r\n").startswith(b"HTTP/1.1 200")


def test_of_two_credentials_none_counts(wire: Any) -> None:
    """A proxy may have looked at the other. Guard: ``bearer``."""
    for first, second in (
        (KEY, KEY),
        (KEY, b"Authorization: Basic eDp5\r\n"),
        (b"Authorization: x\r\n", KEY),
    ):
        answer = wire.ask(b"GET /v1/models HTTP/1.1\r\n" + HOST + CLOSE + first + second + b"\r\n")
        assert answer.startswith(b"HTTP/1.1 401")


def test_no_connection_becomes_another_protocol(wire: Any) -> None:
    """An upgrade is not followed, and the request is answered as what it is. Guard: ``ws="none"``."""
    upgrade = b"Connection: Upgrade\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
    upgrade += b"Sec-WebSocket-Version: 13\r\n"
    for to in (b"websocket", b"h2c", b"TLS/1.0"):
        with wire.connect() as connection:
            connection.sendall(
                b"GET /v1/models HTTP/1.1\r\n" + HOST + upgrade + b"Upgrade: " + to + b"\r\n\r\n"
            )
            assert connection.recv(1 << 16).startswith(b"HTTP/1.1 401")


async def test_ranges_are_not_taken_apart(api: Any) -> None:
    """Starlette's files parse ``Range`` in quadratic time (CVE-2025-62727): there are no files here."""
    for ranges in ("bytes=0-1", "bytes=" + ",".join(f"{i}-" for i in range(5000)), "bytes=-9" * 999):
        for path in ("/health", "/v1/models", "/docs", "/openapi.json"):
            answer = await api.get(path, headers={"Range": ranges})
            assert answer.status_code == 200
            assert "content-range" not in answer.headers
