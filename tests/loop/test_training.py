from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from everlearn.errors import InvalidError
from everlearn.loop.anchors import eligible
from everlearn.loop.training import train
from everlearn.spec import ModelSpec, RegimeSpec, parse_spec
from everlearn.types import Example


def spec_of(learner: Any) -> ModelSpec:
    base = {"name": "m", "target": "y", "features": {"a": "numeric"}, "learner": learner}
    # No anchors: each test counts what is learned.
    return parse_spec({**base, "gate": {"holdout": 30, "min_rows": 10}, "regimes": {"anchor_every": 0}})


def plan_of(**changes: Any) -> dict[str, Any]:
    plan = {"mode": "fresh", "champion": 0, "upto": 10_000, "matured_row": 10_000, "matured_at": None}
    return {**plan, "learned_through": 0, "learned_upto": 0, "holdout": 30, **changes}


def examples_of(rows: int, delay: int = 0) -> list[Example]:
    return [
        Example(i, i + delay + 1, i, float(i), {"a": float(i % 7)}, "yes" if i % 7 > 3 else "no")
        for i in range(1, rows + 1)
    ]


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[int]]:
    """How many rows each call of ``learn`` brought."""
    from everlearn.predictor import Predictor

    calls: list[int] = []
    learn = Predictor.learn

    def counting(self: Any, rows: Any, targets: Any) -> None:
        calls.append(len(rows))
        learn(self, rows, targets)

    monkeypatch.setattr(Predictor, "learn", counting)
    return lambda: calls


def test_a_window_learns_all_but_the_newest_stretch() -> None:
    trained = train(spec_of("window"), plan_of(), examples_of(200), None)
    assert (trained.rows, trained.learned_through, trained.evidence["rows"]) == (170, 170, 30)


def test_a_learner_that_goes_on_learning_takes_in_the_stretch_it_was_judged_on(counted: Any) -> None:
    trained = train(spec_of("linear"), plan_of(), examples_of(200), None)
    assert counted() == [170, 30]
    assert (trained.rows, trained.learned_through, trained.evidence["rows"]) == (200, 200, 30)


def test_what_is_not_mature_is_not_judged_on_but_learned_once(counted: Any) -> None:
    trained = train(spec_of("linear"), plan_of(matured_row=150), examples_of(200), None)
    assert counted() == [120, 80]
    assert (trained.rows, trained.learned_through) == (200, 200)


def test_with_hardly_anything_mature_all_is_learned_once(counted: Any) -> None:
    train(spec_of("linear"), plan_of(matured_row=1), examples_of(60), None)
    assert sum(counted()) == 60


def test_rows_that_the_champion_learned_are_not_judged_on() -> None:
    trained = train(spec_of("window"), plan_of(learned_through=190), examples_of(200), None)
    assert trained.evidence["rows"] == 10


def test_an_increment_answers_each_row_with_the_labels_of_its_time() -> None:
    spec, examples = spec_of("persistence"), examples_of(80, delay=3)
    base = train(spec, plan_of(), examples[:40], None).predictor
    plan = plan_of(mode="incremental", champion=1, learned_through=40, learned_upto=44, upto=84)
    trained = train(spec, plan, examples[40:], base)
    # The label of row i is known from position i + 4 on, so row n is asked knowing row n - 5.
    behind = [e.target == examples[e.order - 1 - 5].target for e in examples[50:80]]
    assert trained.evidence["candidate"]["accuracy"] == pytest.approx(sum(behind) / 30)


def test_nothing_to_learn_from_is_said() -> None:
    with pytest.raises(InvalidError, match="too few to learn from"):
        train(spec_of("window"), plan_of(), examples_of(1), None)


def test_rows_that_may_become_anchors_are_not_learned(counted: Any) -> None:
    spec = spec_of("linear").model_copy(update={"regimes": RegimeSpec(anchor_every=10)})
    kept = sum(eligible(row, 10) for row in range(1, 201))
    assert kept > 10
    trained = train(spec, plan_of(), examples_of(200), None)
    assert sum(counted()) == trained.rows == 200 - kept


def turning(rows: int, turn: int, fades: bool = True) -> list[Example]:
    """Examples whose two classes change places from row ``turn`` on, if it is not the change that fades."""
    return [
        Example(
            i, i + 1, i, float(i), {"a": float(i % 7)}, "yes" if (i % 7 > 3) ^ (fades and i >= turn) else "no"
        )
        for i in range(1, rows + 1)
    ]


class TestAfterAChange:
    """What is known to have changed is learned from what came since, if that serves it better."""

    PLAN = plan_of(holdout=0, since=401)

    def test_a_window_learns_from_the_new_concept_alone(self) -> None:
        trained = train(spec_of("window"), self.PLAN, turning(500, 401), None)
        assert (trained.rows, trained.learned_from, trained.learned_through) == (100, 401, 500)
        answers = trained.predictor.predict([{"a": float(a)} for a in range(7)])
        assert [answer.value for answer in answers] == ["yes"] * 4 + ["no"] * 3

    def test_a_false_alarm_costs_no_examples(self) -> None:
        trained = train(spec_of("window"), self.PLAN, turning(500, 401, fades=False), None)
        assert (trained.rows, trained.learned_from) == (500, 1)

    def test_few_rows_since_then_are_too_few_to_tell(self) -> None:
        trained = train(spec_of("window"), plan_of(holdout=0, since=450), turning(500, 450), None)
        assert trained.rows == 500
