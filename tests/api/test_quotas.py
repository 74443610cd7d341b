"""Quotas of labels: counted in labels whatever the way they come; nothing that is refused is stored."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from everlearn.access.limits import DAY, Quotas
from everlearn.api.throttle import Rates

URL = "/v1/models/toy"
TABLE = {"Content-Type": "text/csv"}


@pytest.fixture
def app(make_app: Callable[..., FastAPI], place: Any) -> FastAPI:
    return make_app(access=place.store.access, rates=Rates(labels_per_day=1000))


@pytest.fixture
async def admin(app: FastAPI, connect: Any, spec: dict[str, Any]) -> AsyncIterator[httpx.AsyncClient]:
    async with connect(app) as client:
        assert (await client.post("/v1/models", json=spec)).status_code == 201
        yield client


async def held(admin: httpx.AsyncClient, **more: Any) -> dict[str, str]:
    body = {"name": "k", "scopes": ["label", "predict"], **more}
    made = await admin.post("/v1/keys", json=body)
    assert made.status_code == 201, made.text
    assert made.json()["labels_per_day"] == more.get("labels_per_day")
    return {"Authorization": f"Bearer {made.json()['key']}"}


def labels(count: int, start: int = 0) -> dict[str, Any]:
    return {"labels": [{"id": f"i{start + i}", "value": "yes"} for i in range(count)]}


@pytest.mark.parametrize("slow", [False, True])
async def test_labels_are_counted_and_come_back(admin: httpx.AsyncClient, place: Any, slow: bool) -> None:
    key = await held(admin, labels_per_day=10)
    if slow:  # by the framework's route
        key["Idempotency-Key"] = "a"
    first = await admin.post(f"{URL}/labels", json=labels(7), headers=key)
    assert first.status_code == 200
    assert first.headers["RateLimit-Policy"] == f'"labels";q=10;w={int(DAY)}'
    assert first.headers["RateLimit"].startswith('"labels";r=3;')
    head, key["Idempotency-Key"] = place.store.log.head("toy").seq, "b"
    if not slow:
        del key["Idempotency-Key"]
    over = await admin.post(f"{URL}/labels", json=labels(4, 7), headers=key)
    assert (over.status_code, over.json()["type"]) == (429, "/errors/quota")
    assert over.headers["content-type"] == "application/problem+json"
    assert abs(int(over.headers["Retry-After"]) - DAY / 10) <= 1
    assert place.store.log.head("toy").seq == head
    assert (await admin.post(f"{URL}/labels", json=labels(3, 7), headers=key)).status_code == 200
    place.clock.advance(DAY / 10 + 1)
    if slow:
        key["Idempotency-Key"] = "c"
    assert (await admin.post(f"{URL}/labels", json=labels(1, 10), headers=key)).status_code == 200


async def test_tables_and_examples_are_counted_too(admin: httpx.AsyncClient, place: Any) -> None:
    key = await held(admin, labels_per_day=10)
    six = "id,value\n" + "".join(f"i{i},yes\n" for i in range(6))
    told = await admin.post(f"{URL}/labels", content=six, headers={**key, **TABLE})
    assert told.headers["RateLimit"].startswith('"labels";r=4;')
    head = place.store.log.head("toy").seq
    wrong = await admin.post(f"{URL}/labels", content=six.replace("id", "it"), headers={**key, **TABLE})
    rows = {"rows": [{"a": 1.0, "b": 2.0}] * 5, "targets": ["yes"] * 5}
    history = await admin.post(f"{URL}/examples", json=rows, headers=key)
    assert (wrong.status_code, history.status_code) == (422, 429)
    over = await admin.post(f"{URL}/labels", content=six.replace("\ni", "\nj"), headers={**key, **TABLE})
    assert over.status_code == 429
    assert place.store.log.head("toy").seq == head
    less = {"rows": rows["rows"][:4], "targets": ["yes"] * 4}
    fits = await admin.post(f"{URL}/examples", json=less, headers=key)
    assert (fits.status_code, fits.headers["RateLimit"][:12]) == (200, '"labels";r=0')


async def test_whoever_names_no_number_has_the_installations(admin: httpx.AsyncClient) -> None:
    key = await held(admin)
    answer = await admin.post(f"{URL}/labels", json=labels(1), headers=key)
    assert '"labels";q=1000;' in answer.headers["RateLimit-Policy"]
    more = await admin.post(f"{URL}/labels", json=labels(1001), headers=key)
    assert (more.status_code, "1000 a day" in more.json()["detail"]) == (429, True)
    administrator = await admin.post(f"{URL}/labels", json=labels(1001))
    assert administrator.status_code == 200
    assert "RateLimit" not in administrator.headers


async def test_a_quota_is_a_number_and_positive(admin: httpx.AsyncClient) -> None:
    for wrong in (0, -1, 10**10, "many"):
        body = {"name": "k", "scopes": ["label"], "labels_per_day": wrong}
        answer = await admin.post("/v1/keys", json=body)
        assert (answer.status_code, "labels_per_day" in answer.text) == (422, True)


def test_a_bucket_is_full_after_a_day_and_never_fuller() -> None:
    quotas = Quotas()
    assert quotas.take("a", 100, 100, 0.0).left == 0
    assert quotas.take("a", 1, 100, DAY / 2).left == 49
    assert quotas.take("a", 0, 100, 9 * DAY).left == 100
    assert quotas.take("b", 100, 100, 9 * DAY).wait == 0.0
