"""What was measured of a model: regimes, label delays, drift, segments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from everlearn.dashboard.desk import Desk
from everlearn.dashboard.screen import draw
from everlearn.dashboard.views import charts, parts
from everlearn.dashboard.words import cell, count, number, share

Record = Mapping[str, Any]


def regimes(desk: Desk, model: str) -> None:
    """R[version, regime] as a heat map, with what it says of forgetting and transfer."""
    found = desk.client.matrix(model)
    drawn = charts.matrix(found)
    if drawn is None:
        st.html(
            parts.empty(
                "One regime so far",
                "When drift begins another, every version is measured on the anchors of each, here.",
            )
        )
    else:
        st.html(
            parts.lead(
                "What each version scores on the anchors of each regime: a column that fades downwards "
                "is forgetting."
            )
        )
        draw(drawn)
    measures = [(name, value) for name, value in (found.get("measures") or {}).items() if value is not None]
    if measures:
        with st.container(horizontal=True, key="measures"):
            for name, value in measures:
                st.metric(name.replace("_", " ").capitalize(), number(value), width=190)
    rows: list[list[parts.Cell]] = []
    for regime in found.get("regime_list") or ():
        verdict = "obsolete" if regime.get("obsolete") else "protected" if regime.get("protected") else "open"
        current = parts.Html(f"{parts.html(regime['name'])} {parts.mark('now', 'good', 'check').text}")
        rows.append(
            [
                current if regime.get("current") else regime["name"],
                number(regime.get("opened")),
                number(regime.get("rows")),
                number(regime.get("anchors")),
                cell(regime.get("best")),
                verdict,
                str(regime.get("reason") or ""),
            ]
        )
    if rows:
        heads = ["Regime", "From row", "Rows", "Anchors", "Best version", "Memory", "Why"]
        st.html(parts.table(heads, rows, right=(1, 2, 3), label="Regimes"))


def maturity(desk: Desk, model: str) -> None:
    """How long labels take, and the horizon after which scores count."""
    found = desk.client.maturity(model)
    horizon = found.get("horizon") or {}
    limit = (
        f"{number(horizon['seconds'])} seconds"
        if horizon.get("seconds") is not None
        else f"{number(horizon.get('rows'))} predictions"
    )
    never = "" if found.get("never") is None else f" {found['never']:.1%} of old predictions never got one."
    told = f"{count(found.get('labels'), 'label')} so far, {number(found.get('waiting'))} waiting to mature."
    st.html(parts.lead(f"{told} The label horizon is {limit}.{never}"))
    draw(charts.maturity(found), "No label has come yet, so nothing is known of their delay.")


def drift(desk: Desk, model: str) -> None:
    """What moved: the champion's loss, and without labels the features and answers."""
    found = desk.client.drift(model)
    warned = count(found.get("warnings"), "warning")
    now = "It stands warned now." if found.get("warned") else "Nothing is warned of now."
    st.html(parts.lead(f"{warned} of drift in the champion's loss so far. {now}"))
    features = found.get("features") or {}
    columns = features.get("columns") or ()
    if not columns:
        told = {
            "off": "Features are not watched: the spec turns that off.",
            "building": f"The reference is being built: {number(features.get('taken'))} predictions so far.",
        }
        st.caption(
            told.get(str(features.get("reference")), "No window of predictions has been compared yet.")
        )
    else:
        rows = [_column(column) for column in columns]
        heads = [
            "Column",
            "Now",
            "Test",
            "Statistic",
            "p (adjusted)",
            "Size",
            "Missing before",
            "Missing now",
        ]
        st.html(parts.table(heads, rows, right=(3, 4, 5, 6, 7), label="Feature drift"))
        st.caption(
            f"The newest {number(features.get('window_rows'))} predictions against what the champion was "
            "asked first. Such drift warns, and says nothing of performance."
        )
    estimate = (found.get("estimate") or {}).get("newest")
    if estimate:
        blind = " It has proven blind, so do not rely on it." if estimate.get("blind") else ""
        st.html(
            parts.notice(
                "Estimated without labels:",
                f"{number(estimate.get('value'))}, give or take {number(estimate.get('error'))}.{blind}",
                "calm",
            )
        )


def _column(column: Record) -> list[parts.Cell]:
    moved = (
        parts.mark("moved", "warn", "triangle")
        if column.get("moved")
        else parts.mark("as before", "calm", "check")
    )
    size = f"{number(column.get('size'))} ({str(column.get('size_is') or '').upper()})"
    return [
        column["column"],
        moved,
        str(column.get("test", "")).upper(),
        number(column.get("statistic")),
        number(column.get("p_value"), 4),
        size,
        share(column.get("missing_before")),
        share(column.get("missing_now")),
    ]


def segments(desk: Desk, model: str) -> None:
    """The score in parts of the traffic, the worst first."""
    columns = desk.client.segments(model)
    if not columns.get("columns"):
        st.caption("The model has no columns to cut by.")
        return
    chosen = st.selectbox(
        "By",
        columns["columns"],
        index=columns["columns"].index(columns["column"]),
        width=280,
        key=f"segment-{model}",
    )
    found = columns if chosen == columns["column"] else desk.client.segments(model, column=chosen)
    drawn = charts.segments(found)
    draw(drawn, "Nothing labelled yet.")
    rows = [
        [
            str(s["name"]),
            number(s["rows"]),
            share(s.get("share")),
            number(s.get("score")),
            number(s.get("lower")),
            number(s.get("upper")),
        ]
        for s in found.get("segments") or ()
    ]
    if rows:
        st.html(
            parts.table(
                [str(chosen), "Rows", "Share", "Score", "Lower", "Upper"],
                rows,
                right=range(1, 6),
                label="Segments",
            )
        )
