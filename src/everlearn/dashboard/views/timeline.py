"""The score over time, its baselines and bounds, and what was decided on the same axis.

Times are plotted in UTC. Lines differ in dash and marks in shape, so that colour is never needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt

from everlearn.dashboard.theme import NEVER_UPDATED, NO_CHANGE, SERVED, THRESHOLD
from everlearn.dashboard.views.drawing import HEIGHT, Drawn, Record, over
from everlearn.dashboard.words import clock, kind_of, moment, number

LANE = 20
EXTENT = 78
"""Height of each lane of marks, and width of what names them, in pixels."""

LINES = (
    ("score", "served", SERVED, [1, 0]),
    ("never_updated", "never updated", NEVER_UPDATED, [6, 3]),
    ("no_change", "no change", NO_CHANGE, [2, 3]),
)
MARKED = {
    "warn": ("triangle-up", "#c98a00", "Warned"),
    "update": ("square", "#6f7782", "Update"),
    "promote": ("circle", "#12825f", "Promoted"),
    "rollback": ("cross", "#c0392b", "Rolled back"),
    "regime": ("diamond", "#7570b3", "Regime"),
    "freeze": ("stroke", "#6f7782", "Frozen"),
    "unfreeze": ("stroke", "#6f7782", "Unfrozen"),
    "abstain": ("triangle-down", "#c0392b", "Abstains"),
    "fail": ("cross", "#c0392b", "Failed"),
}
"""Kinds of decisions that are marked below the lines: their shape, colour and short word."""


SHORT = 7200.0
"""Seconds within which points that came together say nothing of time."""


def timely(record: Record) -> bool:
    """Whether time is a good axis: it is not for a stream that came all at once."""
    first, last = (moment(record["points"][place]["at"]) for place in (0, -1))
    return first is None or last is None or (last - first).total_seconds() > SHORT


def timeline(record: Record, by: str) -> Drawn:
    """Score, baselines and threshold over time (``by="at"``) or prediction rows (``"row"``)."""
    x = _axis(by, labels=True)
    layers = [_ends(record, by, x), *_bands(record, by, x), *_lines(record, list(record["points"]), by, x)]
    return Drawn(alt.layer(*layers).properties(height=HEIGHT), _timeline_words(record))


def marks(record: Record, by: str, kinds: Sequence[str]) -> Drawn | None:
    """What was decided, a lane for each kind, on the axis of :func:`timeline`."""
    shown = [mark for mark in record["marks"] if mark["kind"] in kinds and mark.get(by) is not None]
    if not shown:
        return None
    lanes = [kind for kind in MARKED if any(mark["kind"] == kind for mark in shown)]
    words = ", ".join(f"{sum(m['kind'] == kind for m in shown)} {kind_of(kind)[0].lower()}" for kind in lanes)
    x = _axis(by, labels=False)
    chart = alt.layer(_ends(record, by, x), _marks(shown, lanes, by, x))
    return Drawn(chart.properties(height=LANE * len(lanes) + 8), f"Decisions on the same axis: {words}.")


def _axis(by: str, *, labels: bool) -> Any:
    """The axis of time or rows."""
    if by == "at":
        axis = alt.Axis(tickCount=8, labels=labels, ticks=labels, domain=labels, labelOverlap="greedy")
        return alt.X("x:T", title=None, axis=axis, scale=alt.Scale(type="utc", nice=False))
    axis = alt.Axis(tickCount=8, labels=labels, ticks=labels, domain=labels, format="~s")
    return alt.X(
        "x:Q", title="prediction row" if labels else None, axis=axis, scale=alt.Scale(nice=False, zero=False)
    )


def _ends(record: Record, by: str, x: Any) -> Any:
    """Nothing to see at the first and last place, so that lines and marks have the same axis."""
    known = [at for item in (*record["points"], *record["marks"]) if (at := _x(item, by)) is not None]
    return over([{"x": min(known)}, {"x": max(known)}]).mark_rule(opacity=0).encode(x=x)


def _x(item: Record, field: str) -> float | None:
    """Where something stands on the axis: a row, or a time in milliseconds since 1970."""
    value = item.get(field)
    at = moment(value)
    return at.timestamp() * 1000 if at is not None else value


def _bands(record: Record, by: str, x: Any) -> list[Any]:
    """The regimes, every other one shaded."""
    ends = ("from", "to") if by == "at" else ("from_row", "to_row")
    points = record["points"]
    if not points:
        return []
    first, last = _x(points[0], by) or 0.0, _x(points[-1], by) or 0.0
    rows = []
    for regime in record.get("regimes") or ():
        begin, end = (_x(regime, field) for field in ends)
        begin, end = max(begin or first, first), min(end or last, last)
        if end > begin:
            rows.append({"x": begin, "x2": end, "regime": regime["name"]})
    rows = [row for place, row in enumerate(rows) if place % 2]
    if not rows:
        return []
    band = over(rows).mark_rect(color="#7570b3", opacity=0.1)
    return [band.encode(x=x, x2="x2", tooltip=[alt.Tooltip("regime:N")])]


def _lines(record: Record, points: Sequence[Record], by: str, x: Any) -> list[Any]:
    rows, area = [], []
    for point in points:
        if _x(point, by) is None:
            continue
        base = {"x": _x(point, by), "when": clock(point["at"]), "champion": point.get("champion")}
        for field, name, _, _ in LINES:
            if point.get(field) is not None:
                rows.append({**base, "line": name, "value": point[field]})
        if point.get("lower") is not None and point.get("upper") is not None:
            area.append({**base, "low": point["lower"], "high": point["upper"]})
    limit = record.get("threshold")
    scale = alt.Scale(zero=False)
    axis = alt.Axis(minExtent=EXTENT - 18, titlePadding=6)
    y = alt.Y("value:Q", title=str(record.get("metric") or "score"), scale=scale, axis=axis)
    names, colours = [name for _, name, _, _ in LINES], [colour for _, _, colour, _ in LINES]
    dashes = [dash for _, _, _, dash in LINES]
    legend = alt.Legend(title=None, orient="top", symbolStrokeWidth=2.5, labelLimit=200)
    line = over(rows).mark_line(strokeWidth=2, clip=True)
    line = line.encode(
        x=x,
        y=y,
        color=alt.Color("line:N", scale=alt.Scale(domain=names, range=colours), legend=legend),
        strokeDash=alt.StrokeDash("line:N", scale=alt.Scale(domain=names, range=dashes), legend=legend),
        tooltip=[
            alt.Tooltip("line:N", title="line"),
            alt.Tooltip("value:Q", format=".4f"),
            alt.Tooltip("champion:Q", title="version"),
            alt.Tooltip("when:N", title="UTC"),
        ],
    )
    layers = []
    if area:
        band = over(area).mark_area(color=SERVED, opacity=0.16)
        layers.append(band.encode(x=x, y=alt.Y("low:Q", scale=scale), y2="high:Q"))
    if limit is not None:
        rule = over([{"limit": limit}]).mark_rule(color=THRESHOLD, strokeDash=[4, 4], strokeWidth=1.5)
        layers.append(
            rule.encode(y=alt.Y("limit:Q", scale=scale), tooltip=alt.Tooltip("limit:Q", title="threshold"))
        )
    return [*layers, line]


def _marks(shown: Sequence[Record], lanes: Sequence[str], by: str, x: Any) -> Any:
    rows = [
        {
            "x": _x(mark, by),
            "kind": MARKED[mark["kind"]][2],
            "number": mark["number"],
            "reason": str(mark["reason"])[:160],
            "when": clock(mark["at"]),
        }
        for mark in shown
    ]
    shapes, colours, words = zip(*(MARKED[kind] for kind in lanes), strict=True)
    axis = alt.Axis(ticks=False, domain=False, minExtent=EXTENT, labelLimit=EXTENT)
    return (
        over(rows)
        .mark_point(filled=True, size=70, opacity=0.95)
        .encode(
            x=x,
            y=alt.Y("kind:N", title=None, sort=words, scale=alt.Scale(domain=words), axis=axis),
            shape=alt.Shape("kind:N", scale=alt.Scale(domain=words, range=shapes), legend=None),
            color=alt.Color("kind:N", scale=alt.Scale(domain=words, range=colours), legend=None),
            tooltip=[
                alt.Tooltip("number:Q", title="decision"),
                alt.Tooltip("kind:N", title="what"),
                alt.Tooltip("reason:N", title="why"),
                alt.Tooltip("when:N", title="UTC"),
            ],
        )
    )


def _timeline_words(record: Record) -> str:
    points = record["points"]
    last = points[-1] if points else {}
    told = [f"{record.get('metric')} over {len(points)} points"]
    for field, name, _, _ in LINES:
        known = [p[field] for p in points if p.get(field) is not None]
        if known:
            told.append(f"{name} from {number(known[0])} to {number(known[-1])}")
    told.append(f"threshold {number(record.get('threshold'))}, {len(record['marks'])} decisions marked")
    return f"{'; '.join(told)}. Newest point {clock(last.get('at'))} UTC."
