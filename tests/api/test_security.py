"""Errors, headers, limits and logs: nothing more is told than must be."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from loguru import logger

PREDICT = "/v1/models/toy/predict"


@pytest.fixture
def lines() -> Iterator[list[str]]:
    found: list[str] = []
    sink = logger.add(found.append, level="DEBUG", format="{message} {extra} {exception}", diagnose=False)
    yield found
    logger.remove(sink)


@pytest.mark.parametrize("given", ["trace-17", "a", "0.A_b-c"])
async def test_a_plain_request_id_is_taken_over(api: httpx.AsyncClient, given: str) -> None:
    answer = await api.get("/v1/models/none", headers={"X-Request-ID": given})
    assert answer.headers["x-request-id"] == answer.json()["request_id"] == given


@pytest.mark.parametrize("given", ["", "two words", "x" * 65, "<script>", "-dash", "%0a"])
async def test_any_other_gets_a_new_one(api: httpx.AsyncClient, given: str) -> None:
    answer = await api.get("/health", headers={"X-Request-ID": given})
    assert len(answer.headers["x-request-id"]) == 32


@pytest.mark.parametrize("path", ["/health", "/v1/models", "/nowhere", "/openapi.json"])
async def test_every_answer_has_the_security_headers(api: httpx.AsyncClient, path: str) -> None:
    headers = (await api.get(path)).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["cache-control"] == "no-store"
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "server" not in headers


async def test_no_other_site_may_call(api: httpx.AsyncClient) -> None:
    answer = await api.get("/health", headers={"Origin": "https://elsewhere.example"})
    assert not [name for name in answer.headers if name.startswith("access-control")]
    preflight = {"Origin": "https://elsewhere.example", "Access-Control-Request-Method": "POST"}
    assert (await api.options("/v1/models", headers=preflight)).status_code == 405


async def test_paths_and_methods_that_are_not_there(api: httpx.AsyncClient) -> None:
    for method, path, status in (("GET", "/nowhere", 404), ("PUT", "/v1/models", 405)):
        answer = await api.request(method, path)
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
        assert answer.json()["status"] == status
    assert "POST" in answer.headers["allow"] or "GET" in answer.headers["allow"]


async def test_an_unexpected_error_tells_nothing_but_its_id(
    toy: httpx.AsyncClient, place: Any, lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("secret-of-the-house")

    monkeypatch.setattr(place.store.versions, "list", broken)
    answer = await toy.get("/v1/models/toy/versions", headers={"X-Request-ID": "find-me"})
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert "secret-of-the-house" not in answer.text
    assert answer.json()["request_id"] == "find-me"
    assert any("secret-of-the-house" in line and "find-me" in line for line in lines)


async def test_logs_hold_no_features_labels_or_keys(toy: httpx.AsyncClient, lines: list[str]) -> None:
    row = {"a": 123456.789, "b": 1, "extra-column": "private text"}
    await toy.post(PREDICT, json={"rows": [row], "ids": ["id-of-ann"]})
    await toy.post(PREDICT, json={"rows": [{"a": "private text"}]})
    await toy.post("/v1/models/toy/labels", json={"labels": [{"id": "id-of-ann", "value": "guilty"}]})
    await toy.get("/v1/models/toy/predictions/id-of-ann")
    text = "".join(lines)
    assert "POST /v1/models/{model}/predict 200" in text
    assert all("'model': 'toy'" in line for line in lines if "/predict" in line)
    for private in ("123456", "private", "guilty", "id-of-ann", "a-key-for-the-tests"):
        assert private not in text


@pytest.mark.parametrize("stated", [True, False])
async def test_bodies_over_the_limit_are_refused(
    make_app: Callable[..., FastAPI], connect: Callable[..., Any], spec: dict[str, Any], stated: bool
) -> None:
    async def streamed() -> Any:
        for _ in range(100):
            yield b'{"rows": [' + b" " * 1000

    async with connect(make_app(max_body=2000)) as client:
        await client.post("/v1/models", json=spec)
        content: Any = b" " * 2001 if stated else streamed()
        answer = await client.post(PREDICT, content=content, headers={"Content-Type": "application/json"})
        assert answer.status_code == 413
        assert answer.json()["detail"] == "The body is over 2000 bytes: send it in parts"
        assert answer.headers["x-request-id"]
        assert (await client.post(PREDICT, json={"row": {"a": 1}})).status_code == 200


async def test_deep_json_is_no_trouble(toy: httpx.AsyncClient) -> None:
    deep = b'{"rows":' + b"[" * 200_000 + b"]" * 200_000 + b"}"
    answer = await toy.post(PREDICT, content=deep, headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 422)
    assert answer.headers["content-type"] == "application/problem+json"
