"""Of many models those are in memory that are asked for: within a limit, loaded once, never while in use."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from everlearn.api.busy import Busy, ModelLimit
from everlearn.api.cache import ServedCache
from everlearn.api.instruments import Instruments
from everlearn.api.runtime import Runtime
from everlearn.api.trimming import Trimmer
from everlearn.api.weight import weigh
from everlearn.errors import UnavailableError
from everlearn.loop.defaults import with_defaults
from everlearn.spec import parse_spec
from everlearn.types import EventKind, NewEvent

MODELS = [f"m{i}" for i in range(6)]
ROW = {"a": 0.5, "b": 0.5}


@pytest.fixture
def many(place: Any, spec: dict[str, Any], history: Callable[..., Any]) -> Any:
    """A place with six models, each at version 1."""
    given = history()
    for name in MODELS:
        place.store.models.create(with_defaults(parse_spec({**spec, "name": name})), place.clock.now())
        events = [
            NewEvent(EventKind.EXAMPLE, place.clock.now(), None, {"features": row, "target": target})
            for row, target in zip(given["rows"], given["targets"], strict=True)
        ]
        place.store.log.append(name, events)
    place.advance()
    assert {champion.version for champion in place.store.versions.champions().values()} == {1}
    return place


@pytest.fixture
def one(many: Any) -> int:
    """How many bytes one of them takes in memory."""
    return Runtime(many.parts, Instruments(many.parts)).refresh("m0").weight


@pytest.fixture
def make_runtime(many: Any) -> Iterator[Callable[..., Runtime]]:
    made: list[Runtime] = []

    def make(**changes: Any) -> Runtime:
        made.append(Runtime(many.parts, Instruments(many.parts), **{"poll": 0.01, **changes}))
        return made[-1]

    yield make
    for runtime in made:
        runtime.stop()


def counted(monkeypatch: pytest.MonkeyPatch, holder: Any, name: str, pause: float = 0.0) -> list[Any]:
    """What a method is called with."""
    calls: list[Any] = []
    plain = getattr(holder, name)

    def call(*arguments: Any, **named: Any) -> Any:
        calls.append(arguments)
        time.sleep(pause)
        return plain(*arguments, **named)

    monkeypatch.setattr(holder, name, call)
    return calls


async def test_memory_stays_within_its_limit_and_every_model_answers(
    make_runtime: Callable[..., Runtime], one: int
) -> None:
    runtime = make_runtime(memory=3 * one + one // 2)
    for _ in range(2):
        for model in MODELS:
            served = await runtime.served(model)
            assert (served.version, served.spec.name) == (1, model)
            assert runtime._served.bytes <= runtime._served.limit
    assert set(runtime._served) == set(MODELS[-len(runtime._served) :])
    assert 2 <= len(runtime._served) <= 3


async def test_those_that_were_asked_for_longest_ago_go_first(
    make_runtime: Callable[..., Runtime], one: int
) -> None:
    runtime = make_runtime(memory=3 * one + one // 2, poll=1000.0)
    runtime._looked = time.monotonic()  # looks at the store no more by itself
    for model in ("m0", "m1", "m2", "m0", "m3"):
        await runtime.served(model)
    assert "m0" in runtime._served
    assert "m1" not in runtime._served


async def test_what_is_in_use_stays(make_runtime: Callable[..., Runtime], one: int) -> None:
    busy = Busy()
    runtime = make_runtime(memory=2 * one, in_use=busy)
    assert busy.enter("m0")
    for model in MODELS:
        await runtime.served(model)
    assert "m0" in runtime._served
    busy.leave("m0")
    await runtime.served("m1")
    await runtime.served("m2")
    assert "m0" not in runtime._served


async def test_a_model_over_the_limit_answers_alone(make_runtime: Callable[..., Runtime], one: int) -> None:
    runtime = make_runtime(memory=one // 2)
    for model in MODELS:
        assert (await runtime.served(model)).version == 1
        assert set(runtime._served) == {model}


async def test_requests_for_a_cold_model_share_one_load(
    make_runtime: Callable[..., Runtime], many: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = make_runtime()
    loads = counted(monkeypatch, many.store.artifacts, "get", pause=0.05)
    answers = await asyncio.gather(*(runtime.served("m0") for _ in range(50)))
    assert len({id(served) for served in answers}) == 1
    assert len(loads) == 1


async def test_a_caller_that_goes_leaves_the_load_to_the_others(
    make_runtime: Callable[..., Runtime], many: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = make_runtime()
    counted(monkeypatch, many.store.artifacts, "get", pause=0.1)
    first, second = (asyncio.create_task(runtime.served("m0")) for _ in range(2))
    await asyncio.sleep(0.02)
    first.cancel()
    assert (await second).version == 1
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_a_start_loads_no_more_than_half_of_the_memory_holds(
    make_runtime: Callable[..., Runtime], one: int
) -> None:
    runtime = make_runtime(memory=4 * one)
    runtime.start()
    for _ in range(500):
        if not runtime.loading:
            break
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    assert 1 <= len(runtime._served) <= 3
    for model in MODELS:
        assert (await runtime.served(model)).version == 1


async def test_a_start_takes_only_so_long_to_load(
    make_runtime: Callable[..., Runtime], many: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("everlearn.api.runtime.FIRST_SECONDS", 0.0)
    monkeypatch.setattr("everlearn.api.runtime.LATER_SECONDS", -1.0)
    runtime = make_runtime()
    loads = counted(monkeypatch, many.store.artifacts, "get")
    runtime.look()
    assert len(loads) <= 1
    assert not runtime.loading


def test_a_look_asks_one_question_however_many_models_there_are(
    make_runtime: Callable[..., Runtime], many: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = make_runtime()
    runtime.look()
    assert len(runtime._served) == len(MODELS)
    monkeypatch.setattr("everlearn.api.runtime.SPECS_EVERY", 1000.0)
    store = many.store
    asked = [
        counted(monkeypatch, holder, name)
        for holder, name in (
            (store.versions, "champions"),
            (store.versions, "champion"),
            (store.versions, "get"),
            (store.models, "get"),
            (store.models, "list"),
            (store.ledger, "checkpoint"),
            (store.artifacts, "get"),
        )
    ]
    runtime.look()
    assert [len(calls) for calls in asked] == [1, 0, 0, 0, 0, 0, 0]


def test_the_store_tells_champions_anew_only_when_they_changed(many: Any, spec: dict[str, Any]) -> None:
    versions = many.store.versions
    before = versions.champions()
    assert versions.champions() == before
    many.store.models.create(with_defaults(parse_spec({**spec, "name": "new"})), many.clock.now())
    assert versions.champions().keys() == {*before, "new"}
    many.store.models.delete("m0")
    assert versions.champions().keys() == {*MODELS[1:], "new"}
    back = {"name": "rollback", "arguments": {}}
    many.store.log.append("m1", [NewEvent(EventKind.COMMAND, many.clock.now(), None, back)])
    many.advance()
    assert versions.champions()["m1"].version == 0


async def test_a_swap_reaches_a_model_in_memory_and_one_that_went_out_of_it(
    make_runtime: Callable[..., Runtime], many: Any, one: int
) -> None:
    runtime = make_runtime(memory=2 * one + one // 2)
    for model in ("m0", "m1", "m2"):
        await runtime.served(model)
    for model in ("m0", "m2"):
        back = {"name": "rollback", "arguments": {}}
        many.store.log.append(model, [NewEvent(EventKind.COMMAND, many.clock.now(), None, back)])
    many.advance()
    runtime.look()
    assert runtime.serving("m2") == 0
    assert (await runtime.served("m0")).version == 0


# A store of versions that is down


async def test_with_the_store_down_what_is_loaded_answers_and_the_rest_says_so(
    make_runtime: Callable[..., Runtime], many: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = make_runtime(poll=0.5)
    assert (await runtime.served("m0")).version == 1
    asked: list[str] = []

    def down(digest: str) -> Any:
        asked.append(digest)
        raise UnavailableError("The store s3://b does not answer")

    monkeypatch.setattr(many.store.artifacts, "get", down)
    assert (await runtime.served("m0")).version == 1
    for _ in range(5):
        with pytest.raises(UnavailableError, match=r"m1.*The store s3://b does not answer"):
            await runtime.served("m1")
    assert len(asked) == 1, "no version is nearer than another, and it is not asked again at once"
    monkeypatch.undo()
    await asyncio.sleep(1.1)
    assert (await runtime.served("m1")).version == 1


def test_a_store_that_is_down_does_not_hold_up_the_looks(
    make_runtime: Callable[..., Runtime], many: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def down(digest: str) -> Any:
        asked.append(digest)
        raise UnavailableError("The store s3://b does not answer")

    monkeypatch.setattr(many.store.artifacts, "get", down)
    runtime = make_runtime(poll=0.0)
    for _ in range(5):
        runtime.look()
    assert len(asked) == 1
    assert not runtime.loading


async def test_callers_are_told_to_come_back(
    make_app: Callable[..., Any], connect: Callable[..., Any], many: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def down(digest: str) -> Any:
        raise UnavailableError("The store s3://b does not answer")

    monkeypatch.setattr(many.store.artifacts, "get", down)
    async with connect(make_app()) as client:
        answer = await client.post("/v1/models/m0/predict", json={"row": ROW})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


# Requests under way


async def test_a_model_cannot_take_all(many: Any) -> None:
    """One request of m0 hangs: the next is refused at once, and other models answer."""
    hold, inside = asyncio.Event(), asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"].startswith("/v1/models/m0/"):
            inside.set()
            await hold.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def with_id(scope: Any, receive: Any, send: Any) -> None:
        scope.setdefault("state", {})["request_id"] = "r"
        await ModelLimit(app, busy)(scope, receive, send)

    busy = Busy(most=1)
    transport = httpx.ASGITransport(with_id)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        first = asyncio.create_task(client.post("/v1/models/m0/predict"))
        await inside.wait()
        refused = await client.post("/v1/models/m0/labels")
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert "Model 'm0' has 1 requests under way" in refused.json()["detail"]
        assert (await client.post("/v1/models/m1/predict")).status_code == 200
        assert (await client.get("/v1/models/m1/scores")).status_code == 200
        hold.set()
        assert (await first).status_code == 200
        assert (await client.post("/v1/models/m0/predict")).status_code == 200
    assert busy.refused == 1
    assert "m0" not in busy


async def test_the_api_has_the_limit(
    make_app: Callable[..., Any], connect: Callable[..., Any], many: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted(monkeypatch, many.store.artifacts, "get", pause=0.3)
    async with connect(make_app(model_requests=2, memory=1)) as client:
        await asyncio.sleep(0.3)
        answers = await asyncio.gather(
            *(client.post("/v1/models/m5/predict", json={"row": ROW}) for _ in range(5))
        )
    assert sorted(answer.status_code for answer in answers) == [200, 200, 503, 503, 503]


# Weighing


def test_weight_counts_arrays_once_and_closures_too() -> None:
    array = np.zeros(10_000)
    view = array[:5_000]
    assert 80_000 < weigh([array, view, {"same": array}]) < 82_000
    assert 80_000 < weigh(lambda: array) < 82_000
    assert weigh(np) == weigh(int) == 0


def test_weight_of_very_many_objects_is_estimated(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = weigh([[float(i)] for i in range(5_000)])
    monkeypatch.setattr("everlearn.api.weight.MOST", 2_000)
    assert exact / 3 < weigh([[float(i)] for i in range(5_000)]) < exact * 3


@given(
    weights=st.lists(st.integers(1, 50), min_size=1, max_size=20),
    limit=st.integers(1, 200),
    asks=st.lists(st.integers(0, 19), max_size=40),
    busy=st.sets(st.integers(0, 19)),
)
def test_room_is_made_of_nothing_that_is_in_use(
    weights: list[int], limit: int, asks: list[int], busy: set[int]
) -> None:
    """Whatever was loaded and asked for: what stays fits, but for what is in use, and the newest."""

    class Thing:
        def __init__(self, weight: int) -> None:
            self.weight = weight

    cache = ServedCache(limit, {str(i) for i in busy})
    for i, weight in enumerate(weights):
        cache[str(i)] = Thing(weight)  # type: ignore[assignment]
        cache.ask(str(i))
        for again in asks[i::7]:
            if str(again) in cache:
                cache.ask(str(again))
        before = dict(cache)
        gone = cache.make_room(str(i))
        lost = before.keys() - cache.keys()
        assert len(lost) == gone
        assert str(i) in cache
        assert not lost & {str(one) for one in busy}
        held = [one for one in cache if one != str(i) and one not in {str(b) for b in busy}]
        assert cache.bytes <= limit or not held
        if lost and held:
            assert max(cache.asked[one] for one in lost) <= min(cache.asked[one] for one in held)


@pytest.mark.skipif(sys.platform != "linux", reason="of glibc")
def test_what_is_freed_goes_back_to_the_system() -> None:
    trimmer = Trimmer()
    assert not trimmer.trim(), "nothing was freed"
    held = [np.ones(1_000) for _ in range(10_000)]  # 80 MB in pieces that the allocator keeps
    full = resident()
    pins = held[::100]
    del held
    trimmer.freed()
    assert trimmer.trim()
    assert resident() < full - 50
    trimmer.freed()
    assert not trimmer.trim(), "it was done just now"
    assert len(pins) == 100


def resident() -> float:
    """Resident memory in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def test_room_is_made_in_the_order_of_use() -> None:
    class Thing:
        weight = 10

    cache = ServedCache(limit=35)
    for name in "abcd":
        cache[name] = Thing()  # type: ignore[assignment]
        cache.ask(name)
    cache.ask("a")
    assert cache.make_room("d") == 1
    assert set(cache) == {"a", "c", "d"}
