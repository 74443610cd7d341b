"""Average precision of a detector, class by class: the measure of PASCAL VOC and COCO.

The boxes of all frames go by their scores, the surest first; each is right if it meets a truth of its class
that nobody has met yet, at an intersection over union of 0.5 (AP50). Precision over recall, made monotone,
is read at 101 points of recall (Lin et al. 2014, COCO).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from everlearn.types import FloatArray
from everlearn.vision.boxes import MATCH, Box, matched

POINTS = 101


class ClassScore(msgspec.Struct, frozen=True):
    """How well a class is found: its average precision, and how many of it there were."""

    ap: float
    truths: int


def by_class(
    truths: Sequence[Sequence[Box]], answers: Sequence[Sequence[Box]], least: float = MATCH
) -> dict[str, ClassScore]:
    """The average precision of every class that stands in the truths of some frames, by its name."""
    count: dict[str, int] = {}
    seen: dict[str, list[tuple[float, bool]]] = {}
    for truth, answer in zip(truths, answers, strict=True):
        for box in truth:
            count[box.name] = count.get(box.name, 0) + 1
        for box, right in zip(answer, matched(truth, answer, least), strict=True):
            seen.setdefault(box.name, []).append((box.score or 0.0, right))
    return {
        name: ClassScore(average_precision(seen.get(name, ()), count[name]), count[name])
        for name in sorted(count)
    }


def average_precision(seen: Sequence[tuple[float, bool]], truths: int) -> float:
    """The area under precision over recall, from each box's score and whether it is right.

    >>> average_precision([(0.9, True), (0.8, True)], truths=2)
    1.0
    """
    if not seen or not truths:
        return 0.0
    order = sorted(seen, key=lambda one: -one[0])
    right = np.cumsum([one[1] for one in order], dtype=np.float64)
    recall, precision = right / truths, right / np.arange(1.0, len(order) + 1.0)
    envelope: FloatArray = np.maximum.accumulate(precision[::-1])[::-1]
    points = np.linspace(0.0, 1.0, POINTS)
    place = np.searchsorted(recall, points, side="left")
    read = np.where(place < len(envelope), envelope[np.minimum(place, len(envelope) - 1)], 0.0)
    return float(read.mean())


def mean_ap(scores: Mapping[str, ClassScore]) -> float:
    """mAP: the mean over classes; 0 without any."""
    return math.fsum(one.ap for one in scores.values()) / len(scores) if scores else 0.0
