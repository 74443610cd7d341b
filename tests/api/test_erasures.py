"""Erasures over HTTP: asked for, told of, and what becomes of labels that come late."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from everlearn.certificates import Seal
from everlearn.erasing import Eraser

URL = "/v1/models/toy"
SEAL = Seal(["a secret"])


@pytest.fixture
def app(make_app: Callable[..., FastAPI], place: Any) -> FastAPI:
    return make_app(access=place.store.access)


@pytest.fixture
async def admin(app: FastAPI, connect: Any, spec: dict[str, Any]) -> AsyncIterator[httpx.AsyncClient]:
    async with connect(app) as client:
        made = await client.post("/v1/models", json={**spec, "subject": "user"})
        assert made.status_code == 201, made.text
        yield client


async def asked(admin: httpx.AsyncClient, user: str, count: int = 3) -> list[str]:
    """Rows of a user, the first of them labelled; their ids."""
    ids = [f"{user}-{i}" for i in range(count)]
    rows = [{"a": float(i), "b": 2.0, "user": user} for i in range(count)]
    answer = await admin.post(f"{URL}/predict", json={"rows": rows, "ids": ids})
    assert answer.is_success, answer.text
    assert "ignored_columns" not in answer.json()
    one = {"labels": [{"id": ids[0], "value": "yes"}]}
    assert (await admin.post(f"{URL}/labels", json=one)).json()["accepted"] == 1
    return ids


async def test_a_subject_is_erased_and_certified(admin: httpx.AsyncClient, place: Any) -> None:
    ids = await asked(admin, "ann/7")
    await asked(admin, "ben")
    answer = await admin.delete(f"{URL}/subjects/ann%2F7")
    assert answer.status_code == 202, answer.text
    told = answer.json()
    assert (told["state"], told["removed"]) == ("logged", {"events": 4})
    assert (await admin.get(f"{URL}/predictions/{ids[0]}")).status_code == 404
    assert (await admin.get(f"{URL}/predictions/ben-0")).json()["features"]["user"] == "ben"
    late = await admin.post(f"{URL}/labels", json={"labels": [{"id": ids[1], "value": "no"}]})
    assert late.json() == {"accepted": 0, "duplicate": 0, "conflict": [], "parked": [], "erased": [ids[1]]}
    assert (await admin.delete(f"{URL}/subjects/ann%2F7")).json() == told, "the same, however often"
    place.advance()
    assert len(list(Eraser(place.parts, SEAL).run_once())) == 1
    done = (await admin.get(f"{URL}/erasures/{told['id']}")).json()
    assert done["state"] == "done"
    assert SEAL.verify(done["certificate"])
    assert "ann" not in str(done)
    assert [one["id"] for one in (await admin.get(f"{URL}/erasures")).json()["items"]] == [told["id"]]


async def test_the_audit_log_does_not_say_who(admin: httpx.AsyncClient) -> None:
    await asked(admin, "ann")
    await admin.delete(f"{URL}/subjects/ann")
    entry = (await admin.get("/v1/audit")).json()["items"][0]
    assert entry["action"] == "DELETE /v1/models/{model}/subjects/{subject}"
    assert entry["target"] == "/v1/models/toy/subjects/…"


async def test_what_cannot_be_erased_is_told(admin: httpx.AsyncClient, spec: dict[str, Any]) -> None:
    answer = await admin.delete(f"{URL}/subjects/nobody")
    assert (answer.status_code, answer.json()["detail"]) == (
        404, "Model 'toy' has no rows of the subject 'nobody'",
    )  # fmt: skip
    answer = await admin.delete(f"{URL}/subjects/ann?deadline=soon")
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "deadline")
    assert (await admin.post("/v1/models", json={**spec, "name": "plain"})).status_code == 201
    answer = await admin.delete("/v1/models/plain/subjects/ann")
    assert answer.status_code == 409
    assert "name the column as 'subject' in its spec" in answer.json()["detail"]
    assert (await admin.get(f"{URL}/erasures/erasure-0")).status_code == 404


async def test_only_an_admin_erases(admin: httpx.AsyncClient) -> None:
    await asked(admin, "ann")
    made = (await admin.post("/v1/keys", json={"name": "k", "scopes": ["operate", "read"]})).json()
    held = {"Authorization": f"Bearer {made['key']}"}
    assert (await admin.delete(f"{URL}/subjects/ann", headers=held)).status_code == 403
    assert (await admin.get(f"{URL}/erasures", headers=held)).json() == {"items": []}
