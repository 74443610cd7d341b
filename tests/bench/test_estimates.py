"""The benchmarks of what is said without labels: quick runs, and what they must show."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest


def test_what_leans_leans_and_truth_stays(bench: Path) -> None:
    estimates: Any = import_module("estimates")
    score = estimates.normal_scores(np.array([3.0, 1.0, 1.0, 7.0]))
    assert (np.argsort(score, kind="stable") == [1, 2, 0, 3]).all()
    assert score[1] == score[2]
    column = estimates.telling_column(np.array([[0, 5], [0, 6], [0, 7], [0, 8]]), np.array([0, 0, 1, 1]))
    assert column == 1


def test_the_naive_index_is_none_for_equal_samples(bench: Path) -> None:
    unlabelled: Any = import_module("drift_unlabelled")
    x = np.random.default_rng(0).normal(size=1000)
    assert unlabelled.naive_psi(x, x) == pytest.approx(0.0)
    assert unlabelled.naive_psi(x, x + 1.0) > 0.1


@pytest.mark.slow
def test_estimates_are_close_under_covariate_shift_and_blind_under_concept_drift(bench: Path) -> None:
    if not (bench.parents[1] / "shared" / "data" / "elec.csv").is_file():
        pytest.skip("the real streams are not beside the repository")
    done = subprocess.run(
        [sys.executable, bench / "estimates.py", "--quick", "--json"], capture_output=True, check=True
    )
    result = json.loads(done.stdout)
    assert set(result["streams"]) == {"elec", "insects", "phishing"}
    for found in result["streams"].values():
        assert found["mae_points"] < 2.0
        assert found["mae_points"] < found["naive_mae_points"]
    drift = result["concept_drift"]
    assert drift["flagged"]
    assert not drift["flagged_before"]
    assert drift["error_points"] > 10.0


@pytest.mark.slow
def test_unlabelled_tests_keep_their_rates(bench: Path) -> None:
    unlabelled: Any = import_module("drift_unlabelled")
    done: list[float] = []
    result = unlabelled.run(0, True, done.append)
    assert done[-1] == 1.0
    assert result["worst"] < 0.08
    assert result["naive_psi"]["100"] > 0.2
    assert result["discoveries"]["ours"]["false_share"] < 0.08
