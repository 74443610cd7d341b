"""What pages say, from the API's answers: no Streamlit is needed to know it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from everlearn.dashboard.views import cards, evidence, forms, parts, trouble, whatif
from everlearn.errors import (
    EverlearnError,
    ForbiddenError,
    NotFoundError,
    SchemaError,
    UnauthorizedError,
    UnavailableError,
)

NOW = datetime(2024, 5, 2, 12, 0, tzinfo=UTC)


def test_a_card_says_how_its_model_stands(card: dict[str, Any]) -> None:
    told = cards.card_html(card, NOW)
    for text in ("Healthy", "0.912", "0.887 to 0.934", "at least 0.900", "version 3, for 24 h"):
        assert text in told
    assert "12 labels waiting" in told
    assert "Promoted" in told
    assert "24 h ago" in told
    assert 'alt="accuracy lately, from 0.910 to 0.930"' in told


def test_a_card_of_a_new_model_has_no_holes(card: dict[str, Any]) -> None:
    nothing = {name: None for name in card if name not in ("name", "state", "flags", "champion")}
    told = cards.card_html({**card, **nothing, "trend": [], "state": "insufficient labels"}, NOW)
    assert "Insufficient labels" in told
    assert "nothing has matured yet" in told
    assert "Nothing has been decided yet" in told
    assert "None" not in told


def test_nothing_foreign_becomes_html(card: dict[str, Any], evil: str) -> None:
    last = {**card["last_decision"], "reason": evil, "kind": evil}
    foreign = {"name": evil, "metric": evil, "reason": evil, "flags": [evil], "last_decision": last}
    foreign |= {"state": evil, "champion": evil}
    for told in (
        cards.card_html({**card, **foreign}, NOW),
        parts.table([evil], [[evil]], label=evil),
        parts.facts([(evil, evil)]),
        parts.notice(evil, evil),
        parts.empty(evil, evil, evil),
        evidence.numbers([{"name": evil, "value": 1, "meaning": evil}]),
        evidence.bars_passed({"bars": {evil: {"passed": True, "why": evil}}}),
    ):
        assert "<img src=x" not in told


def test_models_are_found_by_state_and_by_name(card: dict[str, Any]) -> None:
    all_cards = [{**card, "name": "a"}, {**card, "name": "b", "state": "frozen"}]
    assert [c["name"] for c in cards.chosen(all_cards, ["frozen"], "")] == ["b"]
    assert [c["name"] for c in cards.chosen(all_cards, [], " A ")] == ["a"]
    assert cards.chosen(all_cards, ["updating"], "") == []


def test_chips_count_the_states_the_worst_first() -> None:
    told = cards.chips({"healthy": 7, "degraded": 1, "frozen": 2}).text
    places = [told.index(text) for text in ("1 degraded", "2 frozen", "7 healthy")]
    assert places == sorted(places)


@pytest.mark.parametrize(
    ("error", "title", "retry"),
    [
        (UnavailableError("No answer"), "The server does not answer", True),
        (ForbiddenError("needs read"), "You may not see this", False),
        (NotFoundError("no model 'x'"), "It is not there", False),
        (UnauthorizedError("expired"), "Your log-in is over", False),
        (EverlearnError("a fault"), "Something went wrong", True),
    ],
)
def test_each_trouble_says_what_helps(error: EverlearnError, title: str, retry: bool) -> None:
    told = trouble.of_error(error)
    assert (told.title, told.retry) == (title, retry)
    assert told.log_in == isinstance(error, UnauthorizedError)


def test_a_form_makes_the_row_and_names_what_is_no_number() -> None:
    kinds = forms.features({"features": {"age": "numeric", "member": "boolean", "at": "timestamp"}})
    row = forms.row_of(kinds, {"age": "1234.5", "member": "no", "at": "2024-05-01"})
    assert row == {"age": 1234.5, "member": False, "at": "2024-05-01"}
    with pytest.raises(SchemaError, match="age: 'old' is no number"):
        forms.row_of(kinds, {"age": "old"})
    with pytest.raises(SchemaError, match="no number"):
        forms.row_of(kinds, {"age": "0,05"})  # not five
    with pytest.raises(SchemaError, match="no number"):
        forms.label_of("regression", "many", 2.5)


def test_what_a_gate_asked_is_listed_with_its_result() -> None:
    told = evidence.bars_passed(
        {
            "bars": {
                "superiority": {"passed": True, "why": "not proven better", "rows": 107},
                "latency": {"passed": False, "why": "too slow"},
                "forgetting": {"asked": False, "passed": None},
            }
        }
    )
    assert "not proven better" not in told  # it says what was wrong, and nothing was
    for text in ("passed", "not passed", "too slow", "not asked"):
        assert text in told


def line(name: str, role: str, cost: float, accuracy: float) -> dict[str, Any]:
    return {"name": name, "role": role, "cost": cost, "accuracy": accuracy, "regret": cost - 90.0}


def test_a_what_if_names_the_cheapest_and_what_it_beats() -> None:
    settings = [line("threshold", "setting", 100.0, 0.9), line("never", "never", 150.0, 0.85)]
    report = {"settings": settings, "best": "threshold", "task": "classification"}
    assert "threshold cost 50.0 less than" in whatif.headline(report)
    heads, rows = whatif.table(report)
    assert heads[1] == "Accuracy"
    assert [row[1] for row in rows] == ["0.9000", "0.8500"]
