"""The footprint benchmark: its sums, and what its goals say."""

from __future__ import annotations

import argparse
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest


@pytest.mark.parametrize(
    ("ready", "rss", "imported", "goals"),
    [
        (2.9, 199.0, {"sklearn"}, (True, True, True)),
        (3.1, 199.0, set(), (False, True, True)),
        (2.9, 201.0, set(), (True, False, True)),
        (2.9, 199.0, {"sklearn", "pandas"}, (True, True, False)),
    ],
)
def test_goals(bench: Path, ready: float, rss: float, imported: set[str], goals: tuple[bool, ...]) -> None:
    footprint: Any = import_module("footprint")
    found = footprint.Found(
        "m", frozenset({"sklearn"}), [9.0, ready, 1.0], [1.0] * 3, [9e3, rss, 1.0], imported
    )
    told = footprint.result([found], [2.0], argparse.Namespace(rounds=3, seed=0, quick=False), 1.0)
    assert tuple(told["goals"].values()) == goals
    assert told["models"][0]["ready_seconds"] == ready
    assert told.keys() == {"models", "up", "goals", "rounds", "seed", "quick", "seconds"}
