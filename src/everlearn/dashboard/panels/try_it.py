"""Ask a model by hand, tell it the truth, and give it history from a file."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import streamlit as st

from everlearn.dashboard.desk import Desk
from everlearn.dashboard.panels import try_frame
from everlearn.dashboard.screen import draw, pick_model, telling, why_not
from everlearn.dashboard.views import charts, forms, parts
from everlearn.dashboard.words import cell, count, number, plain

ASKED = "asked"


def show(desk: Desk) -> None:
    """The page."""
    with telling():
        model = pick_model(desk)
        if model is None:
            return
        with st.skeleton(height=300):
            spec = desk.client.model(model)["spec"]
        if spec["task"] == "detection":
            try_frame.show(desk, model, spec)
            return
        left, right = st.columns([3, 2], gap="large")
        with left:
            _predict(desk, model, spec)
        with right:
            _answer(desk, model, spec)
        st.divider()
        _history(desk, model, spec)


def _predict(desk: Desk, model: str, spec: Mapping[str, Any]) -> None:
    """A field for each feature."""
    kinds = forms.features(spec)
    may = desk.me.may("predict", model)
    st.subheader("Ask", anchor=False)
    with st.form(f"ask-{model}"):
        given: dict[str, Any] = {}
        with st.grid(min_column_width=190):
            for place, (name, kind) in enumerate(kinds.items()):
                given[name] = _field(name, kind, f"feature-{model}-{place}")
        asked = st.form_submit_button(
            "Predict", type="primary", icon=":material/play_arrow:", disabled=not may
        )
    if not may:
        st.caption(why_not(desk, "predict"))
    else:
        st.caption("What is left empty is sent as missing. The prediction is stored like any other.")
    if asked:
        with telling():
            answer = desk.client.predict_one(model, forms.row_of(kinds, given))
            st.session_state[ASKED] = (model, answer)


def _field(name: str, kind: str, key: str) -> Any:
    if kind == "boolean":
        return st.selectbox(plain(name), ["", "yes", "no"], key=key)
    hints = {"numeric": "number", "timestamp": "2024-05-01T12:00:00Z"}
    return st.text_input(plain(name), placeholder=hints.get(kind, "text"), key=key, max_chars=1000)


def _answer(desk: Desk, model: str, spec: Mapping[str, Any]) -> None:
    """What the model said, and a place for the truth."""
    st.subheader("The answer", anchor=False)
    asked_of, answer = st.session_state.get(ASKED) or (None, None)
    if answer is None or asked_of != model:
        st.html(
            parts.empty(
                "Nothing asked yet",
                "Fill in the form and press Predict: the answer, its probabilities and a place for the true "
                "value appear here.",
            )
        )
        return
    value = "nothing yet" if answer.value is None else cell(answer.value)
    st.html(
        f'<div class="ev-card" role="status"><div class="ev-score"><b>{parts.html(value)}</b>'
        f'<span class="ev-soft">{parts.html(spec["target"])}, by version {answer.version}</span></div></div>'
    )
    if answer.abstained:
        st.html(parts.notice("It abstains:", "do not rely on this answer.", "warn"))
    if answer.probabilities:
        draw(charts.probabilities(answer.probabilities))
    st.html(parts.facts([("Prediction id", answer.id)]))
    _truth(desk, model, spec, answer)


def _truth(desk: Desk, model: str, spec: Mapping[str, Any], answer: Any) -> None:
    may = desk.me.may("label", model)
    with st.form(f"truth-{answer.id}"):
        text = st.text_input(
            "The true value",
            placeholder="number" if spec["task"] == "regression" else "class",
            max_chars=1000,
        )
        correction = st.checkbox("Replace a label that was sent before")
        sent = st.form_submit_button("Send the label", icon=":material/check:", disabled=not may)
    if not may:
        st.caption(why_not(desk, "label"))
    if sent:
        with telling():
            value = forms.label_of(spec["task"], text, answer.value)
            receipt = desk.client.label(model, {answer.id: value}, correction=correction)
            st.html(_receipt(receipt))


def _receipt(receipt: Any) -> str:
    if receipt.conflict:
        return parts.notice(
            "It conflicts:", "another label is known for this prediction. Tick the box to replace it.", "warn"
        )
    if receipt.duplicate:
        return parts.notice("Known already:", "the same label was sent before; nothing has changed.", "calm")
    return parts.notice("Stored.", "It counts once the label horizon has passed.", "good")


def _history(desk: Desk, model: str, spec: Mapping[str, Any]) -> None:
    """Rows that come with their targets, from a file."""
    st.subheader("Load history", anchor=False)
    may = desk.me.may("label", model)
    st.caption(
        f"A CSV or Parquet file with the feature columns and the target column **{plain(spec['target'])}**. "
        "The model learns from it; nothing is predicted."
    )
    file = st.file_uploader(
        "History",
        type=["csv", "parquet"],
        key=f"history-{model}",
        disabled=not may,
        label_visibility="collapsed",
    )
    if not may:
        st.caption(why_not(desk, "label"))
    if file is not None and st.button(
        f"Load {file.name[:60]} ({number(file.size / 1e6, 1)} MB)", key="load-history"
    ):
        with telling():
            told = _load(desk, model, file)
            st.html(parts.notice("Loaded.", f"{count(told, 'row')} stored as history.", "good"))


def _load(desk: Desk, model: str, file: Any) -> int:
    bar = st.progress(0.0, text="Sending …")

    def progress(done: int, total: int | None) -> None:
        bar.progress(min(1.0, done / total) if total else 0.5, text="Sending …")

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / ("history" + Path(file.name).suffix.lower())
        path.write_bytes(file.getbuffer())
        # The file's own id as the key: pressing twice stores nothing twice.
        stored = desk.client.load_file(model, path, progress=progress, key=str(file.file_id).replace("-", ""))
    bar.empty()
    return stored
