"""Who gives the labels, over HTTP: listed, put aside, let in again, un-learned."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

URL = "/v1/models/toy"


@pytest.fixture
def app(make_app: Callable[..., FastAPI], place: Any) -> FastAPI:
    return make_app(access=place.store.access)


@pytest.fixture
async def admin(app: FastAPI, connect: Any, spec: dict[str, Any]) -> AsyncIterator[httpx.AsyncClient]:
    async with connect(app) as client:
        assert (await client.post("/v1/models", json=spec)).status_code == 201
        yield client


async def given(admin: httpx.AsyncClient) -> tuple[str, dict[str, str]]:
    """A key that has given one label: its source, and its header."""
    made = (await admin.post("/v1/keys", json={"name": "k", "scopes": ["label", "predict", "read"]})).json()
    held = {"Authorization": f"Bearer {made['key']}"}
    row = {"row": {"a": 1.0, "b": 2.0}, "id": "1"}
    assert (await admin.post(f"{URL}/predict", json=row, headers=held)).is_success
    one = {"labels": [{"id": "1", "value": "yes"}]}
    assert (await admin.post(f"{URL}/labels", json=one, headers=held)).json()["accepted"] == 1
    return f"key:{made['id']}", held


async def test_sources_are_listed_put_aside_and_let_in(
    admin: httpx.AsyncClient, place: Any, worker: None
) -> None:
    source, held = await given(admin)
    answer = await admin.post(f"{URL}/sources/{source}/quarantine", json={"why": "stolen"})
    assert answer.status_code == 200, answer.text
    decision = answer.json()["decision"]
    assert (decision["kind"], decision["evidence"]["why"]) == ("quarantine", "stolen")
    listed = (await admin.get(f"{URL}/sources", headers=held)).json()
    (item,) = listed["items"]
    assert listed["guard"] == "warn"
    assert (item["source"], item["state"], item["labels"], item["without_from"]) == (
        source, "quarantined", 1, 0,
    )  # fmt: skip
    again = await admin.post(f"{URL}/sources/{source}/quarantine")
    assert (again.status_code, again.json()["type"]) == (409, "/errors/conflict")
    assert (await admin.post(f"{URL}/sources/{source}/release")).json()["decision"]["kind"] == "release"
    assert (await admin.get(f"{URL}/sources")).json()["items"][0]["state"] == ""


async def test_a_source_is_unlearned_from_a_position(admin: httpx.AsyncClient, worker: None) -> None:
    source, _ = await given(admin)
    answer = await admin.post(f"{URL}/sources/{source}/unlearn", json={"since": 3})
    assert answer.json()["decision"]["evidence"]["since"] == 3
    assert (await admin.get(f"{URL}/sources")).json()["items"][0]["without_from"] == 3
    nobody = await admin.post(f"{URL}/sources/key:nobody/unlearn")
    assert (nobody.status_code, "given nothing" in nobody.json()["detail"]) == (409, True)


async def test_what_is_wrong_or_forbidden_is_refused(admin: httpx.AsyncClient) -> None:
    source, held = await given(admin)
    for command in ("quarantine", "release", "unlearn"):
        url = f"{URL}/sources/{source}/{command}"
        assert (await admin.post(url, headers=held)).status_code == 403
        assert (await admin.post(url, json={"source": "key:other"})).status_code == 422
    assert (await admin.post(f"{URL}/sources/{source}/unlearn", json={"since": -1})).status_code == 422
    assert (await admin.post(f"{URL}/sources/{'x' * 201}/release")).status_code == 422
    assert (await admin.get("/v1/models/none/sources")).status_code == 404
