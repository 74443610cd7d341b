"""Charts of one model and of a what-if, each with the words that a screen reader gets instead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from everlearn.dashboard.theme import NEVER_UPDATED, SEQUENTIAL, SERIES, SERVED
from everlearn.dashboard.views.drawing import HEIGHT, Drawn, Interval, Record, bars, intervals, over, rule
from everlearn.dashboard.words import number, power

ALMOST = 0.995
"""Share of the labels up to which their delays are drawn."""


def maturity(record: Record) -> Drawn | None:
    """The share of labels that came within an age: in rows, or where labels are late by time, in seconds."""
    rows, seconds = record.get("by_rows") or (), record.get("by_seconds") or ()
    horizon = record.get("horizon") or {}
    by_time = bool(seconds) and (horizon.get("seconds") is not None or not rows)
    curve, field, title = (
        (seconds, "age_seconds", "seconds after the prediction")
        if by_time
        else (rows, "age_rows", "predictions later")
    )
    if not curve:
        return None
    values = [{"age": 0, "share": 0.0}, *({"age": p[field], "share": p["share"]} for p in curve)]
    at = horizon.get("seconds") if by_time else horizon.get("rows")
    last = next((point["age"] for point in values if point["share"] >= ALMOST), values[-1]["age"])
    last = max(last, at or 0) * 1.25
    values = [point for place, point in enumerate(values) if place == 0 or 0 < point["age"] <= last]
    base = over(values).mark_line(
        interpolate="step-after", color=SERVED, strokeWidth=2.2, point={"size": 25, "color": SERVED}
    )
    line = base.encode(
        x=alt.X("age:Q", title=title, scale=alt.Scale(domain=[0, last], nice=False)),
        y=alt.Y(
            "share:Q",
            title="labels that have come",
            axis=alt.Axis(format="%"),
            scale=alt.Scale(domain=[0, 1]),
        ),
        tooltip=[alt.Tooltip("age:Q", title=title), alt.Tooltip("share:Q", format=".1%")],
    )
    layers: list[Any] = [line]
    if at is not None:
        layers.append(rule(at, "label horizon"))
    words = ", ".join(
        f"{number(p[field], 0)}: {p['share']:.0%}" for p in list(curve)[:: max(1, len(curve) // 5)]
    )
    return Drawn(
        alt.layer(*layers).properties(height=HEIGHT - 40), f"Share of labels by age ({title}): {words}."
    )


def matrix(record: Record) -> Drawn | None:
    """R[version, regime] as a heat map with its numbers written in."""
    regimes, versions = list(record.get("regimes") or ()), list(record.get("versions") or ())
    if not regimes or not versions:
        return None
    cells = [
        {"version": f"version {v}", "regime": f"regime {r}", "value": value, "text": number(value, 2)}
        for v, row in zip(versions, record["R"], strict=True)
        for r, value in zip(regimes, row, strict=True)
        if value is not None
    ]
    order = {"x": [f"regime {r}" for r in regimes], "y": [f"version {v}" for v in versions]}
    base = over(cells).encode(
        x=alt.X("regime:N", sort=order["x"], title="measured on the anchors of", axis=alt.Axis(labelAngle=0)),
        y=alt.Y("version:N", sort=order["y"], title=None),
        tooltip=["version:N", "regime:N", alt.Tooltip("value:Q", format=".4f")],
    )
    scale = alt.Scale(range=list(SEQUENTIAL), domain=[0, 1])
    square = base.mark_rect(stroke="#80868f", strokeWidth=0.5).encode(
        color=alt.Color("value:Q", scale=scale, legend=alt.Legend(title="score", orient="right"))
    )
    ink = alt.condition("datum.value > 0.62", alt.value("#ffffff"), alt.value("#10201a"))
    text = base.mark_text(fontSize=13).encode(text="text:N", color=ink)
    words = "; ".join(f"{c['version']} on {c['regime']}: {c['text']}" for c in cells)
    return Drawn(
        (square + text).properties(height=max(120, 44 * len(versions) + 60)),
        f"Scores by version and regime. {words}.",
    )


def running_e(history: Sequence[Record], needed: float | None) -> Drawn | None:
    """The e-value of a trial as its rows came in, on a scale of powers, against what it must reach."""
    values = [
        {"rows": p["rows"], "e": max(p["log_e"] / 2.302585, -6.0), "e_value": power(p["log_e"])}
        for p in history
        if p.get("log_e") is not None
    ]
    if not values:
        return None
    line = (
        over(values)
        .mark_line(color=SERVED, strokeWidth=2.2, point={"size": 28, "color": SERVED})
        .encode(
            x=alt.X("rows:Q", title="rows compared"),
            y=alt.Y("e:Q", title="e-value, powers of ten"),
            tooltip=[alt.Tooltip("rows:Q"), alt.Tooltip("e_value:N", title="e-value")],
        )
    )
    layers: list[Any] = [line]
    if needed is not None:
        limit = over([{"need": needed / 2.302585}])
        layers.append(
            limit.mark_rule(color=NEVER_UPDATED, strokeDash=[5, 4], strokeWidth=1.8).encode(y="need:Q")
        )
    words = (
        f"The e-value is {values[-1]['e_value']} after {values[-1]['rows']} rows; {power(needed)} is needed."
    )
    return Drawn(alt.layer(*layers).properties(height=HEIGHT - 80), words)


def segments(record: Record) -> Drawn | None:
    """The score in each segment with its bounds, the worst on top."""
    rows = [s for s in record.get("segments") or () if s.get("score") is not None]
    if not rows:
        return None
    items = [Interval(str(s["name"]), s["score"], s.get("lower"), s.get("upper")) for s in rows[:20]]
    return intervals(items, str(record.get("metric") or "score"), record.get("threshold"))


# -- what if ---------------------------------------------------------------------------------------------


def courses(report: Record) -> Drawn | None:
    """The mean score of each line of a what-if as its rows went by."""
    rows = []
    names = []
    for line in report["settings"]:
        course = line.get("course") or ()
        if not any(value is not None for value in course):
            continue
        names.append(line["name"])
        step = max(1, report["rows"]) / max(1, len(course))
        asked = "asked for" if line["role"] == "setting" else "beside"
        rows += [
            {"row": round((place + 1) * step), "value": value, "line": line["name"], "kind": asked}
            for place, value in enumerate(course)
            if value is not None
        ]
    if not rows:
        return None
    what = "mean absolute error" if report.get("task") == "regression" else "accuracy"
    legend = alt.Legend(title=None, orient="bottom", columns=2, labelLimit=260)
    chart = (
        over(rows)
        .mark_line(strokeWidth=2, clip=True)
        .encode(
            x=alt.X("row:Q", title="row", axis=alt.Axis(format="s")),
            y=alt.Y("value:Q", title=what, scale=alt.Scale(zero=False)),
            color=alt.Color(
                "line:N", sort=names, scale=alt.Scale(domain=names, range=list(SERIES) * 3), legend=legend
            ),
            strokeDash=alt.StrokeDash(
                "kind:N",
                scale=alt.Scale(domain=["asked for", "beside"], range=[[1, 0], [5, 3]]),
                legend=None,
            ),
            tooltip=["line:N", "row:Q", alt.Tooltip("value:Q", format=".4f")],
        )
        .properties(height=HEIGHT + 60)
    )
    return Drawn(
        chart, f"{what} over {report['rows']} rows for {', '.join(names)}. The table has the figures."
    )


def probabilities(told: Mapping[str, float]) -> Drawn:
    """The classes of an answer by their probability, the likeliest first, ten at most."""
    best = sorted(told.items(), key=lambda item: -item[1])[:10]
    return bars([(name, value) for name, value in best], "probability")
