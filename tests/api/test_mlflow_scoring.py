"""What speaks to ``mlflow models serve`` speaks to everlearn."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

JSON = {"Content-Type": "application/json"}
ROWS = [{"a": 0.5, "b": 0.25}, {"a": -0.5, "b": 0.75}]
CELLS = [[0.5, 0.25], [-0.5, 0.75]]


@pytest.fixture
async def served(api: httpx.AsyncClient, spec: dict[str, Any], history: Any, place: Any) -> httpx.AsyncClient:
    """A client of a place whose default model has learned."""
    assert (await api.post("/v1/models", json={**spec, "name": "default"})).status_code == 201
    assert (await api.post("/v1/models/default/examples", json=history())).status_code == 200
    await asyncio.to_thread(place.advance)
    for _ in range(250):
        answer = await api.post("/v1/models/default/predict", json={"row": ROWS[0]})
        if answer.json()["predictions"][0]["version"] == 1:
            return api
        await asyncio.sleep(0.01)
    raise AssertionError("version 1 does not answer")


@pytest.mark.parametrize(
    "body",
    [
        {"dataframe_split": {"columns": ["a", "b"], "data": CELLS}},
        {"dataframe_split": {"columns": ["b", "a"], "index": [0, 1], "data": [row[::-1] for row in CELLS]}},
        {"dataframe_split": {"data": CELLS}},
        {"dataframe_records": ROWS},
        {"instances": ROWS},
        {"instances": CELLS},
        {"inputs": CELLS},
        {"inputs": {"a": [0.5, -0.5], "b": [0.25, 0.75]}},
        {"inputs": {"a": [[0.5], [-0.5]], "b": [[0.25], [0.75]]}, "params": {"any": 1}},
        "a,b\n0.5,0.25\n-0.5,0.75\n",
        "b,a\n0.25,0.5\n0.75,-0.5\n",
    ],
    ids=lambda body: str(body)[:40],
)
async def test_every_form_is_the_same_rows(served: httpx.AsyncClient, place: Any, body: Any) -> None:
    if isinstance(body, str):
        answer = await served.post("/invocations", content=body, headers={"Content-Type": "text/csv"})
    else:
        answer = await served.post("/invocations", json=body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["predictions"] == ["yes", "no"]
    assert answer.json()["versions"] == [1, 1]
    found = place.store.log.find("default", answer.json()["ids"])
    assert [dict(prediction.features) for prediction, _ in found.values()] == ROWS


async def test_a_single_row_may_be_bare(served: httpx.AsyncClient) -> None:
    assert (await served.post("/invocations", json={"inputs": CELLS[0]})).json()["predictions"] == ["yes"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"{", "body"),
        (b"[]", "body"),
        (b"{}", "body"),
        (b'{"inputs": [[1, 2]], "instances": [[1, 2]]}', "body"),
        (b'{"dataframe_split": [[1, 2]]}', "dataframe_split"),
        (b'{"dataframe_split": {"columns": ["a", "a"], "data": []}}', "dataframe_split.columns"),
        (b'{"dataframe_split": {"columns": ["a", "b"], "data": [[1]]}}', "dataframe_split.data[0]"),
        (b'{"dataframe_records": [[1, 2]]}', "dataframe_records"),
        (b'{"instances": [[1, 2, 3]]}', "instances[0]"),
        (b'{"inputs": {"a": 1}}', "inputs.a"),
        (b'{"inputs": {"a": [1], "b": [1, 2]}}', "inputs"),
        (b'{"inputs": [["x", 2]]}', "rows[0].a"),
        (b'{"inputs": []}', "rows"),
    ],
)
async def test_bodies_that_do_not_fit(served: httpx.AsyncClient, place: Any, body: bytes, field: str) -> None:
    before = place.store.log.head("default").seq
    answer = await served.post("/invocations", content=body, headers=JSON)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, field)
    assert place.store.log.head("default").seq == before


async def test_other_media_types_and_no_default_model(
    api: httpx.AsyncClient, served: Any, place: Any
) -> None:
    answer = await served.post("/invocations", content=b"x", headers={"Content-Type": "text/plain"})
    assert answer.status_code == 415
    assert (await served.delete("/v1/models/default")).status_code == 204
    assert (await served.post("/invocations", json={"inputs": CELLS})).status_code == 404


async def test_ping_and_version(api: httpx.AsyncClient) -> None:
    from everlearn import __version__

    assert (await api.get("/ping")).text == "\n"
    assert (await api.get("/version")).text == __version__


async def test_a_repeat_under_its_key(served: httpx.AsyncClient) -> None:
    answers = [
        await served.post("/invocations", json={"inputs": CELLS}, headers={"Idempotency-Key": "k"})
        for _ in range(2)
    ]
    assert answers[0].json() == answers[1].json()
