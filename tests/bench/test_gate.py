"""The benchmarks of the gate and of rollback: their streams, their naive tests, and a small run."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from scipy.stats import binom

from everlearn.loop.maturity import Waiting, Watermark
from everlearn.spec import GateSpec, parse_spec
from everlearn.types import Label, Output, Prediction

GATE_KEYS = {
    "equal", "mcnemar_peeking", "plus_one", "plus_two", "alternating", "alternating_overall",
    "alternating_better", "late_positives", "late_naive", "hundred_nulls", "hundred_peeking", "runs",
    "goals", "seed", "quick", "seconds",
}  # fmt: skip
ROLLBACK_KEYS = {
    "caught", "median_labels", "caught_at_once", "median_at_once", "mistaken", "mistaken_better", "early",
    "bake_labels", "naive", "runs", "goals", "seed", "quick", "seconds",
}  # fmt: skip


@pytest.fixture
def deciding(bench: Path) -> ModuleType:
    return import_module("deciding")


def test_losses_have_the_shares_that_were_asked(deciding: ModuleType) -> None:
    old, new = deciding.losses(np.random.default_rng(0), 100_000, 0.06, 0.04)
    assert ((old > new).mean(), (old < new).mean()) == pytest.approx((0.06, 0.04), abs=0.003)
    assert ((old == 1) & (new == 1)).mean() == pytest.approx(0.1, abs=0.005)


def test_the_naive_test_stops_at_the_first_look_that_is_significant(deciding: ModuleType) -> None:
    old, new = deciding.losses(np.random.default_rng(1), 5000, 0.06, 0.04)
    first = deciding.mcnemar(old, new, 0.05)
    for rows in range(100, first + 1, 100):
        wins, lost = int((old > new)[:rows].sum()), int((old < new)[:rows].sum())
        assert (binom.sf(wins - 1, wins + lost, 0.5) <= 0.05) == (rows == first)


def test_rows_mature_in_bulk_as_they_do_in_the_loop(deciding: ModuleType) -> None:
    spec = parse_spec(
        {"name": "m", "target": "y", "features": {"x": "numeric"}, "label_horizon": {"rows": 300}}
    )
    rng, rows = np.random.default_rng(2), 1000
    delay = np.where(rng.random(rows) < 0.2, rng.integers(100, 600, rows), 0)
    arrives = np.ceil((np.arange(1, rows + 1) + delay) / deciding.LOOK)
    order, stops = deciding.by_look(np.maximum(deciding.covered(spec, rows), arrives))
    mark, waiting, counted = Watermark(), Waiting(), []
    for look in range(1, rows // deciding.LOOK + 1):
        for i in np.flatnonzero(arrives == look):
            asked = Prediction(1, 0.0, str(i), int(i) + 1, 1, {}, Output(1))
            waiting.add(Label(2, 0.0, str(i), 1, prediction=asked))
        mark.rise(spec, look * deciding.LOOK, 0.0)
        counted += [label.prediction.row - 1 for label in waiting.matured(mark) if label.prediction]
    assert counted == list(order[: len(counted)])
    assert len(counted) == stops[rows // deciding.LOOK]


def test_a_better_candidate_passes_and_the_trial_stops_there(deciding: ModuleType) -> None:
    old, new = deciding.losses(np.random.default_rng(3), 5000, 0.1, 0.03)
    end, rows = deciding.try_out(old, new, GateSpec())
    assert end == "promote"
    assert rows < 2000
    assert deciding.try_out(new, old, GateSpec())[0] == "reject"


def test_a_small_run_of_each_has_all_figures(bench: Path) -> None:
    gate, rollback = import_module("gate"), import_module("rollback")
    gate.LABELS, gate.ATTEMPTS = 1000, 3
    assert set(gate.run(gate.parse(["--runs", "2"]))) == GATE_KEYS
    assert set(rollback.run(rollback.parse(["--runs", "2"]))) == ROLLBACK_KEYS


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("script", "keys"), [("gate", GATE_KEYS), ("rollback", ROLLBACK_KEYS)])
def test_a_quick_run_prints_one_object(bench: Path, script: str, keys: set[str]) -> None:
    command = [sys.executable, str(bench / f"{script}.py"), "--quick", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert set(json.loads(done.stdout)) == keys
