"""What is true of a frame: a table of boxes, drawn as it is edited, and sent whole."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import streamlit as st

from everlearn.dashboard.desk import Desk
from everlearn.dashboard.screen import FLASH, telling, why_not
from everlearn.dashboard.views import boxes, frames, parts
from everlearn.dashboard.views.shots import Shot
from everlearn.dashboard.words import count
from everlearn.errors import SchemaError

FAULTS: Final = 5
"""Faults that are listed at a time."""

Record = Mapping[str, Any]


@st.fragment
def edit(desk: Desk, model: str, frame: Record, seen: Shot) -> None:
    """The frame with its boxes, and beneath it the table whose boxes can be sent as true.

    The table begins with the true boxes where they are known, else with those that were answered.
    """
    left, right = st.columns([3, 2], gap="large")
    with right:
        found, changed = _edit(desk, model, frame, seen)
    with left:
        _draw(frame, seen, found, changed=changed)


def _edit(desk: Desk, model: str, frame: Record, seen: Shot) -> tuple[list[boxes.Box], bool]:
    """The table; the boxes in it, and whether they are others than those it began with."""
    known: list[Record] | None = frame["truth"]
    begun = known if known is not None else frame["boxes"] or []
    may = desk.me.may("label", model)
    st.subheader("What is true", anchor=False)
    st.caption(_how(frame, seen))
    key = f"truth-{model}-{frame['id']}-{st.session_state.get(_round(frame), 0)}"
    nothing = st.checkbox("Nothing is on it", key=f"{key}-nothing", disabled=not may)
    rows = begun if nothing or not may else _table(begun, seen, key)
    found, faults = _read(rows, nothing, seen)
    if not may:
        st.caption(why_not(desk, "label"))
    for fault in faults[:FAULTS]:
        st.html(parts.notice(f"{fault.field}:", f"{fault.message}.", "warn"))
    if len(faults) > FAULTS:
        st.caption(f"And {count(len(faults) - FAULTS, 'more fault')}.")
    empty = not found and not nothing and not faults
    if empty and may:
        st.caption("The table has no boxes: add a row, or tick that nothing is on it.")
    word = "Replace the true boxes" if known is not None else "Send the true boxes"
    if st.button(
        word,
        type="primary",
        icon=":material/check:",
        disabled=not may or bool(faults) or empty,
        key=f"{key}-send",
    ):
        with telling():
            _send(desk, model, frame, found)
    return found, not faults and not boxes.same(found, begun)


def _how(frame: Record, seen: Shot) -> str:
    """How the table is meant."""
    begun = (
        "It begins with the boxes that were told before; what you send replaces them."
        if frame["truth"] is not None
        else "It begins with the boxes that were answered: correct them, add what is missing, take away "
        "what is not there."
    )
    return (
        f"All objects on the frame, one a row: their class and corners in pixels, from the top left, of "
        f"{seen.width:,} by {seen.height:,}. {begun}"
    )


def _table(begun: list[Record], seen: Shot, key: str) -> list[Record]:
    """The table, and what stands in it."""
    import pandas as pd

    columns = boxes.table_of(begun)
    kinds = {name: "object" if name == "class" else "float64" for name in boxes.COLUMNS}
    number = st.column_config.NumberColumn
    limits = {"x": float(seen.width), "y": float(seen.height)}
    edited = st.data_editor(
        pd.DataFrame(columns).astype(kinds),
        num_rows="dynamic",
        hide_index=True,
        width="stretch",
        column_config={
            "class": st.column_config.TextColumn("class", max_chars=boxes.LONGEST, width="small"),
            **{
                corner: number(corner, max_value=limits[corner[0]] + boxes.SLACK, format="%.1f", step=0.1)
                for corner in boxes.CORNERS
            },
        },
        key=key,
    )
    found: list[Record] = edited.astype(object).where(edited.notna(), None).to_dict("records")
    return found


def _read(rows: list[Record], nothing: bool, seen: Shot) -> tuple[list[boxes.Box], list[Any]]:
    """The boxes of the table, and what is wrong with it."""
    if nothing:
        return [], []
    try:
        return boxes.boxes_of(rows, seen.width, seen.height), []
    except SchemaError as error:
        return [], list(error.faults)


def _draw(frame: Record, seen: Shot, found: list[boxes.Box], *, changed: bool) -> None:
    """The frame: what was answered, and with dashes what the table says, or what was told before."""
    true = found if changed else frame["truth"]
    answered = frame["boxes"] or ()
    st.html(frames.picture(frame["id"], seen, answered, true))
    st.html(frames.legend(true is not None, len(answered) - frames.MOST))


def _round(frame: Record) -> str:
    return f"round-{frame['id']}"


def _send(desk: Desk, model: str, frame: Record, found: list[boxes.Box]) -> None:
    """Send the boxes, and show the frame anew."""
    receipt = desk.client.label_frame(model, frame["id"], found, correction=frame["truth"] is not None)
    st.session_state[FLASH] = _outcome(receipt, found)
    st.session_state[_round(frame)] = st.session_state.get(_round(frame), 0) + 1
    st.rerun()


def _outcome(receipt: Any, found: list[boxes.Box]) -> tuple[str, str, str]:
    """What came of it: a title, a sentence and a tone."""
    if receipt.conflict:
        return (
            "Not stored:",
            "somebody told other boxes meanwhile. They are shown now; send yours again to replace them.",
            "warn",
        )
    if receipt.duplicate:
        return ("Known already:", "the same boxes were told before; nothing has changed.", "calm")
    said = count(len(found), "true box") if found else "that nothing is on it"
    return ("Stored:", f"{said}. The label counts once the label horizon has passed.", "good")
