"""The demo's stream: real measurements, in which a stated change is planted.

The rows are the Image Segmentation data of the UCI repository (Brodley 1990; 2,310 patches of outdoor
photographs, 18 measurements each, 7 kinds of surface), which river ships. They are shuffled by the
seed. From row 900 on, the colours are read through a camera whose channels have traded places: what
was red arrives as green, green as blue, blue as red, and the hue is turned by 120 degrees as it
follows. The photographs and their labels stay what they are.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Any

TARGET = "surface"
DRIFT_AT = 900
DELAY = 100
THRESHOLD = 0.8
PLANTED = (
    f"planted: from row {DRIFT_AT} on the camera's colour channels trade places "
    "(red → green → blue → red); everything else is real"
)
_DESCRIPTION = "The demo: kinds of surface in outdoor photographs (UCI Image Segmentation)"


@dataclass(frozen=True, slots=True)
class Item:
    """One row of the stream. The label of row *n* is known ``DELAY`` rows later."""

    id: str
    row: dict[str, float]
    truth: str


def make_stream(seed: int = 0) -> list[Item]:
    """All 2,310 rows in the order of the seed, with the change planted. The same seed gives the same ids."""
    from river.datasets import ImageSegments

    rows = [({k: float(v) for k, v in row.items()}, str(truth)) for row, truth in ImageSegments()]
    random.Random(seed).shuffle(rows)
    return [
        Item(f"demo-{seed}-{n}", trade_channels(row) if n >= DRIFT_AT else row, truth)
        for n, (row, truth) in enumerate(rows)
    ]


def trade_channels(row: dict[str, float]) -> dict[str, float]:
    """The row as a camera with red → green → blue → red measures it; brightness stays.

    >>> pixel = {"rawred-mean": 9.0, "rawgreen-mean": 4.0, "rawblue-mean": 1.0, "hue-mean": 0.0}
    >>> traded = trade_channels({**pixel, "exred-mean": 3.0, "exgreen-mean": 2.0, "exblue-mean": -5.0})
    >>> traded["rawred-mean"], traded["rawgreen-mean"], traded["rawblue-mean"], round(traded["hue-mean"], 3)
    (1.0, 9.0, 4.0, 2.094)
    """
    traded = dict(row)
    for kind in ("raw", "ex"):
        red, green, blue = (row[f"{kind}{colour}-mean"] for colour in ("red", "green", "blue"))
        traded |= {f"{kind}green-mean": red, f"{kind}blue-mean": green, f"{kind}red-mean": blue}
    traded["hue-mean"] = (row["hue-mean"] + 2 * math.pi / 3 + math.pi) % (2 * math.pi) - math.pi
    return traded


def make_spec(name: str, stream: list[Item], seed: int = 0) -> dict[str, Any]:
    """The demo model's spec: small windows, so that minutes of a real day take seconds here.

    ``act_on: proof`` retrains once the score is proven to be under the threshold.
    """
    return {
        "name": name,
        "task": "classification",
        "target": TARGET,
        "features": dict.fromkeys(stream[0].row, "numeric"),
        "learner": {"name": "window", "size": 250, "estimator": "extra_trees"},
        "metric": "accuracy",
        "threshold": THRESHOLD,
        "label_horizon": {"rows": DELAY},
        "policy": {
            "act_on": "proof",
            "first_rows": 200,
            "min_labels": 100,
            "window": 150,
            "cooldown": 60,
            "check_every": 10,
        },
        "gate": {"holdout": 60, "min_rows": 30},
        "seed": seed,
        "description": f"{_DESCRIPTION}; {PLANTED}; seed {seed}",
    }
