"""The benchmark of many models: who counts as waiting, what is asked, and its sums."""

from __future__ import annotations

import random
import sqlite3
from collections import Counter
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def many(bench: Path) -> Any:
    return import_module("many_models")


def test_a_model_waits_while_its_loop_does_not_move(
    many: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(many.time, "monotonic", lambda: now)
    watch = many.Watch(0, tmp_path / "none")
    watch._look({"slow": 5, "busy": 5})
    now += 20.0
    watch._look({"slow": 5, "busy": 9})
    assert (watch.longest, watch.starved) == (20.0, set())
    now += 20.0
    watch._look({"slow": 5, "busy": 9})
    assert (watch.longest, watch.starved) == (40.0, {"slow"})
    watch._look({})
    now += 100.0
    watch._look({"slow": 5})
    assert watch.longest == 40.0, "it had caught up meanwhile"


def test_who_is_behind_is_read_from_the_database(many: Any, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "d.db") as connection:
        connection.execute("CREATE TABLE models (name TEXT, cursor INTEGER, last_seq INTEGER)")
        connection.executemany("INSERT INTO models VALUES (?, ?, ?)", [("a", 3, 3), ("b", 1, 3)])
        assert many.behind(connection) == {"b": 1}
        assert many.cursors(connection) == {"a": 3, "b": 1}
    connection.close()


def test_quick_is_quick_and_what_is_given_counts(many: Any) -> None:
    quick = many.parse(["--quick"])
    assert (quick.models, quick.seconds, quick.cache_mb) == (50, 10.0, 8)
    given = many.parse(["--quick", "--models", "7", "--cache-mb", "9"])
    assert (given.models, given.seconds, given.cache_mb) == (7, 10.0, 9)
    assert many.parse([]).models == 1000


def test_the_tasks_can_be_learned(many: Any) -> None:
    made: Any = import_module("models_made")
    rng = random.Random(0)
    for model in range(16):
        labels = Counter(made.draw_row(model, rng)[1] for _ in range(400))
        assert 100 < labels["yes"] < 300, model
