"""What pages are made of: all models on one page, the score over time, and what is behind it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from everlearn.types import Decision, DecisionKind, ScorePoint, Step
from everlearn.worker import JobRunner

ROWS = 260


async def play(client: httpx.AsyncClient, place: Any, rows: int = ROWS, wrong_from: int = 10**9) -> None:
    """Predictions of ``toy`` with their labels; from a row on the labels are the other way round."""
    features = [{"a": (i * 37 % 101) / 50 - 1, "b": (i * 13 % 7) / 7} for i in range(rows)]
    for start in range(0, rows, 20):
        part = features[start : start + 20]
        answer = await client.post("/v1/models/toy/predict", json={"rows": part})
        ids = [one["id"] for one in answer.json()["predictions"]]
        truths = [
            "yes" if (row["a"] > 0) != (start + i >= wrong_from) else "no" for i, row in enumerate(part)
        ]
        labels = [{"id": key, "value": value} for key, value in zip(ids, truths, strict=True)]
        assert (await client.post("/v1/models/toy/labels", json={"labels": labels})).status_code == 200
        place.clock.advance(60.0)
        await asyncio.to_thread(place.advance)


@pytest.fixture
async def played(trained: httpx.AsyncClient, place: Any) -> httpx.AsyncClient:
    await play(trained, place)
    return trained


async def test_all_models_stand_on_one_page(
    played: httpx.AsyncClient, spec: dict[str, Any], place: Any
) -> None:
    await played.post("/v1/models", json={**spec, "name": "new"})
    page = (await played.get("/v1/overview")).json()
    assert (page["total"], page["next"]) == (2, None)
    new, toy = page["items"]
    assert (toy["name"], new["name"]) == ("toy", "new")
    assert page["counts"] == {toy["state"]: 1, "insufficient labels": 1}
    scores = (await played.get("/v1/models/toy/scores")).json()
    assert toy["score"] == scores["champion"]["value"]
    assert toy["lower"] < toy["score"] <= toy["upper"]
    assert (toy["champion"], toy["threshold"], toy["waiting_labels"]) == (1, 0.8, scores["waiting"])
    assert len(toy["trend"]) == scores["matured"] // 100 >= 2
    (newest,) = (await played.get("/v1/models/toy/decisions?limit=1")).json()["items"]
    assert toy["last_decision"] == {name: newest[name] for name in toy["last_decision"]}
    assert new["score"] is None
    assert new["trend"] == []
    assert new["reason"] == "0 of 60 labels that a first version needs"


async def test_the_page_is_there_before_any_card_is_written(trained: httpx.AsyncClient, place: Any) -> None:
    """As after an upgrade: the loop has moved, but wrote no card."""
    with_card = (await trained.get("/v1/overview")).json()["items"][0]
    forget_card(place.store, "toy")
    without = (await trained.get("/v1/overview")).json()["items"][0]
    assert without == with_card


def forget_card(store: Any, model: str) -> None:
    if hasattr(store, "_database"):
        from sqlalchemy import delete

        from everlearn.adapters.sql.tables import cards

        with store._database.write() as connection:
            connection.execute(delete(cards))
    else:
        store.scores._data.models[model].card = b""


async def test_the_worst_come_first_and_pages_follow(
    played: httpx.AsyncClient, spec: dict[str, Any], place: Any
) -> None:
    for name in ("b", "a", "cold"):
        await played.post("/v1/models", json={**spec, "name": name})
    assert (await played.post("/v1/models/cold/freeze?wait=0")).status_code in (200, 202)
    await asyncio.to_thread(place.advance)
    names: list[str] = []
    cursor = None
    while True:
        asked = {"limit": 2, **({"cursor": cursor} if cursor else {})}
        page = (await played.get("/v1/overview", params=asked)).json()
        names += [one["name"] for one in page["items"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert names[0] == "cold"
    assert names.index("a") < names.index("b")
    assert sorted(names) == ["a", "b", "cold", "toy"]
    assert (await played.get("/v1/overview?cursor=x")).status_code == 422


async def test_the_score_over_time(played: httpx.AsyncClient, place: Any) -> None:
    found = (await played.get("/v1/models/toy/timeline")).json()
    assert found["metric"] == "accuracy"
    assert (found["rows_per_window"], found["windows"]) == (100, len(found["points"]))
    first, second = found["points"][:2]
    assert first["rows"] == second["rows"] == 100
    assert first["seq"] < second["seq"]
    assert first["at"] < second["at"]
    assert 0 <= first["lower"] <= first["score"] <= first["upper"] <= 1
    assert first["min"] == first["score"] == first["max"]
    assert 0.3 < first["no_change"] < 0.7
    kinds = {mark["kind"] for mark in found["marks"]}
    assert {"update", "promote"} <= kinds
    assert not kinds & {"hold", "configure"}
    assert [mark["number"] for mark in found["marks"]] == sorted(mark["number"] for mark in found["marks"])
    assert found["regimes"][0]["from_row"] <= 10  # counted back from the first point, by events
    assert found["regimes"][-1]["to_row"] is None
    later = (await played.get("/v1/models/toy/timeline", params={"from": second["at"]})).json()
    assert later["points"][0] == second
    none = (await played.get("/v1/models/toy/timeline", params={"to": 1.0})).json()
    assert (none["points"], none["marks"], none["windows"]) == ([], [], 0)


async def test_a_long_time_is_thinned(toy: httpx.AsyncClient, place: Any) -> None:
    scores = [0.5 + (n % 10) / 100 for n in range(1, 100)]
    points = [
        ScorePoint(
            level=0, number=n, seq=n * 200, at=1000.0 + n, row=n * 100, rows=100, first=1,
            last=2, score=score, lower=score - 0.1, upper=score + 0.1, low=score, high=score,
            no_change=0.4, threshold=0.8, champion=1,
        )
        for n, score in enumerate(scores, 1)
    ]  # fmt: skip
    at = place.store.ledger.checkpoint("toy")
    assert place.store.ledger.commit("toy", Step(at.cursor, at.cursor, at.state, points=points))
    found = (await toy.get("/v1/models/toy/timeline?points=20")).json()
    assert len(found["points"]) <= 20
    assert (found["windows"], sum(point["rows"] for point in found["points"])) == (99, 9900)
    mean = sum(point["rows"] * point["score"] for point in found["points"]) / 9900
    assert mean == pytest.approx(sum(scores) / 99)
    assert min(point["min"] for point in found["points"]) == min(scores)
    assert max(point["max"] for point in found["points"]) == max(scores)
    widths = [point["upper"] - point["score"] for point in found["points"]]
    assert max(widths) < 0.06  # the mean of five windows is surer than one


async def test_what_is_behind_the_score(played: httpx.AsyncClient) -> None:
    matrix = (await played.get("/v1/models/toy/matrix")).json()
    assert matrix["regime_list"][0]["name"] == "regime 1"
    assert len(matrix["R"]) == len(matrix["versions"])
    maturity = (await played.get("/v1/models/toy/maturity")).json()
    assert maturity["horizon"] == {
        "given": {"rows": 5},
        "rows": 5,
        "seconds": None,
        "learned_rows": maturity["horizon"]["learned_rows"],
    }
    shares = [point["share"] for point in maturity["by_rows"]]
    assert shares == sorted(shares)
    assert shares[-1] > 0.9
    drift = (await played.get("/v1/models/toy/drift")).json()
    assert drift["features"]["reference"] == "building"
    assert drift["features"]["taken"] > 0


async def test_segments_of_the_newest_labelled_rows(played: httpx.AsyncClient) -> None:
    found = (await played.get("/v1/models/toy/segments")).json()
    assert (found["column"], found["columns"], found["rows"]) == ("a", ["a", "b"], ROWS)
    assert sum(part["rows"] for part in found["segments"]) == ROWS
    assert len(found["segments"]) == 4
    scores = [part["score"] for part in found["segments"]]
    assert scores == sorted(scores)
    other = (await played.get("/v1/models/toy/segments?column=b")).json()
    assert {part["name"].split()[0] for part in other["segments"]} <= {"under", "from"}
    wrong = await played.get("/v1/models/toy/segments?column=zip")
    assert wrong.status_code == 422
    assert wrong.json()["errors"][0]["field"] == "column"


async def test_a_candidate_on_trial_shows_its_evidence(played: httpx.AsyncClient) -> None:
    candidate = (await played.get("/v1/models/toy/trial")).json()["candidate"]
    assert candidate["needed"] == pytest.approx(-math.log(candidate["alpha"]))
    assert candidate["e_value"] == pytest.approx(math.exp(candidate["log_e"]))
    assert 0 <= candidate["candidate_loss"] <= 1
    assert all(point["rows"] <= candidate["rows"] for point in candidate["history"])
    card = (await played.get("/v1/overview")).json()["items"][0]
    assert card["candidate"] == {name: candidate[name] for name in ("version", "rows", "log_e", "needed")}


async def test_decisions_are_found_by_kinds_and_time(played: httpx.AsyncClient) -> None:
    async def kinds(**asked: Any) -> list[str]:
        return [
            d["kind"] for d in (await played.get("/v1/models/toy/decisions", params=asked)).json()["items"]
        ]

    every = await kinds()
    assert set(await kinds(kind=["promote", "update"])) == {"promote", "update"}
    assert await kinds(to=1.0) == []
    assert await kinds(**{"from": 1.0}) == every
    assert (await played.get("/v1/models/toy/decisions?kind=nonsense")).status_code == 422


async def test_a_decision_is_proven_by_a_worker(played: httpx.AsyncClient, place: Any) -> None:
    (promoted,) = (await played.get("/v1/models/toy/decisions?kind=promote")).json()["items"]
    answer = await played.post(
        f"/v1/models/toy/decisions/{promoted['number']}/verify", json={"retrain": True}
    )
    asked = answer.json()
    assert (answer.status_code, asked["state"], asked["found"]) == (202, "queued", None)
    assert await asyncio.to_thread(JobRunner(place.parts, "me").run_once) is not None
    found = (await played.get(f"/v1/models/toy/verifications/{asked['id']}")).json()
    assert (found["state"], found["error"]) == ("done", None)
    assert found["found"]["identical"]
    assert found["found"]["decisions"] >= promoted["number"]
    assert found["found"]["artifacts_checked"] > 0
    assert (await played.get("/v1/models/toy/verifications/other")).status_code == 404
    assert (await played.post("/v1/models/toy/decisions/9999/verify")).status_code == 404


async def test_a_forged_decision_does_not_pass(
    played: httpx.AsyncClient, place: Any, make_decision: Any
) -> None:
    at = place.store.ledger.checkpoint("toy")
    last = place.store.ledger.decisions("toy", limit=1).items[0]
    forged = make_decision(last.number + 1, at.cursor)
    assert place.store.ledger.commit("toy", Step(at.cursor, at.cursor, at.state, [forged]))
    asked = (await played.post(f"/v1/models/toy/decisions/{forged.number}/verify")).json()
    await asyncio.to_thread(JobRunner(place.parts, "me").run_once)
    found = (await played.get(f"/v1/models/toy/verifications/{asked['id']}")).json()["found"]
    assert not found["identical"]
    assert f"decision {forged.number}" in found["differences"][0]


@pytest.fixture
def make_decision() -> Callable[[int, int], Any]:
    return lambda number, seq: Decision(number, seq, 1.0, DecisionKind.PROMOTE, "because I say so")
