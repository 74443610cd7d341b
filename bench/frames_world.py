"""Frames for the dashboard to show: generated ones with the boxes of an unsure detector, put into a store.

No network answers here, so the extra ``vision`` is not needed: what a version might have answered is made of
the true boxes of :mod:`everlearn.vision.shapes`, moved, missed and mistaken by chance. It is to be looked at;
nothing is measured with it.
"""

from __future__ import annotations

import io
import time
from pathlib import Path
from typing import Any

import numpy as np

from everlearn.spec import parse_spec
from everlearn.types import EventKind, NewEvent
from everlearn.vision import shapes
from everlearn.vision.boxes import Box, to_text
from everlearn.vision.frames import bundle_of
from everlearn.wiring import Installation

SPEC: dict[str, Any] = {
    "name": "gate",
    "task": "detection",
    "target": "boxes",
    "features": {"frame": "image", "camera": "categorical"},
    "learner": {"name": "yolo", "size": 320},
    "threshold": 0.8,
    "label_horizon": {"rows": 0},
}
SIDE = 320
EVERY = 40.0
"""Seconds between two frames."""


def make_frames(data: Path, count: int = 40, name: str = "gate", seed: int = 0) -> list[str]:
    """Make a detector in an installation's store, with so many frames; their ids, the oldest first.

    The first half of them has true boxes.
    """
    random = np.random.default_rng([seed, 7])
    now = time.time()
    ids = [f"frame-{place:03}" for place in range(count)]
    installation = Installation.load(data=data)
    try:
        installation.models.create(parse_spec({**SPEC, "name": name}), now - count * EVERY)
        for place, key in enumerate(ids):
            frame = shapes.draw(seed + place, night=place % 9 == 8, side=SIDE, most=4)
            digest = installation.artifacts.put(bundle_of(_png(frame.image)))
            at = now - (count - place) * EVERY
            features = {"frame": digest, "camera": f"gate {place % 3 + 1}"}
            answer = {"value": to_text(_unsure(frame.boxes, random)), "probabilities": None, "version": 0}
            events = [NewEvent(EventKind.PREDICTION, at, key, {"features": features, **answer})]
            if place < count // 2:
                events.append(NewEvent(EventKind.LABEL, at + 5, key, {"value": to_text(frame.boxes)}))
            installation.log.append(name, events)
    finally:
        installation.close()
    return ids


def _unsure(boxes: list[Box], random: np.random.Generator) -> list[Box]:
    """What a detector might have answered."""
    found = []
    for box in boxes:
        if random.random() < 0.1:
            continue
        moved = [float(value) for value in np.clip(np.array(box[1:5]) + random.normal(0, 4, 4), 0, SIDE)]
        name = str(random.choice(shapes.SHAPES)) if random.random() < 0.1 else box.name
        found.append(Box(name, *moved, float(random.uniform(0.3, 0.97))))
    return found


def _png(image: Any) -> bytes:
    from PIL import Image

    target = io.BytesIO()
    Image.fromarray(image).save(target, "PNG")
    return target.getvalue()
