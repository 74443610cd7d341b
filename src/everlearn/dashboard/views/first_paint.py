"""What stands on a page before Streamlit's scripts run: the overview itself, or the outline of a page."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from html import escape
from typing import Any, Final
from urllib.parse import quote

from everlearn.dashboard.views import cards, parts

FIRST: Final = 12
"""Cards that are drawn at once: more than a screen holds."""

OUTLINE: Final = f'<i class="a"></i><i class="b"></i><div class="c">{"<i></i>" * 6}</div>'


def frame(inside: str) -> str:
    """The page around it: the column beside, and the middle."""
    return (
        '<div class="ev-boot"><div class="ev-boot-side"></div>'
        f'<main class="ev-boot-main" aria-busy="true">{inside}</main></div>'
    )


def overview(found: Mapping[str, Any], now: datetime) -> str:
    """The overview with its first cards, as plain HTML that leads to the models."""
    if not found["items"]:
        return OUTLINE
    told = "".join(_card(card, now) for card in found["items"][:FIRST])
    top = f"{parts.lead(cards.headline(found['counts']))}{cards.chips(found['counts']).text}"
    return f'<h1 class="ev-boot-title">Overview</h1>{top}<div class="c">{told}</div>'


def _card(card: cards.Card, now: datetime) -> str:
    name = str(card["name"])
    link = f'<a href="/model?model={quote(name, safe="")}">{escape(name)}</a>'
    return f'<section class="ev-boot-card"><h2>{link}</h2>{cards.card_html(card, now)}</section>'
