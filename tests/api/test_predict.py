"""Predictions: recorded before they are answered, and answered the same when asked again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import httpx
import pytest

URL = "/v1/models/toy/predict"
ROW = {"a": 0.5, "b": 0.25}


async def test_a_new_model_answers_with_version_0(toy: httpx.AsyncClient, place: Any) -> None:
    answer = await toy.post(URL, json={"rows": [ROW, {"a": None}], "ids": ["one", "two"]})

    assert answer.status_code == 200
    assert answer.json() == {
        "model": "toy",
        "predictions": [
            {"id": "one", "version": 0, "value": None},
            {"id": "two", "version": 0, "value": None},
        ],
    }
    recorded = place.store.log.find("toy", ["one"])["one"][0]
    assert recorded.features == ROW
    assert recorded.at == place.clock.now()


async def test_version_0_follows_the_majority_as_the_loop_learns_it(
    toy: httpx.AsyncClient, place: Any
) -> None:
    await toy.post(URL, json={"rows": [ROW] * 3, "ids": ["1", "2", "3"]})
    labels = [{"id": "1", "value": "yes"}, {"id": "2", "value": "no"}, {"id": "3", "value": "yes"}]
    await toy.post("/v1/models/toy/labels", json={"labels": labels})
    place.advance()
    for _ in range(100):
        told = (await toy.post(URL, json={"row": ROW})).json()["predictions"][0]
        if told["value"]:
            break
        await asyncio.sleep(0.01)
    assert (told["version"], told["value"]) == (0, "yes")
    assert told["probabilities"] == pytest.approx({"yes": 2 / 3, "no": 1 / 3})


async def test_a_trained_version_answers_with_probabilities(trained: httpx.AsyncClient) -> None:
    answer = await trained.post(URL, json={"rows": [{"a": 0.9, "b": 0.1}, {"a": -0.9, "b": 0.1}]})
    told = answer.json()["predictions"]
    assert [p["value"] for p in told] == ["yes", "no"]
    assert {p["version"] for p in told} == {1}
    assert sum(told[0]["probabilities"].values()) == pytest.approx(1)


async def test_one_row_may_be_sent_alone(toy: httpx.AsyncClient, place: Any) -> None:
    answer = await toy.post(URL, json={"row": ROW, "id": "solo", "at": "2024-05-01T12:00:00Z"})
    assert answer.json()["predictions"][0]["id"] == "solo"
    assert place.store.log.find("toy", ["solo"])["solo"][0].at == 1714564800.0


async def test_times_may_be_text_or_seconds(toy: httpx.AsyncClient, place: Any) -> None:
    await toy.post(URL, json={"rows": [ROW, ROW], "ids": ["x", "y"], "at": [60, "1970-01-01T00:02:00+00:00"]})
    found = place.store.log.find("toy", ["x", "y"])
    assert (found["x"][0].at, found["y"][0].at) == (60.0, 120.0)


async def test_a_known_id_gets_its_recorded_answer_also_after_a_swap(
    toy: httpx.AsyncClient, place: Any, history: Callable[..., Any], served: Callable[..., Any]
) -> None:
    first = (await toy.post(URL, json={"rows": [ROW], "ids": ["order-17"]})).json()
    await toy.post("/v1/models/toy/examples", json=history())
    await asyncio.to_thread(place.advance)
    await served(toy, 1)

    again = (
        await toy.post(URL, json={"rows": [{"b": 0.25, "a": 0.5}, ROW], "ids": ["order-17", "new"]})
    ).json()
    assert again["predictions"][0] == first["predictions"][0]
    assert again["predictions"][1]["version"] == 1


async def test_a_known_id_with_other_features_refuses_the_whole_request(
    toy: httpx.AsyncClient, place: Any
) -> None:
    await toy.post(URL, json={"rows": [ROW], "ids": ["known"]})
    answer = await toy.post(URL, json={"rows": [ROW, {"a": 9, "b": 9}], "ids": ["fresh", "known"]})

    assert answer.status_code == 409
    assert answer.json()["errors"] == [
        {"field": "ids[1]", "message": "'known' is known with other features: use a new id"}
    ]
    assert "fresh" not in place.store.log.find("toy", ["fresh"])


async def test_ids_are_made_where_there_are_none(toy: httpx.AsyncClient) -> None:
    told = (await toy.post(URL, json={"rows": [ROW] * 3})).json()["predictions"]
    assert len({p["id"] for p in told}) == 3


async def test_columns_that_the_schema_does_not_name_are_counted(toy: httpx.AsyncClient) -> None:
    answer = await toy.post(URL, json={"rows": [{**ROW, "extra": 1}, {**ROW, "extra": 2, "other": "x"}]})
    assert answer.json()["ignored_columns"] == {"extra": 2, "other": 1}


async def test_strict_models_refuse_them(api: httpx.AsyncClient, spec: dict[str, Any]) -> None:
    await api.post("/v1/models", json={**spec, "strict": True})
    answer = await api.post(URL, json={"rows": [{**ROW, "extra": 1}]})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "rows[0].extra"


async def test_every_fault_of_every_row_is_named(toy: httpx.AsyncClient, place: Any) -> None:
    answer = await toy.post(URL, json={"rows": [{"a": "x", "b": True}, ROW, {"a": "7", "b": 1}]})
    problem = answer.json()
    assert (answer.status_code, problem["type"]) == (422, "/errors/schema")
    assert [e["field"] for e in problem["errors"]] == ["rows[0].a", "rows[0].b", "rows[2].a"]
    assert place.store.log.head("toy").rows == 0


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"rows": []}, "rows"),
        ({}, "body"),
        ({"rows": [ROW], "row": ROW}, "body"),
        ({"rows": [ROW], "ids": ["a", "b"]}, "ids"),
        ({"rows": [ROW], "ids": [""]}, "ids[0]"),
        ({"rows": [ROW], "ids": ["line\nbreak"]}, "ids[0]"),
        ({"rows": [ROW], "id": "a"}, "body"),
        ({"rows": [ROW], "at": "yesterday"}, "at"),
        ({"rows": [ROW], "at": ["yesterday"]}, "at[0]"),
        ({"rows": [ROW], "at": [1, 2]}, "at"),
        ({"rows": [ROW], "unknown": 1}, "unknown"),
        ({"rows": ["text"]}, "rows[0]"),
        ({"rows": [ROW] * 10_001}, "rows"),
    ],
)
async def test_bodies_that_do_not_fit(toy: httpx.AsyncClient, body: Any, field: str) -> None:
    answer = await toy.post(URL, json=body)
    assert answer.status_code == 422
    assert [fault["field"] for fault in answer.json()["errors"]] == [field]
    assert "Input should" not in answer.text


async def test_what_is_not_json_is_told_so(toy: httpx.AsyncClient) -> None:
    answer = await toy.post(URL, content='{"row": ')
    assert "Content-Type: application/json" in answer.json()["detail"]
    answer = await toy.post(URL, content='{"row": ', headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "body")


async def test_an_unknown_model(api: httpx.AsyncClient) -> None:
    answer = await api.post("/v1/models/none/predict", json={"row": ROW})
    assert (answer.status_code, answer.json()["title"]) == (404, "Not found")


async def test_a_recorded_prediction_can_be_read(toy: httpx.AsyncClient) -> None:
    await toy.post(URL, json={"rows": [ROW], "ids": ["p"]})
    told = (await toy.get("/v1/models/toy/predictions/p")).json()
    assert (told["features"], told["version"], told["row"], told["label"]) == (ROW, 0, 1, None)
    assert told["at"] == "2023-11-14T22:13:20.000000Z"

    await toy.post("/v1/models/toy/labels", json={"labels": [{"id": "p", "value": "yes"}]})
    told = (await toy.get("/v1/models/toy/predictions/p")).json()
    assert told["label"]["value"] == "yes"
    assert (await toy.get("/v1/models/toy/predictions/q")).status_code == 404


async def test_many_concurrent_requests_each_get_their_own_answer(toy: httpx.AsyncClient, place: Any) -> None:
    async def ask(i: int) -> None:
        rows = [{"a": i, "b": j} for j in range(3)]
        ids = [f"{i}-{j}" for j in range(3)]
        told = (await toy.post(URL, json={"rows": rows, "ids": ids})).json()
        assert [p["id"] for p in told["predictions"]] == ids

    await asyncio.gather(*(ask(i) for i in range(60)))
    found = place.store.log.find("toy", [f"{i}-{j}" for i in range(60) for j in range(3)])
    assert all(found[f"{i}-{j}"][0].features == {"a": i, "b": j} for i in range(60) for j in range(3))
    assert place.store.log.head("toy").rows == 180


async def test_a_big_batch_does_not_hold_up_health(trained: httpx.AsyncClient) -> None:
    big = asyncio.create_task(trained.post(URL, json={"rows": [ROW] * 10_000}))
    await asyncio.sleep(0)
    assert (await trained.get("/health")).status_code == 200
    assert len((await big).json()["predictions"]) == 10_000


async def test_an_id_may_hold_slashes_and_any_printable_character(toy: httpx.AsyncClient) -> None:
    for key in ("order/17/a", "ü 😀?#%2F"):
        await toy.post(URL, json={"row": ROW, "id": key})
        told = await toy.get(f"/v1/models/toy/predictions/{quote(key, safe='')}")
        assert told.json()["id"] == key


@pytest.mark.parametrize("raw", [rb'{"row": {"a": "\ud800"}}', b"[" * 100_000, b'{"row": ' + b"9" * 5000])
async def test_json_that_no_log_can_hold_is_refused_with_a_field(toy: httpx.AsyncClient, raw: bytes) -> None:
    answer = await toy.post(URL, content=raw, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "body"
