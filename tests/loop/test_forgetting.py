"""The bar against forgetting: by regime, by class, on all anchors together, and for a stream learner."""

from __future__ import annotations

from typing import Any

import pytest

from everlearn.errors import SpecError
from everlearn.loop.forgetting import anchor_numbers, class_numbers, forgetting
from everlearn.loop.verify import verify
from everlearn.spec import GateSpec, parse_spec

GATE = GateSpec(margin=0.01)


def regime(truths: str, lost: dict[str, int], won: dict[str, int], binary: bool = True) -> dict[str, Any]:
    """Anchors of some classes, a letter each; how many of each class only one side answers rightly."""
    left, gained = dict(lost), dict(won)
    old, new = [], []
    for truth in truths:
        fails, wins = left.get(truth, 0), gained.get(truth, 0)
        left[truth], gained[truth] = max(0, fails - 1), wins - 1 if not fails and wins else wins
        old.append(1.0 if not fails and wins else 0.0)
        new.append(1.0 if fails else 0.0)
    classes = class_numbers(list(truths), old, new, binary)
    return {**anchor_numbers(old, new, binary), "classes": classes}


@pytest.mark.parametrize("binary", [True, False])
def test_a_class_that_is_lost_where_another_is_won_is_forgotten(binary: bool) -> None:
    traded = {"regime 1": regime("a" * 60 + "b" * 60, {"a": 60}, {"b": 60}, binary)}
    bar = forgetting(GATE, traded)
    assert bar["regimes"]["regime 1"]["passed"], "its mean is as it was"
    assert bar["classes"]["b"]["passed"]
    assert not bar["classes"]["a"]["passed"]
    assert bar["passed"] is False
    assert "it has forgotten class a: loss 0 → 1 on 60 anchors, a rise above 0.01 (p = " in bar["why"]


def test_a_class_is_judged_on_the_anchors_of_all_regimes() -> None:
    """Four anchors lost in each of three regimes say nothing alone."""
    each = {f"regime {n}": regime("a" * 30 + "b" * 30, {"a": 4}, {}) for n in (1, 2, 3)}
    alone = forgetting(GATE, {"regime 1": each["regime 1"]})
    bar = forgetting(GATE, each)
    assert alone["passed"] is True
    assert all(one["passed"] for one in bar["regimes"].values())
    assert (bar["classes"]["a"]["rows"], bar["classes"]["a"]["losses"]) == (90, 12)
    assert not bar["classes"]["a"]["passed"]


def test_a_little_that_is_lost_everywhere_is_lost_in_the_whole() -> None:
    lost = {f"regime {n}": regime("abcdefgh" * 20, dict.fromkeys("abcdefgh", 1), {}) for n in (1, 2)}
    bar = forgetting(GATE, lost)
    assert all(one["passed"] for one in bar["regimes"].values())
    assert all(one["passed"] for one in bar["classes"].values())
    assert bar["together"]["losses"] == 16
    assert bar["passed"] is False
    assert "forgotten some of all that must not be forgotten: loss 0 → 0.05 on 320 anchors" in bar["why"]


def test_what_chance_alone_may_do_is_not_forgetting() -> None:
    few = {"regime 1": regime("a" * 50 + "b" * 50, {"a": 3}, {"b": 1})}
    noisy = {"regime 1": regime("a" * 200 + "b" * 200, {"a": 30, "b": 30}, {"a": 26, "b": 26})}
    assert forgetting(GATE, few)["passed"] is True
    assert forgetting(GATE, noisy)["passed"] is True


def test_chance_is_no_excuse_for_what_need_not_be_better() -> None:
    few = {"regime 1": regime("a" * 50 + "b" * 50, {"a": 3}, {"b": 1})}
    bar = forgetting(GATE, few, doubt=True)
    assert bar["classes"]["a"]["passed"]
    assert bar["passed"] is False
    assert "forgotten some of all" in bar["why"]
    even = {"regime 1": regime("a" * 50 + "b" * 50, {"a": 3}, {"b": 2})}
    assert forgetting(GATE, even, doubt=True)["passed"] is True


def test_a_fall_within_the_margin_passes_however_sure_it_is() -> None:
    lost = {"regime 1": regime("a" * 2000, {"a": 15}, {})}
    assert forgetting(GATE, lost)["classes"]["a"]["p_worse"] < 1e-4
    assert forgetting(GATE, lost)["passed"] is True


def test_without_classes_and_without_anchors_it_is_as_it_was() -> None:
    told = anchor_numbers([0.0] * 100, [0.0] * 100, True)
    assert set(forgetting(GATE, {"regime 1": told})) == {"passed", "margin", "regimes"}
    assert forgetting(GATE, {}) == {"passed": None, "margin": 0.01, "regimes": {}, "asked": False}


def changed_world(make_world: Any, **changes: Any) -> Any:
    """A stream learner whose concept turns: what it learns then is wrong where it was before."""
    world = make_world(learner="linear", update="stream", publish_every=50, rollback={"bake": 0}, **changes)
    world.stream(400)
    world.stream(400, turned=True)
    return world


def test_the_next_version_of_a_stream_learner_may_not_forget_a_protected_regime(make_world: Any) -> None:
    world = changed_world(make_world, regimes={"anchor_every": 5, "protect": "all"})
    refused = [d for d in world.decisions() if d.kind == "refuse" and "it has forgotten" in d.reason]
    assert refused
    bar = refused[-1].evidence["bars"]["forgetting"]
    assert bar["passed"] is False
    assert sum(one["rows"] for one in bar["classes"].values()) == bar["together"]["rows"] >= 50
    found = verify(
        world.name,
        log=world.store.log,
        ledger=world.store.ledger,
        versions=world.store.versions,
        artifacts=world.store.artifacts,
        retrain=True,
    )
    assert found.identical, found.differences


def test_what_is_not_protected_may_be_forgotten(make_world: Any) -> None:
    world = changed_world(make_world, regimes={"anchor_every": 5})
    assert not [d for d in world.decisions() if "forgotten" in d.reason]
    assert all("bars" not in d.evidence for d in world.decisions() if d.kind == "promote" and d.version > 1)


def test_all_regimes_or_some_by_number() -> None:
    told = {"name": "m", "target": "y", "features": {"a": "numeric"}}
    assert parse_spec({**told, "regimes": {"protect": "all"}}).regimes.told(7) is True
    assert parse_spec({**told, "regimes": {"protect": {7: False}}}).regimes.told(7) is False
    assert parse_spec(told).regimes.told(7) is None
    with pytest.raises(SpecError, match=r"regimes\.protect"):
        parse_spec({**told, "regimes": {"protect": "some"}})
