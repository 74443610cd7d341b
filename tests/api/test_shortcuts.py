"""The first names, on the model called default."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from everlearn.api import synthetic


async def test_nothing_works_without_the_default_model_but_says_how_to_make_it(
    api: httpx.AsyncClient,
) -> None:
    for method, path, body in (
        ("GET", "/model-status", None),
        ("POST", "/predict", {"features": [[1, 2]]}),
        ("POST", "/retrain", None),
    ):
        answer = await api.request(method, path, json=body)
        assert answer.status_code == 404
        assert "/generate" in answer.json()["detail"]


@pytest.mark.slow
async def test_the_loop_from_generate_to_predict(api: httpx.AsyncClient, place: Any, worker: None) -> None:
    made = await api.post("/generate", json={"rows": 400, "drift": 0.0, "seed": 7})
    assert made.json() == {"accepted": 400, "rows": 400, "drift_at": 200, "seed": 7}

    status: dict[str, Any] = {}
    for _ in range(500):
        status = (await api.get("/model-status")).json()
        if status["champion"]:
            break
        await asyncio.sleep(0.02)
    assert (status["model"], status["champion"], status["samples"]) == ("default", 1, 400)
    assert status["threshold"] == 0.8
    assert status["last_decision"]["kind"]

    answer: dict[str, Any] = {}
    for _ in range(100):
        answer = (await api.post("/predict", json={"features": [[0.9, 0.9], [-0.9, -0.9]]})).json()
        if answer["predictions"][0]["version"]:
            break
        await asyncio.sleep(0.02)
    assert [p["value"] for p in answer["predictions"]] == ["yes", "no"]

    for _ in range(200):  # the stream learner may still be publishing
        asked = await api.post("/retrain")
        if asked.status_code != 409:
            break
        await asyncio.sleep(0.05)
    skipped = asked.json()
    assert skipped["skipped"] is True, skipped
    assert skipped["reason"].startswith("skipped")
    forced = (await api.post("/retrain", json={"force": True})).json()
    assert (forced["skipped"], forced["decision"]["kind"]) == (False, "update")


async def test_generate_adds_examples_each_time(api: httpx.AsyncClient, place: Any) -> None:
    first = (await api.post("/generate", json={"seed": 3})).json()
    assert (first["accepted"], first["drift_at"]) == (1000, 500)
    assert (await api.post("/generate")).json()["accepted"] == 1000
    assert place.store.log.head("default").examples == 2000


async def test_generate_with_a_key_is_done_once(api: httpx.AsyncClient, place: Any) -> None:
    for _ in range(2):
        answer = await api.post("/generate", headers={"Idempotency-Key": "g"})
        assert answer.json()["accepted"] == 1000
    assert place.store.log.head("default").examples == 1000


async def test_generate_leaves_another_default_model_alone(
    api: httpx.AsyncClient, spec: dict[str, Any]
) -> None:
    await api.post("/v1/models", json={**spec, "name": "default"})
    assert (await api.post("/generate")).status_code == 409
    assert (await api.post("/generate", json={"drift": 2})).status_code == 422


async def test_predict_takes_the_bodies_of_v1_too(api: httpx.AsyncClient) -> None:
    await api.post("/generate", json={"rows": 10})
    told = await api.post("/predict", json={"rows": [{"x1": 1, "x2": 2}], "ids": ["a"]})
    assert told.json()["predictions"][0]["id"] == "a"
    assert (await api.post("/predict", json={"row": {"x1": 1}, "id": "b"})).status_code == 200


@pytest.mark.parametrize(
    "body",
    [{"features": [[1]]}, {"features": []}, {"features": [[1, 2]], "rows": [{}]}, {}, {"features": "x"}],
)
async def test_predict_bodies_that_do_not_fit(api: httpx.AsyncClient, body: Any) -> None:
    await api.post("/generate", json={"rows": 10})
    answer = await api.post("/predict", json=body)
    assert answer.status_code == 422
    assert answer.json()["errors"]


def test_the_concept_turns_halfway() -> None:
    rows, targets, drift_at = synthetic.stream(4000, 1.0, seed=1)

    def agree(part: slice) -> float:
        pairs = list(zip(rows[part], targets[part], strict=True))
        return sum((r["x1"] + r["x2"] > 0) == (t == "yes") for r, t in pairs) / len(pairs)

    assert agree(slice(0, drift_at)) == pytest.approx(0.95, abs=0.02)
    assert agree(slice(drift_at, None)) == pytest.approx(0.05, abs=0.02)
    assert synthetic.stream(10, 0.5, seed=1) == synthetic.stream(10, 0.5, seed=1)
