"""Jobs over HTTP: what an operator sees of them, ends and has tried again."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from everlearn.types import JobSpec, JobState, Step

URL = "/v1/models/toy/jobs"


@pytest.fixture
def queued(toy: httpx.AsyncClient, place: Any) -> str:
    """A job that waits."""
    at = place.store.ledger.checkpoint("toy")
    job = JobSpec("toy/1", "toy", "train", 1, {"upto": 1})
    assert place.store.ledger.commit("toy", Step(at.cursor, at.cursor, at.state, jobs=[job]))
    return job.id


async def test_a_waiting_job_is_cancelled_once(toy: httpx.AsyncClient, place: Any, queued: str) -> None:
    shown = (await toy.get(f"{URL}/{queued}")).json()
    assert (shown["state"], shown["queue"], shown["traceback"], shown["result"]) == (
        "queued",
        "train",
        None,
        None,
    )
    answer = await toy.post(f"{URL}/{queued}/cancel", json={"why": "the wrong learner"})
    assert answer.status_code == 200, answer.text
    assert answer.json()["state"] == "cancelled"
    assert answer.json()["error"].startswith("cancelled by ")
    assert answer.json()["error"].endswith(": the wrong learner")
    assert place.store.log.read("toy")[-1].error == answer.json()["error"]
    again = await toy.post(f"{URL}/{queued}/cancel")
    assert (again.status_code, again.json()["type"]) == (409, "/errors/conflict")


async def test_a_repeated_request_gets_the_same_answer(toy: httpx.AsyncClient, queued: str) -> None:
    key = {"Idempotency-Key": "k1"}
    first = await toy.post(f"{URL}/{queued}/cancel", headers=key)
    again = await toy.post(f"{URL}/{queued}/cancel", headers=key)
    assert (again.status_code, again.json()) == (200, first.json())


async def test_a_dead_job_is_tried_again(toy: httpx.AsyncClient, place: Any, queued: str) -> None:
    assert (await toy.post(f"{URL}/{queued}/retry")).status_code == 409
    jobs, now = place.store.jobs, place.clock.now()
    job = jobs.lease("test", 60.0, now)
    jobs.fail(job, "it crashed", now, None, traceback="Traceback: line 7", dead=True)
    shown = (await toy.get(f"{URL}/{queued}")).json()
    assert (shown["state"], shown["traceback"]) == ("dead", "Traceback: line 7")
    assert "traceback" not in (await toy.get(URL)).json()["items"][0]
    answer = await toy.post(f"{URL}/{queued}/retry")
    assert (answer.status_code, answer.json()["state"], answer.json()["attempts"]) == (200, "queued", 0)
    assert place.store.jobs.get(queued).state is JobState.QUEUED


async def test_jobs_of_other_models_and_unknown_ones_are_not_found(
    toy: httpx.AsyncClient, spec: dict[str, Any], queued: str
) -> None:
    assert (await toy.post("/v1/models", json={**spec, "name": "other"})).status_code == 201
    for verb in ("cancel", "retry"):
        for path in (f"/v1/models/other/jobs/{queued}/{verb}", f"{URL}/none/{verb}"):
            assert (await toy.post(path)).status_code == 404


async def test_jobs_are_counted_by_queue_and_state(toy: httpx.AsyncClient, queued: str) -> None:
    page = (await toy.get("/metrics")).text
    assert 'everlearn_jobs{queue="train",state="queued"} 1.0' in page
    assert 'everlearn_jobs{queue="maintenance",state="dead"} 0.0' in page
    assert (await toy.post(f"{URL}/{queued}/cancel")).status_code == 200
    page = (await toy.get("/metrics")).text
    assert 'everlearn_jobs{queue="train",state="queued"} 0.0' in page
    assert 'everlearn_jobs{queue="train",state="cancelled"} 1.0' in page
