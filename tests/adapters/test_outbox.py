"""Messages leave in order, at least once, and what cannot be delivered holds up nobody for ever."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from everlearn.adapters.memory import ManualClock, MemoryOutbox, MemoryStore
from everlearn.adapters.outbox import Dispatcher, backoff
from everlearn.errors import IntegrityError, InvalidError, NotFoundError, UnavailableError
from everlearn.spec import parse_spec
from everlearn.types import Message

NAMES = ["a", "b", "c"]


class Far:
    """A destination that fails as told, once for each error in its list."""

    def __init__(self, *errors: Exception | None) -> None:
        self.errors = list(errors)
        self.got: list[str] = []

    def __call__(self, body: Mapping[str, Any]) -> None:
        error = self.errors.pop(0) if self.errors else None
        if error is not None:
            raise error
        self.got.append(body["model"])


def filled(names: list[str] = NAMES) -> MemoryOutbox:
    store = MemoryStore()
    for name in names:
        store.models.create(parse_spec({"name": name, "target": "y", "features": {"x": "numeric"}}), at=0.0)
    return store.outbox


def dispatcher(outbox: MemoryOutbox, deliver: Callable[[Mapping[str, Any]], None], clock: ManualClock) -> Any:
    return Dispatcher(outbox, "registry", deliver, clock, poll=0.001)


def test_delivers_in_order_and_then_has_nothing_to_do() -> None:
    outbox, far = filled(), Far()
    sender = dispatcher(outbox, far, ManualClock())
    assert sender.run_once() == 3
    assert far.got == NAMES
    assert sender.run_once() == 0
    assert outbox.waiting("registry") == 0


def test_a_failure_is_retried_after_a_second_and_later_messages_wait_behind_it() -> None:
    outbox, far, clock = filled(), Far(None, UnavailableError("down")), ManualClock(100.0)
    sender = dispatcher(outbox, far, clock)
    assert sender.run_once() == 1
    clock.advance(0.9)
    assert sender.run_once() == 0
    clock.advance(0.2)
    assert sender.run_once() == 2
    assert far.got == NAMES


def test_waits_double_up_to_a_minute() -> None:
    outbox, far, clock = filled(["a"]), Far(*[UnavailableError("down")] * 9), ManualClock()
    sender = dispatcher(outbox, far, clock)
    failed_at = []
    while not far.got:
        left = len(far.errors)
        sender.run_once()
        if len(far.errors) < left:
            failed_at.append(clock.now())
        clock.advance(0.5)
    waits = [after - before for before, after in itertools.pairwise(failed_at)]
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]
    assert backoff(10**6) == 60


@pytest.mark.parametrize("poison", [InvalidError("odd"), NotFoundError("gone"), IntegrityError("damaged")])
def test_what_no_retry_mends_is_dropped(poison: Exception) -> None:
    outbox, far = filled(), Far(None, poison)
    assert dispatcher(outbox, far, ManualClock()).run_once() == 3
    assert far.got == ["a", "c"]
    assert outbox.waiting("registry") == 0


def test_a_crash_between_delivery_and_receipt_delivers_again() -> None:
    outbox, got = filled(["a"]), []

    def deliver_and_die(body: Mapping[str, Any]) -> None:
        got.append(body["model"])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        dispatcher(outbox, deliver_and_die, ManualClock()).run_once()
    far = Far()
    assert dispatcher(outbox, far, ManualClock()).run_once() == 1
    assert got == far.got == ["a"]


@settings(max_examples=50)
@given(st.lists(st.sampled_from([None, "down", "poison"]), max_size=30))
def test_whatever_fails_the_rest_arrives_in_order(plan: list[str | None]) -> None:
    errors = {None: None, "down": OSError("down"), "poison": InvalidError("odd")}
    names = [f"m{i:02d}" for i in range(8)]
    outbox, clock = filled(names), ManualClock()
    far = Far(*(errors[item] for item in plan))
    sender = dispatcher(outbox, far, clock)
    while outbox.waiting("registry"):
        sender.run_once()
        clock.advance(60.0)
    assert far.got == sorted(far.got)
    assert len(set(far.got)) == len(far.got)
    used = plan[: len(plan) - len(far.errors)]
    assert len(far.got) == len(names) - used.count("poison")


def test_the_loop_survives_an_outbox_that_fails_and_stops_when_told() -> None:
    class Shaky(MemoryOutbox):
        failures = 1

        def take(self, destination: str, limit: int, now: float) -> list[Message]:
            if self.failures:
                self.failures -= 1
                raise UnavailableError("the database restarts")
            return super().take(destination, limit, now)

    outbox = Shaky(filled()._data)
    stop, far = threading.Event(), Far()

    def deliver(body: Mapping[str, Any]) -> None:
        far(body)
        if len(far.got) == 2:
            stop.set()

    thread = threading.Thread(target=dispatcher(outbox, deliver, ManualClock()).run, args=(stop,))
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
    assert far.got == ["a", "b"]
    assert outbox.waiting("registry") == 1
