"""The benchmark of pages: its sums, what its goals say, and the rows that it draws."""

from __future__ import annotations

import random
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest


def route(p95: float) -> dict[str, float]:
    return {"median_ms": 1.0, "p95_ms": p95, "worst_ms": p95, "kb": 1.0}


@pytest.mark.parametrize(
    ("p95", "long", "card", "expected"),
    [
        (99.0, 99.0, 1999.0, (True, True)),
        (99.0, 101.0, 2001.0, (False, False)),
        (101.0, 9.0, None, (False, None)),
    ],
)
def test_goals(bench: Path, p95: float, long: float, card: float | None, expected: tuple[Any, ...]) -> None:
    overview: Any = import_module("overview")
    paint = None if card is None else {"card_ms": card}
    assert tuple(overview.goals({"overview": route(p95)}, route(long), paint).values()) == expected


def test_times_are_summed_up(bench: Path) -> None:
    overview: Any = import_module("overview")
    found = overview.summed([float(n) for n in range(100, 0, -1)], 12_345)
    assert found == {"median_ms": 50.5, "p95_ms": 96.0, "worst_ms": 100.0, "kb": 12.3}


def test_rows_are_mostly_right_until_the_concept_turns(bench: Path) -> None:
    world: Any = import_module("overview_world")
    rng = random.Random(0)

    def share(turned: bool) -> float:
        pairs = [world._row(n, 1, turned, rng) for n in range(2000)]
        return sum(asked.body["value"] == label.body["value"] for asked, label in pairs) / len(pairs)

    assert share(turned=False) == pytest.approx(0.9, abs=0.03)
    assert share(turned=True) == pytest.approx(0.6, abs=0.04)
