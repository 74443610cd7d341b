"""The served champions: swapped without a failed request, kept when a load fails, gone when deleted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from everlearn.api.instruments import Instruments
from everlearn.api.runtime import Runtime
from everlearn.errors import IntegrityError, NotFoundError, UnavailableError
from everlearn.predictor import Baseline, Predictor

ROW = {"a": 0.5, "b": 0.5}
PREDICT = "/v1/models/toy/predict"


@pytest.fixture
def runtime(place: Any) -> Runtime:
    return Runtime(place.parts, Instruments(place.parts), poll=0.0)


@pytest.fixture
def with_version_1(place: Any, spec: dict[str, Any], history: Callable[..., Any]) -> Any:
    """A store where the first version of ``toy`` was promoted, and no door yet."""
    from everlearn.loop.defaults import with_defaults
    from everlearn.spec import parse_spec
    from everlearn.types import EventKind, NewEvent

    place.store.models.create(with_defaults(parse_spec(spec)), place.clock.now())
    given = history()
    events = [
        NewEvent(EventKind.EXAMPLE, place.clock.now(), None, {"features": row, "target": target})
        for row, target in zip(given["rows"], given["targets"], strict=True)
    ]
    place.store.log.append("toy", events)
    place.advance()
    assert place.store.versions.champion("toy").version == 1
    return place


def break_artifacts(monkeypatch: pytest.MonkeyPatch, place: Any) -> None:
    def damaged(digest: str) -> Any:
        raise IntegrityError(f"{digest} is damaged")

    monkeypatch.setattr(place.store.artifacts, "get", damaged)


async def test_a_swap_under_traffic_fails_no_request_and_mixes_no_answer(
    toy: httpx.AsyncClient, place: Any, history: Callable[..., Any]
) -> None:
    await toy.post("/v1/models/toy/examples", json=history())
    seen: list[int] = []
    done = False

    async def traffic() -> None:
        while not done:
            answer = await toy.post(PREDICT, json={"rows": [ROW] * 3})
            assert answer.status_code == 200
            versions = {p["version"] for p in answer.json()["predictions"]}
            assert len(versions) == 1
            seen.append(versions.pop())

    callers = [asyncio.create_task(traffic()) for _ in range(4)]
    while not seen:
        await asyncio.sleep(0)
    # The traffic itself gives the loop ever more to read, so it is let run only until it has promoted.
    while place.store.versions.champion("toy").version == 0:
        await asyncio.to_thread(place.turn)
    for _ in range(500):
        if seen[-1:] == [1]:
            break
        await asyncio.sleep(0.01)
    done = True
    await asyncio.gather(*callers)
    assert set(seen) == {0, 1}


async def test_a_champion_that_does_not_load_leaves_the_old_one_serving(
    toy: httpx.AsyncClient,
    place: Any,
    history: Callable[..., Any],
    served: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    get = place.store.artifacts.get
    await toy.post(PREDICT, json={"row": ROW})
    await toy.post("/v1/models/toy/examples", json=history())
    runtime = toy._transport.app.state.door.runtime  # type: ignore[attr-defined]
    await asyncio.to_thread(runtime.stop)  # it would load the new champion before that is damaged
    await asyncio.to_thread(place.advance)
    break_artifacts(monkeypatch, place)
    runtime._served.pop("toy")  # as if this process had not loaded it yet
    runtime.start()

    answer = await toy.post(PREDICT, json={"row": ROW})
    assert (answer.status_code, answer.json()["predictions"][0]["version"]) == (200, 0)
    ready = await toy.get("/v1/health/ready")
    assert (ready.status_code, ready.json()["status"]) == (200, "degraded")
    assert "everlearn_failed_loads_total 0.0" not in (await toy.get("/metrics")).text

    monkeypatch.setattr(place.store.artifacts, "get", get)
    await served(toy, 1)
    assert (await toy.get("/v1/health/ready")).json()["status"] == "ready"


async def test_a_failed_load_beside_a_loaded_version(
    with_version_1: Any, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = await runtime.served("toy")
    assert (old.version, type(old.predictor)) == (1, Predictor)

    promote(with_version_1, 0)
    promote(with_version_1, 1)
    monkeypatch.setattr(Predictor, "self_test", fail)
    still = await runtime.served("toy")
    assert (still.version, still.predictor, still.champion.term) == (1, old.predictor, 1)
    failed = runtime.failed["toy"]
    assert (failed.attempts, failed.champion.term) == (1, 3)
    assert "answers otherwise" in failed.reason

    monkeypatch.undo()
    assert (await runtime.served("toy")).champion.term == 3
    assert runtime.failed == {}


async def test_failed_loads_are_tried_again_with_backoff(
    with_version_1: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = Runtime(with_version_1.parts, Instruments(with_version_1.parts), poll=10.0)
    await runtime.served("toy")
    promote(with_version_1, 0)
    promote(with_version_1, 1)
    monkeypatch.setattr(Predictor, "self_test", fail)
    for _ in range(5):
        runtime.look()
    assert runtime.failed["toy"].attempts == 1


def fail(self: Predictor) -> None:
    raise IntegrityError("anchors[0] answers otherwise")


def promote(place: Any, version: int) -> None:
    from everlearn.types import EventKind, NewEvent

    body = {"name": "promote", "arguments": {"version": version}}
    place.store.log.append("toy", [NewEvent(EventKind.COMMAND, place.clock.now(), None, body)])
    place.advance()
    assert place.store.versions.champion("toy").version == version


async def test_a_model_made_by_another_process_appears_at_its_first_request(
    api: httpx.AsyncClient, with_version_1: Any
) -> None:
    answer = await api.post(PREDICT, json={"row": ROW})
    assert answer.json()["predictions"][0]["version"] == 1


async def test_a_model_deleted_by_another_process_disappears(toy: httpx.AsyncClient, place: Any) -> None:
    assert (await toy.post(PREDICT, json={"row": ROW})).status_code == 200
    place.store.models.delete("toy")
    assert (await toy.post(PREDICT, json={"row": ROW})).status_code == 404


async def test_without_its_thread_a_runtime_looks_when_it_is_asked(
    with_version_1: Any, runtime: Runtime
) -> None:
    assert (await runtime.served("toy")).version == 1
    promote(with_version_1, 0)
    assert isinstance((await runtime.served("toy")).predictor, Baseline)
    with pytest.raises(NotFoundError):
        await runtime.served("none")


async def test_a_store_that_is_down_does_not_stop_what_is_loaded(
    with_version_1: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = Runtime(with_version_1.parts, Instruments(with_version_1.parts), poll=0.01)
    await runtime.served("toy")
    runtime.start()

    def down() -> Any:
        raise UnavailableError("The store is down")

    monkeypatch.setattr(with_version_1.store.versions, "champions", down)
    for _ in range(100):
        if runtime.error:
            break
        await asyncio.sleep(0.01)
    assert "The store is down" in (runtime.error or "")
    assert (await runtime.served("toy")).version == 1
    monkeypatch.undo()
    for _ in range(100):
        if runtime.error is None:
            break
        await asyncio.sleep(0.01)
    assert runtime.error is None
    runtime.stop()
