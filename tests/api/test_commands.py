"""Commands, and what can be read of versions, decisions and jobs once the loop has taken them in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest

URL = "/v1/models/toy"


async def test_a_forced_retrain_leads_to_a_job_and_a_version(
    trained: httpx.AsyncClient, worker: None
) -> None:
    following = (await trained.get(f"{URL}/versions")).json()["items"][0]["number"] + 1
    answer = await trained.post(f"{URL}/retrain", json={"force": True, "why": "new sensor"})
    assert answer.status_code == 200
    decision = answer.json()["decision"]
    assert (decision["kind"], decision["version"]) == ("update", following)
    assert (decision["evidence"]["why"], decision["evidence"]["by"]) == ("new sensor", "key")

    for _ in range(200):
        job = (await trained.get(f"{URL}/jobs/{decision['evidence']['job']}")).json()
        if job["state"] == "done":
            break
        await asyncio.sleep(0.01)
    assert (job["state"], job["kind"], job["version"], job["error"]) == ("done", "train", following, None)
    assert job["finished_at"].endswith("Z")
    assert (await trained.get(f"{URL}/versions")).json()["items"][0]["number"] == following


async def test_a_retrain_that_is_not_needed_is_skipped(trained: httpx.AsyncClient, worker: None) -> None:
    answer = await trained.post(f"{URL}/retrain")
    assert answer.status_code == 200
    assert answer.json()["skipped"] is True
    assert answer.json()["decision"]["kind"] == "hold"


async def test_what_the_loop_refuses_is_a_conflict_with_its_reason(
    toy: httpx.AsyncClient, worker: None
) -> None:
    for command in ("rollback", "retrain"):
        answer = await toy.post(f"{URL}/{command}")
        assert (answer.status_code, answer.json()["type"]) == (409, "/errors/conflict")
    assert "no examples" in answer.json()["detail"]
    assert (await toy.post(f"{URL}/versions/0/promote")).status_code == 409


async def test_a_command_without_a_loop_is_accepted_for_later(toy: httpx.AsyncClient, place: Any) -> None:
    answer = await toy.post(f"{URL}/freeze", params={"wait": 0})
    assert answer.status_code == 202
    assert answer.json()["accepted"] == place.store.log.head("toy").seq
    place.advance()
    assert (await toy.get(URL)).json()["state"] == "frozen"


async def test_freeze_and_unfreeze(toy: httpx.AsyncClient, worker: None) -> None:
    frozen = await toy.post(f"{URL}/freeze", json={"why": "audit"})
    assert (frozen.status_code, frozen.json()["decision"]["kind"]) == (200, "freeze")
    assert "skipped" not in frozen.json()
    assert (await toy.post(f"{URL}/unfreeze")).json()["decision"]["kind"] == "unfreeze"


async def test_promotion_and_rollback_by_hand_are_served_when_they_are_answered(
    trained: httpx.AsyncClient, worker: None
) -> None:
    async def version() -> int:
        answer = await trained.post(f"{URL}/predict", json={"row": {"a": 0.5, "b": 0.5}})
        return int(answer.json()["predictions"][0]["version"])

    assert await version() == 1
    back = await trained.post(f"{URL}/rollback")
    assert (back.json()["decision"]["kind"], await version()) == ("rollback", 0)
    forth = await trained.post(f"{URL}/versions/1/promote")
    assert (forth.json()["decision"]["kind"], await version()) == ("promote", 1)
    champion = (await trained.get(f"{URL}/champion")).json()
    assert (champion["version"], champion["term"]) == (1, 3)


async def test_commands_for_what_is_not_there(toy: httpx.AsyncClient) -> None:
    for path in ("/v1/models/none/freeze", f"{URL}/versions/7/promote", f"{URL}/versions/7", f"{URL}/jobs/x"):
        method = "GET" if path.endswith(("/7", "/x")) else "POST"
        assert (await toy.request(method, path)).status_code == 404, path


@pytest.mark.parametrize(
    ("path", "body"), [("freeze", {"wy": "?"}), ("retrain?wait=61", {}), ("retrain", [])]
)
async def test_bodies_and_waits_that_do_not_fit(toy: httpx.AsyncClient, path: str, body: Any) -> None:
    assert (await toy.post(f"{URL}/{path}", json=body)).status_code == 422


async def test_a_command_with_a_key_is_given_once(toy: httpx.AsyncClient, place: Any) -> None:
    headers = {"Idempotency-Key": "once"}
    first = await toy.post(f"{URL}/freeze", params={"wait": 0}, headers=headers)
    again = await toy.post(f"{URL}/freeze", params={"wait": 0}, headers=headers)
    assert first.json() == again.json()
    assert place.store.log.head("toy").seq == 2
    place.advance()
    later = await toy.post(f"{URL}/freeze", params={"wait": 0}, headers=headers)
    assert (later.status_code, later.json()["decision"]["kind"]) == (200, "freeze")


async def test_versions_and_the_champion_at_a_time(trained: httpx.AsyncClient, place: Any) -> None:
    version = (await trained.get(f"{URL}/versions/1")).json()
    assert (version["number"], version["parent"], version["state"]) == (1, 0, "champion")
    assert version["learner"] == "linear"
    assert len(version["digest"]) == 64
    born = (await trained.get(f"{URL}/versions/0")).json()
    assert (born["learner"], born["digest"], born["state"]) == ("majority", None, "archived")

    assert (await trained.get(f"{URL}/champion")).json()["version"] == 1
    assert (await trained.get(f"{URL}/champion", params={"at": "2020-01-01"})).status_code == 404
    assert (await trained.get(f"{URL}/champion", params={"at": "soon"})).status_code == 422


async def test_decisions_can_be_filtered_and_paged(trained: httpx.AsyncClient) -> None:
    everything = (await trained.get(f"{URL}/decisions")).json()["items"]
    numbers = [d["number"] for d in everything]
    assert numbers == sorted(numbers, reverse=True)
    promoted = (await trained.get(f"{URL}/decisions", params={"kind": "promote"})).json()["items"]
    assert [d["version"] for d in promoted] == [1]
    assert promoted[0]["evidence"]
    page = (await trained.get(f"{URL}/decisions", params={"limit": 1})).json()
    following = await trained.get(f"{URL}/decisions", params={"limit": 1, "cursor": page["next"]})
    assert following.json()["items"][0]["number"] == numbers[1]
    assert (await trained.get(f"{URL}/decisions", params={"kind": "guess"})).status_code == 422


async def test_a_job_of_another_model_is_not_found(
    trained: httpx.AsyncClient, spec: dict[str, Any], history: Callable[..., Any]
) -> None:
    job = (await trained.get(f"{URL}/jobs")).json()["items"][0]["id"]
    await trained.post("/v1/models", json={**spec, "name": "other"})
    assert (await trained.get(f"/v1/models/other/jobs/{job}")).status_code == 404
