"""Four keys of which one is poisoned: with the guard, without it, and once it is un-learned."""

from __future__ import annotations

import random
from typing import Any

import pytest

from everlearn.loop.state import LoopState, load
from everlearn.loop.verify import verify
from everlearn.types import DecisionKind, EventKind, NewEvent

from .conftest import World, concept, make_spec

KEYS = ("key:a", "key:b", "key:c", "key:bad")
BUSY = (0.15, 0.15, 0.15, 0.55)
"""Shares of the labels once the poison flows: the stolen key is the busiest."""


class Poisoned(World):
    """A world of four keys. One of them says "no" to most that is "yes" once it is stolen."""

    stolen = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.dice = random.Random(7)

    def label(self, ids: list[tuple[str, dict[str, float]]], turned: bool = False) -> None:
        events = []
        for name, row in ids:
            (source,) = self.dice.choices(KEYS, BUSY if self.stolen else None)
            value = concept(row, turned)
            if self.stolen and source == "key:bad":
                value = "no"
            body = {"value": value, "source": source}
            events.append(NewEvent(EventKind.LABEL, self.clock.now(), name, body))
        self.store.log.append(self.name, events)

    def state(self) -> LoopState:
        return load(self.store.ledger.checkpoint(self.name).state)

    def accuracy(self) -> float:
        """How often the champion is right, by the truth and not by what it was told."""
        dice = random.Random(99)
        rows = [{"a": dice.gauss(0, 1), "b": dice.gauss(0, 1)} for _ in range(2000)]
        outputs = self.champion().predict(rows)
        return sum(o.value == concept(r, False) for o, r in zip(outputs, rows, strict=True)) / len(rows)


def played(guard: str) -> Poisoned:
    """Honest for a while, then stolen; the policy learns every 150 labels, whatever the evidence."""
    policy = {
        "name": "every",
        "every": 150,
        "first_rows": 60,
        "min_labels": 40,
        "window": 200,
        "cooldown": 40,
    }
    changes: dict[str, Any] = {"policy": policy, "gate": {"name": "open"}, "feedback": {"guard": guard}}
    world = Poisoned(make_spec(rollback={"bake": 0}, **changes))
    world.stream(900, batch=30)
    assert world.accuracy() > 0.95
    world.stolen = True
    world.stream(1500, batch=30)
    return world


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_guard_keeps_the_accuracy_and_unlearning_brings_it_back() -> None:
    guarded, open_ = played("quarantine"), played("off")
    assert guarded.accuracy() > 0.95
    poisoned = open_.accuracy()
    assert poisoned < guarded.accuracy() - 0.1
    named = [d for d in guarded.decisions() if d.kind is DecisionKind.QUARANTINE]
    assert [d.evidence["source"] for d in named] == ["key:bad"]

    open_.command("unlearn", source="key:bad", why="it was stolen")
    told = open_.decisions()
    place = next(i for i, d in enumerate(told) if d.kind is DecisionKind.UNLEARN)
    open_.stream(600, batch=30)
    state = open_.state()
    assert open_.accuracy() > 0.95
    slot = state.feedback.sources["key:bad"].slot
    withdrawn = set(told[place].evidence["versions"])
    later = [one for one in state.known if one.number > max(withdrawn)]
    assert later
    assert all(slot not in one.sources for one in later)
    back = [
        d.version
        for d in open_.decisions()[place:]
        if d.kind in (DecisionKind.PROMOTE, DecisionKind.ROLLBACK)
    ]
    assert not withdrawn & set(back)

    for world in (guarded, open_):
        store = world.store
        found = verify(
            "toy", log=store.log, ledger=store.ledger, versions=store.versions, artifacts=store.artifacts
        )
        assert found.differences == ()
