"""Models: made, told, listed, changed where they can change, and removed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest


async def test_a_model_is_made_and_told(api: httpx.AsyncClient, spec: dict[str, Any]) -> None:
    made = await api.post("/v1/models", json=spec)
    assert made.status_code == 201
    assert made.headers["location"] == "/v1/models/toy"
    model = (await api.get("/v1/models/toy")).json()
    assert model == made.json()
    assert {key: model[key] for key in ("name", "champion", "state", "metric", "threshold", "cursor")} == {
        "name": "toy",
        "champion": 0,
        "state": "insufficient labels",
        "metric": "accuracy",
        "threshold": 0.8,
        "cursor": 0,
    }
    assert model["log"] == {"seq": 1, "rows": 0, "labels": 0, "parked": 0, "examples": 0}
    assert model["spec"]["features"] == spec["features"]


async def test_the_installations_threshold_stands_in(
    make_app: Callable[..., Any], connect: Callable[..., Any], spec: dict[str, Any]
) -> None:
    del spec["threshold"]
    async with connect(make_app(threshold=0.65)) as client:
        assert (await client.post("/v1/models", json=spec)).json()["threshold"] == 0.65


async def test_a_name_that_is_taken(toy: httpx.AsyncClient, spec: dict[str, Any]) -> None:
    answer = await toy.post("/v1/models", json=spec)
    assert (answer.status_code, answer.json()["type"]) == (409, "/errors/conflict")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"name": "../etc"}, "name"),
        ({"features": {}}, "features"),
        ({"features": {"a": "complex"}}, "features.a"),
        ({"colour": "red"}, "colour"),
        ({"policy": {"window": 1}}, "policy.window"),
        ({"learner": {"name": "linear", "what": 1}}, None),
        ({"learner": "unheard-of"}, None),
    ],
)
async def test_specs_that_are_wrong(
    api: httpx.AsyncClient, spec: dict[str, Any], change: dict[str, Any], field: str | None
) -> None:
    answer = await api.post("/v1/models", json={**spec, **change})
    assert answer.status_code == 422, answer.text
    if field is not None:
        assert field in [error["field"] for error in answer.json()["errors"]]
    assert (await api.get("/v1/models")).json()["items"] == []


async def test_lists_come_in_pages(api: httpx.AsyncClient, spec: dict[str, Any]) -> None:
    for name in ("c", "a", "b"):
        await api.post("/v1/models", json={**spec, "name": name})
    first = (await api.get("/v1/models", params={"limit": 2})).json()
    assert [model["name"] for model in first["items"]] == ["a", "b"]
    rest = (await api.get("/v1/models", params={"limit": 2, "cursor": first["next"]})).json()
    assert ([model["name"] for model in rest["items"]], rest["next"]) == (["c"], None)


@pytest.mark.parametrize("limit", [0, 1001, "many"])
async def test_limits_are_bounded(toy: httpx.AsyncClient, limit: Any) -> None:
    answer = await toy.get("/v1/models", params={"limit": limit})
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "limit")


async def test_cursors_are_checked(toy: httpx.AsyncClient) -> None:
    answer = await toy.get("/v1/models/toy/versions", params={"cursor": "x' OR 1=1"})
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "cursor")


async def test_a_spec_can_be_changed_in_part(toy: httpx.AsyncClient, place: Any) -> None:
    answer = await toy.patch("/v1/models/toy", json={"threshold": 0.7, "policy": {"window": 50}})
    assert answer.status_code == 200
    changed = answer.json()["spec"]
    assert (changed["threshold"], changed["policy"]["window"]) == (0.7, 50)
    assert changed["policy"]["min_labels"] == 40

    place.advance()
    decisions = (await toy.get("/v1/models/toy/decisions")).json()["items"]
    assert decisions[0]["kind"] == "configure"
    assert decisions[0]["evidence"]["changed"] == ["policy", "threshold"]


async def test_strictness_takes_effect_at_once(toy: httpx.AsyncClient) -> None:
    body = {"row": {"a": 1, "b": 1, "c": 1}}
    assert (await toy.post("/v1/models/toy/predict", json=body)).status_code == 200
    await toy.patch("/v1/models/toy", json={"strict": True})
    assert (await toy.post("/v1/models/toy/predict", json=body)).status_code == 422


@pytest.mark.parametrize("change", [{"name": "x"}, {"target": "z"}, {"features": {"a": "numeric"}}])
async def test_what_a_model_is_cannot_change(toy: httpx.AsyncClient, change: dict[str, Any]) -> None:
    answer = await toy.patch("/v1/models/toy", json=change)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == next(iter(change))


async def test_a_model_is_removed_with_all_it_has(toy: httpx.AsyncClient, spec: dict[str, Any]) -> None:
    await toy.post("/v1/models/toy/predict", json={"rows": [{"a": 1, "b": 1}], "ids": ["p"]})
    gone = await toy.delete("/v1/models/toy")
    assert (gone.status_code, gone.content) == (204, b"")
    assert (await toy.get("/v1/models/toy")).status_code == 404
    assert (await toy.post("/v1/models/toy/predict", json={"row": {"a": 1}})).status_code == 404
    assert (await toy.delete("/v1/models/toy")).status_code == 404

    assert (await toy.post("/v1/models", json=spec)).status_code == 201
    assert (await toy.get("/v1/models/toy/predictions/p")).status_code == 404


async def test_scores(toy: httpx.AsyncClient) -> None:
    scores = (await toy.get("/v1/models/toy/scores")).json()
    assert scores["state"] == "insufficient labels"
    assert (await toy.get("/v1/models/none/scores")).status_code == 404


async def test_a_spec_with_a_number_that_is_none_is_refused(api: httpx.AsyncClient) -> None:
    raw = b'{"name": "m", "target": "y", "features": {"a": "numeric"}, '
    raw += b'"threshold": Infinity, "gate": {"alpha": NaN}}'
    answer = await api.post("/v1/models", content=raw, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert [fault["field"] for fault in answer.json()["errors"]] == ["threshold", "gate.alpha"]


async def test_a_wrong_method_is_told_the_right_ones_and_a_wrong_path_where_to_look(
    api: httpx.AsyncClient,
) -> None:
    answer = await api.request("PUT", "/v1/models")
    assert (answer.status_code, answer.headers["Allow"]) == (405, "GET, POST")
    assert "use GET, POST" in answer.json()["detail"]
    assert "/docs" in (await api.get("/v1/nowhere")).json()["detail"]
