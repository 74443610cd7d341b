"""One status code says whether a model is kept current."""

from __future__ import annotations

from typing import Any

import httpx
import pytest


async def test_a_model_that_is_kept_current_is_fresh(trained: httpx.AsyncClient) -> None:
    answer = await trained.get("/v1/models/toy/fresh")
    assert (answer.status_code, answer.json()["fresh"], answer.json()["reasons"]) == (200, True, [])
    assert answer.json()["champion"] == answer.json()["serving"] == 1
    assert (await trained.get("/v1/models/nobody/fresh")).status_code == 404


async def test_a_loop_that_is_behind_and_stands_still_is_not(trained: httpx.AsyncClient, place: Any) -> None:
    place.advance()
    await trained.post("/v1/models/toy/predict", json={"row": {"a": 1}})
    first = await trained.get("/v1/models/toy/fresh")
    assert (first.status_code, first.json()["behind"]) == (200, 1)
    place.clock.advance(200.0)
    assert (await trained.get("/v1/models/toy/fresh")).status_code == 200
    assert (await trained.get("/v1/models/toy/fresh?stalled=2m")).status_code == 503
    place.clock.advance(200.0)
    late = await trained.get("/v1/models/toy/fresh")
    assert late.status_code == 503
    assert late.json()["reasons"] == ["its loop is 1 events behind, and has not moved for 400 s"]
    place.advance()
    assert (await trained.get("/v1/models/toy/fresh")).json()["fresh"]


async def test_a_champion_may_be_too_old(trained: httpx.AsyncClient, place: Any) -> None:
    place.clock.advance(3 * 86_400.0)
    assert (await trained.get("/v1/models/toy/fresh?max_age=7d")).status_code == 200
    old = await trained.get("/v1/models/toy/fresh?max_age=2d")
    assert (old.status_code, old.json()["reasons"]) == (
        503,
        ["version 1 is 3.0 days old: more than it may be"],
    )
    wrong = await trained.get("/v1/models/toy/fresh?max_age=soon")
    assert wrong.status_code == 422
    assert "duration" in wrong.text


async def test_a_champion_that_does_not_load_is_not_fresh(
    trained: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    from types import SimpleNamespace

    failed = {"toy": SimpleNamespace(reason="its artifact is damaged")}
    monkeypatch.setattr("everlearn.api.runtime.Runtime.failed", failed)
    answer = await trained.get("/v1/models/toy/fresh")
    assert answer.status_code == 503
    assert answer.json()["reasons"] == ["version 1 does not load: its artifact is damaged"]
