"""What all pages stand in: who is here, the way between pages, and the page that was asked for."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from types import ModuleType
from typing import Final

import streamlit as st

from everlearn.dashboard.desk import Desk
from everlearn.dashboard.logins import Login, place
from everlearn.dashboard.panels import admin, decisions, frames, jobs, model, overview, try_it, what_if
from everlearn.dashboard.pictures import ICON, WORDMARK
from everlearn.dashboard.screen import ask_what_was_asked, leave
from everlearn.dashboard.words import plain
from everlearn.errors import EverlearnError

PAGES: Final[dict[str, tuple[ModuleType, str, str, str]]] = {
    "overview": (overview, "Overview", ":material/space_dashboard:", ""),
    "model": (model, "Model", ":material/monitoring:", "model"),
    "decisions": (decisions, "Decisions", ":material/gavel:", "decisions"),
    "what-if": (what_if, "What if", ":material/alt_route:", "what-if"),
    "try-it": (try_it, "Try it", ":material/science:", "try-it"),
    "frames": (frames, "Frames", ":material/imagesmode:", "frames"),
    "jobs": (jobs, "Jobs", ":material/manufacturing:", "jobs"),
    "admin": (admin, "Admin", ":material/admin_panel_settings:", "admin"),
}
"""Of each page: what shows it, its title, its icon and its address."""

DETECTS: Final = "detects"
LOOK_SECONDS: Final = 60.0
"""How often is looked whether there is a detector, whose page is listed then."""


def run() -> None:
    """Show the page that was asked for to whoever is logged in."""
    st.set_page_config(page_title="everlearn", layout="wide", initial_sidebar_state="auto")
    st.logo(WORDMARK, icon_image=ICON, size="medium")
    here = place()
    login = here.logins.find(st.context.cookies.get(here.cookie))
    if login is None:
        leave("Your log-in is over", "It ended, or the dashboard was started again.")
        return
    show(login)


def show(login: Login) -> None:
    """The pages, for this log-in."""
    desk = Desk(login)
    unlisted = () if _detects(desk) else ("frames",)
    pages = {
        name: _page(desk, name, listed=name not in unlisted)
        for name in PAGES
        if name != "admin" or desk.me.may("admin")
    }
    desk.pages.update(pages)
    chosen = st.navigation(list(pages.values()))
    _side(desk)
    st.title(chosen.title, anchor=False)
    chosen.run()
    ask_what_was_asked()


def _page(desk: Desk, name: str, *, listed: bool) -> st.Page:
    """A page; one that is not ``listed`` is at its address all the same."""
    module, title, icon, address = PAGES[name]
    run: Callable[[], None] = lambda: module.show(desk)  # noqa: E731 - st.Page names a page by its address
    return st.Page(
        run,
        title=title,
        icon=icon,
        url_path=address or None,
        default=name == "overview",
        visibility="visible" if listed else "hidden",
    )


def _detects(desk: Desk) -> bool:
    """Whether the visitor may see a model that has frames, as of some seconds ago at most."""
    asked, found = st.session_state.get(DETECTS, (-LOOK_SECONDS, False))
    if time.monotonic() - asked >= LOOK_SECONDS:
        with contextlib.suppress(EverlearnError):  # the page itself says what is wrong
            found = "detection" in desk.tasks().values()
        st.session_state[DETECTS] = (time.monotonic(), found)
    return bool(found)


def _side(desk: Desk) -> None:
    """The column beside the page: whose window this is, and the way out."""
    with st.sidebar, st.container(key="who"):
        st.markdown(f"**{plain(desk.me.shown)}**  \nrole: {plain(desk.me.role or 'none')}")
        st.html('<a class="ev-out" href="/logout" target="_self">Log out</a>')
