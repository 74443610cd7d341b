"""The share of a candidate: as large as it says, always the same keys, whichever door they come by."""

from __future__ import annotations

import asyncio
import json
import math
import os
import subprocess
import sys
from typing import Any

import httpx
import pytest

from everlearn.api.route import key_of, of_candidate, place
from everlearn.errors import SpecError
from everlearn.predictor import Predictor
from everlearn.spec import RouteSpec, parse_spec

PREDICT, INFER = "/v1/models/toy/predict", "/v2/models/toy/infer"
SHARE = 0.3
ROUTE = {"champion": 1 - SHARE, "candidate": SHARE, "by": "user"}


@pytest.fixture
def spec(spec: dict[str, Any]) -> dict[str, Any]:
    features = {"a": "numeric", "b": "numeric", "user": "categorical"}
    return {**spec, "features": features, "route": ROUTE, "policy": {**spec["policy"], "name": "never"}}


def rows(count: int, start: int = 0) -> list[dict[str, Any]]:
    """Rows of users of their own; ``a`` is far from where the class turns, so that all versions agree."""
    return [
        {"a": 0.9 if i % 2 else -0.9, "b": i % 7 / 7, "user": f"user-{i}"}
        for i in range(start, start + count)
    ]


def history(count: int, start: int = 0) -> dict[str, Any]:
    made = [
        {"a": (i * 37 % 101) / 50 - 1, "b": (i * 13 % 7) / 7, "user": f"u{i % 3}"}
        for i in range(start, start + count)
    ]
    return {"rows": made, "targets": ["yes" if row["a"] > 0 else "no" for row in made]}


@pytest.fixture
async def on_trial(toy: httpx.AsyncClient, place: Any) -> httpx.AsyncClient:
    """A client where version 1 of ``toy`` answers and version 2 is on trial."""
    await toy.post("/v1/models/toy/examples", json=history(150))
    await asyncio.to_thread(place.advance)
    assert place.store.versions.champion("toy").version == 1
    await challenge(toy, place, 2)
    await until_split(toy, {1, 2})
    return toy


async def challenge(client: httpx.AsyncClient, place: Any, version: int) -> None:
    """Let another version be trained that is neither better nor worse, so that its trial goes on."""
    await client.post("/v1/models/toy/examples", json=history(40, 150 * version))
    answer = await client.post("/v1/models/toy/retrain?wait=0", json={"force": True})
    assert answer.status_code == 202
    await asyncio.to_thread(place.advance)
    scores = (await client.get("/v1/models/toy/scores")).json()
    assert scores["candidate"]["version"] == version


async def until_split(client: httpx.AsyncClient, versions: set[int]) -> None:
    """Wait until just these versions answer."""
    for _ in range(200):
        told = (await client.post(PREDICT, json={"rows": rows(60)})).json()
        if {one["version"] for one in told["predictions"]} == versions:
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"versions {versions} do not answer")


def expected(row: dict[str, Any], champion: int = 1, candidate: int = 2) -> int:
    return candidate if place("toy", row["user"]) < SHARE else champion


# -- the split by itself -------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.05, 0.5])
def test_the_share_holds_within_three_sigma(share: float) -> None:
    n, route = 20_000, RouteSpec(champion=1 - share, candidate=share)
    given = sum(of_candidate("shop", route, [{}] * n, [f"customer-{i}" for i in range(n)]))
    assert abs(given - share * n) <= 3 * math.sqrt(n * share * (1 - share))


def test_a_greater_share_keeps_the_keys_of_a_smaller_one() -> None:
    ids = [f"id-{i}" for i in range(2000)]
    small, large = (
        of_candidate("shop", RouteSpec(champion=1 - share, candidate=share), [{}] * 2000, ids)
        for share in (0.1, 0.3)
    )
    assert all(more for less, more in zip(small, large, strict=True) if less)
    assert sum(small) < sum(large)


def test_a_key_lies_at_the_same_place_in_every_process() -> None:
    code = "from everlearn.api.route import place; print([place('shop', k) for k in ('ann', 'bob', 'ζ')])"
    found = set()
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
        )
        found.add(done.stdout)
    assert found == {f"{[place('shop', key) for key in ('ann', 'bob', 'ζ')]}\n"}
    # Written down, so that another release cannot move a key without anybody noticing.
    assert place("shop", "ann") == 0.18117690781136186
    assert place("shop", "ann") != place("other", "ann")


def test_a_number_has_one_text_and_a_missing_one_gives_way_to_the_id() -> None:
    assert key_of(7, "x") == key_of(7.0, "x") == "7.0"
    assert (key_of(True, "x"), key_of(None, "x"), key_of("", "x")) == ("true", "x", "")
    route = RouteSpec(champion=0.5, candidate=0.5, by="user")
    ids = [f"id-{i}" for i in range(100)]
    assert of_candidate("m", route, [{}] * 100, ids) == of_candidate(
        "m", route, [{"user": x} for x in ids], ids
    )


@pytest.mark.parametrize(
    ("route", "said"),
    [
        ({"champion": 0.9, "candidate": 0.2}, "add up to 1.1: make it 1"),
        ({"champion": 1.5, "candidate": -0.5}, "route.candidate"),
        (
            {"champion": 0.9, "candidate": 0.1, "by": "customer"},
            "route.by names 'customer', which is no feature",
        ),
        ({"champion": 0.9}, "route.candidate"),
        ({"champion": 0.9, "candidate": 0.1, "sticky": True}, "route.sticky"),
    ],
)
def test_a_route_that_makes_no_sense_is_refused(
    spec: dict[str, Any], route: dict[str, Any], said: str
) -> None:
    with pytest.raises(SpecError, match=said):
        parse_spec({**spec, "route": route})


# -- through the doors ---------------------------------------------------------------------------------


async def test_every_door_sends_the_same_keys_to_the_candidate(
    on_trial: httpx.AsyncClient, place: Any
) -> None:
    asked = rows(300)
    wanted = [expected(row) for row in asked]
    assert set(wanted) == {1, 2}
    found = {
        "one by one": [await one_by_one(on_trial, row) for row in asked[:60]],
        "few": versions_of(await on_trial.post(PREDICT, json={"rows": asked[:100]})),
        "the framework's": versions_of(
            await on_trial.post(PREDICT, json={"rows": asked[:100]}, headers={"Idempotency-Key": "k"})
        ),
        "many": versions_of(await on_trial.post(PREDICT, json={"rows": asked})),
        "a table": [one["version"] for one in ndjson(await on_trial.post(PREDICT, **as_ndjson(asked)))],
        "tensors": tensor(await on_trial.post(INFER, json=as_tensors(asked)), "version"),
    }
    for door, versions in found.items():
        assert versions == wanted[: len(versions)], door


async def test_every_answer_is_of_the_version_it_names_and_is_recorded_so(
    on_trial: httpx.AsyncClient, place: Any
) -> None:
    asked = rows(300)
    few = (await on_trial.post(PREDICT, json={"rows": asked[:80]})).json()["predictions"]
    many = (await on_trial.post(PREDICT, json={"rows": asked})).json()["predictions"]
    table = ndjson(await on_trial.post(PREDICT, **as_ndjson(asked)))
    own = {
        number: Predictor.from_bundle(place.store.artifacts.get(digest(place, number))) for number in (1, 2)
    }
    assert own[1].predict(asked[:1]) != own[2].predict(asked[:1])
    for answers in (few, many, table):
        recorded = place.store.log.find("toy", [one["id"] for one in answers])
        for row, one in zip(asked, answers, strict=False):
            (output,) = own[one["version"]].predict([row])
            assert one["value"] == output.value
            assert one["probabilities"] == pytest.approx(output.probabilities, abs=1e-9)
            kept = recorded[one["id"]][0]
            assert (kept.version, kept.output.value) == (one["version"], one["value"])


async def test_csv_has_the_probabilities_of_both_sides(on_trial: httpx.AsyncClient) -> None:
    text = "a,b,user\n" + "".join(f"{row['a']},{row['b']},{row['user']}\n" for row in rows(50))
    answer = await on_trial.post(PREDICT, content=text, headers={"Content-Type": "text/csv"})
    lines = [line.split(",") for line in answer.text.splitlines()]
    assert lines[0] == ["id", "version", "value", "probabilities.no", "probabilities.yes"]
    assert [int(line[1]) for line in lines[1:]] == [expected(row) for row in rows(50)]
    assert all(abs(float(line[3]) + float(line[4]) - 1) < 1e-9 for line in lines[1:])


async def test_a_repeat_gets_its_recorded_answer_after_the_trial_too(
    on_trial: httpx.AsyncClient, place: Any
) -> None:
    asked = rows(40)
    body = {"rows": asked, "ids": [f"mine-{i}" for i in range(40)]}
    first = (await on_trial.post(PREDICT, json=body)).json()
    await command(on_trial, place, "versions/1/promote", 409)
    await command(on_trial, place, "versions/2/promote", 200)
    await until_split(on_trial, {2})
    assert (await on_trial.post(PREDICT, json=body)).json() == first


async def test_without_a_column_the_id_decides(
    toy: httpx.AsyncClient, place: Any, spec: dict[str, Any]
) -> None:
    await toy.patch("/v1/models/toy", json={"route": {"champion": 0.5, "candidate": 0.5}})
    await toy.post("/v1/models/toy/examples", json=history(150))
    await asyncio.to_thread(place.advance)
    await challenge(toy, place, 2)
    await until_split(toy, {1, 2})
    ids = [f"mail-{i}" for i in range(100)]
    told = versions_of(await toy.post(PREDICT, json={"rows": rows(1) * 100, "ids": ids}))
    assert told == [2 if place_of(key) < 0.5 else 1 for key in ids]


def place_of(key: str) -> float:
    return place("toy", key)


@pytest.mark.parametrize("end", ["promoted", "superseded", "turned off"])
async def test_the_share_ends_with_the_trial(on_trial: httpx.AsyncClient, place: Any, end: str) -> None:
    if end == "promoted":
        await command(on_trial, place, "versions/2/promote", 200)
        await until_split(on_trial, {2})
    elif end == "superseded":
        await command(on_trial, place, "versions/0/promote", 200)
        await until_split(on_trial, {0})
    else:
        await on_trial.patch("/v1/models/toy", json={"route": None})
        await until_split(on_trial, {1})


async def test_a_candidate_that_does_not_load_leaves_all_to_the_champion(
    toy: httpx.AsyncClient, place: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await toy.post("/v1/models/toy/examples", json=history(150))
    await asyncio.to_thread(place.advance)
    await until_split(toy, {1})
    get = place.store.artifacts.get

    def damaged(wanted: str) -> Any:
        from everlearn.errors import IntegrityError

        if damaging and wanted == digest(place, 2):
            raise IntegrityError("it is damaged")
        return get(wanted)

    damaging = False  # while it is trained and tested
    monkeypatch.setattr(place.store.artifacts, "get", damaged)
    runtime = toy._transport.app.state.door.runtime  # type: ignore[attr-defined]
    await asyncio.to_thread(runtime.stop)
    await challenge(toy, place, 2)
    damaging = True
    runtime.start()
    for _ in range(100):
        if "everlearn_failed_loads_total 0.0" not in (await toy.get("/metrics")).text:
            break
        await asyncio.sleep(0.02)
    else:
        raise AssertionError("the candidate was loaded")
    assert set(versions_of(await toy.post(PREDICT, json={"rows": rows(60)}))) == {1}
    damaging = False
    await until_split(toy, {1, 2})


async def test_a_candidate_that_fails_gives_its_rows_to_the_champion(
    on_trial: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = on_trial._transport.app.state.door.runtime  # type: ignore[attr-defined]
    candidate = runtime._served["toy"].candidate

    def broken(*_: Any) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(candidate.predictor.learner, "predict", broken)
    for body in ({"rows": rows(60)}, {"rows": rows(300)}):
        assert set(versions_of(await on_trial.post(PREDICT, json=body))) == {1}


async def test_answers_are_counted_by_role(on_trial: httpx.AsyncClient) -> None:
    before = await counts(on_trial)
    asked = rows(300)
    shares = sum(expected(row) == 2 for row in asked)
    for body in ({"rows": asked[:60]}, {"rows": asked}):
        await on_trial.post(PREDICT, json=body)
    few = sum(expected(row) == 2 for row in asked[:60])
    await on_trial.post("/v2/models/toy/versions/0/infer", json=as_tensors(asked[:7]))
    after = await counts(on_trial)
    assert {role: after[role] - before[role] for role in after} == {
        "candidate": shares + few,
        "champion": 360 - shares - few,
        "other": 7,
    }


# -- versions by their number (Open Inference Protocol) ------------------------------------------------


async def test_versions_are_asked_by_their_number(on_trial: httpx.AsyncClient, place: Any) -> None:
    asked = rows(20)
    for number in (0, 1, 2):
        at = f"/v2/models/toy/versions/{number}"
        assert (await on_trial.get(at)).json()["versions"] == [str(number)]
        assert (await on_trial.get(f"{at}/ready")).json() == {"name": "toy", "ready": True}
        answer = await on_trial.post(f"{at}/infer", json=as_tensors(asked))
        assert answer.json()["model_version"] == str(number)
        ids = tensor(answer, "prediction_id")
        assert {place.store.log.find("toy", ids)[key][0].version for key in ids} == {number}
    assert (await on_trial.get("/v2/models/toy")).json()["versions"] == ["1", "2", "0"]
    mixed = (await on_trial.post(INFER, json={"inputs": as_tensors(asked)["inputs"]})).json()
    assert "model_version" not in mixed
    assert next(one for one in mixed["outputs"] if one["name"] == "version")["data"] == list(
        map(expected, asked)
    )


@pytest.mark.parametrize("number", ["3", "-1", "x", "01x", "9" * 30])
async def test_a_version_that_is_not_there(on_trial: httpx.AsyncClient, number: str) -> None:
    answer = await on_trial.post(f"/v2/models/toy/versions/{number}/infer", json=as_tensors(rows(1)))
    assert answer.status_code == 404
    assert answer.json()["error"]


async def test_a_refused_version_does_not_answer_and_a_damaged_one_is_503(
    on_trial: httpx.AsyncClient, place: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from everlearn.errors import IntegrityError

    await command(on_trial, place, "versions/0/promote", 200)  # which supersedes version 2
    await until_split(on_trial, {0})
    refused = await on_trial.post("/v2/models/toy/versions/2/infer", json=as_tensors(rows(1)))
    assert (refused.status_code, "refused" in refused.json()["error"]) == (404, True)

    def damaged(_: str) -> Any:
        raise IntegrityError("it is damaged")

    monkeypatch.setattr(place.store.artifacts, "get", damaged)
    broken = await on_trial.post("/v2/models/toy/versions/1/infer", json=as_tensors(rows(1)))
    assert (broken.status_code, broken.headers["Retry-After"]) == (503, "1")


# -- helpers -------------------------------------------------------------------------------------------


async def one_by_one(client: httpx.AsyncClient, row: dict[str, Any]) -> int:
    return versions_of(await client.post(PREDICT, json={"row": row}))[0]


def versions_of(answer: httpx.Response) -> list[int]:
    return [one["version"] for one in answer.raise_for_status().json()["predictions"]]


def ndjson(answer: httpx.Response) -> list[dict[str, Any]]:
    return [json.loads(line) for line in answer.raise_for_status().text.splitlines()]


def as_ndjson(asked: list[dict[str, Any]]) -> dict[str, Any]:
    content = "".join(json.dumps(row) + "\n" for row in asked)
    return {"content": content, "headers": {"Content-Type": "application/x-ndjson"}}


def as_tensors(asked: list[dict[str, Any]]) -> dict[str, Any]:
    kinds = {"a": "FP64", "b": "FP64", "user": "BYTES"}
    inputs = [
        {"name": name, "datatype": kind, "shape": [len(asked)], "data": [row[name] for row in asked]}
        for name, kind in kinds.items()
    ]
    return {"inputs": inputs, "outputs": [{"name": name} for name in ("version", "prediction_id", "value")]}


def tensor(answer: httpx.Response, name: str) -> list[Any]:
    return next(one["data"] for one in answer.raise_for_status().json()["outputs"] if one["name"] == name)


def digest(place: Any, number: int) -> str:
    return str(place.store.versions.get("toy", number).digest)


async def command(client: httpx.AsyncClient, place: Any, what: str, status: int) -> None:
    asked = asyncio.create_task(client.post(f"/v1/models/toy/{what}"))
    while not asked.done():
        await asyncio.to_thread(place.advance)
        await asyncio.sleep(0.01)
    assert asked.result().status_code == status


async def counts(client: httpx.AsyncClient) -> dict[str, float]:
    start = 'everlearn_predictions_total{role="'
    lines = [
        line.removeprefix(start)
        for line in (await client.get("/metrics")).text.splitlines()
        if line.startswith(start)
    ]
    return {line.partition('"')[0]: float(line.split()[-1]) for line in lines}
