"""One model: its score over time with all that was decided, and what stands behind it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import streamlit as st

from everlearn.dashboard import actions
from everlearn.dashboard.desk import Desk
from everlearn.dashboard.panels import behind, measured
from everlearn.dashboard.screen import draw, flash, pick_model, telling
from everlearn.dashboard.views import cards, drawing, parts, timeline
from everlearn.dashboard.words import FLAGS, ago, champion_words, clock, kind_of, number, state_of

EVERY = "15s"
PERIODS: Final[dict[str, timedelta | None]] = {
    "All": None,
    "30 days": timedelta(days=30),
    "7 days": timedelta(days=7),
    "24 hours": timedelta(hours=24),
    "1 hour": timedelta(hours=1),
}
AXES: Final = {"Time": "at", "Rows": "row"}
MARKED: Final = ("warn", "update", "promote", "rollback", "regime")
PARTS: Final[dict[str, Callable[[Desk, str], None]]] = {
    "Versions": behind.versions,
    "Candidate": behind.trial,
    "Regimes": measured.regimes,
    "Labels": measured.maturity,
    "Drift": measured.drift,
    "Segments": measured.segments,
    "Sources": behind.sources,
    "Spec": behind.spec,
}


def show(desk: Desk) -> None:
    """The page."""
    with telling():
        model = pick_model(desk)
        if model is None:
            return
        flash()
        _head(desk, model)
        _timeline(desk, model)
        _behind(desk, model)


@st.fragment(run_every=EVERY)
def _head(desk: Desk, model: str) -> None:
    """How it stands, and what can be done."""
    with telling():
        with st.skeleton(height=150):
            card = next((c for c in desk.cards()["items"] if c["name"] == model), None)
        if card is None:
            st.html(
                parts.empty("It is not there", f"The model {model} was removed, or you may no longer see it.")
            )
            return
        st.html(_standing(card))
        actions.buttons(desk, model, card["state"])
        if card["task"] == "detection":
            page, icon = desk.pages["frames"], ":material/imagesmode:"
            st.page_link(page, label="Its frames", icon=icon, query_params={"model": model})


def _standing(card: Mapping[str, Any]) -> str:
    """State, why, and the facts in a row."""
    state = state_of(card["state"])
    flags = [parts.mark(FLAGS[flag], "warn") for flag in card.get("flags") or () if flag in FLAGS]
    top = parts.marks([parts.mark(state.word, state.tone, state.shape), *flags]).text
    now = datetime.now(UTC)
    last = card.get("last_decision")
    told: list[tuple[str, parts.Cell]] = [
        ("Score", cards.score_words(card)),
        ("Champion", champion_words(card)),
        (
            "Labels",
            f"{number(card.get('matured'))} matured, {number(card.get('waiting_labels'))} waiting to mature",
        ),
    ]
    if last:
        word = kind_of(last["kind"])[0]
        told.append(
            ("Last decision", f"{last['number']}, {ago(last['at'], now)}: {word.lower()}: {last['reason']}")
        )
    reason = card.get("reason") or state.meaning
    return f'<div class="ev-card">{top}{parts.lead(reason)}{parts.facts(told)}</div>'


@st.fragment(run_every=EVERY)
def _timeline(desk: Desk, model: str) -> None:
    """The score over time, and all that was decided on the same axis."""
    st.subheader("Score over time", anchor=False)
    period, axis = st.columns([3, 1], vertical_alignment="bottom")
    chosen = period.segmented_control("Period", list(PERIODS), default="All", required=True, key="period")
    back = PERIODS[chosen]
    with telling():
        with st.skeleton(height=drawing.HEIGHT):
            since = None if back is None else datetime.now(UTC) - back
            record = desk.client.timeline(model, points=240, since=since)
        if not record["points"]:
            st.html(parts.empty("Nothing to plot yet", _nothing_yet(record, back is not None)))
            return
        usual = "Time" if timeline.timely(record) else "Rows"
        by = AXES[
            axis.segmented_control("Along", list(AXES), default=usual, required=True, key=f"along-{model}")
        ]
        kinds = st.pills(
            "Marks",
            list(timeline.MARKED),
            selection_mode="multi",
            default=MARKED,
            format_func=lambda kind: timeline.MARKED[kind][2],
            key="marks",
        )
        draw(timeline.timeline(record, by))
        draw(timeline.marks(record, by, kinds or ()))
        _as_table(record)


def _nothing_yet(record: Mapping[str, Any], limited: bool) -> str:
    if limited:
        return "No window of matured labels closed in this period: choose a longer one."
    rows = record.get("rows_per_window")
    return (
        "The first point appears once a window of labels has matured"
        f"{f' ({rows} rows)' if rows else ''}: send labels for what was predicted, and wait for "
        "the label horizon."
    )


def _as_table(record: Mapping[str, Any]) -> None:
    with st.expander("The same as a table"):
        rows = [
            [
                clock(p["at"]),
                number(p["row"]),
                *(number(p.get(f)) for f in ("score", "lower", "upper", "never_updated", "no_change")),
                f"version {p['champion']}",
            ]
            for p in reversed(record["points"][-60:])
        ]
        heads = ["Time (UTC)", "Row", "Score", "Lower", "Upper", "Never updated", "No change", "Champion"]
        st.html(parts.table(heads, rows, right=range(1, 7), label="Score over time"))
        marked = [
            [clock(m["at"]), str(m["number"]), kind_of(m["kind"])[0], m["reason"]]
            for m in reversed(record["marks"][-60:])
        ]
        if marked:
            st.html(parts.table(["Time (UTC)", "Decision", "What", "Why"], marked, label="Decisions"))


def _behind(desk: Desk, model: str) -> None:
    """What stands behind the score, a part at a time."""
    part = st.segmented_control(
        "Behind it", list(PARTS), default="Versions", required=True, key="part", bind="query-params"
    )
    with st.container(key="behind"):
        _part(desk, model, part)


@st.fragment(run_every="30s")
def _part(desk: Desk, model: str, part: str) -> None:
    with telling():
        PARTS[part](desk, model)
