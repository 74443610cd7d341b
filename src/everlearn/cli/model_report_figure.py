"""The figures of a model's report, as inline SVG.

Shapes carry plain colours as attributes, for what prints them; the page's style sets the reader's own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

LEFT, RIGHT, TOP, PLOT = 64, 940, 14, 280
STEPS = 5
LANES = (("promote", "promoted"), ("rollback", "rolled back"), ("warn", "warned"), ("update", "updated"))
"""The kinds of decision that stand under the score, each in a lane of its own."""

LANE = 20
INKS = {
    "served": "#0072b2",
    "no_change": "#a07800",
    "never_updated": "#b8559b",
    "threshold": "#1c1f23",
    "promote": "#008060",
    "rollback": "#d55e00",
    "warn": "#a07800",
    "update": "#5c646d",
}
LINES = {"never_updated": "6 3", "no_change": "2 3"}
"""Dashes of the baselines, so that they are told apart without colour."""

Point = Mapping[str, Any]


class Frame(NamedTuple):
    """What the axes span: seconds of time (or rows, where time says little), and values."""

    begin: float
    end: float
    low: float
    high: float
    by_row: bool = False

    def place(self, one: Point) -> float | None:
        """Where a point or a decision stands; ``None`` for a decision that no row is known of."""
        if self.by_row:
            return None if one["row"] is None else self.x(float(one["row"]))
        return self.x(seconds_of(one["at"]))

    def x(self, at: float) -> float:
        """The place of a time."""
        return round(LEFT + (RIGHT - LEFT) * (at - self.begin) / max(self.end - self.begin, 1e-9), 1)

    def y(self, value: float) -> float:
        """The place of a value."""
        share = (self.high - min(max(value, self.low), self.high)) / (self.high - self.low)
        return round(TOP + PLOT * share, 1)


def course(points: Sequence[Point], marks: Sequence[Point], threshold: float, label: str) -> str:
    """The score over time with its band, the baselines and the threshold; below, what was decided."""
    lanes = [lane for lane in LANES if any(mark["kind"] == lane[0] for mark in marks)]
    height = TOP + PLOT + 40 + LANE * len(lanes)
    frame = _frame(points, marks, threshold)
    parts = [
        *_axes(frame),
        _band(points, frame),
        *(_line(points, name, frame) for name in ("no_change", "never_updated")),
        _threshold(threshold, frame),
        _line(points, "score", frame),
        *(_lane(place, lane, marks, frame) for place, lane in enumerate(lanes)),
    ]
    return _svg(height, label, parts)


def curve(points: Sequence[Point], horizon: float | None, label: str) -> str:
    """The share of predictions that have their label, by their age in seconds (logarithmic)."""
    known = [(max(point["age_seconds"], 1e-3), point["share"]) for point in points]
    begin, end = math.log10(known[0][0]), math.log10(known[-1][0])
    frame = Frame(begin, max(end, begin + 0.1), 0.0, 1.0)
    places = [(frame.x(math.log10(age)), frame.y(share)) for age, share in known]
    steps = f"M{places[0][0]} {places[0][1]}" + "".join(f"H{x}V{y}" for x, y in places[1:])
    parts = [*_grid(frame, percent=True), *_ages(frame)]
    if horizon is not None and begin <= math.log10(max(horizon, 1e-3)) <= frame.end:
        x = frame.x(math.log10(max(horizon, 1e-3)))
        parts.append(
            f'<path class="ink-threshold" {_stroke("threshold", "6 4")} d="M{x} {TOP}V{TOP + PLOT}"/>'
        )
    parts.append(f'<path class="ink-served" {_stroke("served", width=2.2)} d="{steps}"/>')
    return _svg(TOP + PLOT + 40, label, parts)


def seconds_of(iso: str) -> float:
    """Seconds since 1970 of a time of the API."""
    from datetime import datetime

    return datetime.fromisoformat(iso).timestamp()


def _svg(height: int, label: str, parts: Sequence[str]) -> str:
    opening = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 960 {height}" role="img" '
        f'aria-label="{escape(label)}" font-family="system-ui,sans-serif" font-size="11">'
    )
    return f'<div class="wide">{opening}{"".join(parts)}</svg></div>'


def _frame(points: Sequence[Point], marks: Sequence[Point], threshold: float) -> Frame:
    times = [seconds_of(one["at"]) for one in (*points, *marks)]
    names = ("score", "no_change", "never_updated", "min", "max")
    values = [point[name] for point in points for name in names if point[name] is not None]
    low, high = rounded(min([*values, threshold]), max([*values, threshold]))
    frame = Frame(min(times), max(times), low, high)
    if len({round(frame.place(point) or 0.0) for point in points}) > len(points) / 2:
        return frame
    rows = [point["row"] for point in points]  # they came all at once, as when history is played
    return Frame(min(0, *rows), max(rows), low, high, by_row=True)


def rounded(low: float, high: float) -> tuple[float, float]:
    """Round bounds around some values, :data:`STEPS` round steps apart.

    >>> rounded(0.0, 1.0), rounded(0.71, 0.93)
    ((0.0, 1.0), (0.7, 0.95))
    """
    least = (high - low) / STEPS or max(abs(high), 1.0) / (4 * STEPS)
    power = 10.0 ** math.floor(math.log10(least))
    for step in (power * size for size in (1, 2, 2.5, 5, 10, 20)):
        bottom = math.floor(low / step + 1e-9) * step
        if step >= least * (1 - 1e-9) and bottom + STEPS * step >= high - 1e-9 * step:
            return round(bottom, 12), round(bottom + STEPS * step, 12)
    return low, high


def _axes(frame: Frame) -> Iterator[str]:
    from datetime import UTC, datetime

    yield from _grid(frame)
    long = frame.end - frame.begin > 3 * 86_400
    for step in range(STEPS + 1):
        at = frame.begin + (frame.end - frame.begin) * step / STEPS
        text = f"row {at:,.0f}"
        if not frame.by_row:
            text = datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d" if long else "%m-%d %H:%M")
        anchor = ("start", "middle", "end")[(step > 0) + (step == STEPS)]
        place = f'x="{frame.x(at)}" y="{TOP + PLOT + 18}"'
        yield f'<text class="tick" fill="#5c646d" text-anchor="{anchor}" {place}>{text}</text>'


def _grid(frame: Frame, *, percent: bool = False) -> Iterator[str]:
    for step in range(STEPS + 1):
        value = frame.low + (frame.high - frame.low) * step / STEPS
        y, text = frame.y(value), f"{value:.0%}" if percent else f"{value:.4g}"
        yield f'<path class="grid" stroke="#dfe3e8" d="M{LEFT} {y}H{RIGHT}"/>'
        yield f'<text class="tick" fill="#5c646d" text-anchor="end" x="{LEFT - 8}" y="{y + 4}">{text}</text>'


def _ages(frame: Frame) -> Iterator[str]:
    for step in range(STEPS + 1):
        place = frame.begin + (frame.end - frame.begin) * step / STEPS
        anchor = ("start", "middle", "end")[(step > 0) + (step == STEPS)]
        at = f'x="{frame.x(place)}" y="{TOP + PLOT + 18}"'
        yield f'<text class="tick" fill="#5c646d" text-anchor="{anchor}" {at}>{duration(10.0**place)}</text>'


def duration(seconds: float) -> str:
    """A time span in its largest unit.

    >>> duration(0.25), duration(90), duration(7200), duration(200000)
    ('0.25 s', '1.5 min', '2 h', '2.3 d')
    """
    for size, unit in ((86_400.0, "d"), (3600.0, "h"), (60.0, "min")):
        if seconds >= size:
            return f"{round(seconds / size, 1):g} {unit}"
    return f"{seconds:.2g} s"


def _stroke(name: str, dashes: str = "", width: float = 1.4) -> str:
    dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
    return f'fill="none" stroke="{INKS[name]}" stroke-width="{width}"{dashed}'


def _line(points: Sequence[Point], name: str, frame: Frame) -> str:
    commands, pen = [], "M"
    for point in points:
        if point[name] is None:
            pen = "M"
            continue
        commands.append(f"{pen}{frame.place(point)} {frame.y(point[name])}")
        pen = "L"
    ink = "served" if name == "score" else name
    look = _stroke(ink, LINES.get(name, ""), 2.2 if name == "score" else 1.4)
    return f'<path class="ink-{ink}" {look} stroke-linejoin="round" d="{"".join(commands)}"/>'


def _band(points: Sequence[Point], frame: Frame) -> str:
    known = [point for point in points if point["lower"] is not None and point["upper"] is not None]
    if not known:
        return ""
    upper = [f"{frame.place(p)} {frame.y(p['upper'])}" for p in known]
    lower = [f"{frame.place(p)} {frame.y(p['lower'])}" for p in reversed(known)]
    return (
        f'<path class="band" fill="{INKS["served"]}" fill-opacity="0.14" d="M{"L".join([*upper, *lower])}Z"/>'
    )


def _threshold(threshold: float, frame: Frame) -> str:
    look, y = _stroke("threshold", "6 4"), frame.y(threshold)
    return f'<path class="ink-threshold" {look} d="M{LEFT} {y}H{RIGHT}"/>'


def _lane(number: int, lane: tuple[str, str], marks: Sequence[Point], frame: Frame) -> str:
    kind, name = lane
    middle = TOP + PLOT + 36 + LANE * number
    places = [frame.place(mark) for mark in marks if mark["kind"] == kind]
    drawn = "".join(f"M{place} {middle - 6}v12" for place in places if place is not None)
    at = f'x="{LEFT - 8}" y="{middle + 4}"'
    return (
        f'<text class="tick" fill="#5c646d" text-anchor="end" {at}>{name}</text>'
        f'<path class="grid" stroke="#dfe3e8" d="M{LEFT} {middle}H{RIGHT}"/>'
        f'<path class="ink-{kind}" {_stroke(kind, width=2.0)} d="{drawn}"/>'
    )
