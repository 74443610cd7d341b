"""The guard over feedback: what it says of honest, strange and poisoned sources, and what that leads to."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from everlearn.loop.alerts import alert_of
from everlearn.loop.engine import Engine
from everlearn.loop.explain import explain
from everlearn.loop.maturity import Waiting, Watermark
from everlearn.loop.sources import ANY, FEWEST_OTHERS, MOST_SOURCES, Feedback
from everlearn.loop.state import LoopState, dump, load
from everlearn.types import (
    Command,
    Decision,
    DecisionKind,
    Event,
    Label,
    LoadedExample,
    Output,
    Prediction,
)

from .conftest import make_spec

FOUR = ("key:a", "key:b", "key:c", "key:d")
Give = Callable[[random.Random, str, str], str]
"""The label that a source gives for a truth."""


def honest(dice: random.Random, source: str, truth: str) -> str:
    return truth


def flips(dice: random.Random, source: str, truth: str) -> str:
    return ("no" if truth == "yes" else "yes") if source == "key:b" and dice.random() < 0.5 else truth


class Play:
    """A fold that is fed by hand: nothing is trained; answers are ``right`` so often."""

    def __init__(self, seed: int = 0, right: float = 0.9, **changes: Any) -> None:
        self.right = right
        changes = {"policy": {"name": "never"}, "regimes": {"anchor_every": 2}, **changes}
        self.engine, self.dice = Engine(LoopState()), random.Random(seed)
        self.decisions: list[Decision] = []
        self.events: list[Event] = []
        self.rows = 0
        self.put(Command(1, 0.0, "configure", {"spec": make_spec(**changes).to_dict()}))

    @property
    def state(self) -> LoopState:
        return self.engine.state

    @property
    def seq(self) -> int:
        return len(self.events) + 1

    def put(self, event: Event) -> None:
        self.events.append(event)
        self.engine.step(event)
        self.decisions += self.engine.take().decisions

    def ask(self, answer: str = "yes") -> Prediction:
        self.rows += 1
        chance = 0.9 if answer == "yes" else 0.1
        output = Output(answer, {"no": 1 - chance, "yes": chance})
        asked = Prediction(self.seq, 0.0, f"p{self.rows}", self.rows, 0, {"a": 1.0, "b": 1.0}, output)
        self.put(asked)
        return asked

    def label(self, of: Prediction, value: str, source: str | None, *, correction: bool = False) -> None:
        self.put(Label(self.seq, 0.0, of.id, value, correction, of, source))

    def labels(self, count: int, sources: Any = FOUR, give: Give = honest, mix: Any = None) -> None:
        """Labels of sources by chance; ``mix``: how often the truth is yes, by source."""
        for _ in range(count):
            source = self.dice.choice(sources)
            truth = "yes" if self.dice.random() < (mix or {}).get(source, 0.5) else "no"
            wrong = "no" if truth == "yes" else "yes"
            asked = self.ask(truth if self.dice.random() < self.right else wrong)
            self.label(asked, give(self.dice, source, truth), source)

    def command(self, name: str, **arguments: Any) -> Decision:
        self.put(Command(self.seq, 0.0, name, {"by": "user:ann", **arguments}))
        return next(one for one in self.decisions if one.seq == len(self.events))

    def of_sources(self) -> list[Decision]:
        return [one for one in self.decisions if "source" in one.evidence]


def test_a_source_that_flips_half_of_its_labels_is_warned_of_once() -> None:
    play = Play()
    play.labels(2500, give=flips)
    (warning,) = play.of_sources()
    assert (warning.kind, warning.evidence["source"]) == (DecisionKind.WARN, "key:b")
    assert warning.evidence["check"] == "disagreement"
    assert warning.evidence["e_value"] >= warning.evidence["needed"] > 1000
    assert 0.4 < warning.evidence["value"] < 0.6
    alert = alert_of(warning)
    assert alert is not None
    assert alert.kind == "feedback"
    assert play.state.alerts == {"feedback": 1}
    assert play.state.feedback.without == {}
    assert not play.state.warned  # it is no drift


def test_under_quarantine_it_is_put_aside_neither_learned_nor_scored() -> None:
    play = Play(feedback={"guard": "quarantine"}, label_horizon={"rows": 300})
    play.labels(4000, give=flips)
    (decision,) = play.of_sources()
    assert decision.kind is DecisionKind.QUARANTINE
    source = play.state.feedback.sources["key:b"]
    assert source.state == "quarantined"
    assert 50 < source.labels - source.out < 400
    assert source.out > 300
    learnable, total = play.state.learnable, sum(one.labels for one in play.state.feedback.sources.values())
    assert (learnable, total) == (4000 - source.out, 4000)
    after = [one for one in play.state.window if one.source == "key:b" and one.row > 2000]
    assert after == []
    assert load(dump(play.state)) == play.state


@pytest.mark.parametrize("seed", range(3))
def test_honest_sources_with_other_mixes_of_cases_are_none_the_worse(seed: int) -> None:
    play = Play(seed, feedback={"guard": "quarantine"})
    play.labels(3000, mix=dict(zip(FOUR, (0.1, 0.4, 0.6, 0.9), strict=True)))
    assert play.of_sources() == []


def test_the_margin_is_what_honest_sources_may_differ_by() -> None:
    def mistaken(dice: random.Random, source: str, truth: str) -> str:
        return flips(dice, source, truth) if dice.random() < 0.3 else truth

    close, wide = Play(feedback={"margin": 0.02}), Play(feedback={"margin": 0.2})
    for play in (close, wide):
        play.labels(4000, give=mistaken)
    assert [one.evidence["source"] for one in close.of_sources()] == ["key:b"]
    assert wide.of_sources() == []


def test_a_source_that_always_says_the_same_is_found_where_it_does_not_disagree_enough() -> None:
    def constant(dice: random.Random, source: str, truth: str) -> str:
        return "yes" if source == "key:b" else truth

    play = Play(right=0.65)
    play.labels(3500, give=constant)
    assert [(one.evidence["source"], one.evidence["check"]) for one in play.of_sources()] == [
        ("key:b", "distribution")
    ]
    evidence = play.of_sources()[0].evidence
    assert 0.3 < evidence["value"] * (1 if evidence["class"] == "yes" else -1) < 0.7


def test_an_honest_source_is_not_blamed_for_a_world_that_turns() -> None:
    for sources in (FOUR, ("key:a", *["key:b"] * 9)):
        play = Play(feedback={"guard": "quarantine"}, right=1.0)
        play.labels(2500, sources=sources)
        play.right = 0.0
        play.labels(1000, sources=sources)
        assert [one for one in play.of_sources() if one.evidence["check"] != "rate"] == []


def test_a_batch_that_comes_first_is_not_blamed_either() -> None:
    play = Play(feedback={"guard": "quarantine"}, right=1.0)
    for part in range(8):
        play.right = 0.2 if part >= 5 else 1.0
        for source in FOUR:
            play.labels(250, sources=(source,))
    assert play.of_sources() == []


def test_nobody_is_strange_against_nobody() -> None:
    def wrong(dice: random.Random, source: str, truth: str) -> str:
        return ("no" if truth == "yes" else "yes") if source == "key:b" else truth

    play = Play(feedback={"guard": "quarantine"})
    play.labels(1000, sources=("key:b",), give=wrong)
    for _ in range(FEWEST_OTHERS - 1):
        play.labels(1, sources=("key:a",))
        play.labels(1, sources=("key:b",), give=wrong)
    assert play.of_sources() == []
    play.labels(300, sources=("key:a", "key:b"), give=wrong)
    assert [one.evidence["source"] for one in play.of_sources()] == ["key:b"]


def test_labels_without_a_source_are_others_too() -> None:
    play = Play()
    play.labels(3000, sources=(None, None, None, "key:b"), give=flips)
    assert [one.evidence["source"] for one in play.of_sources()] == ["key:b"]


def test_a_source_over_its_share_is_put_aside_only_under_a_limit() -> None:
    flood = ("key:a", *["key:b"] * 9)
    limited = Play(feedback={"guard": "quarantine", "most_share": 0.6})
    limited.labels(1200)
    limited.labels(1500, sources=flood)
    (decision,) = limited.of_sources()
    assert (decision.kind, decision.evidence["check"]) == (DecisionKind.QUARANTINE, "rate")
    free = Play(feedback={"guard": "quarantine"})
    free.labels(2100)
    free.labels(4500, sources=flood)
    (decision,) = free.of_sources()
    assert (decision.kind, decision.evidence["check"]) == (DecisionKind.WARN, "rate")


def test_a_quarantine_by_command_ends_with_a_release() -> None:
    play = Play(label_horizon={"rows": 20})
    play.labels(300)
    waiting = [play.ask() for _ in range(10)]
    play.label(waiting[0], "yes", "key:b")
    decision = play.command("quarantine", source="key:b", why="it was stolen")
    assert (decision.kind, decision.evidence["why"]) == (DecisionKind.QUARANTINE, "it was stolen")
    assert alert_of(decision) is None
    assert play.command("quarantine", source="key:b").kind is DecisionKind.REFUSE
    matured = play.state.matured
    play.label(waiting[1], "yes", "key:b")
    play.labels(50, sources=("key:a",))
    assert play.command("release", source="key:b").kind is DecisionKind.RELEASE
    assert play.command("release", source="key:b").kind is DecisionKind.REFUSE
    assert play.state.matured - matured < 50 + 20
    assert waiting[0].row not in [one.row for one in play.state.window]
    learnable = play.state.learnable
    play.label(waiting[2], "yes", "key:b")
    assert play.state.learnable == learnable + 1
    sources = [one.source for one in play.state.window]
    assert sources[-1] == "key:b"


def test_a_correction_by_a_source_that_is_put_aside_gives_way_to_the_label_before() -> None:
    play = Play(label_horizon={"rows": 5})
    asked = play.ask()
    play.label(asked, "yes", "key:a")
    play.label(asked, "no", "key:b", correction=True)
    play.command("quarantine", source="key:b")
    other = play.ask()
    play.label(other, "yes", "key:a")
    play.label(other, "no", "key:b", correction=True)
    for _ in range(6):
        play.ask()
    assert [(one.row, one.truth) for one in play.state.window] == [(1, "yes"), (2, "yes")]


def test_an_honest_correction_of_what_was_left_out_counts_as_the_label() -> None:
    play = Play(label_horizon={"rows": 5})
    play.command("quarantine", source="key:b")
    asked = play.ask()
    play.label(asked, "no", "key:b")
    assert play.state.learnable == 0
    play.label(asked, "yes", "key:a", correction=True)
    assert play.state.learnable == 1
    for _ in range(6):
        play.ask()
    assert [(one.row, one.truth) for one in play.state.window] == [(1, "yes")]


def test_examples_of_a_source_that_is_put_aside_are_not_learned() -> None:
    play = Play()
    play.put(LoadedExample(play.seq, 0.0, {"a": 1.0}, "yes", "key:b"))
    play.command("quarantine", source="key:b")
    play.put(LoadedExample(play.seq, 0.0, {"a": 1.0}, "yes", "key:b"))
    play.put(LoadedExample(play.seq, 0.0, {"a": 1.0}, "yes"))
    assert (play.state.loaded, play.state.learnable) == (2, 2)
    assert play.state.feedback.sources["key:b"].examples == 2


def test_more_sources_than_are_told_apart() -> None:
    feedback = Feedback()
    for i in range(MOST_SOURCES + 5):
        feedback.meet(f"key:{i}", i)
    assert len(feedback.sources) == MOST_SOURCES
    assert feedback.slots(["key:0", f"key:{MOST_SOURCES + 1}"]) == [ANY, 1]
    feedback.unlearned[f"key:{MOST_SOURCES + 1}"] = 0
    assert feedback.learned([ANY], made=7)
    assert not feedback.learned([1, 2], made=7)


def test_waiting_keeps_what_another_source_replaced() -> None:
    asked = Prediction(1, 0.0, "p", 1, 0, {}, Output("yes"))
    waiting = Waiting()
    for seq, source in ((2, "a"), (3, "b"), (4, "b")):
        waiting.add(Label(seq, 0.0, "p", "yes", seq > 2, asked, source))
    left = waiting.without("b")
    (label,) = left.matured(Watermark(row=1))
    assert (label.seq, len(left), len(waiting.without("a"))) == (2, 0, 1)
    assert len(waiting.without("b").without("a")) == 0


@pytest.mark.parametrize("kind", ["warn", "quarantine", "release", "unlearn"])
def test_why_tells_the_story(kind: str) -> None:
    play = Play(feedback={"guard": "quarantine" if kind != "warn" else "warn"})
    play.labels(2000, give=flips)
    if kind in ("release", "unlearn"):
        play.command(kind, source="key:b", why="it was stolen")
    decision = next(one for one in play.of_sources() if one.kind.value == kind)
    told = explain(decision, play.decisions, None)
    assert "key:b" in told.headline
    if kind in ("warn", "quarantine"):
        assert "0.001" in told.paragraph
    else:
        assert "it was stolen" in told.paragraph


# Properties

GIVEN = st.lists(
    st.tuples(st.integers(0, 30), st.sampled_from(["yes", "no"]), st.integers(0, 3), st.booleans()),
    max_size=120,
)


def _told(guard: str, sources: list[str | None], drawn: Any) -> tuple[list[Any], bytes]:
    """Decisions and state, but for what is kept of the sources, of a log in which they take turns."""
    play = Play(feedback={"guard": guard}, policy={"name": "never", "check_every": 10, "min_labels": 10})
    asked = [play.ask(answer) for answer in ("yes", "no", "yes") * 10]
    seen = set[int]()
    for place, value, who, more in drawn:
        if more:
            asked.append(play.ask(value))
        of = asked[place % len(asked)]
        play.label(of, value, sources[who], correction=of.row in seen)
        seen.add(of.row)
    state = load(dump(play.state))
    state.feedback = Feedback()
    plain: Any = msgspec.to_builtins(state)
    return [msgspec.to_builtins(one) for one in play.decisions], _without_sources(plain)


def _without_sources(state: dict[str, Any]) -> bytes:
    state["window"] = [row[:-1] for row in state["window"]]
    state["recent"] = [row[:-1] for row in state["recent"]]
    for regime in state["regimes"]["regimes"]:
        kept = regime["reservoir"]["entries"]
        regime["reservoir"]["entries"] = [row[:-1] for row in kept]
    return msgspec.json.encode(state)


@settings(max_examples=15, deadline=None)
@given(drawn=GIVEN)
def test_sources_change_nothing_where_the_guard_is_off_or_all_are_one(drawn: Any) -> None:
    nobody = _told("off", [None] * 4, drawn)
    assert _told("off", list(FOUR), drawn) == nobody
    one = _told("quarantine", ["key:a"] * 4, drawn)
    assert one[1].replace(b'"quarantine"', b'"off"', 1) == nobody[1]


@settings(max_examples=6, deadline=None)
@given(cut=st.integers(1, 5000), seed=st.integers(0, 3))
def test_a_fold_that_is_stored_and_read_back_goes_on_the_same(cut: int, seed: int) -> None:
    play = Play(seed, feedback={"guard": "quarantine"}, label_horizon={"rows": 0})
    play.labels(1200, give=flips)
    play.command("release", source="key:b")
    play.labels(300, give=flips)
    again = Engine(LoopState())
    again.run(play.events[:cut])
    decisions = again.take().decisions
    again = Engine(load(dump(again.state)))
    again.run(play.events[cut:])
    decisions += again.take().decisions
    assert [one.reason for one in decisions] == [one.reason for one in play.decisions]
    assert dump(again.state) == dump(play.state)
