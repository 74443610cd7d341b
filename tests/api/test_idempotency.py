"""Idempotency-Key: a write that is sent again gets its first answer again."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

ROW = {"a": 1.0, "b": 2.0}
PREDICT = "/v1/models/toy/predict"


def key(value: str) -> dict[str, str]:
    return {"Idempotency-Key": value}


async def test_making_a_model_again(api: httpx.AsyncClient, spec: dict[str, Any]) -> None:
    first = await api.post("/v1/models", json=spec, headers=key("k"))
    again = await api.post("/v1/models", json=spec, headers=key("k"))
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json() == again.json()
    assert again.headers["idempotency-replayed"] == "true"
    assert (await api.post("/v1/models", json=spec, headers=key("l"))).status_code == 409


async def test_making_a_model_again_before_the_first_answer(
    api: httpx.AsyncClient, spec: dict[str, Any]
) -> None:
    """A caller whose patience was short sends it again: both are told of the one model."""
    answers = await asyncio.gather(*[api.post("/v1/models", json=spec, headers=key("k")) for _ in range(3)])
    assert [answer.status_code for answer in answers] == [201, 201, 201]
    assert sorted("idempotency-replayed" in answer.headers for answer in answers) == [False, True, True]


async def test_making_a_model_while_another_process_makes_it(
    api: httpx.AsyncClient, spec: dict[str, Any], place: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other's answer is there once its model is in the way."""
    await api.post("/v1/models", json=spec, headers=key("k"))
    find, looked = place.store.receipts.get, list[str]()

    def not_at_first(scope: str, one: str) -> Any:
        looked.append(one)
        return None if len(looked) == 1 else find(scope, one)

    monkeypatch.setattr(place.store.receipts, "get", not_at_first)
    again = await api.post("/v1/models", json=spec, headers=key("k"))
    assert (again.status_code, again.headers["idempotency-replayed"]) == (201, "true")
    assert looked == ["k", "k"]


async def test_the_same_key_for_another_body(api: httpx.AsyncClient, spec: dict[str, Any]) -> None:
    await api.post("/v1/models", json=spec, headers=key("k"))
    answer = await api.post("/v1/models", json={**spec, "name": "other"}, headers=key("k"))
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "Idempotency-Key")


async def test_labels_again(toy: httpx.AsyncClient) -> None:
    await toy.post(PREDICT, json={"rows": [ROW], "ids": ["p"]})
    body = {"labels": [{"id": "p", "value": "yes"}]}
    first = await toy.post("/v1/models/toy/labels", json=body, headers=key("k"))
    again = await toy.post("/v1/models/toy/labels", json=body, headers=key("k"))
    assert first.json() == again.json()
    assert first.json()["accepted"] == 1


async def test_predictions_without_ids_again(toy: httpx.AsyncClient, place: Any) -> None:
    first = await toy.post(PREDICT, json={"rows": [ROW, ROW]}, headers=key("k"))
    again = await toy.post(PREDICT, json={"rows": [ROW, ROW]}, headers=key("k"))
    other = await toy.post(PREDICT, json={"rows": [ROW]}, headers=key("k"))
    assert first.json() == again.json()
    assert other.status_code == 422
    assert place.store.log.head("toy").rows == 2


async def test_predictions_whose_answer_was_lost_before_it_was_remembered(
    toy: httpx.AsyncClient, place: Any
) -> None:
    first = await toy.post(PREDICT, json={"rows": [ROW]}, headers=key("k"))
    place.store.receipts.forget(float("inf"))
    again = await toy.post(PREDICT, json={"rows": [ROW]}, headers=key("k"))
    assert first.json() == again.json()
    assert place.store.log.head("toy").rows == 1


async def test_removing_a_model_again(toy: httpx.AsyncClient) -> None:
    for _ in range(2):
        answer = await toy.delete("/v1/models/toy", headers=key("k"))
        assert (answer.status_code, answer.content) == (204, b"")
    assert (await toy.delete("/v1/models/toy")).status_code == 404


async def test_errors_are_not_remembered(api: httpx.AsyncClient, spec: dict[str, Any]) -> None:
    patch = {"json": {"threshold": 0.7}, "headers": key("k")}
    assert (await api.patch("/v1/models/toy", **patch)).status_code == 404
    await api.post("/v1/models", json=spec)
    assert (await api.patch("/v1/models/toy", **patch)).status_code == 200


async def test_keys_of_other_paths_never_meet(toy: httpx.AsyncClient, spec: dict[str, Any]) -> None:
    await toy.post("/v1/models", json={**spec, "name": "other"})
    for model in ("toy", "other"):
        body = {"labels": [{"id": model, "value": "yes"}]}
        answer = await toy.post(f"/v1/models/{model}/labels", json=body, headers=key("k"))
        assert answer.json()["parked"] == [model]


@pytest.mark.parametrize("value", ["", "x" * 201, "tab\there"])
async def test_keys_must_be_plain(toy: httpx.AsyncClient, value: str) -> None:
    body = {"labels": [{"id": "1", "value": "yes"}]}
    answer = await toy.post("/v1/models/toy/labels", json=body, headers=key(value))
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "Idempotency-Key")


async def test_answers_are_remembered_for_a_day(toy: httpx.AsyncClient, place: Any) -> None:
    body = {"labels": [{"id": "1", "value": "yes"}]}
    await toy.post("/v1/models/toy/labels", json=body, headers=key("old"))
    place.clock.advance(2 * 86_400)
    await toy.post("/v1/models/toy/labels", json=body, headers=key("new"))
    again = await toy.post("/v1/models/toy/labels", json=body, headers=key("old"))
    assert "idempotency-replayed" not in again.headers
    assert again.json()["duplicate"] == 1
