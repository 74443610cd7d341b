"""Requests answered together: each gets its own answer, error or cancellation, whatever the others get."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from everlearn.api.joining import QUICK, Joined, asked
from everlearn.types import Output, Row


class Echo:
    """A version that answers each row with its own number, fails on bad rows, and notes its calls."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.gate = threading.Event()
        self.gate.set()

    def predict(self, rows: Sequence[Row]) -> list[Output]:
        self.gate.wait(5)
        numbers = [int(row["n"]) for row in rows]  # type: ignore[arg-type]
        self.calls.append(numbers)
        if any(number < 0 for number in numbers):
            raise ValueError(f"bad rows in {numbers}")
        return [Output(number) for number in numbers]


def rows_of(numbers: Sequence[int]) -> list[Row]:
    return [{"n": number} for number in numbers]


requests = st.lists(
    st.tuples(
        st.lists(st.integers(-1, 1000), min_size=1, max_size=4),  # a row of -1 cannot be answered
        st.integers(0, 3),  # turns of the event loop before it comes
        st.one_of(st.none(), st.integers(0, 4)),  # turns after which its caller goes
    ),
    max_size=20,
)


@settings(max_examples=60, deadline=None)
@given(requests=requests, most=st.integers(1, 8))
def test_no_answer_is_ever_another_requests(requests: list[Any], most: int) -> None:
    async def one(joined: Joined, echo: Echo, numbers: list[int], before: int) -> list[Output]:
        for _ in range(before):
            await asyncio.sleep(0)
        return await joined.ask(echo, rows_of(numbers))  # type: ignore[arg-type]

    async def goes(task: asyncio.Task[Any], after: int) -> None:
        for _ in range(after):
            await asyncio.sleep(0)
        task.cancel()

    async def play() -> None:
        joined, echo = Joined(most), Echo()
        tasks = [asyncio.create_task(one(joined, echo, numbers, turns)) for numbers, turns, _ in requests]
        leaving = [
            asyncio.create_task(goes(task, after))
            for task, (_, _, after) in zip(tasks, requests, strict=True)
            if after is not None
        ]
        found = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 10)
        await asyncio.gather(*leaving)
        for (numbers, _, after), answer in zip(requests, found, strict=True):
            if isinstance(answer, asyncio.CancelledError):
                assert after is not None
            elif min(numbers) < 0:
                assert isinstance(answer, ValueError)
                assert str(answer) == f"bad rows in {numbers}"  # its own rows alone
            else:
                assert answer == [Output(number) for number in numbers]
        assert all(
            len(call) <= most or len(call) in map(len, (r[0] for r in requests)) for call in echo.calls
        )

    asyncio.run(play())


def test_what_waits_while_a_call_is_at_work_goes_together() -> None:
    async def play() -> list[list[int]]:
        joined, echo = Joined(), Echo()
        echo.gate.clear()  # a first call is made in a thread
        first = asyncio.create_task(joined.ask(echo, rows_of([1])))  # type: ignore[arg-type]
        await asyncio.sleep(0.01)
        later = [asyncio.create_task(joined.ask(echo, rows_of([n]))) for n in (2, 3, 4)]  # type: ignore[arg-type]
        await asyncio.sleep(0.01)
        echo.gate.set()
        await asyncio.gather(first, *later)
        return echo.calls

    assert asyncio.run(play()) == [[1], [2, 3, 4]]


def test_a_quick_learner_is_asked_without_a_thread() -> None:
    async def play() -> set[int]:
        joined, threads = Joined(), set[int]()

        class Quick:
            def predict(self, rows: Sequence[Row]) -> list[Output]:
                threads.add(threading.get_ident())
                return [Output(1) for _ in rows]

        quick = Quick()
        for _ in range(20):
            await joined.ask(quick, rows_of([1]))  # type: ignore[arg-type]
        threads.clear()
        for _ in range(20):
            await joined.ask(quick, rows_of([1]))  # type: ignore[arg-type]
        return threads

    assert QUICK > 0
    assert threading.get_ident() in asyncio.run(play())


def test_a_version_that_is_gone_is_not_kept() -> None:
    async def play() -> weakref.ref[Echo]:
        joined, echo = Joined(), Echo()
        await joined.ask(echo, rows_of([1]))  # type: ignore[arg-type]
        await asyncio.sleep(0.01)
        gone = weakref.ref(echo)
        del echo
        gc.collect()
        assert gone() is None
        return gone

    asyncio.run(play())


def test_too_few_answers_are_an_error_and_not_somebody_elses() -> None:
    answers = asked(lambda rows: [Output(1)], [rows_of([1]), rows_of([2, 3])])
    assert answers[0] == [Output(1)]
    assert isinstance(answers[1], RuntimeError)


@pytest.mark.slow
async def test_a_forest_answers_each_request_as_if_it_were_alone(
    make_app: Any, connect: Any, place: Any, spec: dict[str, Any]
) -> None:
    """Over HTTP, with a learner that has no quick way for one row."""
    spec["learner"] = {"name": "window", "estimator": "random_forest", "size": 200}
    given = [{"a": float(i % 7), "b": float(i % 5)} for i in range(120)]
    history = {"rows": given, "targets": ["yes" if row["a"] > row["b"] else "no" for row in given]}
    async with connect(make_app()) as api:
        assert (await api.post("/v1/models", json=spec)).status_code == 201
        loaded = await api.post("/v1/models/toy/examples", json=history)
        assert loaded.status_code < 300, loaded.text
        place.advance()

        async def ask(row: dict[str, float]) -> dict[str, Any]:
            answer = await api.post("/v1/models/toy/predict", json={"row": row})
            assert answer.status_code == 200
            told: dict[str, Any] = answer.json()["predictions"][0]
            return told

        await asyncio.sleep(0.1)
        alone = [await ask(row) for row in given[:35]]
        together = await asyncio.gather(*(ask(row) for row in given[:35]))
        bad = await asyncio.gather(
            api.post("/v1/models/toy/predict", json={"row": {"a": "x"}}), ask(given[0])
        )
    assert {answer["version"] for answer in alone} == {1}
    for one, other in zip(alone, together, strict=True):
        assert (one["value"], one["version"]) == (other["value"], other["version"])
        assert one["probabilities"] == pytest.approx(other["probabilities"])
    assert bad[0].status_code == 422
    assert bad[1]["value"] == alone[0]["value"]
