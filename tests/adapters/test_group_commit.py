"""Group commit: many callers share a commit, and each still gets exactly its own answer."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from everlearn.adapters.group_commit import GroupCommit
from everlearn.adapters.memory import MemoryStore
from everlearn.errors import ConflictError, InvalidError, NotFoundError, UnavailableError
from everlearn.ports import Log
from everlearn.spec import parse_spec
from everlearn.types import EventKind, NewEvent, Prediction, Receipt, Row, Status


class Slow:
    """A log that takes its time for each transaction, counts them, and refuses what is poisoned."""

    def __init__(self, log: Log, seconds: float = 0.0) -> None:
        self._log = log
        self.seconds = seconds
        self.sizes: list[int] = []
        self.flushed: list[bool] = []
        self.open = threading.Event()
        self.open.set()
        self.begun = threading.Event()
        self.down = False

    def append(self, model: str, events: Sequence[NewEvent], *, flush: bool = False) -> list[Receipt]:
        self.begun.set()
        self.open.wait(60)
        time.sleep(self.seconds)
        self.sizes.append(len(events))
        if self.down:
            raise UnavailableError("The store is down: try again")
        if any(event.body.get("value") == "poison" for event in events):
            raise InvalidError("poison: is not allowed")
        self.flushed.append(flush)
        return self._log.append(model, events, flush=flush)

    def find(self, model: str, ids: Sequence[str]) -> object:
        return self._log.find(model, ids)


@pytest.fixture
def store() -> MemoryStore:
    return fresh()


def fresh() -> MemoryStore:
    store = MemoryStore()
    for name in ("a", "b"):
        store.models.create(parse_spec({"name": name, "target": "y", "features": {"x": "numeric"}}), at=0.0)
    return store


@pytest.fixture
def slow(store: MemoryStore) -> Slow:
    return Slow(store.log)


@pytest.fixture
def commit(slow: Slow) -> Iterator[GroupCommit]:
    writer = GroupCommit(slow)  # type: ignore[arg-type]
    yield writer
    slow.open.set()
    writer.close()


def prediction(key: str, x: float = 0.0, value: str = "v") -> NewEvent:
    features: Row = {"x": x}
    return NewEvent(EventKind.PREDICTION, 1.0, key, {"features": features, "value": value, "version": 0})


async def queued(commit: GroupCommit, count: int) -> None:
    """Wait until so many events wait behind the write in progress."""
    for _ in range(20_000):
        if commit._queued >= count:
            return
        await asyncio.sleep(0.001)
    raise AssertionError("the queue did not fill")


async def held(commit: GroupCommit, slow: Slow) -> asyncio.Task[list[Receipt]]:
    """Close the log while a first write is in progress, so that later ones must wait together."""
    slow.open.clear()
    slow.begun.clear()
    first = asyncio.create_task(commit.append("a", [prediction("first")]))
    while not slow.begun.is_set():
        await asyncio.sleep(0.001)
    return first


async def test_an_append_is_durable_and_answered_in_order(commit: GroupCommit, store: MemoryStore) -> None:
    receipts = await commit.append("a", [prediction("1"), prediction("2"), prediction("1")])

    assert [r.status for r in receipts] == [Status.ACCEPTED, Status.ACCEPTED, Status.DUPLICATE]
    assert [r.seq for r in receipts] == [2, 3, 2]
    assert store.log.head("a").rows == 2


async def test_nothing_to_append_is_answered_at_once(commit: GroupCommit, slow: Slow) -> None:
    assert await commit.append("a", []) == []
    assert slow.sizes == []


async def test_callers_that_wait_together_share_one_transaction_for_each_model(
    commit: GroupCommit, slow: Slow
) -> None:
    first = await held(commit, slow)
    waiting = [
        asyncio.create_task(commit.append(model, [prediction(f"{model}{i}")]))
        for i in range(50)
        for model in ("a", "b")
    ]
    await queued(commit, 100)
    slow.open.set()
    await asyncio.gather(first, *waiting)

    assert slow.sizes == [1, 50, 50]


async def test_a_bad_request_fails_alone(commit: GroupCommit, slow: Slow, store: MemoryStore) -> None:
    first = await held(commit, slow)
    good = [asyncio.create_task(commit.append("a", [prediction(f"good{i}")])) for i in range(5)]
    bad = asyncio.create_task(commit.append("a", [prediction("bad", value="poison")]))
    await queued(commit, 6)
    slow.open.set()
    await asyncio.gather(first, *good)

    with pytest.raises(InvalidError, match="poison"):
        await bad
    assert store.log.head("a").rows == 6


async def test_an_unknown_model_fails_alone(commit: GroupCommit) -> None:
    good, bad = await asyncio.gather(
        commit.append("a", [prediction("1")]),
        commit.append("gone", [prediction("1")]),
        return_exceptions=True,
    )
    assert isinstance(good, list)
    assert isinstance(bad, NotFoundError)


async def test_a_store_that_is_down_is_not_asked_once_for_each_caller(
    commit: GroupCommit, slow: Slow
) -> None:
    first = await held(commit, slow)
    slow.down = True
    waiting = [asyncio.create_task(commit.append("a", [prediction(str(i))])) for i in range(20)]
    await queued(commit, 20)
    slow.open.set()
    results = await asyncio.gather(first, *waiting, return_exceptions=True)

    assert all(isinstance(result, UnavailableError) for result in results)
    assert slow.sizes == [1, 20]


async def test_a_full_queue_refuses_and_then_recovers(slow: Slow) -> None:
    commit = GroupCommit(slow, limit=10)  # type: ignore[arg-type]
    first = await held(commit, slow)
    waiting = asyncio.create_task(commit.append("a", [prediction(f"w{i}") for i in range(8)]))
    await queued(commit, 8)
    with pytest.raises(UnavailableError, match="wait to be written"):
        await commit.append("a", [prediction(f"x{i}") for i in range(3)])
    slow.open.set()
    await asyncio.gather(first, waiting)

    assert len(await commit.append("a", [prediction(f"big{i}") for i in range(30)])) == 30
    commit.close()


async def test_a_model_that_fills_its_queue_takes_no_other_models_place(slow: Slow) -> None:
    commit = GroupCommit(slow, limit=10)  # type: ignore[arg-type]
    first = await held(commit, slow)
    waiting = [asyncio.create_task(commit.append("a", [prediction(f"w{i}") for i in range(10)]))]
    await queued(commit, 10)
    with pytest.raises(UnavailableError, match="10 events of model 'a' wait to be written"):
        await commit.append("a", [prediction("x")])
    waiting.append(asyncio.create_task(commit.append("b", [prediction(f"w{i}") for i in range(10)])))
    await queued(commit, 20)
    with pytest.raises(UnavailableError, match="20 events wait to be written"):
        await commit.append("c", [prediction("x")])
    slow.open.set()
    await asyncio.gather(first, *waiting)
    assert commit._queued == 0
    assert commit._queued_of == {}
    commit.close()


async def test_closing_writes_what_waits_and_refuses_the_rest(slow: Slow, store: MemoryStore) -> None:
    commit = GroupCommit(slow)  # type: ignore[arg-type]
    first = await held(commit, slow)
    waiting = [asyncio.create_task(commit.append("a", [prediction(str(i))])) for i in range(10)]
    await queued(commit, 10)
    slow.open.set()
    await asyncio.to_thread(commit.close)
    await asyncio.gather(first, *waiting)

    assert store.log.head("a").rows == 11
    with pytest.raises(UnavailableError, match="shutting down"):
        await commit.append("a", [prediction("late")])
    commit.close()


async def test_a_cancelled_caller_that_was_not_written_yet_stores_nothing(
    commit: GroupCommit, slow: Slow, store: MemoryStore
) -> None:
    first = await held(commit, slow)
    gone = asyncio.create_task(commit.append("a", [prediction("gone")]))
    stays = asyncio.create_task(commit.append("a", [prediction("stays")]))
    await queued(commit, 2)
    gone.cancel()
    await asyncio.sleep(0)
    slow.open.set()
    await asyncio.gather(first, stays)

    assert set(store.log.find("a", ["gone", "stays", "first"])) == {"stays", "first"}


async def test_whole_requests_with_a_conflict_store_nothing(commit: GroupCommit, store: MemoryStore) -> None:
    await commit.append("a", [prediction("known", x=1.0)], whole=True)
    with pytest.raises(ConflictError, match="'known'") as caught:
        await commit.append("a", [prediction("new"), prediction("known", x=2.0)], whole=True)

    assert [fault.field for fault in caught.value.faults] == ["ids[1]"]
    assert "new" not in store.log.find("a", ["new"])


async def test_whole_requests_of_one_group_see_each_other(
    commit: GroupCommit, slow: Slow, store: MemoryStore
) -> None:
    first = await held(commit, slow)
    one = asyncio.create_task(commit.append("a", [prediction("id", x=1.0)], whole=True))
    await queued(commit, 1)
    two = asyncio.create_task(commit.append("a", [prediction("n"), prediction("id", x=2.0)], whole=True))
    same = asyncio.create_task(commit.append("a", [prediction("id", x=1.0)], whole=True))
    await queued(commit, 4)
    slow.open.set()
    await asyncio.gather(first, one, same)

    with pytest.raises(ConflictError):
        await two
    assert (await same)[0].status is Status.DUPLICATE
    assert store.log.head("a").rows == 2


async def test_an_id_twice_in_one_whole_request_must_say_the_same(commit: GroupCommit) -> None:
    receipts = await commit.append("a", [prediction("s"), prediction("s")], whole=True)
    assert receipts[1].status is Status.DUPLICATE
    with pytest.raises(ConflictError):
        await commit.append("a", [prediction("t", x=1.0), prediction("t", x=2.0)], whole=True)


async def test_a_group_is_flushed_if_one_of_its_callers_asks(commit: GroupCommit, slow: Slow) -> None:
    first = await held(commit, slow)
    one = asyncio.create_task(commit.append("a", [prediction("1")]))
    two = asyncio.create_task(commit.append("a", [prediction("2")], flush=True))
    other = asyncio.create_task(commit.append("b", [prediction("3")]))
    await queued(commit, 3)
    slow.open.set()
    await asyncio.gather(first, one, two, other)

    assert slow.flushed == [False, True, False]


async def test_what_is_posted_is_stored_without_a_word(slow: Slow, store: MemoryStore) -> None:
    lost: list[int] = []
    commit = GroupCommit(slow, on_loss=lost.append)  # type: ignore[arg-type]
    commit.post("a", [prediction("1"), prediction("2")])
    commit.post("a", [prediction("bad", value="poison")])
    await asyncio.to_thread(commit.close)

    assert store.log.head("a").rows == 2
    assert lost == [1]
    with pytest.raises(UnavailableError, match="shutting down"):
        commit.post("a", [prediction("late")])


async def test_requests_of_one_turn_of_the_loop_share_a_transaction(commit: GroupCommit, slow: Slow) -> None:
    await asyncio.gather(*(commit.append("a", [prediction(str(i))]) for i in range(30)))
    assert slow.sizes == [30]


async def test_a_group_waits_for_company_only_so_long(store: MemoryStore) -> None:
    commit = GroupCommit(store.log, wait=0.05)
    await asyncio.gather(*(commit.append("a", [prediction(str(i))]) for i in range(10)))
    started = time.perf_counter()
    await commit.append("a", [prediction("alone after ten")])
    first = time.perf_counter() - started
    started = time.perf_counter()
    await commit.append("a", [prediction("alone after one")])
    second = time.perf_counter() - started
    await asyncio.to_thread(commit.close)

    assert first >= 0.045
    assert second < first


async def test_a_caller_in_a_thread_is_answered_beside_those_of_a_loop(commit: GroupCommit) -> None:
    blocking = commit.submit("a", [prediction("thread")])
    (awaited,) = await commit.append("a", [prediction("loop")])
    (other,) = await asyncio.wrap_future(blocking)
    assert {awaited.seq, other.seq} == {2, 3}


callers = st.lists(
    st.tuples(
        st.sampled_from("ab"),
        st.lists(st.tuples(st.integers(0, 12), st.booleans()), min_size=1, max_size=4),
        st.sampled_from(["stay", "stay", "stay", "cancel now", "cancel soon"]),
    ),
    min_size=1,
    max_size=25,
)


@settings(max_examples=40)
@given(callers)
def test_answers_are_never_mixed_up(callers: list[tuple[str, list[tuple[int, bool]], str]]) -> None:
    """Under cancellation and errors, every caller gets the receipts of its own events or its own error."""
    store = fresh()

    async def call(commit: GroupCommit, number: int) -> None:
        model, wanted, fate = callers[number]
        events = [
            prediction(f"{number}-{i}" if unique else f"shared{x}", float(x), "poison" if x == 12 else "v")
            for i, (x, unique) in enumerate(wanted)
        ]
        task = asyncio.create_task(commit.append(model, events))
        if fate != "stay":
            await asyncio.sleep(0 if fate == "cancel now" else 0.001)
            task.cancel()
        try:
            receipts = await task
        except asyncio.CancelledError:
            return
        except InvalidError:
            assert any(event.body["value"] == "poison" for event in events)
            return
        assert not any(event.body["value"] == "poison" for event in events)
        assert len(receipts) == len(events)
        logged = {event.seq: event for event in store.log.read(model)}
        for event, receipt in zip(events, receipts, strict=True):
            recorded = logged[receipt.seq or 0]
            assert isinstance(recorded, Prediction)
            assert (recorded.id, recorded.features) == (event.key, event.body["features"])

    async def run() -> None:
        commit = GroupCommit(Slow(store.log, 0.0005))  # type: ignore[arg-type]
        await asyncio.gather(*(call(commit, number) for number in range(len(callers))))
        await asyncio.to_thread(commit.close)

    asyncio.run(run())
    for model in ("a", "b"):
        keys = [event.id for event in store.log.read(model) if isinstance(event, Prediction)]
        assert len(keys) == len(set(keys))
