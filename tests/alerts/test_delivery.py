"""From a step of the loop to receivers that rate-limit, fail and hang: each alert once, in order."""

from __future__ import annotations

import base64
import hashlib
import hmac
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everlearn.adapters.alerts.delivery import Alerting, Quiet, place_of
from everlearn.adapters.clock import SystemClock
from everlearn.adapters.memory import ManualClock, MemoryStore
from everlearn.adapters.rules import ALERTS
from everlearn.spec import parse_spec
from everlearn.types import Decision, DecisionKind, Step

SECRET = "a-secret-that-signs-what-is-told"
KINDS = {
    "drift": DecisionKind.WARN,
    "rollback": DecisionKind.ROLLBACK,
    "promote": DecisionKind.PROMOTE,
    "hold": DecisionKind.HOLD,
}


class Loop:
    """A model whose loop decides what it is told to."""

    def __init__(self, store: MemoryStore, name: str = "shop") -> None:
        store.models.create(
            parse_spec({"name": name, "target": "y", "features": {"x": "numeric"}, "learner": "majority"}),
            1.0,
        )
        self.store, self.name = store, name
        self.decided = 0

    def decide(self, kind: str, at: float) -> None:
        self.decided += 1
        evidence = {"automatic": True, "score": 0.7123456, "threshold": 0.8}
        decision = Decision(
            self.decided, 1, at, KINDS[kind], f"{kind} number {self.decided}", evidence, 3, "1"
        )
        before = self.store.ledger.checkpoint(self.name).cursor
        assert self.store.ledger.commit(self.name, Step(before, before, b"", (decision,)))


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def loop(store: MemoryStore) -> Loop:
    return Loop(store)


def until(condition: Callable[[], Any], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.01)


def drained(alerting: Alerting, clock: ManualClock, store: MemoryStore, *names: str) -> None:
    """Deliver, with time going on, until nothing waits."""
    places = [ALERTS, *map(place_of, names)]
    for _ in range(500):
        alerting.run_once()
        if not any(map(store.outbox.waiting, places)):
            return
        clock.advance(1.0)
    raise AssertionError("messages are left")


def alerting_of(store: MemoryStore, plan: Any, clock: Any, **more: Any) -> Alerting:
    return Alerting(store.outbox, store.ledger, plan, clock, **more)


def test_an_alert_reaches_each_kind_of_receiver_and_so_does_its_end(
    store: MemoryStore, loop: Loop, fakes: Callable[..., Any], plan_of: Callable[..., Any]
) -> None:
    discord, slack, hook = fakes("/discord"), fakes("/slack"), fakes("/hook")
    plan = plan_of(
        [
            {"name": "chat", "kind": "discord", "url": discord.url},
            {"name": "desk", "kind": "slack", "url": slack.url},
            {"name": "pager", "kind": "webhook", "url": hook.url, "secret": SECRET},
        ],
        link="https://everlearn.example.org",
    )
    clock = ManualClock(100.0)
    loop.decide("drift", 100.0)
    loop.decide("hold", 101.0)
    loop.decide("promote", 160.0)
    drained(alerting_of(store, plan, clock), clock, store, "chat", "desk", "pager")

    warned, over = (body["embeds"][0] for body in discord.bodies)
    assert warned["title"] == "🟠 shop: drift"
    assert warned["description"] == "drift number 1"
    assert warned["url"] == "https://everlearn.example.org"
    assert {"name": "score", "value": "0.7123", "inline": True} in warned["fields"]
    assert {"name": "why", "value": "`everlearn why shop 1`", "inline": False} in warned["fields"]
    assert warned["timestamp"] == "1970-01-01T00:01:40+00:00"
    assert over["title"].startswith("🟢 shop")
    assert warned["color"] != over["color"]
    assert slack.bodies[0]["text"] == "🟠 shop: drift"
    assert [body["type"] for body in hook.bodies] == [
        "dev.everlearn.alert.raised",
        "dev.everlearn.alert.recovered",
    ]
    assert [body["id"] for body in hook.bodies] == ["shop:1:drift", "shop:3:drift:over"]
    headers, body = hook.taken[0]
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    digest = base64.b64encode(hmac.new(SECRET.encode(), signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{digest}"
    assert headers["content-type"] == "application/cloudevents+json"


def test_a_receiver_that_limits_fails_and_drops_gets_each_alert_once_in_order(
    store: MemoryStore, loop: Loop, fakes: Callable[..., Any], plan_of: Callable[..., Any]
) -> None:
    hook = fakes("/hook")
    hook.script = [
        (429, {"Retry-After": "7"}),
        500,
        (503, {"Retry-After": "nonsense"}),
        408,
        204,
        502,
        204,
        429,
    ]
    plan = plan_of([{"name": "pager", "kind": "webhook", "url": hook.url, "secret": SECRET}], cooldown="1s")
    clock = ManualClock(1000.0)
    for i in range(6):
        loop.decide("rollback", 1000.0 + 10 * i)
    began = clock.now()
    drained(alerting_of(store, plan, clock), clock, store, "pager")
    assert [body["data"]["decision"] for body in hook.bodies] == [1, 2, 3, 4, 5, 6]
    assert hook.asked == 6 + 6
    assert clock.now() - began >= 7 + 60 + 60  # it waited as long as it was asked to


@pytest.mark.parametrize("kind", ["discord", "slack"])
def test_alerts_and_their_ends_come_once_in_order_however_bad_the_day(
    kind: str,
    store: MemoryStore,
    loop: Loop,
    fakes: Callable[..., Any],
    plan_of: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("everlearn.adapters.alerts.senders.TIMEOUT", 0.3)
    place = fakes("/hook")
    place.script = ["hang", 429, 204, (429, {"Retry-After": "5"}), 503, 204, "hang", 500, 204, 204, "hang"]
    plan = plan_of([{"name": "chat", "kind": kind, "url": place.url}], cooldown="1s")
    clock = ManualClock(1000.0)
    for i, decided in enumerate(("rollback", "promote", "drift", "hold", "promote", "rollback")):
        loop.decide(decided, 1000.0 + 10 * i)
    drained(alerting_of(store, plan, clock), clock, store, "chat")
    titles = [body["embeds"][0]["title"] if kind == "discord" else body["text"] for body in place.bodies]
    assert titles == [
        "🔴 shop: rolled back",
        "🟢 shop: a new version answers",
        "🟠 shop: drift",
        "🟢 shop: drift answered by a new version",
        "🔴 shop: rolled back",
    ]
    assert place.asked == 5 + 7


def test_a_receiver_that_hangs_holds_up_neither_the_others_nor_the_loop(
    store: MemoryStore, loop: Loop, fakes: Callable[..., Any], plan_of: Callable[..., Any]
) -> None:
    hanging, quick = fakes("/hangs"), fakes("/quick")
    over = threading.Event()
    hanging.script = [over]
    plan = plan_of(
        [
            {"name": "hangs", "kind": "slack", "url": hanging.url},
            {"name": "quick", "kind": "slack", "url": quick.url},
        ],
        cooldown="1s",
    )
    stop = threading.Event()
    threads = alerting_of(store, plan, SystemClock(), poll=0.01).start(stop)
    loop.decide("rollback", 1.0)
    until(lambda: hanging.asked)
    began = time.perf_counter()
    for i in range(40):
        loop.decide("rollback", 10.0 * (i + 1))
    took = time.perf_counter() - began
    until(lambda: len(quick.taken) == 41)
    assert not hanging.taken
    assert took < 2.0  # a step takes some ten microseconds; one that waited would take seconds
    over.set()
    until(lambda: len(hanging.taken) == 41)
    stop.set()
    for thread in threads:
        thread.join(20)


def test_what_nobody_wants_is_dropped_and_what_is_not_wanted_is_not_told(
    store: MemoryStore, loop: Loop, fakes: Callable[..., Any], plan_of: Callable[..., Any]
) -> None:
    critical, other = fakes("/critical"), fakes("/other")
    plan = plan_of(
        [
            {"name": "night", "kind": "slack", "url": critical.url, "severities": ["critical"]},
            {"name": "fraud", "kind": "slack", "url": other.url, "models": ["fraud-*"]},
        ]
    )
    clock = ManualClock(5.0)
    Loop(store, "fraud-eu").decide("drift", 1.0)
    loop.decide("drift", 1.0)
    loop.decide("rollback", 2.0)
    drained(alerting_of(store, plan, clock), clock, store, "night", "fraud")
    assert [body["text"] for body in critical.bodies] == ["🔴 shop: rolled back"]
    assert [body["text"] for body in other.bodies] == ["🟠 fraud-eu: drift"]
    loop.decide("rollback", 5000.0)
    drained(alerting_of(store, plan_of([]), clock), clock, store)


def test_the_same_alert_is_told_once_in_its_time_also_after_a_restart(
    store: MemoryStore, loop: Loop, fakes: Callable[..., Any], plan_of: Callable[..., Any]
) -> None:
    hook = fakes("/hook")
    plan = plan_of([{"name": "pager", "kind": "slack", "url": hook.url}], cooldown="10m")
    clock = ManualClock(5.0)
    for at in (0.0, 60.0, 599.0):
        loop.decide("drift", at)
        drained(alerting_of(store, plan, clock), clock, store, "pager")  # a new process each time
    assert len(hook.taken) == 1
    loop.decide("drift", 700.0)
    loop.decide("promote", 800.0)
    loop.decide("promote", 900.0)
    loop.decide("drift", 910.0)
    drained(alerting_of(store, plan, clock), clock, store, "pager")
    assert [body["text"][0] for body in hook.bodies] == ["🟠", "🟠", "🟢", "🟠"]


def test_a_receiver_that_will_never_take_it_does_not_hold_up_what_comes_after(
    store: MemoryStore, loop: Loop, fakes: Callable[..., Any], plan_of: Callable[..., Any]
) -> None:
    hook = fakes("/hook")
    hook.script = [404, (302, {"Location": "http://127.0.0.1:1/"}), 204]
    plan = plan_of([{"name": "pager", "kind": "webhook", "url": hook.url, "secret": SECRET}], cooldown="1s")
    clock = ManualClock(5.0)
    for i in range(3):
        loop.decide("rollback", 100.0 * i)
    drained(alerting_of(store, plan, clock), clock, store, "pager")
    assert [body["data"]["decision"] for body in hook.bodies] == [3]


def test_only_one_of_several_processes_delivers(
    store: MemoryStore, loop: Loop, fakes: Callable[..., Any], plan_of: Callable[..., Any]
) -> None:
    hook = fakes("/hook")
    plan = plan_of([{"name": "pager", "kind": "slack", "url": hook.url}])
    loop.decide("rollback", 1.0)
    assert alerting_of(store, plan, ManualClock(5.0), may=lambda: False).run_once() == 0
    assert hook.asked == 0
    assert store.outbox.waiting(ALERTS) == 1


@given(
    events=st.lists(
        st.tuples(
            st.sampled_from("ab"), st.sampled_from(("drift", "freeze")), st.booleans(), st.integers(0, 900)
        )
    )
)
def test_no_two_alerts_come_within_the_cooldown_and_no_end_without_a_beginning(events: list[Any]) -> None:
    quiet, told = Quiet(100.0), []
    at = 0.0
    for model, kind, recovered, later in events:
        at += later
        if quiet.tells(model, kind, recovered, at):
            told.append((model, kind, recovered, at))
    for key in {(model, kind) for model, kind, *_ in told}:
        last: tuple[bool, float] | None = None
        for model, kind, recovered, when in told:
            if (model, kind) != key:
                continue
            if recovered:
                assert last is not None
                assert not last[0]
            elif last is not None and not last[0]:
                assert when - last[1] >= 100.0
            last = (recovered, when)
