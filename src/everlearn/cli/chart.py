"""A small chart in the terminal: one line over time, a threshold, and marks where something was decided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean


def trail(values: Sequence[float], count: int, window: int) -> list[float]:
    """The means of the ``window`` newest values at ``count`` evenly spaced places.

    >>> trail([0.0, 1.0, 1.0, 1.0], count=2, window=2)
    [0.5, 1.0]
    """
    count = min(count, len(values))
    ends = [round((i + 1) * len(values) / count) for i in range(count)] if count else []
    return [fmean(values[max(0, end - window) : end]) for end in ends]


def chart(
    points: Sequence[float],
    *,
    threshold: float | None = None,
    marks: Mapping[int, str] | None = None,
    height: int = 8,
) -> str:
    """Draw points, one a column; ``marks`` puts letters under columns.

    >>> print(chart([0.0, 0.5, 1.0], threshold=0.5, marks={2: "P"}, height=3))
    1.00 │  •
    0.50 ┤╌•╌
    0.00 │•
            P
    """
    if not points:
        return ""
    low, high = _range(points, threshold)
    rows = [[" "] * len(points) for _ in range(height)]
    line = None if threshold is None else _row(threshold, low, high, height)
    if line is not None:
        rows[line] = ["╌"] * len(points)
    for column, value in enumerate(points):
        rows[_row(value, low, high, height)][column] = "•"
    texts = []
    for index, row in enumerate(rows):
        level = high - (high - low) * index / max(1, height - 1)
        if index == line and threshold is not None:
            level = threshold
        axis = "┤" if index == line else "│"
        texts.append(f"{_level(level)} {axis}{''.join(row)}".rstrip())
    if marks:
        under = "".join(marks.get(column, " ") for column in range(len(points)))
        texts.append(" " * (len(_level(high)) + 2) + under.rstrip())
    return "\n".join(texts)


def _range(points: Sequence[float], threshold: float | None) -> tuple[float, float]:
    known = [*points] if threshold is None else [*points, threshold]
    low, high = min(known), max(known)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _row(value: float, low: float, high: float, height: int) -> int:
    return round((high - value) / (high - low) * (height - 1))


def _level(value: float) -> str:
    return f"{value:.2f}" if abs(value) < 100 else f"{value:.4g}"
