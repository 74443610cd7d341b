"""Numbers, times and states as people read them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

DASH: Final = "\N{EN DASH}"
"""What stands for nothing."""


@dataclass(frozen=True, slots=True)
class State:
    """A state of a model: its word, the tone of its colour, its shape, and what it means."""

    word: str
    tone: str
    shape: str
    meaning: str


STATES: Final[Mapping[str, State]] = {
    "healthy": State("Healthy", "good", "check", "The score keeps its threshold."),
    "warning": State("Warning", "warn", "triangle", "Something moved; nothing is proven to be wrong."),
    "degraded": State("Degraded", "bad", "cross", "The score does not keep its threshold."),
    "updating": State("Updating", "busy", "arrows", "A new version is being trained."),
    "insufficient labels": State(
        "Insufficient labels", "calm", "ring", "Too few labels have matured to judge the model."
    ),
    "frozen": State("Frozen", "still", "square", "The champion stays until someone unfreezes the model."),
    "in bake": State(
        "In bake", "busy", "half", "A new champion is watched; the old one returns if it was better."
    ),
    "rolled back": State("Rolled back", "bad", "back", "A promotion proved wrong and was taken back."),
}

ORDER: Final = (
    "degraded",
    "rolled back",
    "warning",
    "frozen",
    "updating",
    "in bake",
    "insufficient labels",
    "healthy",
)
"""States from the one to look at first to the one to look at last."""

FLAGS: Final[Mapping[str, str]] = {
    "drift": "drift warned of",
    "features moved": "features moved",
    "abstaining": "abstaining",
    "behind": "the loop is behind",
}

KINDS: Final[Mapping[str, tuple[str, str]]] = {
    "configure": ("Configured", "calm"),
    "hold": ("Held", "calm"),
    "warn": ("Warned", "warn"),
    "update": ("Update asked for", "busy"),
    "trial": ("On trial", "busy"),
    "promote": ("Promoted", "good"),
    "refuse": ("Refused", "still"),
    "rollback": ("Rolled back", "bad"),
    "freeze": ("Frozen", "still"),
    "unfreeze": ("Unfrozen", "good"),
    "regime": ("New regime", "warn"),
    "quarantine": ("Source put aside", "warn"),
    "release": ("Source let in", "good"),
    "unlearn": ("Unlearned", "still"),
    "abstain": ("Abstention", "bad"),
    "fail": ("Job failed", "bad"),
}
"""Kinds of decisions: their word, and the tone of their colour."""

JOB_TONES: Final[Mapping[str, tuple[str, str, str]]] = {
    "queued": ("Waiting", "calm", "ring"),
    "running": ("Running", "busy", "arrows"),
    "done": ("Done", "good", "check"),
    "failed": ("Failed", "bad", "cross"),
    "dead": ("Given up", "bad", "cross"),
    "cancelled": ("Cancelled", "still", "square"),
}


def state_of(name: str) -> State:
    """A state by the API's word; one that is not known here is shown as it is."""
    return STATES.get(name) or State(name[:1].upper() + name[1:], "calm", "ring", "")


def kind_of(name: str) -> tuple[str, str]:
    """A kind of decision: its word and tone."""
    return KINDS.get(name, (name, "calm"))


def number(value: object, digits: int = 3) -> str:
    """A number to so many decimals (large ones to whole, tiny ones by powers), a dash for none.

    >>> number(0.91234), number(12345.6), number(None), number(1.2e-7), number(3)
    ('0.912', '12,346', '–', '1.2e-07', '3')
    """
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not math.isfinite(value):
        return DASH
    if isinstance(value, int) or abs(value) >= 1000:
        return f"{value:,.0f}"
    if value and abs(value) < 0.5 * 10**-digits:
        return f"{value:.2g}"
    return f"{value:.{digits}f}"


def power(log_e: object) -> str:
    """An e-value by its natural logarithm, readable at any size.

    >>> power(0.0), power(5.0), power(50.0), power(None)
    ('1.00', '148', '5e+21', '–')
    """
    if not isinstance(log_e, (int, float)) or not math.isfinite(log_e):
        return DASH
    tens = log_e / math.log(10)
    if tens > 6 or tens < -3:
        whole = math.floor(tens)
        return f"{10 ** (tens - whole):.0f}e{whole:+d}"
    value = math.exp(log_e)
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}" if value >= 10 else f"{value:.2f}"


def moment(text: object) -> datetime | None:
    """A time of the API, or ``None`` for none."""
    if not isinstance(text, str) or not text:
        return None
    return datetime.fromisoformat(text)


def clock(text: object) -> str:
    """A time of the API to the second, in UTC.

    >>> clock("2024-05-01T12:00:07.000000Z"), clock(None)
    ('2024-05-01 12:00:07', '–')
    """
    at = moment(text)
    return DASH if at is None else at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def span(seconds: float | None) -> str:
    """A length of time in its largest unit.

    >>> span(4), span(90), span(7300), span(200000), span(None), span(-3)
    ('4 s', '2 min', '2 h', '2 days', '–', '0 s')
    """
    if seconds is None or not math.isfinite(seconds):
        return DASH
    seconds = max(seconds, 0.0)
    for unit, length, limit in (("s", 1.0, 60.0), ("min", 60.0, 3600.0), ("h", 3600.0, 129_600.0)):
        if seconds < limit:
            return f"{seconds / length:.0f} {unit}"
    days = round(seconds / 86_400)
    return f"{days} day{'' if days == 1 else 's'}"


def champion_words(card: Mapping[str, Any]) -> str:
    """Which version answers, and for how long it has.

    >>> champion_words({"champion": 3, "champion_age_seconds": 90}), champion_words({"champion": 4})
    ('version 3, for 2 min', 'version 4')
    >>> champion_words({"champion": 5, "champion_age_seconds": 0.3})
    'version 5, just now'
    """
    age = card.get("champion_age_seconds")
    since = "" if age is None else ", just now" if age < 1.0 else f", for {span(age)}"
    return f"version {card.get('champion')}{since}"


def ago(text: object, now: datetime) -> str:
    """How long ago a time of the API was.

    >>> ago("2024-05-01T12:00:00Z", datetime(2024, 5, 1, 12, 30, tzinfo=UTC))
    '30 min ago'
    """
    at = moment(text)
    if at is None:
        return "never"
    seconds = (now - at).total_seconds()
    return "just now" if seconds < 5 else f"{span(seconds)} ago"


def share(part: object) -> str:
    """A part of a whole as a percentage.

    >>> share(0.125), share(None)
    ('12.5%', '–')
    """
    return f"{part:.1%}" if isinstance(part, (int, float)) else DASH


def count(number_of: object, noun: str) -> str:
    """A number of things.

    >>> count(1, "label"), count(1200, "label"), count(2, "class"), count(3, "box")
    ('1 label', '1,200 labels', '2 classes', '3 boxes')
    """
    many = int(number_of) if isinstance(number_of, (int, float)) else 0
    plural = f"{noun}es" if noun.endswith(("s", "x")) else f"{noun}s"
    return f"{many:,} {noun if many == 1 else plural}"


_MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+\-.!|<>~:$&])")


def plain(text: object, limit: int = 0) -> str:
    """Text as Markdown that shows it as it is: nothing in it is a link, an icon, a formula or HTML.

    >>> plain("<b> a_b :red[x] $y$")
    '\\\\<b\\\\> a\\\\_b \\\\:red\\\\[x\\\\] \\\\$y\\\\$'
    """
    told = " ".join(str(text).split())
    if limit and len(told) > limit:
        told = told[: limit - 1].rstrip() + "…"
    return _MARKDOWN.sub(r"\\\1", told)


def cell(value: Any) -> str:
    """Any value of an answer in a cell of a table."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return DASH
    if isinstance(value, (int, float)):
        return number(value, 4)
    if isinstance(value, (list, tuple)):
        return ", ".join(map(cell, value)) or DASH
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {cell(item)}" for key, item in value.items()) or DASH
    return str(value)
