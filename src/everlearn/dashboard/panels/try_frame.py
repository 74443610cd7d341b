"""Show a detector an image by hand, and see what it finds on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import streamlit as st

from everlearn.dashboard.desk import Desk
from everlearn.dashboard.screen import telling, why_not
from everlearn.dashboard.views import forms, frames, parts
from everlearn.dashboard.views.shots import LARGE, Shot, shot
from everlearn.dashboard.words import plain

FOUND: Final = "found"


def show(desk: Desk, model: str, spec: Mapping[str, Any]) -> None:
    """A place for an image and the other features, and beside it the answer."""
    left, right = st.columns([2, 3], gap="large")
    with left:
        _ask(desk, model, spec)
    with right:
        _answer(desk, model)


def _ask(desk: Desk, model: str, spec: Mapping[str, Any]) -> None:
    may = desk.me.may("predict", model)
    kinds = forms.beside_image(spec)
    st.subheader("Ask", anchor=False)
    with st.form(f"look-{model}"):
        file = st.file_uploader("Image", type=["jpg", "jpeg", "png"], key=f"image-{model}", disabled=not may)
        given = {
            name: st.text_input(plain(name), key=f"beside-{model}-{place}", max_chars=1000)
            for place, name in enumerate(kinds)
        }
        asked = st.form_submit_button(
            "Find the objects", type="primary", icon=":material/image_search:", disabled=not may
        )
    if not may:
        st.caption(why_not(desk, "predict"))
    else:
        st.caption("A JPEG or PNG of up to 20 MiB. The frame is stored like any other.")
    if not asked:
        return
    if file is None:
        st.html(parts.notice("No image:", "choose a JPEG or PNG first.", "warn"))
    else:
        with telling():
            data = file.getvalue()
            row = {name: value for name, value in forms.row_of(kinds, given).items() if value is not None}
            st.session_state[FOUND] = (model, desk.client.frame(model, data, features=row), shot(data, LARGE))


def _answer(desk: Desk, model: str) -> None:
    """What was found on the image, and the way to say what is true of it."""
    st.subheader("The answer", anchor=False)
    asked_of, *rest = st.session_state.get(FOUND) or (None,)
    if asked_of != model:
        st.html(
            parts.empty(
                "Nothing asked yet",
                "Choose an image and press Find the objects: it appears here with the boxes that were found.",
            )
        )
        return
    answer, seen = rest
    _found(answer, seen)
    st.page_link(
        desk.pages["frames"],
        label="Say what is true of it",
        icon=":material/edit_square:",
        query_params={"model": model, "frame": answer["id"]},
    )


def _found(answer: Mapping[str, Any], seen: Shot) -> None:
    if answer.get("abstained"):
        st.html(parts.notice("It abstains:", "do not rely on this answer.", "warn"))
    said, sure = frames.summary(answer["boxes"]), frames.confidence(answer["boxes"])
    st.html(
        f'<div class="ev-card" role="status"><span><b>{parts.html(said)}</b>{f", {sure}" if sure else ""} '
        f'<span class="ev-soft">by version {answer["version"]}</span></span></div>'
    )
    st.html(frames.picture(answer["id"], seen, answer["boxes"] or ()))
