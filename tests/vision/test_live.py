"""A detector on a live server whose world changes, from scratch to a promotion that forgets nothing."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


def test_night_and_a_new_class_are_learned_and_the_day_is_kept(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The benchmark is the story: one version from scratch, one without replay refused, one with it."""
    for module in ("onnxruntime", "cv2", "ultralytics"):
        pytest.importorskip(module, reason="everlearn[vision] is not installed")
    monkeypatch.syspath_prepend(root / "bench")
    vision = import_module("vision")
    found = vision.run(vision.parse([]))
    told = json.dumps(found, indent=1)
    print(f"frames a second: {found['frames_per_second']}")
    assert [goal for goal in found["goals"] if not goal[-1]] == [], told
    assert found["failed"] == 0, told
    assert found["requests"] > 500
    assert found["without_replay"]["fallen"], "it was refused for the classes that it has forgotten"
    night = found["night_after"].values()
    assert sum(night) / len(night) > found["night_before"]["map50"] + 0.2, "and the night was worth learning"
    assert found["frames_per_second"]["4"] > 1.0
