"""The hot path answers what the framework's route answers, and leaves to it whatever is unusual."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import msgspec
import pytest
from fastapi import FastAPI
from hypothesis import given, settings
from hypothesis import strategies as st

from everlearn.api import hot
from everlearn.api.labels import LabelsBody
from everlearn.api.predict import PredictBody

PREDICT, LABELS = "/v1/models/toy/predict", "/v1/models/toy/labels"
ROW = {"a": 0.5, "b": 0.25}
JSON = {"Content-Type": "application/json"}


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each request was answered on the hot path."""
    seen: list[bool] = []
    call = hot.HotPath.__call__

    async def watched(self: hot.HotPath, scope: Any, receive: Any, send: Any) -> None:
        await call(self, scope, receive, send)
        seen.append(bool(scope["state"].get("quiet")))

    monkeypatch.setattr(hot.HotPath, "__call__", watched)
    return seen


async def test_predictions_and_labels_take_it(toy: httpx.AsyncClient, taken: list[bool]) -> None:
    taken.clear()
    assert (await toy.post(PREDICT, json={"rows": [ROW, ROW], "ids": ["1", "2"]})).status_code == 200
    assert (await toy.post(PREDICT, json={"row": ROW, "id": "3", "at": 5})).status_code == 200
    assert (await toy.post(LABELS, json={"labels": [{"id": "1", "value": "yes"}]})).json()["accepted"] == 1
    assert taken == [True, True, True]


@pytest.mark.parametrize(
    ("url", "content", "headers"),
    [
        (PREDICT, json.dumps({"row": ROW, "at": "2024-05-01T12:00:00Z"}), JSON),
        (PREDICT, json.dumps({"row": ROW}), {**JSON, "Idempotency-Key": "once"}),
        (LABELS, json.dumps({"labels": [{"id": "x", "value": 1}]}), {**JSON, "Idempotency-Key": "once"}),
        (PREDICT, "a,b\n1,2\n", {"Content-Type": "text/csv"}),
    ],
)
async def test_what_is_unusual_is_answered_by_the_route(
    toy: httpx.AsyncClient, taken: list[bool], url: str, content: str, headers: dict[str, str]
) -> None:
    taken.clear()
    assert (await toy.post(url, content=content, headers=headers)).status_code == 200
    assert taken == [False]


async def test_both_ways_say_the_same(
    toy: httpx.AsyncClient, taken: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    bodies = [
        (PREDICT, {"rows": [{**ROW, "more": 1}, {"a": None}], "ids": ["u", "v"]}),
        (PREDICT, {"rows": [{**ROW, "a": 9}], "ids": ["u"]}),
        (PREDICT, {"row": {"a": "text"}}),
        (LABELS, {"labels": [{"id": "u", "value": "yes"}, {"id": "u", "value": None}]}),
        (LABELS, {"labels": [{"id": "u", "value": "no"}]}),
        ("/v1/models/none/predict", {"row": ROW}),
    ]
    told = []
    for way in ("hot", "cold"):
        if way == "cold":
            monkeypatch.setattr(hot, "_is_usual", lambda _: False)
        answers = [await toy.post(url, json=body) for url, body in bodies]
        told.append([(a.status_code, {**a.json(), "request_id": None}) for a in answers])
        told[-1][4] = told[-1][4][:1]  # the first time it is accepted, the second it is a duplicate
    assert told[0] == told[1]
    assert [status for status, *_ in told[0]] == [200, 409, 422, 422, 200, 404]


plain = (
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.floats(-2, 2)
    | st.sampled_from(["yes", "", "1", "x\ny"])
)
anything = st.recursive(
    plain, lambda v: st.lists(v, max_size=2) | st.dictionaries(st.sampled_from("ab"), v), max_leaves=4
)
predict_bodies = st.fixed_dictionaries(
    {},
    optional={
        "rows": st.lists(st.dictionaries(st.sampled_from(["a", "b", "c"]), anything), max_size=3) | anything,
        "row": st.dictionaries(st.sampled_from(["a", "b"]), plain) | anything,
        "ids": st.lists(st.sampled_from(["i", "j", "", 7]), max_size=3) | anything,
        "id": st.sampled_from(["i", "k"]) | anything,
        "at": st.sampled_from([0, 1e9, -1e20, "1970-01-02", [1, 2], True]),
        "other": plain,
    },
)
label = st.fixed_dictionaries(
    {"id": st.sampled_from(["i", "", "j"]) | plain, "value": anything},
    optional={"correction": st.booleans() | plain, "at": st.sampled_from([5, "no", None]), "more": plain},
)
label_bodies = st.fixed_dictionaries({"labels": st.lists(label, max_size=3) | anything})


@settings(max_examples=400)
@given(predict_bodies)
def test_a_body_that_is_taken_is_one_that_the_route_takes(body: dict[str, Any]) -> None:
    try:
        rows, ids, at = hot.read_rows(json.dumps(body).encode())
    except (hot.Unusual, msgspec.DecodeError):
        return
    same = PredictBody.model_validate(body)
    assert (rows, ids) == (same.all_rows, same.all_ids)
    assert [7.0 if at is None else at] * len(rows) == same.times(7.0)


@settings(max_examples=400)
@given(label_bodies)
def test_labels_that_are_taken_are_those_that_the_route_takes(body: dict[str, Any]) -> None:
    try:
        labels = hot.read_labels(json.dumps(body).encode())
    except (hot.Unusual, msgspec.DecodeError):
        return
    same = LabelsBody.model_validate(body).labels
    assert [(x.id, x.value, x.correction, x.at) for x in labels] == [
        (x.id, x.value, x.correction, x.at) for x in same
    ]


@pytest.mark.parametrize("body", [{"rows": [ROW], "ids": ["a"], "at": 3}, {"row": ROW, "id": "a"}])
def test_the_usual_bodies_are_taken(body: dict[str, Any]) -> None:
    assert hot.read_rows(json.dumps(body).encode())[1] == ["a"]


async def test_what_is_sent_in_parts_is_put_together(toy: httpx.AsyncClient, taken: list[bool]) -> None:
    async def parts() -> Any:
        whole = json.dumps({"row": ROW, "id": "slow"}).encode()
        for start in range(0, len(whole), 7):
            yield whole[start : start + 7]

    taken.clear()
    answer = await toy.post(PREDICT, content=parts(), headers=JSON)
    assert answer.json()["predictions"][0]["id"] == "slow"
    assert taken == [True]


async def test_without_a_caller_who_may_it_answers_nothing(
    make_app: Callable[..., FastAPI], connect: Callable[..., Any], taken: list[bool]
) -> None:
    async with connect(make_app(), key="a-wrong-key-of-someone") as client:
        assert (await client.post(PREDICT, json={"row": ROW})).status_code == 401
    assert taken == []


async def test_the_body_limit_holds(
    make_app: Callable[..., FastAPI], connect: Callable[..., Any], spec: dict[str, Any]
) -> None:
    async def parts() -> Any:
        for _ in range(40):
            yield b" " * 100

    async with connect(make_app(max_body=3000)) as client:
        await client.post("/v1/models", json=spec)
        answer = await client.post(PREDICT, content=parts(), headers=JSON)
    assert (answer.status_code, answer.headers["content-type"]) == (413, "application/problem+json")


async def test_requests_are_counted_under_their_route(toy: httpx.AsyncClient) -> None:
    await toy.post(PREDICT, json={"row": ROW})
    page = (await toy.get("/metrics")).text
    line = 'everlearn_requests_total{method="POST",route="/v1/models/{model}/predict",status="200"} 1.0'
    assert line in page


@pytest.mark.parametrize("durability", ["sync", "group", "async"])
async def test_every_durability_answers_and_stores(
    api: httpx.AsyncClient, place: Any, spec: dict[str, Any], durability: str
) -> None:
    assert (await api.post("/v1/models", json={**spec, "durability": durability})).status_code == 201
    told = (await api.post(PREDICT, json={"rows": [ROW] * 3})).json()["predictions"]
    labels = [{"id": one["id"], "value": "yes"} for one in told]
    assert (await api.post(LABELS, json={"labels": labels})).json()["accepted"] == 3
    assert (await api.post(PREDICT, json={"row": {"a": 1, "b": 1}, "id": told[0]["id"]})).status_code == 409
    assert place.store.log.head("toy").rows == 3
