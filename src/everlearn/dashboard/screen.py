"""How pages put things on the screen that several of them need: troubles, notices, choices, confirmations."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import streamlit as st

from everlearn.dashboard.desk import Desk
from everlearn.dashboard.views import parts
from everlearn.dashboard.views.drawing import Drawn
from everlearn.dashboard.views.trouble import FIRST_MODEL, Trouble, of_error
from everlearn.dashboard.words import plain
from everlearn.errors import EverlearnError

FLASH = "flash"
ASKED = "asked-about"
ADDRESS = "address"
MODEL, PICKED = "model", "model-picked"
TRIED = "tried-at"
RETRY_SECONDS = 4


@contextmanager
def telling() -> Iterator[None]:
    """Run a part of a page; when the API refuses or does not answer, say so in its place."""
    try:
        yield
    except EverlearnError as error:
        say_trouble(of_error(error))


def say_trouble(trouble: Trouble) -> None:
    """Say what is wrong, and offer what may help."""
    if trouble.log_in:
        leave(trouble.title, trouble.text)
        return
    st.html(parts.empty(trouble.title, trouble.text, trouble.commands))
    if trouble.retry:
        _retry()


@st.fragment(run_every=RETRY_SECONDS)
def _retry() -> None:
    """A button to try again; the page also does so by itself."""
    now, began = time.monotonic(), st.session_state.setdefault(TRIED, time.monotonic())
    if st.button("Try again", icon=":material/refresh:", key="try-again") or now - began > RETRY_SECONDS - 1:
        del st.session_state[TRIED]
        st.rerun()


def leave(title: str, text: str) -> None:
    """Say that the log-in is over, with the way to a new one."""
    st.html(parts.empty(title, text))
    st.html('<a class="ev-go" href="/login" target="_self">Log in</a>')


def no_model(desk: Desk) -> None:
    """Say what to do where there is no model yet."""
    text = "A model begins with a spec. These commands make one from a table:"
    if not desk.me.may("operate"):
        text = "Nobody has made one yet, or none that you may see. An operator makes one with these commands:"
    st.html(parts.empty("No model yet", text, FIRST_MODEL))
    st.caption("`everlearn up --demo` plays a stream that drifts, if you would rather look first.")


def no_detector() -> None:
    """Say what the frames are for, where no model has some."""
    st.html(
        parts.empty(
            "No detector here",
            "Frames are images in which a model finds objects; models with task: detection have some. A spec "
            "for one:",
            "name: gate\ntask: detection\ntarget: boxes\nfeatures: {frame: image}\n"
            "learner: {name: yolo, size: 640}",
        )
    )


def pick_model(desk: Desk, task: str | None = None) -> str | None:
    """The model that a page is about, kept in its address; ``None`` (said) where there is none.

    With ``task``: only models of this one.
    """
    tasks = desk.tasks()
    names = sorted(name for name in tasks if task in (None, tasks[name]))
    if not names:
        if tasks:
            no_detector()
        else:
            no_model(desk)
        return None
    asked = st.query_params.get("model") or st.session_state.get(MODEL)
    if asked and asked not in tasks:
        st.html(
            parts.notice("No model of this name:", f"{asked} is not there, or not for you to see.", "warn")
        )
    elif asked not in names and st.query_params.get("model"):
        st.html(
            parts.notice("No detector:", f"{asked} is for {tasks[str(asked)]} and has no frames.", "calm")
        )
    if asked in names and asked != st.session_state.get(MODEL):
        st.session_state[PICKED] = asked  # the address has changed
    if st.session_state.get(PICKED) not in names:
        st.session_state[PICKED] = asked if asked in names else names[0]
    chosen = str(st.selectbox("Model", names, key=PICKED, label_visibility="collapsed"))
    st.session_state[MODEL] = chosen
    if chosen != st.query_params.get("model"):
        if asked and chosen != asked:
            for name in ("number", "run", "frame"):
                st.query_params.pop(name, None)
        st.query_params["model"] = chosen
    _keep_address()
    return chosen


def _keep_address() -> None:
    """Tell the browser where it is: a link to the page that one is on leaves the address bar as it was.

    Whatever runs the script anew from there, and whoever mails the address, would be where they were before.
    """
    here = st.query_params.to_dict()
    if st.session_state.get(ADDRESS) != here:
        st.session_state[ADDRESS] = here
        st.query_params.from_dict(here)


def draw(drawn: Drawn | None, nothing: str = "") -> None:
    """A chart with its words for screen readers; or what to say when there is none."""
    if drawn is None:
        st.caption(nothing)
        return
    st.altair_chart(drawn.chart, alt=drawn.words)


def flash() -> None:
    """Show what the last act came to."""
    told = st.session_state.pop(FLASH, None)
    if told is not None:
        st.html(parts.notice(*told))


def why_not(desk: Desk, scope: str) -> str:
    """Why an act is not offered."""
    return f"Your role ({desk.me.role or 'none'}) does not allow this; it needs the permission to {scope}."


Act = Callable[[str | None], str]
"""Does something; gets the reason and returns what came of it."""


def confirm(title: str, text: str, act: Act, *, ask_why: bool = True) -> None:
    """Ask before something is done, and start the script anew to do so.

    The question belongs to the page, not to the part of it whose button was pressed: that part refreshes
    itself, and would take the question away from whoever is still typing.
    """
    st.session_state[ASKED] = (title, text, act, ask_why)
    st.rerun()


def ask_what_was_asked() -> None:
    """Put the question of :func:`confirm` on the screen, if there is one."""
    asked = st.session_state.pop(ASKED, None)
    if asked is not None:
        title, text, act, ask_why = asked
        st.dialog(title)(_question)(title, text, act, ask_why)


def _question(title: str, text: str, act: Act, ask_why: bool) -> None:
    st.markdown(plain(text))
    why = st.text_input("Why? (kept in the ledger)", max_chars=500) if ask_why else None
    sure, not_sure = st.columns(2)
    done = sure.button(title, type="primary", width="stretch", key="confirmed")
    if not_sure.button("Leave it", width="stretch", key="not-confirmed"):
        st.rerun()
    if done:
        _do(act, why or None)


def _do(act: Act, why: str | None) -> None:
    try:
        with st.spinner("Waiting for the decision …"):
            told = act(why)
    except EverlearnError as error:
        trouble = of_error(error)
        st.html(parts.notice(f"{trouble.title}:", error.detail, "bad", "alert"))
        return
    st.session_state[FLASH] = ("Done:", told, "good")
    st.rerun()


def pager(key: str, page: dict[str, Any]) -> None:
    """Buttons to the next and the previous page of a list that is read by cursors."""
    trail: list[str | None] = st.session_state.setdefault(key, [None])
    newer, older, _ = st.columns([1, 1, 3])
    if newer.button(
        "Newer", icon=":material/chevron_left:", disabled=len(trail) < 2, key=f"{key}-newer", width="stretch"
    ):
        trail.pop()
        st.rerun(scope="fragment")
    if older.button(
        "Older",
        icon=":material/chevron_right:",
        disabled=not page.get("next"),
        key=f"{key}-older",
        width="stretch",
    ):
        trail.append(page["next"])
        st.rerun(scope="fragment")


def cursor(key: str) -> str | None:
    """Where a list is open."""
    trail: list[str | None] = st.session_state.setdefault(key, [None])
    return trail[-1]


def first_page(key: str, *filters: object) -> None:
    """Go back to the first page of a list when what is asked for has changed."""
    if st.session_state.get(f"{key}-of") != filters:
        st.session_state[f"{key}-of"] = filters
        st.session_state[key] = [None]
