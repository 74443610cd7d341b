"""The benchmark of the guard over feedback, in small."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

KEYS = {
    "honest", "turned", "flipped", "later", "constant", "flood", "labels", "runs", "goals", "seed", "quick",
    "seconds",
}  # fmt: skip


def test_what_the_runs_came_to(bench: Path) -> None:
    feedback = import_module("feedback")
    runs = [{"key:b": 300}, {"key:b": 500, "key:a": 90}, {}, {"key:b": 50}]
    assert feedback.found(runs) == {
        "found": 0.75, "wrong": 0.25, "median_labels": 300.0, "p90_labels": pytest.approx(460.0),
    }  # fmt: skip
    since = feedback.found(runs, 100)
    assert (since["found"], since["wrong"], since["median_labels"]) == (0.5, 0.5, 300.0)


def test_a_flipping_source_is_found_in_its_stream(bench: Path) -> None:
    feedback = import_module("feedback")
    named = feedback.play(np.random.default_rng(0), feedback.flips, 2500)
    assert list(named) == ["key:b"]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_quick_run_has_its_keys(bench: Path) -> None:
    feedback = import_module("feedback")
    assert set(feedback.run(feedback.parse(["--quick"]))) == KEYS
