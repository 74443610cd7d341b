"""Time enters the logs of models that need it, once a period, while something may mature."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from everlearn.adapters.memory import ManualClock
from everlearn.scheduler import SCHEDULER, Scheduler
from everlearn.spec import parse_spec
from everlearn.types import EventKind, NewEvent, Tick


class Parts:
    def __init__(self, store: Any) -> None:
        self.clock = ManualClock(1_000_000.0)
        self.models, self.log, self.leases = store.models, store.log, store.leases

    def model(self, name: str, horizon: Any) -> None:
        spec = {"name": name, "target": "y", "features": {"x": "numeric"}, "label_horizon": horizon}
        self.models.create(parse_spec(spec), self.clock.now())

    def predict(self, name: str, key: str) -> None:
        body = {"features": {"x": 1.0}, "value": None, "probabilities": None, "version": 0}
        self.log.append(name, [NewEvent(EventKind.PREDICTION, self.clock.now(), key, body)])

    def ticks(self, name: str) -> list[float]:
        return [event.at for event in self.log.read(name, 0, 10_000) if isinstance(event, Tick)]


@pytest.fixture
def parts(any_store: Any) -> Parts:
    return Parts(any_store)


def test_only_horizons_in_time_need_ticks(parts: Parts) -> None:
    for name, horizon in (("rows", {"rows": 10}), ("auto", "auto"), ("time", "2m")):
        parts.model(name, horizon)
        parts.predict(name, "a")
    assert Scheduler(parts).run_once() == 1
    assert (len(parts.ticks("rows")), len(parts.ticks("auto")), len(parts.ticks("time"))) == (0, 0, 1)


def test_one_tick_a_period_whoever_ticks(parts: Parts) -> None:
    parts.model("m", "2m")
    parts.predict("m", "a")
    one, other = Scheduler(parts), Scheduler(parts)
    for _ in range(30):
        one.run_once()
        other.run_once()
        parts.clock.advance(1.0)
    assert len(parts.ticks("m")) == 3


def test_ticks_end_when_all_has_matured_and_begin_again(parts: Parts) -> None:
    parts.model("m", "1m")
    scheduler = Scheduler(parts)
    assert scheduler.run_once() == 0  # nothing to mature yet
    parts.predict("m", "a")
    first = parts.clock.now()
    for _ in range(300):
        scheduler.run_once()
        parts.clock.advance(1.0)
    ticks = parts.ticks("m")
    assert first + 60.0 <= ticks[-1] <= first + 90.0  # past the horizon, and then silence
    parts.predict("m", "b")
    assert scheduler.run_once() == 1


def test_long_horizons_tick_slowly(parts: Parts) -> None:
    spec = {"name": "m", "target": "y", "features": {"x": "numeric"}}
    period = Scheduler(parts).period
    assert period(parse_spec({**spec, "label_horizon": "30s"})) == 10.0
    assert period(parse_spec({**spec, "label_horizon": "1d"})) == 864.0
    assert period(parse_spec({**spec, "label_horizon": "auto"})) is None


def test_of_several_schedulers_one_ticks_until_it_is_gone(parts: Parts) -> None:
    parts.model("m", "2m")
    parts.predict("m", "a")
    one, other = (Scheduler(parts, 1.0, owner=owner) for owner in ("one", "other"))
    over = threading.Event()
    over.set()
    assert one._holding.take(SCHEDULER)
    ran = threading.Event()
    thread = threading.Thread(target=other.run, args=(ran,))
    thread.start()
    time.sleep(0.3)
    assert parts.ticks("m") == []
    one.run(over)  # it is stopped before it ticks, and gives the lease back
    until = time.monotonic() + 20
    while not parts.ticks("m") and time.monotonic() < until:
        time.sleep(0.05)
    ran.set()
    thread.join(10)
    assert len(parts.ticks("m")) == 1
