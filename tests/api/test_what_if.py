"""A what-if over the workers is asked for, played job by job, gathered, and the same as in one process."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from everlearn.loop.whatif import what_if
from everlearn.loop.whatif_record import of_log, read_log
from everlearn.loop.whatif_settings import crossed
from everlearn.types import EventKind, JobState, NewEvent
from everlearn.worker import JobRunner

URL = "/v1/models/toy/what-if"
EVERY: dict[str, Any] = {"name": "every", "every": 60, "min_labels": 20}
ASKED: dict[str, Any] = {"policies": ["never", EVERY], "price": 2.0}


@pytest.fixture
def served(toy: httpx.AsyncClient, place: Any) -> httpx.AsyncClient:
    """A client of a model whose log holds 300 predictions with their labels."""
    at, output = place.clock.now(), {"value": None, "probabilities": None, "version": 0}
    for i in range(300):
        row = {"a": (i * 37 % 101) / 50 - 1, "b": (i * 13 % 7) / 7}
        asked = NewEvent(EventKind.PREDICTION, at + i, f"p{i}", {"features": row, **output})
        truth = "yes" if (row["a"] > 0) == (i < 150) else "no"
        told = NewEvent(EventKind.LABEL, at + i, f"p{i}", {"value": truth, "correction": False})
        place.store.log.append("toy", [asked, told])
    place.advance()
    return toy


def work(place: Any) -> int:
    """Let a worker do all jobs; how many there were."""
    runner, done = JobRunner(place.parts, "me:1:1"), 0
    while runner.run_once():
        done += 1
    return done


async def test_the_gathered_report_is_that_of_one_process(served: httpx.AsyncClient, place: Any) -> None:
    answer = await served.post(URL, json=ASKED)
    assert answer.status_code == 202, answer.text
    asked = answer.json()
    assert (asked["state"], asked["progress"], asked["report"]) == ("queued", 0.0, None)
    assert {job["queue"] for job in asked["jobs"]} == {"maintenance"}
    head = place.store.log.head("toy")
    row = NewEvent(EventKind.EXAMPLE, 1.0, None, {"features": {"a": 9.0, "b": 0.0}, "target": "no"})
    place.store.log.append("toy", [row])  # what comes later is not played

    assert await asyncio.to_thread(work, place) == len(asked["jobs"])
    found = (await served.get(f"{URL}/{asked['id']}")).json()
    assert (found["state"], found["progress"]) == ("done", 1.0), found["jobs"]

    events = [event for event in read_log(place.store.log, "toy") if event.seq <= head.seq]
    recording, _ = of_log(events)
    settings = crossed(place.store.models.get("toy"), [{"name": "never"}, EVERY])
    alone = what_if(recording, place.store.models.get("toy"), settings, price=2.0).to_dict()
    here, taken = found["report"], {"seconds", "compute_seconds", "folding_seconds"}
    for name in alone.keys() - {*taken, "settings"}:
        assert here[name] == alone[name], name
    for ours, theirs in zip(here["settings"], alone["settings"], strict=True):
        for name in theirs.keys() - taken:
            kept = [list(mark) for mark in theirs[name]] if name == "marks" else theirs[name]
            assert ours[name] == (pytest.approx(kept) if name in ("cost", "regret") else kept), name


async def test_the_log_is_left_alone(served: httpx.AsyncClient, place: Any) -> None:
    before = place.store.log.head("toy")
    await served.post(URL, json=ASKED)
    await asyncio.to_thread(work, place)
    assert place.store.log.head("toy") == before


async def test_it_is_cancelled_but_for_what_is_done(served: httpx.AsyncClient, place: Any) -> None:
    asked = (await served.post(URL, json=ASKED)).json()
    await asyncio.to_thread(JobRunner(place.parts, "me:1:1").run_once)
    partly = (await served.get(f"{URL}/{asked['id']}")).json()
    assert (partly["state"], partly["report"]) == ("running", None)
    cancelled = (await served.post(f"{URL}/{asked['id']}/cancel")).json()
    assert cancelled["state"] == "failed"
    states = [job["state"] for job in cancelled["jobs"]]
    assert (states.count("done"), states.count("cancelled")) == (1, len(states) - 1)
    assert await asyncio.to_thread(work, place) == 0


async def test_what_cannot_be_asked_for_is_refused(toy: httpx.AsyncClient, place: Any) -> None:
    nothing = await toy.post(URL, json={})
    assert (nothing.status_code, "no predictions yet" in nothing.json()["detail"]) == (422, True)
    body = {"features": {"a": 1.0, "b": 0.0}, "value": None, "probabilities": None, "version": 0}
    place.store.log.append("toy", [NewEvent(EventKind.PREDICTION, 1.0, "p", body)])
    for wrong in ({"policies": ["no such policy"]}, {"learners": ["none"]}, {"price": -1}, {"policy": "x"}):
        answer = await toy.post(URL, json=wrong)
        assert answer.status_code == 422, wrong
    many = {"policies": [{"name": "every", "every": n} for n in range(100, 160)], "gates": ["open", "proof"]}
    answer = await toy.post(URL, json=many)
    assert (answer.status_code, "too many" in answer.json()["detail"]) == (422, True)
    assert (await toy.get(f"{URL}/0123456789ab")).status_code == 404
    assert (await toy.get(f"{URL}/x")).status_code == 422
    assert not [job for job in place.store.jobs.list("toy").items if job.state is not JobState.DONE]
