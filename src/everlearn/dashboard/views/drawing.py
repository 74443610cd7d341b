"""What all charts share: a specification with its words, and the simplest of them, bars and intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

from everlearn.dashboard.theme import SERVED, THRESHOLD
from everlearn.dashboard.words import number

Record = Mapping[str, Any]

HEIGHT = 320
"""Height of a chart, in pixels."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """A chart and what it shows, in words."""

    chart: Any
    words: str


def over(rows: Sequence[Mapping[str, Any]]) -> Any:
    """A chart over rows that it carries itself."""
    return alt.Chart(alt.Data(values=list(rows)))  # type: ignore[no-untyped-call]


def rule(at: float, name: str) -> Any:
    """A dashed line across a chart."""
    return (
        over([{"at": at, "name": name}])
        .mark_rule(color=THRESHOLD, strokeDash=[4, 4], strokeWidth=1.5)
        .encode(x="at:Q", tooltip=[alt.Tooltip("name:N"), alt.Tooltip("at:Q")])
    )


@dataclass(frozen=True, slots=True)
class Interval:
    """A value with its bounds."""

    name: str
    value: float
    lower: float | None = None
    upper: float | None = None


def intervals(items: Sequence[Interval], title: str, limit: float | None = None) -> Drawn:
    """Values with their bounds, one below the other, and a limit."""
    rows = [{"name": i.name, "value": i.value, "lower": i.lower, "upper": i.upper} for i in items]
    y = alt.Y("name:N", sort=None, title=None, axis=alt.Axis(labelLimit=180))
    x = alt.X("value:Q", title=title, scale=alt.Scale(zero=False), axis=alt.Axis(tickCount=8))
    tips = ["name:N", *(alt.Tooltip(f"{f}:Q", format=".4f") for f in ("value", "lower", "upper"))]
    bounded = [row for row in rows if row["lower"] is not None and row["upper"] is not None]
    layers: list[Any] = []
    if bounded:
        layers.append(
            over(bounded)
            .mark_rule(color=SERVED, strokeWidth=6, opacity=0.35)
            .encode(x=alt.X("lower:Q", scale=alt.Scale(zero=False)), x2="upper:Q", y=y, tooltip=tips)
        )
    dots = over(rows).mark_point(filled=True, size=110, color=SERVED, opacity=1)
    layers.append(dots.encode(x=x, y=y, tooltip=tips))
    told = ", ".join(
        f"{i.name} {number(i.value)}"
        + (f" ({number(i.lower)} to {number(i.upper)})" if i.lower is not None else "")
        for i in items
    )
    if limit is not None:
        layers.append(rule(limit, "threshold"))
        told += f"; threshold {number(limit)}"
    chart = alt.layer(*layers).properties(height=46 * len(items) + 60)
    return Drawn(chart, f"{title}: {told}.")


def bars(items: Sequence[tuple[str, float]], title: str, limit: float | None = None) -> Drawn:
    """Values as bars, one below the other, and a limit."""
    rows = [{"name": name, "value": value, "text": number(value)} for name, value in items]
    base = over(rows).encode(
        y=alt.Y("name:N", sort=None, title=None, axis=alt.Axis(labelLimit=200)),
        x=alt.X("value:Q", title=title, axis=alt.Axis(tickCount=8)),
        tooltip=["name:N", alt.Tooltip("value:Q", format=".5f")],
    )
    layers: list[Any] = [base.mark_bar(color=SERVED, cornerRadiusEnd=3, height={"band": 0.6})]
    told = ", ".join(f"{name} {number(value)}" for name, value in items)
    if limit is not None:
        layers.append(rule(limit, "needed"))
        told += f"; limit {number(limit)}"
    return Drawn(alt.layer(*layers).properties(height=46 * len(items) + 60), f"{title}: {told}.")
