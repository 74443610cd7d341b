"""The score over time and the models' cards, in memory and in SQL."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from everlearn.errors import NotFoundError
from everlearn.types import DecisionKind, Head, ScorePoint, Step

FAN = 8


def point(number: int, level: int = 0, score: float | None = 0.5, **changed: Any) -> ScorePoint:
    fields: dict[str, Any] = {
        "level": level,
        "number": number,
        "seq": 10 * number,
        "at": 100.0 + number,
        "row": 5 * number,
        "rows": 100 + number,
        "first": 5 * number - 4,
        "last": 5 * number,
        "score": score,
        "lower": 0.1 + 0.2,
        "upper": None,
        "low": score,
        "high": score,
        "no_change": 1 / 3,
        "threshold": 0.8,
        "champion": 1,
    }
    return ScorePoint(**{**fields, **changed})


def test_a_step_writes_its_points_and_card_at_once(store: Any, open_store: Callable[[], Any]) -> None:
    evidence = {"version": 4, "rows": 30, "log_e": 1.25, "needed": 3.0}
    points = [point(1), point(2, score=None, candidate=evidence, bake={"old": 1})]
    assert store.ledger.commit("m", Step(0, 1, b"s", points=points, card=b'{"a": 1}'))
    assert open_store().scores.points("m", 0, 1, 99) == points
    assert not store.ledger.commit("m", Step(0, 1, b"s", points=[point(3)], card=b"late"))
    (standing,) = store.scores.standings()
    assert (standing.card, standing.cursor, len(store.scores.points("m", 0, 1, 99))) == (b'{"a": 1}', 1, 2)


def test_a_step_with_decisions_writes_them_too(store: Any, make: Any) -> None:
    store.ledger.commit("m", Step(0, 1, b"s", [make.decision(1)], points=[point(1)], card=b"one"))
    store.ledger.commit("m", Step(1, 1, b"s", [make.decision(2, DecisionKind.WARN)], card=b"two"))
    store.ledger.commit("m", Step(1, 1, b"s"))
    (standing,) = store.scores.standings()
    decision = standing.decision
    assert (standing.model, standing.card, standing.champion, standing.since) == ("m", b"two", 0, 100.0)
    assert (decision.number, decision.kind, decision.reason) == (2, DecisionKind.WARN, "because 2")
    assert not decision.evidence


def test_a_model_that_has_not_moved_stands_there_too(store: Any, make: Any) -> None:
    store.models.create(make.spec("a"), at=7.0)
    store.log.append("a", [make.prediction("p"), make.label("p"), make.label("early")])
    first, second = store.scores.standings()
    assert (first.model, second.model) == ("a", "m")
    assert first.head == Head(seq=4, rows=1, labels=1, parked=1, examples=0, at=first.head.at)
    assert (first.card, first.cursor, first.decision) == (b"", 0, None)


def test_points_are_found_by_time_and_number(store: Any) -> None:
    assert store.scores.span("m") == (1, 0)
    store.ledger.commit("m", Step(0, 1, b"s", points=[point(n) for n in range(1, 11)]))
    assert store.scores.span("m") == (1, 10)
    assert store.scores.span("m", since=103.0, until=107.5) == (3, 7)
    assert store.scores.span("m", since=200.0) == store.scores.span("m", until=1.0) == (1, 0)
    assert [p.number for p in store.scores.points("m", 0, 4, 6)] == [4, 5, 6]
    assert not store.scores.points("m", 1, 1, 10)


def test_the_never_updated_baseline_is_filled_in_at_every_level(store: Any) -> None:
    every = [*(point(n) for n in range(1, 71)), *(point(n, 1) for n in range(1, 9)), point(1, 2)]
    store.ledger.commit("m", Step(0, 1, b"s", points=every))
    assert store.scores.filled("m") == 0
    store.scores.fill("m", {n: n / 100 for n in range(1, 13)}, FAN)
    assert store.scores.filled("m") == 12
    store.scores.fill("m", {n: n / 100 for n in range(13, 69)}, FAN)
    store.scores.fill("m", {}, FAN)
    at = {p.number: p.never_updated for p in store.scores.points("m", 0, 1, 70)}
    assert (at[12], at[68], at[69]) == (0.12, 0.68, None)
    parts = [(100 + n, n / 100) for n in range(9, 17)]
    mean = sum(rows * score for rows, score in parts) / sum(rows for rows, _ in parts)
    assert store.scores.points("m", 1, 2, 2)[0].never_updated == pytest.approx(mean)
    # Points of level 1 all count 100 + n rows here, so the mean of means is known as well.
    means = [(p.rows, p.never_updated) for p in store.scores.points("m", 1, 1, 8)]
    top = sum(rows * score for rows, score in means) / sum(rows for rows, _ in means)
    assert store.scores.points("m", 2, 1, 1)[0].never_updated == pytest.approx(top)


def test_they_go_with_their_model(store: Any, make: Any) -> None:
    store.ledger.commit("m", Step(0, 1, b"s", points=[point(1)], card=b"c"))
    store.models.delete("m")
    assert store.scores.standings() == []
    for ask in (lambda: store.scores.span("m"), lambda: store.scores.points("m", 0, 1, 1)):
        with pytest.raises(NotFoundError):
            ask()
    store.models.create(make.spec(), at=1.0)
    assert not store.scores.points("m", 0, 1, 1)


def test_decisions_are_found_by_several_kinds_and_by_time(store: Any, make: Any) -> None:
    kinds = [DecisionKind.HOLD, DecisionKind.WARN, DecisionKind.PROMOTE, DecisionKind.HOLD]
    made = [make.decision(n, kind, at=float(n)) for n, kind in enumerate(kinds, 1)]
    store.ledger.commit("m", Step(0, 1, b"s", made))

    def numbers(**asked: Any) -> list[int]:
        return [decision.number for decision in store.ledger.decisions("m", **asked).items]

    assert numbers(kind="hold") == [4, 1]
    assert numbers(kind=["warn", "promote"]) == [3, 2]
    assert numbers(since=2.0, until=3.0) == [3, 2]
    assert numbers(kind=["hold"], since=2.0) == [4]
    assert store.ledger.decisions("m", limit=1, kind=["warn", "hold"]).next == "4"
