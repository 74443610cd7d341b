"""The chaos benchmark loses nothing, and its checker sees what a broken product would leave behind."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

from everlearn.client import Prediction

FAULTS = ("lost", "doubled", "two_champions", "out_of_order", "replay_differs", "wrong_version")


@pytest.fixture
def chaos_check(bench: Path) -> ModuleType:
    return import_module("chaos_check")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_nothing_is_lost_and_every_planted_fault_is_seen(
    root: Path, service: Callable[[str, int], object]
) -> None:
    service("PostgreSQL", 5432)  # and so its programs, with which the benchmark starts one of its own
    service("Redis", 6379)
    command = [sys.executable, "bench/chaos.py", "--quick", "--plant", "--json"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:] + done.stdout
    found = json.loads(done.stdout)
    assert {name: found[name] for name in FAULTS} == dict.fromkeys(FAULTS, 0)
    assert found["kills"] == 3
    assert found["acknowledged"] > 500
    assert found["promotions"] >= 2
    assert found["restarts"]["postgres"] == found["restarts"]["redis"] == 2
    assert list(found["planted"]) == [
        "lost_ack",
        "double_apply",
        "two_champions",
        "stale_promotion",
        "skipped_decision",
        "wrong_version",
    ]
    assert all(found["planted"].values())


def test_looks_at_champions_are_judged(chaos_check: ModuleType) -> None:
    sound = [("m", 0, 0, (0,)), ("m", 1, 3, (3,)), ("m", 1, 3, (3,)), ("other", 0, 0, (0,))]
    assert chaos_check._not_one(sound) == chaos_check._backwards(sound) == 0
    assert chaos_check._not_one([*sound, ("m", 1, 3, (2, 3))]) == 1
    assert chaos_check._not_one([*sound, ("m", 1, 3, ())]) == 1
    assert chaos_check._not_one([*sound, ("m", 1, 4, (4,))]) == 1
    assert chaos_check._backwards([*sound, ("m", 0, 0, (0,))]) == 1


def test_a_history_counts_what_was_acknowledged(chaos_check: ModuleType) -> None:
    history = chaos_check.History()
    history.answers["m", "a"] = Prediction("a", 1, "up")
    history.labels["m", "a"] = "up"
    assert history.acknowledged == 2
