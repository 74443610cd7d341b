"""A frame with its boxes as HTML: they lie over the image, so lines and words are sharp at any width."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any, Final

from everlearn.dashboard.views import parts
from everlearn.dashboard.views.shots import Shot
from everlearn.dashboard.words import count

Record = Mapping[str, Any]

COLOURS: Final = 7
"""How many colours of classes the style sheet has."""

NAMED: Final = 8
"""Boxes of a small picture that are named on it; with more of them, names would hide what is there."""

MOST: Final = 200
"""Boxes that are drawn at most, the surest ones."""


def picture(name: str, shot: Shot, answered: Sequence[Record], true: Sequence[Record] | None = None) -> str:
    """A frame with the boxes that were answered, and the true ones with dashes where they are told."""
    drawn = "".join(_box(box, shot) for box in reversed(answered[:MOST]))
    drawn += "".join(_box(box, shot, true=True) for box in (true or ())[:MOST])
    words = f"Frame {name}. Answered: {summary(answered)}."
    if true is not None:
        words += f" True: {summary(true)}."
    few = " ev-few" if len(answered) + len(true or ()) <= NAMED else ""
    return (
        f'<div class="ev-frame{few}" role="img" aria-label="{escape(words)}" '
        f'style="--ratio:{shot.width / shot.height:.4f}"><img src="{shot.url}" alt="">{drawn}</div>'
    )


def no_picture(why: str) -> str:
    """What stands where an image cannot be shown."""
    return f'<div class="ev-frame ev-no-frame"><span>{escape(why)}</span></div>'


def _box(box: Record, shot: Shot, *, true: bool = False) -> str:
    """A box by its share of the image."""
    left, right = (_share(box[name], shot.width) for name in ("x1", "x2"))
    top, bottom = (_share(box[name], shot.height) for name in ("y1", "y2"))
    name, score = str(box["class"]), box.get("score")
    kind = " ev-true" if true else ""
    kind += " ev-at-edge" if (bottom > 93 if true else top < 7) else ""
    kind += " ev-at-right" if left > 66 else ""
    words = name if score is None else f"{name} {score:.2f}"
    return (
        f'<span class="ev-box ev-class-{zlib.crc32(name.encode()) % COLOURS}{kind}" style="left:{left:.2f}%;'
        f'top:{top:.2f}%;width:{right - left:.2f}%;height:{bottom - top:.2f}%"><b>{escape(words)}</b></span>'
    )


def _share(value: float, whole: int) -> float:
    return min(max(100.0 * value / whole, 0.0), 100.0)


def summary(boxes: Sequence[Record] | None) -> str:
    """What is on a frame, in words.

    >>> summary([{"class": "car"}, {"class": "van"}, {"class": "car"}]), summary([]), summary(None)
    ('2 car, 1 van', 'nothing', 'no answer yet')
    """
    if boxes is None:
        return "no answer yet"
    found = Counter(str(box["class"]) for box in boxes).most_common()
    return ", ".join(f"{many:,} {name}" for name, many in found) or "nothing"


def confidence(boxes: Iterable[Record] | None) -> str:
    """How sure an answer is, from its least sure box to its surest; empty where nothing was answered.

    >>> confidence([{"score": 0.914}, {"score": 0.4}]), confidence([{"score": 0.5}]), confidence([])
    ('scores 0.40 to 0.91', 'score 0.50', '')
    """
    scores = sorted(box["score"] for box in boxes or () if box.get("score") is not None)
    if not scores:
        return ""
    if len(scores) == 1:
        return f"score {scores[0]:.2f}"
    return f"scores {scores[0]:.2f} to {scores[-1]:.2f}"


def told(frame: Record) -> parts.Html:
    """Whether the true boxes of a frame are known."""
    if frame["truth"] is None:
        return parts.mark("No truth yet", "calm", "ring")
    return parts.mark("Truth told", "good", "check")


def card(frame: Record, shown: str, when: str) -> str:
    """A frame in a list: its picture, whether its truth is known, and what is on it in words."""
    facts = " · ".join(filter(None, [summary(frame["boxes"]), confidence(frame["boxes"])]))
    true = "" if frame["truth"] is None else f"<span>true: {escape(summary(frame['truth']))}</span>"
    return (
        f'<div class="ev-card">{shown}<div class="ev-marks">{told(frame).text}</div>'
        f'<span>{escape(facts)}</span>{true}<span class="ev-soft ev-small">{escape(when)}</span></div>'
    )


def legend(true: bool, hidden: int = 0) -> str:
    """What the lines mean."""
    dashes = '<span><i class="ev-line ev-dashes"></i>true</span>' if true else ""
    more = f"<span>the surest {MOST} of {count(MOST + hidden, 'box')}</span>" if hidden > 0 else ""
    return f'<div class="ev-legend"><span><i class="ev-line"></i>answered</span>{dashes}{more}</div>'
