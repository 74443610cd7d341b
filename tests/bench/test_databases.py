"""The benchmarks of databases: what they fill logs with, what they say has grown, and a small copy."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from everlearn.adapters.sql import SqlStore

POSTGRES = "postgresql://postgres@127.0.0.1:5432"


def test_a_log_is_filled_to_its_length_by_predictions_that_are_labelled(bench: Path, tmp_path: Path) -> None:
    world: Any = import_module("database_world")
    url = f"sqlite:///{tmp_path / 'everlearn.db'}"
    store, told = SqlStore(url, synchronous="NORMAL"), []
    world.make_model(store)
    empty = world.size_of(url)
    world.fill(store, world.Stream(1), 12_001, told.append)
    head = store.log.head("m")
    store.close()
    assert (head.seq, head.rows, head.labels, head.parked) == (12_001, 6_000, 6_000, 0)
    assert told[-1] == 12_001
    assert world.size_of(url) > empty


def test_growth_is_the_largest_over_the_smallest(bench: Path) -> None:
    databases: Any = import_module("databases")
    costs = ("predict_p50_ms", "advance_us_per_event", "label_append_ms")
    points = [
        {"database": name, **{cost: value * (i + 1) for i, cost in enumerate(costs)}}
        for name, value in (("sqlite", 1.0), ("sqlite", 5.0), ("sqlite", 1.1), ("postgres", 2.0))
    ]
    assert databases.growth(points) == {
        "sqlite": {"predict": 1.1, "advance": 1.1, "label": 1.1},
        "postgres": {"predict": 1.0, "advance": 1.0, "label": 1.0},
    }


@pytest.mark.slow
def test_the_state_at_the_end_of_a_log_is_one_that_goes_on(bench: Path, tmp_path: Path) -> None:
    databases: Any = import_module("databases")
    world: Any = import_module("database_world")
    store, stream = SqlStore(f"sqlite:///{tmp_path / 'everlearn.db'}", synchronous="NORMAL"), world.Stream(1)
    world.make_model(store)
    world.fill(store, stream, 2_000, lambda _: None)
    assert databases.advance(store) == store.log.head("m").seq
    world.fill(store, stream, 20_000, lambda _: None)
    databases.skip(store)
    assert databases.advance(store) == 0
    assert databases.step_seconds(store, stream) > 0
    assert store.ledger.behind() == []
    store.close()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_copy_killed_twice_differs_in_nothing(bench: Path, service: Any) -> None:
    service("PostgreSQL", 5432)
    found = import_module("migrate_db").measure(6_000, 2, POSTGRES, seed=1, quick=True)
    assert (found["verified"], found["replay_differs"], found["kills"]) == (True, 0, 2)
    assert 0 < found["resumed"] <= found["rows"] == 6_000
    assert found["decisions"] > 0
