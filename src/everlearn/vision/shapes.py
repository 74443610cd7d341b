"""A generated set to try a detector on: circles, squares and triangles on noise, by day or by night.

Nothing is read from a file: the same seed gives the same frames on any machine.

>>> frame = draw(seed=7)
>>> frame.image.shape, {box.name for box in frame.boxes} <= {*SHAPES}
((160, 160, 3), True)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from everlearn.types import FloatArray
from everlearn.vision.boxes import Box

SHAPES = ("circle", "square", "triangle")
STAR = "star"
"""A class that appears later, when the world has changed."""

SIDE = 160
LEAST, MOST = 24, 56
"""Widths of a shape, in pixels."""

_COLOURS = np.array(
    [[220, 60, 50], [60, 170, 70], [50, 90, 220], [230, 180, 40], [170, 70, 190]], dtype=np.float64
)


@dataclass(frozen=True, slots=True)
class Frame:
    """An image ``uint8 (h, w, 3)``, RGB, and its true boxes."""

    image: NDArray[np.uint8]
    boxes: list[Box]


def draw(
    seed: int, *, names: Sequence[str] = SHAPES, night: bool = False, side: int = SIDE, most: int = 3
) -> Frame:
    """One frame with one to ``most`` shapes that do not touch each other."""
    random = np.random.default_rng([seed, 20_11])
    image = random.uniform(150, 215) + random.normal(0.0, 12.0, (side, side, 3))
    image += np.linspace(-25.0, 25.0, side)[:, None, None] * random.choice([-1.0, 1.0])
    boxes: list[Box] = []
    for _ in range(int(random.integers(1, most + 1))):
        place = _free_place(random, boxes, side)
        if place is None:
            break
        name = str(random.choice(list(names)))
        inside = _inside(name, side, *place)
        colour = _COLOURS[random.integers(len(_COLOURS))] + random.normal(0.0, 10.0, 3)
        image[inside] = colour + random.normal(0.0, 8.0, (int(inside.sum()), 3))
        boxes.append(_box_of(name, inside))
    if night:
        image = _by_night(image, random)
    return Frame(np.clip(image, 0.0, 255.0).astype(np.uint8), boxes)


def _by_night(image: FloatArray, random: np.random.Generator) -> FloatArray:
    """As an infrared camera sees it: no colour, what was dark is bright, little contrast and much noise."""
    grey = image.mean(axis=2, keepdims=True)
    heat: FloatArray = 20.0 + 0.35 * (235.0 - grey) + random.normal(0.0, 6.0, (*image.shape[:2], 1))
    return np.repeat(heat, 3, axis=2)


def _free_place(
    random: np.random.Generator, boxes: Sequence[Box], side: int
) -> tuple[float, float, float] | None:
    """The centre and half the width of a shape that touches none of the boxes; ``None`` where it is full."""
    for _ in range(20):
        half = float(random.uniform(LEAST, MOST)) / 2.0
        x, y = (float(v) for v in random.uniform(half + 1.0, side - half - 1.0, 2))
        if all(
            x + half < b.x1 - 2 or x - half > b.x2 + 2 or y + half < b.y1 - 2 or y - half > b.y2 + 2
            for b in boxes
        ):
            return x, y, half
    return None


def _inside(name: str, side: int, x: float, y: float, half: float) -> NDArray[np.bool_]:
    """The pixels of a shape, (side, side)."""
    rows, columns = np.mgrid[:side, :side].astype(np.float64) + 0.5
    dx, dy = (columns - x) / half, (rows - y) / half
    found: NDArray[np.bool_]
    if name == "circle":
        found = dx**2 + dy**2 <= 1.0
    elif name == "square":
        found = np.maximum(np.abs(dx), np.abs(dy)) <= 0.95
    elif name == "triangle":
        found = (dy <= 0.9) & (dy >= -0.9) & (np.abs(dx) <= (dy + 0.9) / 1.8)
    else:
        found = np.abs(dx) ** 0.55 + np.abs(dy) ** 0.55 <= 1.0
    return found


def _box_of(name: str, inside: NDArray[np.bool_]) -> Box:
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    return Box(name, float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1))
