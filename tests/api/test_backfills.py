"""A backfill over HTTP: a version answers a stretch of the log in parts, which are gathered."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from everlearn.api.app import create_app
from everlearn.api.auth import ApiKey
from everlearn.spec import parse_spec
from everlearn.types import EventKind, JobState, NewEvent
from everlearn.worker import JobRunner

URL = "/v1/models/toy/backfills"
ARROW, PARQUET = "application/vnd.apache.arrow.stream", "application/vnd.apache.parquet"


def row(i: int) -> dict[str, Any]:
    return {"a": (i * 29 % 97) / 48 - 1, "b": (i * 11 % 5) / 5}


def truth(i: int) -> str:
    return "yes" if row(i)["a"] > 0 else "no"


async def serve(client: httpx.AsyncClient, rows: int, start: int = 0) -> list[dict[str, Any]]:
    """Have rows answered by what serves, and label every second one; the answers."""
    places = range(start, start + rows)
    asked = {"rows": [row(i) for i in places], "ids": [f"p{i}" for i in places]}
    answers = (await client.post("/v1/models/toy/predict", json=asked)).json()["predictions"]
    labels = [{"id": f"p{i}", "value": truth(i)} for i in places if i % 2]
    assert (await client.post("/v1/models/toy/labels", json={"labels": labels})).status_code == 200
    return list(answers)


def work(place: Any) -> int:
    """Let a worker do all jobs; how many there were."""
    runner, done = JobRunner(place.parts, "me:1:1"), 0
    while runner.run_once():
        done += 1
    return done


async def backfilled(client: httpx.AsyncClient, place: Any, **asked: Any) -> dict[str, Any]:
    """A backfill that is done, if it can be."""
    answer = await client.post(URL, json=asked)
    assert answer.status_code == 202, answer.text
    await asyncio.to_thread(work, place)
    return dict((await client.get(f"{URL}/{answer.json()['id']}")).json())


async def rows_of(client: httpx.AsyncClient, group: str) -> list[dict[str, Any]]:
    answer = await client.get(f"{URL}/{group}/rows")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in answer.text.splitlines()]


async def test_the_version_that_served_answers_the_same_bit_for_bit(
    trained: httpx.AsyncClient, place: Any
) -> None:
    many = await serve(trained, 120)
    one = (await trained.post("/v1/models/toy/predict", json={"row": row(7), "id": "alone"})).json()
    said = {answer["id"]: answer for answer in [*many, *one["predictions"]]}
    found = await backfilled(trained, place, part_rows=50)
    assert (found["state"], found["progress"]) == ("done", 1.0), found["jobs"]
    assert len(found["jobs"]) > 3
    assert {(job["kind"], job["queue"]) for job in found["jobs"]} == {("backfill", "maintenance")}
    rows = await rows_of(trained, found["id"])
    mine = [each for each in rows if each["id"] in said]
    assert [each["id"] for each in mine] == [*(f"p{i}" for i in range(120)), "alone"]
    for each in mine:
        answer = said[each["id"]]
        assert (each["version"], each["value"]) == (answer["version"], answer["value"]) == (1, each["value"])
        assert each["probabilities"] == answer["probabilities"]
        assert each["served"] == {"version": 1, "value": answer["value"]}
    assert [each["label"] for each in mine[:4]] == [None, truth(1), None, truth(3)]
    positions = [each["position"] for each in rows]
    assert positions == sorted(set(positions))


async def test_the_report_is_what_the_rows_say_however_it_is_cut(
    trained: httpx.AsyncClient, place: Any
) -> None:
    await serve(trained, 90)
    whole = (await backfilled(trained, place))["report"]
    cut = (await backfilled(trained, place, part_rows=37))["report"]
    assert len(whole["parts"]) == 1 < len(cut["parts"])
    same = ("version", "after", "upto", "rows", "labels", "metric", "scores", "agreement", "notes")
    assert {name: cut[name] for name in same} == {name: whole[name] for name in same}
    assert cut["labels"] == 45
    assert cut["rows"] == sum(part["rows"] for part in cut["parts"])
    rows = await rows_of(trained, (await backfilled(trained, place))["id"])
    labelled = [each for each in rows if each["label"] is not None]
    right = sum(each["value"] == each["label"] for each in labelled)
    assert whole["scores"]["version"]["accuracy"] == right / 45
    agreed = sum(each["value"] == each["served"]["value"] for each in rows)
    assert whole["agreement"] == agreed / len(rows)
    ends = [(part["from"], part["upto"]) for part in cut["parts"]]
    assert [first for first, _ in ends] == [1, *(last + 1 for _, last in ends[:-1])]
    scored = [part for part in cut["parts"] if part["labels"]]
    assert scored
    assert all(part["version"] == part["served"] == 1.0 for part in scored if part["rows"] == part["labels"])


async def test_a_version_is_compared_with_what_was_served_by_another(
    toy: httpx.AsyncClient, place: Any, history: Callable[..., Any], served: Callable[..., Any]
) -> None:
    await serve(toy, 30)  # nothing has been learned yet
    await toy.post("/v1/models/toy/examples", json=history())
    await asyncio.to_thread(place.advance)
    await served(toy, 1)
    found = (await backfilled(toy, place, version=1, upto=31))["report"]
    assert found["rows"] == 30
    assert found["scores"]["version"]["accuracy"] > 0.9 > 0.6 > found["scores"]["served"]["accuracy"]
    assert any("may have learned rows" in note for note in found["notes"])


async def test_only_what_lies_in_the_stretch_is_answered(trained: httpx.AsyncClient, place: Any) -> None:
    log, before = place.store.log, place.store.log.head("toy").seq
    body = {"features": row(1), "value": "yes", "probabilities": {"no": 0.0, "yes": 1.0}, "version": 1}
    times = [100.0, 300.0, 200.0, 400.0, 500.0]  # not in order: callers may send their own
    log.append("toy", [NewEvent(EventKind.PREDICTION, at, f"t{at:.0f}", body) for at in times])
    found = await backfilled(
        trained, place, after=before, since=200, until="1970-01-01T00:06:40Z", part_rows=2
    )
    assert [each["id"] for each in await rows_of(trained, found["id"])] == ["t300", "t200", "t400"]
    found = await backfilled(trained, place, after=before + 1, upto=before + 3)
    assert [each["id"] for each in await rows_of(trained, found["id"])] == ["t300", "t200"]
    empty = await backfilled(trained, place, after=before, since=10_000, until=20_000)
    assert (empty["state"], empty["report"]["rows"], empty["report"]["agreement"]) == ("done", 0, None)
    assert empty["report"]["notes"][-1] == "no prediction lies in this stretch"
    assert await rows_of(trained, empty["id"]) == []


async def test_labels_are_those_that_were_known_when_it_was_asked_for(
    trained: httpx.AsyncClient, place: Any
) -> None:
    await serve(trained, 4)
    asked = (await trained.post(URL, json={})).json()
    wrong = {"yes": "no", "no": "yes"}
    changed = [{"id": "p1", "value": wrong[truth(1)], "correction": True}, {"id": "p2", "value": truth(2)}]
    assert (await trained.post("/v1/models/toy/labels", json={"labels": changed})).json()["accepted"] == 2
    await asyncio.to_thread(work, place)
    then = {each["id"]: each["label"] for each in await rows_of(trained, asked["id"])}
    assert [then[f"p{i}"] for i in range(4)] == [None, truth(1), None, truth(3)]
    later = await backfilled(trained, place)
    now = {each["id"]: each["label"] for each in await rows_of(trained, later["id"])}
    assert [now[f"p{i}"] for i in range(4)] == [None, wrong[truth(1)], truth(2), truth(3)]


async def test_rows_with_missing_columns_are_answered_as_they_are_served(
    trained: httpx.AsyncClient, place: Any
) -> None:
    asked = {"rows": [{"a": 0.9}, {"b": 0.1}, {"a": None, "b": None}], "ids": ["x", "y", "z"]}
    said = (await trained.post("/v1/models/toy/predict", json=asked)).json()["predictions"]
    found = await backfilled(trained, place)
    rows = {each["id"]: each for each in await rows_of(trained, found["id"])}
    for answer in said:
        assert rows[answer["id"]]["probabilities"] == answer["probabilities"]


async def test_every_format_has_the_same_rows(trained: httpx.AsyncClient, place: Any) -> None:
    await serve(trained, 25)
    group = (await backfilled(trained, place, part_rows=15))["id"]
    rows = await rows_of(trained, group)

    async def asked(kind: str) -> bytes:
        answer = await trained.get(f"{URL}/{group}/rows", headers={"Accept": kind})
        assert (answer.status_code, answer.headers["content-type"].partition(";")[0]) == (200, kind)
        return answer.content

    tables = [
        pa.ipc.open_stream(await asked(ARROW)).read_all(),
        pq.read_table(io.BytesIO(await asked(PARQUET))),
    ]
    for table in tables:
        assert table.schema.field("at").type == pa.timestamp("us", "UTC")
        found = table.to_pydict()
        for name in ("id", "position", "version", "value", "label"):
            assert found[name] == [each[name] for each in rows], name
        assert found["served.value"] == [each["served"]["value"] for each in rows]
        assert found["probabilities.yes"] == [each["probabilities"]["yes"] for each in rows]
        assert [f"{at:%Y-%m-%dT%H:%M:%S.%fZ}" for at in found["at"]] == [each["at"] for each in rows]
    lines = list(csv.DictReader(io.StringIO((await asked("text/csv")).decode())))
    assert list(lines[0]) == tables[0].column_names
    assert [line["label"] or None for line in lines] == [each["label"] for each in rows]
    assert [float(line["probabilities.yes"]) for line in lines] == tables[0]["probabilities.yes"].to_pylist()
    refused = await trained.get(f"{URL}/{group}/rows", headers={"Accept": "image/png"})
    assert refused.status_code == 406


async def test_an_empty_backfill_has_a_header_in_every_format(trained: httpx.AsyncClient, place: Any) -> None:
    group = (await backfilled(trained, place, since=1, until=2))["id"]
    told = await trained.get(f"{URL}/{group}/rows", headers={"Accept": "text/csv"})
    assert told.text == "id,at,position,served.version,served.value,version,value,label\n"
    table = await trained.get(f"{URL}/{group}/rows", headers={"Accept": PARQUET})
    assert pq.read_table(io.BytesIO(table.content)).num_rows == 0


async def test_it_is_cancelled_but_for_what_is_done(trained: httpx.AsyncClient, place: Any) -> None:
    await serve(trained, 30)
    asked = (await trained.post(URL, json={"part_rows": 40})).json()
    await asyncio.to_thread(JobRunner(place.parts, "me:1:1").run_once)
    partly = (await trained.get(f"{URL}/{asked['id']}")).json()
    assert (partly["state"], partly["report"]) == ("running", None)
    early = await trained.get(f"{URL}/{asked['id']}/rows")
    assert (early.status_code, "1 of" in early.json()["detail"]) == (409, True)
    cancelled = (await trained.post(f"{URL}/{asked['id']}/cancel")).json()
    states = [job["state"] for job in cancelled["jobs"]]
    assert (cancelled["state"], states.count("done"), states.count("cancelled")) == (
        "cancelled", 1, len(states) - 1
    )  # fmt: skip
    assert await asyncio.to_thread(work, place) == 0
    assert (await trained.get(f"{URL}/{asked['id']}/rows")).status_code == 409


async def test_a_repeated_request_is_the_same_backfill(trained: httpx.AsyncClient, place: Any) -> None:
    key = {"Idempotency-Key": "once"}
    first = (await trained.post(URL, json={"part_rows": 40}, headers=key)).json()
    place.store.log.append("toy", [NewEvent(EventKind.TICK, 1.0)])
    again = (await trained.post(URL, json={"part_rows": 40}, headers=key)).json()
    assert again == first
    other = (await trained.post(URL, json={"part_rows": 50}, headers=key)).json()
    assert other["id"] != first["id"]


async def test_a_request_that_broke_off_is_begun_anew(trained: httpx.AsyncClient, place: Any) -> None:
    """A part of it was queued before the process died; that at place 0, with which it is there, was not."""
    key = {"Idempotency-Key": "broken off"}
    whole = (await trained.post(URL, json={"part_rows": 40}, headers=key)).json()
    names = [job["id"] for job in whole["jobs"]]
    first = names[0]
    parts, jobs = place.parts, place.store.jobs

    class Without:
        def __getattr__(self, name: str) -> Any:
            return getattr(jobs, name)

        def get(self, id: str) -> Any:  # noqa: A002
            from everlearn.errors import NotFoundError

            if id == first:
                raise NotFoundError("not yet")
            return jobs.get(id)

    app = create_app(SimpleNamespace(**{**vars(parts), "jobs": Without()}), authenticator=ApiKey("k" * 32))
    transport, mine = httpx.ASGITransport(app), {"Authorization": f"Bearer {'k' * 32}", **key}
    async with httpx.AsyncClient(transport=transport, base_url="http://test", headers=mine) as client:
        again = await client.post(URL, json={"part_rows": 40})
    assert again.status_code == 202
    assert again.json()["id"] != whole["id"]
    assert len(again.json()["jobs"]) == len(names)


@pytest.mark.parametrize(
    ("asked", "field", "said"),
    [
        ({"version": 0}, "version", "is the baseline"),
        ({"after": 50_000}, "after", "give a longer stretch"),
        ({"after": 20, "upto": 20}, "upto", "give a longer stretch"),
        ({"upto": 10**9}, "upto", "the log ends at position"),
        ({"since": 20, "until": 10}, "until", "lies before since"),
    ],
)
async def test_what_cannot_be_asked_for_names_the_field_and_the_fix(
    trained: httpx.AsyncClient, place: Any, asked: dict[str, Any], field: str, said: str
) -> None:
    answer = await trained.post(URL, json=asked)
    assert answer.status_code == 422, answer.text
    (fault,) = answer.json()["errors"]
    assert (fault["field"], said in fault["message"]) == (field, True), fault
    assert not [job for job in place.store.jobs.list("toy").items if job.spec.kind == "backfill"]


async def test_what_is_not_there_is_refused(toy: httpx.AsyncClient) -> None:
    baseline = await toy.post(URL, json={})
    assert (baseline.status_code, "from 1 on" in baseline.json()["detail"]) == (422, True)
    assert (await toy.post(URL, json={"version": 9})).status_code == 404
    assert (await toy.post("/v1/models/none/backfills", json={})).status_code == 404
    for body in ({"part_rows": 0}, {"part_rows": 100_001}, {"version": -1}, {"since": "soon"}, {"rows": 3}):
        assert (await toy.post(URL, json=body)).status_code == 422, body
    assert (await toy.get(f"{URL}/0123456789ab")).status_code == 404
    assert (await toy.get(f"{URL}/0123456789ab/rows")).status_code == 404
    assert (await toy.post(f"{URL}/0123456789ab/cancel")).status_code == 404
    assert (await toy.get(f"{URL}/x")).status_code == 422


async def test_a_detector_is_refused_with_the_reason(api: httpx.AsyncClient, place: Any) -> None:
    spec = {"name": "gate", "task": "detection", "target": "boxes", "features": {"frame": "image"}}
    place.store.models.create(parse_spec(spec), 1.0)
    answer = await api.post("/v1/models/gate/backfills", json={})
    assert (answer.status_code, "images are not kept" in answer.json()["detail"]) == (422, True)


async def test_a_log_without_predictions_has_nothing_to_answer(
    toy: httpx.AsyncClient, place: Any, history: Callable[..., Any]
) -> None:
    await toy.post("/v1/models/toy/examples", json=history())
    await asyncio.to_thread(place.advance)
    answer = await toy.post(URL, json={"version": 1})
    assert (answer.status_code, "no predictions yet" in answer.json()["detail"]) == (422, True)


async def test_more_than_a_thousand_parts_are_too_many(trained: httpx.AsyncClient, place: Any) -> None:
    place.store.log.append("toy", [NewEvent(EventKind.TICK, 1.0)] * 2000)
    answer = await trained.post(URL, json={"part_rows": 1})
    assert answer.status_code == 422
    (fault,) = answer.json()["errors"]
    assert (fault["field"], "1000 is the most: give 3 or more" in fault["message"]) == ("part_rows", True)


async def test_many_parts_are_gathered_too(trained: httpx.AsyncClient, place: Any) -> None:
    await serve(trained, 20)
    found = await backfilled(trained, place, part_rows=2)
    assert len(found["jobs"]) > 40
    assert found["state"] == "done"
    assert [job["arguments"]["name"].split(" ")[0] for job in found["jobs"][:3]] == ["1", "3", "5"]


async def test_a_withdrawn_version_answers_nothing(trained: httpx.AsyncClient, place: Any) -> None:
    from dataclasses import replace

    from everlearn.types import VersionState

    versions = place.store.versions

    class Withdrawn:
        def __getattr__(self, name: str) -> Any:
            return getattr(versions, name)

        def get(self, model: str, number: int) -> Any:
            return replace(versions.get(model, number), state=VersionState.ERASED)

    asked = (await trained.post(URL, json={})).json()
    parts = SimpleNamespace(**{**vars(place.parts), "versions": Withdrawn()})
    await asyncio.to_thread(JobRunner(parts, "me:1:1").run_once)
    found = (await trained.get(f"{URL}/{asked['id']}")).json()
    assert (found["state"], "was withdrawn" in found["jobs"][0]["error"]) == ("failed", True)
    app = create_app(parts, authenticator=ApiKey("k" * 32))
    mine = {"Authorization": f"Bearer {'k' * 32}"}
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://test", headers=mine
    ) as client:
        answer = await client.post(URL, json={})
    assert (answer.status_code, "choose another version" in answer.json()["detail"]) == (409, True)


async def test_a_damaged_answer_is_told_before_it_is_sent(trained: httpx.AsyncClient, place: Any) -> None:
    await serve(trained, 5)
    found = await backfilled(trained, place)
    job = place.store.jobs.get(found["jobs"][0]["id"])
    assert job.state is JobState.DONE
    place.store.artifacts.delete(job.result["digest"])
    assert (await trained.get(f"{URL}/{found['id']}/rows")).status_code == 404


async def test_the_log_is_left_alone(trained: httpx.AsyncClient, place: Any) -> None:
    before = place.store.log.head("toy")
    await backfilled(trained, place)
    assert place.store.log.head("toy") == before


LEARNERS: list[Any] = ["blend", "linear", {"name": "window", "estimator": "logistic"}]


@pytest.mark.parametrize("learner", LEARNERS, ids=str)
@pytest.mark.parametrize("task", ["classification", "regression"])
async def test_every_learner_answers_as_it_served(
    api: httpx.AsyncClient,
    place: Any,
    spec: dict[str, Any],
    served: Callable[..., Any],
    task: str,
    learner: Any,
) -> None:
    """Rows with a category and with missing cells, in requests of another size than the parts."""
    if task == "regression" and learner == LEARNERS[2]:
        learner = {"name": "window", "estimator": "ridge"}
    features = {"a": "numeric", "b": "numeric", "c": "categorical"}
    goal = {"metric": "rmse", "threshold": 5.0} if task == "regression" else {}
    asked = {**spec, "task": task, "features": features, "learner": learner, **goal}
    assert (await api.post("/v1/models", json=asked)).status_code == 201

    def full(i: int) -> dict[str, Any]:
        return {**row(i), "b": None if i % 5 == 0 else row(i)["b"], "c": "uvw"[i % 3]}

    def target(i: int) -> Any:
        return round(3 * row(i)["a"] + (i % 3), 3) if task == "regression" else truth(i)

    history = {"rows": [full(i) for i in range(150)], "targets": [target(i) for i in range(150)]}
    assert (await api.post("/v1/models/toy/examples", json=history)).status_code == 200
    await asyncio.to_thread(place.advance)
    await served(api, 1)
    said: list[dict[str, Any]] = []
    for start in range(0, 60, 20):
        rows = {
            "rows": [full(i) for i in range(start, start + 20)],
            "ids": [f"p{i}" for i in range(start, start + 20)],
        }
        said += (await api.post("/v1/models/toy/predict", json=rows)).json()["predictions"]
    labels = [{"id": f"p{i}", "value": target(i)} for i in range(60)]
    assert (await api.post("/v1/models/toy/labels", json={"labels": labels})).status_code == 200
    found = await backfilled(api, place, version=1, part_rows=33)
    mine = {each["id"]: each for each in await rows_of(api, found["id"])}
    assert {one["version"] for one in said} == {1}
    for one in said:
        assert mine[one["id"]]["value"] == one["value"]
        assert mine[one["id"]].get("probabilities") == one.get("probabilities")
    scores = found["report"]["scores"]
    assert scores["version"] == scores["served"]
    assert found["report"]["metric"] == goal.get("metric", "accuracy")
    if task == "regression":
        errors = [abs(one["value"] - target(i)) for i, one in enumerate(said)]
        assert scores["version"]["mae"] == pytest.approx(sum(errors) / 60, rel=1e-12)


async def test_rows_that_are_being_erased_are_not_sent(trained: httpx.AsyncClient, place: Any) -> None:
    await serve(trained, 5)
    found = await backfilled(trained, place)
    known = place.store.log.head("toy").seq
    begun = SimpleNamespace(list=lambda _: [SimpleNamespace(seq=known + 1)])
    app = create_app(
        SimpleNamespace(**{**vars(place.parts), "erasures": begun}), authenticator=ApiKey("k" * 32)
    )
    mine = {"Authorization": f"Bearer {'k' * 32}"}
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test", headers=mine) as client:
        answer = await client.get(f"{URL}/{found['id']}/rows")
    assert (answer.status_code, "ask for a new one" in answer.json()["detail"]) == (404, True)
