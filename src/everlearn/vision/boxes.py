"""Boxes of a frame: how they are written in the log, and what an answer cost beside the truth.

A frame's boxes are one JSON text, so that the log, its codec and the replay know them as any other answer:
``[["cat",12.0,30.5,80.0,99.0,0.87]]`` is the class, the corners x1, y1, x2, y2 in pixels of the image as it
was sent, and the score. The boxes of a truth have no score.

>>> truth = to_text(parse('[["cat", 0, 0, 10, 10]]'))
>>> answer = to_text([Box("cat", 0.0, 0.0, 10.0, 8.0, 0.9), Box("dog", 0.0, 0.0, 10.0, 10.0, 0.4)])
>>> truth, round(frame_f1(parse(truth), parse(answer)), 3)
('[["cat",0.0,0.0,10.0,10.0]]', 0.667)
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np

from everlearn.types import FloatArray

MATCH = 0.5
"""Intersection over union from which on a box is the one that was meant (PASCAL VOC, COCO's AP50)."""

MOST_BOXES = 1000
MOST_NAME = 100
MOST_PIXELS = 100_000.0


class Box(NamedTuple):
    """An object: its class, its corners in pixels (``x1 < x2``, ``y1 < y2``), and how sure the answer is."""

    name: str
    x1: float
    y1: float
    x2: float
    y2: float
    score: float | None = None


class BoxError(ValueError):
    """What is wrong with some boxes, and what to send instead."""


def parse(text: Any) -> list[Box]:
    """Boxes from their text; ``None`` (no answer) has none. Raises BoxError."""
    if text is None:
        return []
    try:
        found = msgspec.json.decode(text)
    except (msgspec.DecodeError, TypeError, ValueError):
        raise BoxError('is no list of boxes: send JSON text such as [["cat", x1, y1, x2, y2]]') from None
    if not isinstance(found, list) or len(found) > MOST_BOXES:
        raise BoxError(f"must be a list of at most {MOST_BOXES} boxes")
    return [_box(i, one) for i, one in enumerate(found)]


def _box(place: int, given: Any) -> Box:
    if not isinstance(given, list) or len(given) not in (5, 6):
        raise BoxError(f"box {place} must be [class, x1, y1, x2, y2], with a score at most")
    name, *numbers = given
    if not isinstance(name, str) or not 0 < len(name) <= MOST_NAME:
        raise BoxError(f"box {place}: its class must be text of 1 to {MOST_NAME} characters")
    for number in numbers:
        if isinstance(number, bool) or not isinstance(number, int | float) or not abs(number) <= MOST_PIXELS:
            raise BoxError(f"box {place}: its corners and score must be numbers")
    box = Box(name, *(float(number) for number in numbers))
    if not (box.x1 < box.x2 and box.y1 < box.y2):
        raise BoxError(f"box {place}: send x1 < x2 and y1 < y2")
    if box.score is not None and not 0.0 <= box.score <= 1.0:
        raise BoxError(f"box {place}: its score must be between 0 and 1")
    return box


def to_text(boxes: Iterable[Box]) -> str:
    """The one text of some boxes: the surest first, truths by class and place; corners to a tenth of a
    pixel."""
    rounded = [_rounded(box) for box in boxes]
    return msgspec.json.encode(sorted(rounded, key=_order)).decode()


def canonical_truth(value: Any) -> str:
    """The one text of a frame's true boxes, without scores; raises BoxError."""
    return to_text(
        box._replace(score=None) for box in parse(value if isinstance(value, str) else value or "")
    )


def _rounded(box: Box) -> list[Any]:
    corners = [round(value, 1) + 0.0 for value in (box.x1, box.y1, box.x2, box.y2)]
    return [box.name, *corners, *([] if box.score is None else [round(box.score, 4)])]


def _order(box: list[Any]) -> tuple[Any, ...]:
    return (-box[5] if len(box) == 6 else 0.0, box[0], *box[1:5])


def corners(boxes: Sequence[Box]) -> FloatArray:
    """The corners of boxes as an array (n, 4)."""
    return np.array([box[1:5] for box in boxes], dtype=np.float64).reshape(len(boxes), 4)


def iou(a: FloatArray, b: FloatArray) -> FloatArray:
    """Intersection over union of boxes ``a`` (n, 4) with boxes ``b`` (m, 4), as (n, m)."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = np.prod(np.clip(high - low, 0.0, None), axis=2)
    area_a, area_b = (np.prod(one[:, 2:] - one[:, :2], axis=1) for one in (a, b))
    whole = area_a[:, None] + area_b[None, :] - shared
    shares: FloatArray = np.divide(shared, whole, out=np.zeros_like(shared), where=whole > 0.0)
    return shares


def matched(truth: Sequence[Box], answer: Sequence[Box], least: float = MATCH) -> list[bool]:
    """Which boxes of an answer are right: each truth is found once, by the surest box of its class there."""
    overlap = iou(corners(answer), corners(truth))
    found, right = set[int](), [False] * len(answer)
    for i in sorted(range(len(answer)), key=lambda i: -(answer[i].score or 0.0)):
        same = [j for j, one in enumerate(truth) if one.name == answer[i].name and j not in found]
        best = max(same, key=lambda j: overlap[i, j], default=None)
        if best is not None and overlap[i, best] >= least:
            found.add(best)
            right[i] = True
    return right


def frame_f1(truth: Sequence[Box], answer: Sequence[Box], least: float = MATCH) -> float:
    """The F1 of one frame: of all boxes, answered and true, the share that found each other. 1 for none at
    all."""
    count = len(truth) + len(answer)
    return 2.0 * sum(matched(truth, answer, least)) / count if count else 1.0


def frame_loss(truth: Any, answer: Any) -> float:
    """What an answer to a frame cost, in [0, 1]: 1 - F1 of the texts' boxes. No answer is one without
    boxes."""
    return 1.0 - frame_f1(parse(truth), parse(answer))


def sureness(answer: Any) -> float | None:
    """The mean score of an answer's boxes; ``None`` without any."""
    scores = [box.score for box in parse(answer) if box.score is not None]
    return math.fsum(scores) / len(scores) if scores else None


def same(stored: Any, answer: Any, *, least: float = 0.95, score: float = 0.02) -> bool:
    """Whether two answers say the same, but for what another processor rounds differently."""
    a, b = parse(stored), parse(answer)
    # A box that is barely sure enough may be left out elsewhere.
    faint = min((box.score or 0.0 for box in (*a, *b)), default=0.0) + score
    for one, other in ((a, b), (b, a)):
        for box, right in zip(one, matched(other, one, least), strict=True):
            if not right and (box.score or 0.0) > faint:
                return False
    return True
