"""All models at a glance, the one that most needs a look first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import streamlit as st

from everlearn.dashboard.desk import Desk
from everlearn.dashboard.screen import no_model, telling
from everlearn.dashboard.views import cards, parts
from everlearn.dashboard.words import ORDER, count, plain, state_of

PER_PAGE = 24
EVERY = "10s"


def show(desk: Desk) -> None:
    """The page."""
    _live(desk)


@st.fragment(run_every=EVERY)
def _live(desk: Desk) -> None:
    with telling():
        with st.skeleton(height=420):
            found = desk.cards()
        if not found["items"]:
            no_model(desk)
            return
        st.html(f"{parts.lead(cards.headline(found['counts']))}{cards.chips(found['counts']).text}")
        _grid(desk, _filtered(found), found)


def _filtered(found: Mapping[str, Any]) -> list[cards.Card]:
    """The cards that the visitor wants to see; no filters for a handful."""
    if found["total"] <= 6:
        return list(found["items"])
    text, states = st.columns([2, 3], vertical_alignment="bottom")
    wanted = text.text_input("Find a model", placeholder="Name", key="overview-text")
    picked: Sequence[str] = states.pills(
        "States",
        ORDER,
        selection_mode="multi",
        format_func=lambda name: state_of(name).word,
        key="overview-states",
    )
    return cards.chosen(found["items"], picked or (), wanted or "")


def _grid(desk: Desk, shown: Sequence[cards.Card], found: Mapping[str, Any]) -> None:
    if not shown:
        st.html(parts.empty("No model fits", "Take a state away, or ask for another name."))
        return
    pages = -(-len(shown) // PER_PAGE)
    page = int(st.session_state.get("overview-page") or 1) if pages > 1 else 1
    first = (min(page, pages) - 1) * PER_PAGE
    now = datetime.now(UTC)
    with st.grid(min_column_width=290, gap="small"):
        for place, card in enumerate(shown[first : first + PER_PAGE]):
            _card(desk, card, place, now)
    if pages > 1:
        st.pagination(pages, key="overview-page")
    more = f" The first {len(found['items']):,} of them." if found["total"] > len(found["items"]) else ""
    st.caption(f"{count(len(shown), 'model')}, worst first; fresh every 10 seconds.{more}")


def _card(desk: Desk, card: cards.Card, place: int, now: datetime) -> None:
    with st.container(border=True, key=f"card-{place}", height="stretch"):
        st.page_link(desk.pages["model"], label=plain(card["name"]), query_params={"model": card["name"]})
        st.html(cards.card_html(card, now))
