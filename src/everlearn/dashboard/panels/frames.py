"""The frames of a detector: what it saw, what it answered, and what is true of them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import streamlit as st

from everlearn.dashboard.desk import Desk
from everlearn.dashboard.panels import frame_truth
from everlearn.dashboard.screen import cursor, first_page, flash, pager, pick_model, telling
from everlearn.dashboard.views import frames, parts
from everlearn.dashboard.views.shots import LARGE, THUMB, Shot, shot
from everlearn.dashboard.words import ago, cell, clock, plain
from everlearn.errors import InvalidError, NotFoundError

PER_PAGE: Final = 12
TRIES: Final = 5
"""Requests for one page: with a filter, a request may look through what it looks at and find nothing."""

TRUTHS: Final = {"All": None, "No truth yet": "unknown", "Truth told": "known"}
BELOW: Final = (None, 0.9, 0.7, 0.5, 0.4, 0.3)
SHOTS: Final = "frame-shots"
KEPT: Final = 48
"""Images that each visitor's session keeps, as they were shown."""

Record = Mapping[str, Any]


def show(desk: Desk) -> None:
    """The page: one frame where the address names it, else the list."""
    with telling():
        model = pick_model(desk, "detection")
        if model is None:
            return
        flash()
        frame = st.query_params.get("frame", "")
        if frame:
            _one(desk, model, frame)
        else:
            _list(desk, model)


# -- the list --------------------------------------------------------------------------------------------


@st.fragment(run_every="15s")
def _list(desk: Desk, model: str) -> None:
    told, sure = st.columns([3, 2], vertical_alignment="bottom")
    truth = TRUTHS[told.segmented_control("Truth", list(TRUTHS), default="All", key="frames-truth") or "All"]
    below = sure.selectbox("Confidence", BELOW, format_func=_below_words, key="frames-below")
    key = f"frames-{model}"
    first_page(key, truth, below)
    with telling():
        with st.skeleton(height=420):
            page = _page(desk, model, truth, below, cursor(key))
        if page["items"]:
            _grid(desk, model, page["items"])
        else:
            st.html(_none(truth is not None or below is not None, page["next"], cursor(key)))
        if page["items"] or page["next"] or cursor(key):
            pager(key, page)


def _below_words(below: float | None) -> str:
    return "Any" if below is None else f"With a box below {below:.1f}"


def _page(desk: Desk, model: str, truth: Any, below: float | None, start: str | None) -> dict[str, Any]:
    """A page of frames, filled as well as some requests can."""
    items: list[Record] = []
    for _ in range(TRIES):
        page = desk.client.frames_page(
            model, truth=truth, below=below, cursor=start, limit=PER_PAGE - len(items)
        )
        items += page["items"]
        start = page["next"]
        if start is None or len(items) == PER_PAGE:
            break
    return {"items": items, "next": start}


def _none(filtered: bool, older: str | None, start: str | None) -> str:
    if older:
        return parts.empty(
            "None among these", "The frames that were looked through do not fit; there are older ones."
        )
    if filtered or start:
        return parts.empty("No frame fits", "Choose other filters, or go back to the newest frames.")
    return parts.empty(
        "No frames yet",
        "A frame is an image that was sent to this model. Each shows here with the boxes that were answered, "
        "and a place to say what is true. Send one:",
        'curl -s $URL/v1/models/MODEL/frames -H "Authorization: Bearer $KEY" \\\n'
        "  -H 'Content-Type: image/jpeg' --data-binary @frame.jpg",
    )


def _grid(desk: Desk, model: str, items: list[Record]) -> None:
    now = datetime.now(UTC)
    with st.grid(min_column_width=270, gap="small"):
        for place, frame in enumerate(items):
            with st.container(border=True, key=f"card-{place}", height="stretch"):
                st.page_link(
                    desk.pages["frames"],
                    label=plain(frame["id"], 40),
                    query_params={"model": model, "frame": frame["id"]},
                )
                when = f"{ago(frame['at'], now)} · version {frame['version']}"
                st.html(frames.card(frame, _drawn(desk, model, frame, THUMB), when))
    st.caption("Newest first. Fresh every 15 seconds.")


# -- images ----------------------------------------------------------------------------------------------


def _drawn(desk: Desk, model: str, frame: Record, most: int) -> str:
    """A frame with its boxes; or why there is none."""
    try:
        return frames.picture(
            frame["id"], _shot(desk, model, frame, most), frame["boxes"] or (), frame["truth"]
        )
    except (NotFoundError, InvalidError) as error:
        return frames.no_picture(_why_none(error))


def _why_none(error: Exception) -> str:
    if isinstance(error, NotFoundError):
        return "Its image was removed: images are kept for some time only."
    return "Its image cannot be shown here."


def _shot(desk: Desk, model: str, frame: Record, most: int) -> Shot:
    """The image of a frame, kept at hand in the visitor's session."""
    kept: OrderedDict[Any, Shot] = st.session_state.setdefault(SHOTS, OrderedDict())
    key = (model, frame["image"], most)
    if key not in kept:
        kept[key] = shot(desk.client.frame_image(model, frame["id"]), most)
    kept.move_to_end(key)
    while len(kept) > KEPT:
        kept.popitem(last=False)
    return kept[key]


# -- one frame -------------------------------------------------------------------------------------------


def _one(desk: Desk, model: str, name: str) -> None:
    """One frame, large, and what is true of it."""
    st.page_link(
        desk.pages["frames"],
        label="All frames",
        icon=":material/grid_view:",
        query_params={"model": model},
    )
    with st.skeleton(height=420):
        frame = desk.client.recorded_frame(model, name)
        try:
            seen: Shot | None = _shot(desk, model, frame, LARGE)
            why = ""
        except (NotFoundError, InvalidError) as error:
            seen, why = None, _why_none(error)
    st.html(_head(frame))
    if seen is None:
        st.html(frames.no_picture(why))
    else:
        frame_truth.edit(desk, model, frame, seen)
    with st.expander("What was measured"):
        features = sorted(frame["features"].items())
        st.html(parts.table(["Feature", "Value"], [[key, cell(value)] for key, value in features], right=[1]))
        st.html(parts.facts([("Image", frame["image"])]))


def _head(frame: Record) -> str:
    """A frame's name, when it came, who answered, and whether its truth is known."""
    when = f"{clock(frame['at'])} UTC · answered by version {frame['version']}"
    said = frames.summary(frame["boxes"])
    sure = frames.confidence(frame["boxes"])
    facts = f"Answered: {said}{f', {sure}' if sure else ''}."
    if frame["truth"] is not None:
        facts += f" True: {frames.summary(frame['truth'])}."
    return (
        f'<div class="ev-card"><h2 class="ev-h2 ev-broken">{parts.html(frame["id"])}</h2>'
        f'<div class="ev-marks">{frames.told(frame).text}<span class="ev-soft ev-small">{when}</span></div>'
        f"<span>{parts.html(facts)}</span></div>"
    )
