"""The style of what is ours on a page: cards, marks of states, the log-in, the first paint."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from everlearn.dashboard.pictures import shape_rules
from everlearn.dashboard.theme import DARK, LIGHT

_TONES: Final = {
    "good": ("#0b6b50", "#6fd3af", "#e2f1ea", "#17332a"),
    "warn": ("#8f4a00", "#ffb26b", "#fbecd9", "#3a2a17"),
    "bad": ("#a4262c", "#ff9c97", "#fae4e3", "#402221"),
    "busy": ("#1f55a3", "#8db8f5", "#e3ecf8", "#1b2b42"),
    "still": ("#46515c", "#b4c0cb", "#e6eaee", "#29313a"),
    "calm": ("#565f5a", "#a3ada8", "#ecede8", "#262d2a"),
}
"""Of each tone: ink on light and dark, ground on light and dark."""


def _tones() -> str:
    return "".join(
        f".ev-{name}{{--tone:light-dark({ink},{ink_dark});--ground:light-dark({ground},{ground_dark})}}"
        for name, (ink, ink_dark, ground, ground_dark) in _TONES.items()
    )


VARIABLES: Final = (
    ":root{color-scheme:light dark;"
    f"--ev-paper:light-dark({LIGHT['backgroundColor']},{DARK['backgroundColor']});"
    f"--ev-sheet:light-dark(#ffffff,{DARK['secondaryBackgroundColor']});"
    f"--ev-ink:light-dark({LIGHT['textColor']},{DARK['textColor']});"
    f"--ev-soft:light-dark({LIGHT['grayTextColor']},{DARK['grayTextColor']});"
    f"--ev-rule:light-dark({LIGHT['borderColor']},{DARK['borderColor']});"
    f"--ev-accent:light-dark({LIGHT['primaryColor']},{DARK['primaryColor']});"
    f"--ev-line:light-dark(#1b9e77,#3fc197)}}"
)

_ASSETS: Final = Path(__file__).with_name("assets")


def page_style() -> str:
    """The style sheet of the pages."""
    return f"{VARIABLES}{_tones()}{shape_rules()}{_read('parts.css')}"


def log_in_style() -> str:
    """The style sheet of the page where one logs in."""
    return f"{VARIABLES}{_read('log-in.css')}"


def _read(name: str) -> str:
    return (_ASSETS / name).read_text(encoding="utf-8")
