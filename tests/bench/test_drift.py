"""The drift benchmark: its streams are what they say, its summaries by hand, and its keys."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

KEYS = {"budget", "stable", "mean", "change", "micros", "unlabelled", "goals", "seed", "quick", "seconds"}


@pytest.fixture
def drift(bench: Path) -> ModuleType:
    return import_module("drift")


def test_streams_have_their_rate_and_memory(drift: ModuleType) -> None:
    rng = np.random.default_rng(1)
    sticky = drift.markov(rng, 100_000, 0.3, 0.95)
    assert sticky.mean() == pytest.approx(0.3, abs=0.05)
    assert np.corrcoef(sticky[1:], sticky[:-1])[0, 1] == pytest.approx(0.95, abs=0.02)
    assert drift.bursts(rng, 100_000, 0.2, 0.95).mean() == pytest.approx(0.2, abs=0.04)
    assert drift.improving(rng, 2000)[1000:].mean() == pytest.approx(0.1, abs=0.04)
    assert all(len(draw(rng, 50)) == 50 for draw in drift.STREAMS.values())


def test_summaries_by_hand(drift: ModuleType) -> None:
    found = drift.summary([100.0, 300.0, math.inf], 6)
    assert found == {"detected": 0.6667, "median_delay": 300, "false_before": 0.4}
    assert drift.summary([1.0, math.inf, math.inf], 0)["median_delay"] is None


def test_every_detector_hears_a_great_change(drift: ModuleType) -> None:
    for make in drift.DETECTORS.values():
        at = drift.alarms(make(), [0.0, 0.0, 0.0, 1.0] * 250 + [1.0] * 300)
        assert at
        assert min(at) > 1000


def test_goals_are_judged(drift: ModuleType) -> None:
    report = {
        "stable": {"a": {"cusum": 0.5}, "b": {"cusum": 1.2}},
        "mean": {"cusum": 0.85},
        "change": {"cusum": {"median_delay": None, "false_before": 0.7}},
        "micros": {"cusum": 1.1},
    }
    assert [goal["met"] for goal in drift.goals(report)] == [True, False, True, False, True]


@pytest.mark.slow
def test_a_quick_run_prints_one_object(bench: Path) -> None:
    command = [sys.executable, str(bench / "drift.py"), "--quick", "--json", "--seed", "3"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    report = json.loads(done.stdout)
    assert set(report) == KEYS
    assert set(report["stable"]["1%"]) == set(report["change"]) == set(report["micros"])
