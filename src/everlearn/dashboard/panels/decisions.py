"""The ledger: what was decided, why, on what evidence, and the proof by running it again."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import streamlit as st

from everlearn.dashboard.desk import Desk
from everlearn.dashboard.screen import cursor, draw, first_page, pager, pick_model, telling, why_not
from everlearn.dashboard.views import evidence, parts
from everlearn.dashboard.words import KINDS, ago, clock, count, kind_of, plain

PER_PAGE = 20
Record = Mapping[str, Any]


def show(desk: Desk) -> None:
    """The page: one decision where the address names its number, else the list."""
    with telling():
        model = pick_model(desk)
        if model is None:
            return
        number = st.query_params.get("number", "")
        if number.isdigit() or number == "newest":
            _one(desk, model, None if number == "newest" else int(number))
        else:
            _list(desk, model)


@st.fragment(run_every="15s")
def _list(desk: Desk, model: str) -> None:
    what, when = st.columns([3, 2], vertical_alignment="bottom")
    kinds = what.multiselect(
        "Kinds", list(KINDS), format_func=lambda kind: kind_of(kind)[0], placeholder="All kinds", key="kinds"
    )
    nothing: Any = ()
    days = when.date_input("Days (UTC)", value=nothing, key="days", format="YYYY-MM-DD")
    since, until = _bounds(days)
    key = f"decisions-{model}"
    first_page(key, tuple(kinds), since, until)
    with telling():
        with st.skeleton(height=400):
            page = desk.client.decisions_page(
                model, kind=list(kinds) or None, since=since, until=until, cursor=cursor(key), limit=PER_PAGE
            )
        if not page["items"]:
            st.html(_none(bool(kinds) or since is not None))
            return
        now = datetime.now(UTC)
        for decision in page["items"]:
            _row(desk, model, decision, now)
        pager(key, page)


def _bounds(days: Any) -> tuple[datetime | None, datetime | None]:
    """The first moment and the end of the chosen days.

    >>> _bounds((date(2024, 5, 1),))[1]
    datetime.datetime(2024, 5, 2, 0, 0, tzinfo=datetime.timezone.utc)
    """
    chosen = [days] if isinstance(days, date) else list(days or ())
    if not chosen:
        return None, None
    first, last = chosen[0], chosen[-1]
    return _midnight(first), _midnight(last + timedelta(days=1))


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


def _none(filtered: bool) -> str:
    if filtered:
        return parts.empty("No decision fits", "Take a kind away, or choose other days.")
    return parts.empty(
        "Nothing has been decided yet",
        "The loop writes its first decision when the model gets its first rows.",
    )


def _row(desk: Desk, model: str, decision: Record, now: datetime) -> None:
    word, tone = kind_of(decision["kind"])
    with st.container(border=True, key=f"card-{decision['number']}", gap=None):
        label = f"{decision['number']} · {plain(word)}"
        if decision.get("version") is not None:
            label += f" · version {decision['version']}"
        st.page_link(
            desk.pages["decisions"],
            label=label,
            query_params={"model": model, "number": str(decision["number"])},
        )
        when = f"{ago(decision['at'], now)} · {clock(decision['at'])} UTC"
        st.html(
            f'<div class="ev-{tone} ev-stripe"><span>{parts.html(decision["reason"])}</span>{said(decision)}'
            f'<span class="ev-soft ev-small">{when}</span></div>'
        )


def said(decision: Record) -> str:
    """Who asked for it, and what they said, as HTML; empty where nobody did."""
    evidence_of = decision.get("evidence") or {}
    who, why = evidence_of.get("by"), evidence_of.get("why")
    if not isinstance(who, str) and not isinstance(why, str):
        return ""
    told = f"\N{LEFT DOUBLE QUOTATION MARK}{why}\N{RIGHT DOUBLE QUOTATION MARK} " if why else ""
    by = f"by {str(who).removeprefix('user:')}" if who else ""
    return f"<span>{parts.html(told + by)}</span>"


def _one(desk: Desk, model: str, number: int | None) -> None:
    """One decision, explained."""
    with st.skeleton(height=400):
        told = desk.client.why(model, number)
    word, tone = kind_of(told["kind"])
    _around(desk, model, told["number"])
    st.html(
        f'<div class="ev-card">{parts.marks([parts.mark(word, tone)]).text}'
        f'<h2 class="ev-h2">{parts.html(told["headline"])}</h2>{parts.lead(told["paragraph"])}'
        f"{said(told)}</div>"
    )
    found = evidence.drawn(told["evidence"])
    if found:
        st.subheader("The evidence", anchor=False)
        with st.grid(min_column_width=330):
            for title, chart in found:
                with st.container(border=True):
                    st.markdown(f"**{plain(title)}**")
                    draw(chart)
    passed = evidence.bars_passed(told["evidence"])
    if passed:
        st.subheader("The bars of the gate", anchor=False)
        st.html(passed)
    if told["why_not"]:
        st.html(parts.notice("Why not otherwise?", told["why_not"], "calm"))
    _replay(desk, model, told["number"])
    with st.expander("All numbers"):
        st.html(evidence.numbers(told["numbers"]) if told["numbers"] else "<p>No numbers were needed.</p>")
        st.json(told["evidence"], expanded=False)


def _around(desk: Desk, model: str, number: int) -> None:
    """Ways back and on."""
    page = desk.pages["decisions"]
    with st.container(horizontal=True, key="around"):
        st.page_link(page, label="All decisions", icon=":material/list:", query_params={"model": model})
        if number > 1:
            st.page_link(
                page,
                label=f"Before: {number - 1}",
                icon=":material/chevron_left:",
                query_params={"model": model, "number": str(number - 1)},
            )
        st.page_link(
            page,
            label=f"Next: {number + 1}",
            icon=":material/chevron_right:",
            query_params={"model": model, "number": str(number + 1)},
        )


# -- replay this -----------------------------------------------------------------------------------------


def _replay(desk: Desk, model: str, number: int) -> None:
    st.subheader("Replay this", anchor=False)
    may = desk.me.may("operate", model)
    st.caption(
        f"Runs the recorded log again up to decision {number}, and compares every decision on the way."
    )
    if st.button(
        "Replay this decision",
        icon=":material/replay:",
        disabled=not may,
        help=None if may else why_not(desk, "operate"),
        key="replay",
    ):
        with telling():
            st.session_state[f"verify-{model}-{number}"] = desk.client.verify(model, number)["id"]
    asked = st.session_state.get(f"verify-{model}-{number}")
    if asked:
        _verdict(desk, model, asked)


@st.fragment(run_every="1.5s")
def _verdict(desk: Desk, model: str, asked: str) -> None:
    with telling():
        found = desk.client.verification(model, asked)
        st.html(verdict(found))
        if found["state"] in ("queued", "running"):
            st.progress(float(found.get("progress") or 0.0), text="Playing the log again …")


def verdict(found: Record) -> str:
    """What a replay came to, as HTML."""
    result = found.get("found")
    if found["state"] in ("queued", "running"):
        return parts.notice("Replaying.", "A worker takes it up as soon as one is free.", "busy")
    if result is None:
        return parts.notice("It could not be replayed:", str(found.get("error") or found["state"]), "bad")
    told = f"{count(result['events'], 'event')} and {count(result['decisions'], 'decision')} computed again"
    if result["identical"]:
        return parts.notice("Identical.", f"{told}: the same log gives the same decisions.", "good")
    listed = "; ".join(str(d) for d in result["differences"][:3])
    return parts.notice("Different!", f"{told}. {listed}", "bad", "alert")
