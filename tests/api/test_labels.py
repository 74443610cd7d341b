"""Labels: in any order, repeated, conflicting, early, or corrected; each gets the documented answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from hypothesis import given, settings
from hypothesis import strategies as st

from everlearn.adapters.memory import ManualClock, MemoryStore
from everlearn.api.app import create_app
from everlearn.api.auth import ApiKey

URL = "/v1/models/toy/labels"


async def predict(client: httpx.AsyncClient, *ids: str) -> None:
    rows = [{"a": 1.0, "b": 2.0}] * len(ids)
    assert (await client.post("/v1/models/toy/predict", json={"rows": rows, "ids": list(ids)})).is_success


async def label(client: httpx.AsyncClient, *labels: tuple[str, Any], **more: Any) -> dict[str, Any]:
    body = {"labels": [{"id": key, "value": value, **more} for key, value in labels]}
    answer = await client.post(URL, json=body)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def test_the_documented_answers(toy: httpx.AsyncClient) -> None:
    await predict(toy, "1", "2")
    nothing: dict[str, Any] = {"accepted": 0, "duplicate": 0, "conflict": [], "parked": []}

    assert await label(toy, ("2", "no"), ("1", "yes")) == {**nothing, "accepted": 2}
    assert await label(toy, ("1", "yes")) == {**nothing, "duplicate": 1}
    assert await label(toy, ("1", "no")) == {**nothing, "conflict": ["1"]}
    assert await label(toy, ("1", "no"), correction=True) == {**nothing, "accepted": 1}
    assert await label(toy, ("early", "yes")) == {**nothing, "parked": ["early"]}
    await predict(toy, "early")
    told = (await toy.get("/v1/models/toy/predictions/early")).json()
    assert told["label"]["value"] == "yes"


async def test_whole_floats_are_the_integer_class(toy: httpx.AsyncClient) -> None:
    await predict(toy, "1")
    assert (await label(toy, ("1", 1)))["accepted"] == 1
    assert (await label(toy, ("1", 1.0)))["duplicate"] == 1


@pytest.mark.parametrize("value", [None, 1.5, [1], {"a": 1}])
async def test_a_label_of_the_wrong_type_refuses_the_whole_request(
    toy: httpx.AsyncClient, place: Any, value: Any
) -> None:
    await predict(toy, "1", "2")
    before = place.store.log.head("toy")
    answer = await toy.post(URL, json={"labels": [{"id": "1", "value": "yes"}, {"id": "2", "value": value}]})

    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "labels[1].value"
    assert "targets" not in answer.text
    assert place.store.log.head("toy") == before


@pytest.mark.parametrize("body", [{"labels": []}, {}, {"labels": [{"id": "1"}]}, {"labels": [{"value": 1}]}])
async def test_bodies_that_do_not_fit(toy: httpx.AsyncClient, body: Any) -> None:
    assert (await toy.post(URL, json=body)).status_code == 422


async def test_an_unknown_model(api: httpx.AsyncClient) -> None:
    assert (await api.post(URL, json={"labels": [{"id": "1", "value": 1}]})).status_code == 404


async def test_the_time_of_a_label(toy: httpx.AsyncClient, place: Any) -> None:
    await predict(toy, "1")
    await label(toy, ("1", "yes"), at="1970-01-01T00:01:00Z")
    assert place.store.log.find("toy", ["1"])["1"][1].at == 60.0


IDS = ("a", "b", "c", "d")
actions = st.lists(
    st.one_of(
        st.tuples(st.just("predict"), st.sampled_from(IDS)),
        st.tuples(
            st.just("label"),
            st.lists(
                st.tuples(st.sampled_from(IDS), st.sampled_from(["x", "y", 1]), st.booleans()),
                min_size=1,
                max_size=4,
            ),
        ),
    ),
    max_size=12,
)


def expected(
    known: dict[str, Any], predicted: set[str], labels: list[tuple[str, Any, bool]]
) -> dict[str, Any]:
    """The documented answer, worked out by the words of the documentation."""
    told: dict[str, Any] = {"accepted": 0, "duplicate": 0, "conflict": [], "parked": []}
    for key, value, correction in labels:
        if key in known and known[key] == value:
            told["duplicate"] += 1
        elif key in known and not correction:
            told["conflict"].append(key)
        else:
            known[key] = value
            if key in predicted:
                told["accepted"] += 1
            else:
                told["parked"].append(key)
    return told


@settings(max_examples=25)
@given(actions)
def test_any_order_of_labels_gets_the_documented_answers(actions: list[tuple[str, Any]]) -> None:
    """Out of order, duplicated, conflicting, corrected and unknown labels, against a model of a few lines."""

    async def run() -> None:
        store = MemoryStore()
        store.clock = ManualClock(1000.0)  # type: ignore[attr-defined]
        app: FastAPI = create_app(store, authenticator=ApiKey("k"))  # type: ignore[arg-type]
        transport = httpx.ASGITransport(app)
        headers = {"Authorization": "Bearer k"}
        async with httpx.AsyncClient(transport=transport, base_url="http://t", headers=headers) as client:
            features = {"a": "numeric", "b": "numeric"}
            spec = {"name": "toy", "target": "y", "features": features, "learner": "majority"}
            await client.post("/v1/models", json=spec)
            known: dict[str, Any] = {}
            predicted: set[str] = set()
            for kind, what in actions:
                if kind == "predict":
                    await predict(client, what)
                    predicted.add(what)
                    continue
                body = {"labels": [{"id": k, "value": v, "correction": c} for k, v, c in what]}
                answer = await client.post(URL, json=body)
                assert answer.json() == expected(known, predicted, what)
            for key in predicted:
                told = (await client.get(f"/v1/models/toy/predictions/{key}")).json()
                assert (told["label"] and told["label"]["value"]) == known.get(key)
        app.state.door.writer.close()

    asyncio.run(run())


async def test_labels_are_counted_by_what_became_of_them(
    toy: httpx.AsyncClient, history: Callable[..., Any]
) -> None:
    await predict(toy, "1")
    await label(toy, ("1", "yes"), ("2", "yes"))
    page = (await toy.get("/metrics")).text
    assert 'everlearn_labels_total{status="accepted"} 1.0' in page
    assert 'everlearn_labels_total{status="parked"} 1.0' in page
