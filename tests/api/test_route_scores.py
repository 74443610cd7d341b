"""What a candidate answers while it is on trial counts for the candidate, and never against the champion."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from everlearn.loop.defaults import with_defaults
from everlearn.loop.engine import Engine
from everlearn.loop.state import Known, LoopState, load
from everlearn.loop.summary import summary
from everlearn.spec import parse_spec
from everlearn.types import EventKind, NewEvent

START = 1_700_000_000.0
RIGHT, WRONG = {"yes": 0.9, "no": 0.1}, {"yes": 0.1, "no": 0.9}


@pytest.fixture
def spec(spec: dict[str, Any]) -> dict[str, Any]:
    return {
        **spec,
        "policy": {**spec["policy"], "name": "never"},
        "route": {"champion": 0.5, "candidate": 0.5},
        "rollback": {"bake": 200},
        "drift": {"rows": 60},
        "gate": {"holdout": 40, "min_rows": 20, "look_every": 20},
    }


@pytest.fixture
def trained(place: Any, spec: dict[str, Any], history: Any) -> Any:
    """A place where version 1 is the champion."""
    place.store.models.create(with_defaults(parse_spec(spec)), START)
    given = history()
    append(
        place,
        [
            NewEvent(EventKind.EXAMPLE, START, None, {"features": row, "target": target})
            for row, target in zip(given["rows"], given["targets"], strict=True)
        ],
    )
    place.advance()
    assert place.store.versions.champion("toy").version == 1
    return place


def append(place: Any, events: list[NewEvent]) -> None:
    place.store.log.append("toy", events)


def order(place: Any, name: str, **arguments: Any) -> None:
    body = {"name": name, "arguments": arguments}
    append(place, [NewEvent(EventKind.COMMAND, START, None, body)])
    place.advance()


def served(place: Any, count: int, version: int, shares: dict[str, float], start: int) -> None:
    """Rows that a version answered, and their truth, which is always yes."""
    value = max(shares, key=lambda key: shares[key])
    for i in range(start, start + count):
        body = {"features": {"a": 0.9, "b": (i * 13 % 7) / 7}, "value": value, "probabilities": shares}
        append(
            place,
            [
                NewEvent(EventKind.PREDICTION, START + i, f"p{i}", {**body, "version": version}),
                NewEvent(EventKind.LABEL, START + i, f"p{i}", {"value": "yes", "correction": False}),
            ],
        )


def state_of(place: Any) -> LoopState:
    return load(place.store.ledger.checkpoint("toy").state)


def kinds(place: Any) -> list[str]:
    return [decision.kind.value for decision in place.store.ledger.decisions("toy", None, 100).items]


def both(place: Any, champion: int, candidate: int, turns: int = 20) -> None:
    """The champion is always right and the candidate always wrong, by turns."""
    for turn in range(turns):
        served(place, 10, champion, RIGHT, 10_000 * candidate + 20 * turn)
        served(place, 10, candidate, WRONG, 10_000 * candidate + 20 * turn + 10)
        place.advance()


def test_a_wrong_candidate_is_no_stain_on_the_champion(trained: Any) -> None:
    served(trained, 300, 1, RIGHT, 1000)  # how features and answers look before there is a candidate
    order(trained, "retrain", force=True)
    assert state_of(trained).candidate is not None
    both(trained, 1, 2)
    scores = summary(trained.store.ledger.checkpoint("toy").state)
    assert scores["champion"]["value"] == 1.0
    assert scores["champion"]["rows"] <= 100  # its window
    assert scores["served"]["all"]["accuracy"] == pytest.approx(500 / 700, abs=0.02)
    assert scores["drift"]["warnings"] == 0
    assert "warn" not in kinds(trained)


def test_a_wrong_candidate_does_not_undo_the_promotion_before(trained: Any) -> None:
    order(trained, "retrain", force=True)
    order(trained, "promote", version=2)
    order(trained, "retrain", force=True)
    state = state_of(trained)
    assert (
        state.champion,
        state.bake and state.bake.old,
        state.candidate and state.candidate.trial.version,
    ) == (2, 1, 3)
    both(trained, 2, 3)
    state = state_of(trained)
    assert "rollback" not in kinds(trained)
    assert state.champion == 2
    assert state.bake is None or state.bake.evidence.old.mean == 0.0


def test_a_champion_that_turns_bad_is_still_rolled_back(trained: Any) -> None:
    """The guard above leaves out the candidate's rows alone."""
    order(trained, "retrain", force=True)
    order(trained, "promote", version=2)
    for turn in range(20):
        served(trained, 10, 2, WRONG, 50_000 + 10 * turn)
        trained.advance()
    assert "rollback" in kinds(trained)


def test_what_a_candidate_answers_is_evidence_of_its_trial(trained: Any) -> None:
    """The rows that it was asked are compared too: the champion's answer to them is computed."""
    order(trained, "retrain", force=True)
    before = state_of(trained).candidate
    assert before is not None
    served(trained, 100, 2, RIGHT, 70_000)
    trained.advance()
    after = state_of(trained).candidate
    assert after is not None
    assert after.trial.rows > before.trial.rows


def test_who_stood() -> None:
    state = LoopState(
        champion=4, previous=[2], known=[Known(0), Known(1, stood=True), Known(2), Known(3), Known(4)]
    )
    assert [state.stood(number) for number in range(6)] == [True, True, True, False, True, False]
    # A state of before is read as one whose versions may have stood or not.
    old = msgspec.json.decode(b'{"known":[{"number":7}],"champion":7}', type=LoopState)
    assert old.stood(7)
    assert not old.stood(8)


def test_a_promotion_is_remembered(trained: Any) -> None:
    order(trained, "retrain", force=True)
    order(trained, "promote", version=2)
    order(trained, "rollback")
    state = state_of(trained)
    assert (state.champion, [known.number for known in state.known if known.stood]) == (1, [1, 2])
    assert Engine(state).state.stood(2)
