"""A stream with a known drift, made from a seed: two features, a yes-or-no target, a concept that turns."""

from __future__ import annotations

import math
from typing import Any

TARGET = "y"
FEATURES = ("x1", "x2")
NOISE = 0.05


def spec(name: str) -> dict[str, Any]:
    """The spec of a model for this stream."""
    features = dict.fromkeys(FEATURES, "numeric")
    return {"name": name, "target": TARGET, "features": features, "description": "Made by /generate"}


def stream(rows: int, drift: float, seed: int) -> tuple[list[dict[str, float]], list[str], int]:
    """Rows, targets, and the row at which the concept drifts.

    Both features are uniform in [-1, 1]. The target is whether the row lies on one side of a line
    through the middle, wrong in one row of twenty; halfway the line turns by ``drift`` half turns
    (0: not at all, 1: every answer is the opposite one).
    """
    import numpy as np

    generator = np.random.default_rng(seed)
    points = generator.uniform(-1.0, 1.0, (rows, 2))
    drift_at = rows // 2
    angles = np.where(np.arange(rows) < drift_at, 0.0, drift * math.pi) + math.pi / 4
    yes = points[:, 0] * np.cos(angles) + points[:, 1] * np.sin(angles) > 0
    yes ^= generator.random(rows) < NOISE
    named = [dict(zip(FEATURES, point, strict=True)) for point in points.tolist()]
    return named, ["yes" if answer else "no" for answer in yes.tolist()], drift_at
