"""A frame with its boxes drawn on it, for people."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from everlearn.vision.boxes import Box
from everlearn.vision.extra import needed

_COLOURS = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
)
"""Colours that the colour-blind can tell apart (Okabe & Ito 2008)."""


def drawn(image: NDArray[np.uint8], boxes: Sequence[Box]) -> NDArray[np.uint8]:
    """A copy of an image ``uint8 (h, w, 3)``, RGB, with each box, its class and its score."""
    cv2 = needed("cv2")
    canvas: NDArray[np.uint8] = np.ascontiguousarray(image).copy()
    scale = max(canvas.shape[:2]) / 640.0
    thick = max(1, round(2.0 * scale))
    for box in reversed(boxes):  # the surest on top
        colour = _colour(box.name)
        x1, y1, x2, y2 = (round(value) for value in box[1:5])
        cv2.rectangle(canvas, (x1, y1), (x2, y2), colour, thick)
        words = box.name if box.score is None else f"{box.name} {box.score:.2f}"
        letters = cv2.FONT_HERSHEY_SIMPLEX
        (width, height), _ = cv2.getTextSize(words, letters, max(0.35, 0.6 * scale), 1)
        top = max(0, y1 - height - 4)
        cv2.rectangle(canvas, (x1, top), (x1 + width + 4, top + height + 4), colour, -1)
        at = (x1 + 2, top + height + 1)
        cv2.putText(canvas, words, at, letters, max(0.35, 0.6 * scale), (0, 0, 0), 1, cv2.LINE_AA)
    return canvas


def _colour(name: str) -> tuple[int, int, int]:
    """The colour of a class: always the same."""
    return _COLOURS[hashlib.blake2b(name.encode(), digest_size=1).digest()[0] % len(_COLOURS)]
