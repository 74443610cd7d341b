from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from everlearn.loop import oracle


@pytest.fixture
def scripts(bench: Path) -> Any:
    return importlib.import_module("policy")


@pytest.fixture
def grids(bench: Path) -> Any:
    return importlib.import_module("policy_grid")


def planted(grids: Any, chunks: int = 30, rise: float = 0.03) -> Any:
    """Versions that err at 10%, and by so much more with every chunk that they grow older."""
    points = np.arange(1000, 1000 + 250 * chunks, 250)
    rows = int(points[-1]) + 250
    draw = np.random.default_rng(3).random(rows)
    age = (np.arange(rows)[None, :] - points[:, None]) / 250
    wrong = (draw[None, :] < 0.1 + rise * np.clip(age, 0, None)) & (age >= 0)
    return grids.Grid("planted", points, wrong.astype(np.uint8))


def test_the_matrix_of_losses_counts_what_each_version_gets_wrong(grids: Any) -> None:
    grid = planted(grids, 4)
    assert grid.losses.shape == (4, 4)
    assert grid.losses[1, 2] == grid.wrong[1, 1500:1750].sum()
    assert grid.losses[2, 0] == 0


def test_a_played_cadence_costs_what_the_matrix_says(scripts: Any, grids: Any) -> None:
    grid = planted(grids)
    played = scripts.Play(grid, scripts.spec_for("every", every=750)).run()
    assert tuple(played) == oracle.cadence(3, len(grid.points))
    assert scripts.Play(grid, scripts.spec_for("never")).run() == []
    assert len(scripts.Play(grid, scripts.spec_for("always")).run()) == len(grid.points) - 1


def test_a_policy_sees_only_labels_that_are_known(scripts: Any, grids: Any) -> None:
    grid = planted(grids)
    spec = scripts.spec_for("cost_aware", price=20.0)
    played = scripts.Play(grid, spec).run()
    first = played[0]
    later = grid.wrong.copy()
    later[:, int(grid.points[first]) - grids.DELAY :] ^= 1
    assert scripts.Play(grids.Grid("other", grid.points, later), spec).run()[0] == first


def test_the_informed_policy_is_told_only_of_rows_whose_labels_are_known(scripts: Any, grids: Any) -> None:
    grid = planted(grids)
    played = scripts.informed(grid, 20.0)
    later = grid.wrong.copy()
    later[:, int(grid.points[played[1]]) - grids.DELAY + grids.STEP :] ^= 1
    assert scripts.informed(grids.Grid("other", grid.points, later), 20.0)[:2] == played[:2]
    spacing = np.diff([0, *played]).mean()
    best = oracle.best_cadence(grid.losses, 20.0).every
    assert best is not None
    assert abs(spacing - best) <= 2


def test_a_case_has_all_policies_and_none_beats_the_oracle(scripts: Any, grids: Any) -> None:
    found = scripts.case(planted(grids), 20.0)
    costs = [found[name] for name in ("never", "always", "cusum", "informed", "cost_aware")]
    assert found["oracle"] <= min([*costs, found["best_cadence"]["cost"]])
    assert found["cost_aware"] < found["never"]
    summed = scripts.summary([found])
    assert summed["worst_ratio"] == found["ratio"]
    assert summed["at_or_under"] in (0.0, 1.0)


def test_a_version_learns_only_what_is_known_at_its_grid_point(
    grids: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grids, "LEARNER", {"size": 500, "estimator": "logistic", "adapt": False})
    stream = next(iter(grids.made_streams(0, 1600)))
    grid = grids.make_grid(stream, 0)
    truth = stream.y.copy()
    truth[int(grid.points[0]) - grids.DELAY :] ^= 1
    changed = type(stream)(stream.name, stream.X, truth, stream.delay, stream.classes)
    first, again = grid.wrong[0], grids.make_grid(changed, 0).wrong[0]
    assert (first[1000:] == 1 - again[1000:]).all()
