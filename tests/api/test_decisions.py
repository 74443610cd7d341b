"""Decisions explained, alerts counted, and answers while a model abstains."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import httpx
import pytest

from everlearn.api.standing import findings
from everlearn.loop.state import Candidate, LoopState, dump
from everlearn.loop.trial import Trial

WHY = "/v1/models/toy/decisions/{}/why"
PREDICT = "/v1/models/toy/predict"


async def test_a_promotion_is_explained(trained: httpx.AsyncClient) -> None:
    (promoted,) = (await trained.get("/v1/models/toy/decisions?kind=promote")).json()["items"]
    answer = await trained.get(WHY.format(promoted["number"]))
    told = answer.json()
    assert answer.status_code == 200
    assert {name: told[name] for name in promoted} == promoted
    assert told["headline"] == f"Version 1 was promoted (decision {promoted['number']})"
    assert "Version 1 took over from version 0" in told["paragraph"]
    assert "It had learned from" in told["paragraph"]
    assert "rows" in {number["name"] for number in told["numbers"]}
    assert told["why_not"]


async def test_without_a_number_it_is_the_newest_that_mattered(trained: httpx.AsyncClient) -> None:
    await trained.patch("/v1/models/toy", json={"description": "a later decision that matters less"})
    newest = (await trained.get(WHY.format("newest"))).json()
    assert newest["kind"] == "promote"


@pytest.mark.parametrize(
    ("which", "status"), [(99, 404), ("newest", 404), (0, 422), ("last", 422), (2**60, 422)]
)
async def test_what_there_is_not(toy: httpx.AsyncClient, which: Any, status: int) -> None:
    answer = await toy.get(WHY.format(which))
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"


async def test_every_decision_of_a_model_is_explained(trained: httpx.AsyncClient) -> None:
    for decision in (await trained.get("/v1/models/toy/decisions")).json()["items"]:
        assert (await trained.get(WHY.format(decision["number"]))).json()["headline"]


async def test_alerts_are_counted_for_prometheus(
    trained: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    from everlearn.loop import figures

    whole = figures.figures
    monkeypatch.setattr(figures, "figures", lambda state: replace(whole(state), alerts={"rollback": 2}))
    page = (await trained.get("/metrics")).text
    assert 'everlearn_alerts_total{kind="rollback",model="toy"} 2.0' in page


# -- abstaining --------------------------------------------------------------------------------------


def test_little_of_the_state_is_read() -> None:
    state = LoopState(abstaining=True, candidate=Candidate(Trial(4, 1, 0.05), "fresh", 0))
    assert (findings(dump(state)).abstaining, findings(dump(state)).on_trial) == (True, 4)
    assert (findings(dump(LoopState())).abstaining, findings(dump(LoopState())).on_trial) == (False, None)


@pytest.fixture
def spec(request: pytest.FixtureRequest, spec: dict[str, Any]) -> dict[str, Any]:
    """The spec of the other tests, with what a test asks for by ``with_spec``."""
    marker = request.node.get_closest_marker("parametrize")
    wanted = request.node.callspec.params.get("abstain") if marker and "abstain" in marker.args[0] else None
    never = {**spec["policy"], "name": "never", "reuse": False, "recalibrate": False}
    return {**spec, "abstain": wanted, "policy": never} if wanted else spec


async def answered(client: httpx.AsyncClient, place: Any, rows: int, right: bool, start: int) -> None:
    """Ask rows and label them as the model's concept has it, or the other way round."""
    features = [{"a": (i * 37 % 101) / 50 - 1, "b": 0.5} for i in range(start, start + rows)]
    ids = [f"row-{i}" for i in range(start, start + rows)]
    assert (await client.post(PREDICT, json={"rows": features, "ids": ids})).status_code == 200
    labels = [
        {"id": name, "value": "yes" if (row["a"] > 0) == right else "no"}
        for name, row in zip(ids, features, strict=True)
    ]
    assert (await client.post("/v1/models/toy/labels", json={"labels": labels})).status_code == 200
    await asyncio.to_thread(place.advance)


async def until_abstained(client: httpx.AsyncClient, wanted: bool) -> tuple[dict[str, Any], float]:
    """Ask until answers are as wanted; the answer, and how long it took."""
    started = time.monotonic()
    while time.monotonic() - started < 5:
        body = {"row": {"a": 0.9, "b": 0.5}, "id": f"ask-{time.monotonic_ns()}"}
        told = (await client.post(PREDICT, json=body)).json()["predictions"][0]
        if ("abstained" in told) == wanted:
            return told, time.monotonic() - started
        await asyncio.sleep(0.02)
    raise AssertionError(f"abstained is not {wanted} after 5 s")


@pytest.mark.parametrize("abstain", [{"floor": 0.9, "action": "withhold"}])
async def test_a_model_withholds_its_answers_while_it_is_bad(
    trained: httpx.AsyncClient, place: Any, abstain: dict[str, Any]
) -> None:
    usual, _ = await until_abstained(trained, wanted=False)
    assert usual["value"] == "yes"

    await answered(trained, place, 60, right=False, start=0)
    told, seconds = await until_abstained(trained, wanted=True)
    assert seconds < 1.0
    assert told == {"id": told["id"], "version": 1, "value": None, "abstained": True}
    recorded = place.store.log.find("toy", [told["id"]])[told["id"]][0]
    assert recorded.output.value == "yes"
    assert recorded.output.probabilities

    await answered(trained, place, 150, right=True, start=60)
    told, seconds = await until_abstained(trained, wanted=False)
    assert seconds < 1.0
    assert set(told) == {"id", "version", "value", "probabilities"}


@pytest.mark.parametrize("abstain", [{"floor": 0.9, "action": "flag"}])
async def test_a_model_flags_its_answers_while_it_is_bad(
    trained: httpx.AsyncClient, place: Any, abstain: dict[str, Any]
) -> None:
    await answered(trained, place, 60, right=False, start=0)
    told, _ = await until_abstained(trained, wanted=True)
    assert told["abstained"] is True
    assert told["value"] == "yes"
    assert told["probabilities"]
    why = [d for d in place.store.ledger.decisions("toy", None, 100).items if d.kind == "abstain"]
    explained = (await trained.get(WHY.format(why[0].number))).json()
    assert explained["headline"].startswith("The model abstains")

    # Without the wish there is no abstention, whatever the loop had found.
    assert (await trained.patch("/v1/models/toy", json={"abstain": None})).status_code == 200
    await until_abstained(trained, wanted=False)


async def test_a_model_without_the_wish_is_not_looked_up(
    trained: httpx.AsyncClient, place: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(model: str) -> Any:
        raise AssertionError(f"the checkpoint of {model} was read")

    monkeypatch.setattr(place.store.ledger, "checkpoint", refused)
    answer = await trained.post(PREDICT, json={"row": {"a": 0.9, "b": 0.5}})
    assert set(answer.json()["predictions"][0]) == {"id", "version", "value", "probabilities"}


async def test_openapi_tells_of_it(make_app: Callable[..., Any]) -> None:
    page = make_app().openapi()
    told = page["components"]["schemas"]["PredictionAnswer"]
    assert "abstained" in told["properties"]
    assert "abstained" not in told["required"]
    operation = page["paths"]["/v1/models/{model}/decisions/{number}/why"]["get"]
    (number,) = [p for p in operation["parameters"] if p["name"] == "number"]
    assert {"const": "newest", "type": "string"} in number["schema"]["anyOf"]
