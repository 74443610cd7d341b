"""The overview: one card a model, and the sentence above them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from html import escape
from typing import Any

from everlearn.dashboard.pictures import data_url, sparkline
from everlearn.dashboard.views.parts import Html, facts, mark
from everlearn.dashboard.words import (
    FLAGS,
    ORDER,
    ago,
    champion_words,
    count,
    kind_of,
    number,
    power,
    state_of,
)

Card = Mapping[str, Any]

TROUBLE = ("degraded", "rolled back")
LOOK = ("warning", "frozen")


def headline(counts: Mapping[str, int]) -> str:
    """How all models stand, in one sentence.

    >>> headline({"healthy": 7, "degraded": 1, "frozen": 1})
    '1 of 9 models is in trouble; 1 more wants a look.'
    >>> headline({"healthy": 3}), headline({"updating": 1})
    ('All 3 models are well.', 'The one model is well.')
    >>> headline({"healthy": 1, "insufficient labels": 1})
    'Nothing is in trouble; 1 of 2 models cannot be judged yet.'
    """
    total = sum(counts.values())
    trouble = sum(counts.get(name, 0) for name in TROUBLE)
    look = sum(counts.get(name, 0) for name in LOOK)
    unknown = counts.get("insufficient labels", 0)
    if unknown and not trouble and not look:
        if unknown == total:
            return "No model can be judged yet: too few labels."
        return f"Nothing is in trouble; {unknown} of {total} models cannot be judged yet."
    if not trouble and not look:
        return f"All {total:,} models are well." if total != 1 else "The one model is well."
    of = f"{total:,} {'model' if total == 1 else 'models'}"
    if not trouble:
        return f"Nothing is in trouble; {look} of {of} {'wants' if look == 1 else 'want'} a look."
    more = f"; {look} more {'wants' if look == 1 else 'want'} a look" if look else ""
    return f"{trouble} of {of} {'is' if trouble == 1 else 'are'} in trouble{more}."


def chips(counts: Mapping[str, int]) -> Html:
    """How many models are in which state, the states to look at first in front."""
    known = [*ORDER, *(name for name in counts if name not in ORDER)]
    told = []
    for name in known:
        if counts.get(name):
            state = state_of(name)
            told.append(mark(f"{counts[name]} {state.word.lower()}", state.tone, state.shape))
    return Html(f'<div class="ev-marks">{"".join(each.text for each in told)}</div>')


def chosen(cards: Iterable[Card], states: Sequence[str], text: str) -> list[Card]:
    """The cards in one of the states (all, when none is named) whose name holds the text."""
    wanted = text.strip().lower()
    return [
        card
        for card in cards
        if (not states or card["state"] in states) and (not wanted or wanted in card["name"].lower())
    ]


def card_html(card: Card, now: datetime) -> str:
    """All of a card below its name."""
    state = state_of(card["state"])
    flags = [mark(FLAGS.get(flag, flag), "warn") for flag in card.get("flags") or () if flag in FLAGS]
    top = "".join(each.text for each in (mark(state.word, state.tone, state.shape), *flags))
    line = sparkline(card.get("trend") or (), card.get("threshold"))
    spark = (
        f'<img class="ev-spark" alt="{escape(_trend_words(card))}" src="{data_url(line)}">' if line else ""
    )
    return (
        f'<div class="ev-card"><div class="ev-marks" title="{escape(state.meaning)}">{top}</div>'
        f"{_score(card)}{spark}{facts(_facts(card, now))}{_last(card, now)}</div>"
    )


def score_words(card: Card) -> str:
    """The score with its band and threshold, in words.

    >>> score_words({"metric": "accuracy", "score": 0.8, "lower": 0.77, "upper": 0.83, "threshold": 0.75})
    'accuracy 0.800, between 0.770 and 0.830, threshold 0.750'
    """
    if card.get("score") is None:
        return f"no {card.get('metric') or 'score'} yet, threshold {number(card.get('threshold'))}"
    band = f", between {number(card.get('lower'))} and {number(card.get('upper'))}"
    known = card.get("lower") is not None and card.get("upper") is not None
    return (
        f"{card.get('metric')} {number(card['score'])}{band if known else ''}, "
        f"threshold {number(card.get('threshold'))}"
    )


def _score(card: Card) -> str:
    side = "at most" if card.get("lower_is_better") else "at least"
    if card.get("score") is None:
        told = "nothing has matured yet"
    elif card.get("lower") is None or card.get("upper") is None:
        told = str(card.get("metric") or "")
    else:
        told = f"{card.get('metric')}, {number(card['lower'])} to {number(card['upper'])}"
    return (
        f'<div><div class="ev-score"><b>{number(card.get("score"))}</b>'
        f'<span class="ev-soft ev-num">{escape(told)}</span></div>'
        f'<div class="ev-soft ev-small ev-num">should be {side} {number(card.get("threshold"))}</div></div>'
    )


def _trend_words(card: Card) -> str:
    known = [value for value in card.get("trend") or () if value is not None]
    return f"{card.get('metric')} lately, from {number(known[0])} to {number(known[-1])}" if known else ""


def _facts(card: Card, now: datetime) -> list[tuple[str, str]]:
    told = [
        ("Champion", champion_words(card)),
        ("Labels", f"{count(card.get('waiting_labels'), 'label')} waiting to mature"),
    ]
    for title, trial in (("Candidate", card.get("candidate")), ("Bake", card.get("bake"))):
        if trial:
            told.append((title, _trial(title, trial)))
    if card.get("last_event"):
        told.append(("Traffic", f"last event {ago(card['last_event'], now)}"))
    return told


def _trial(title: str, trial: Mapping[str, Any]) -> str:
    if title == "Bake":
        return f"{number(trial.get('rows'))} of {number(trial.get('of'))} rows watched"
    e, needed = power(trial.get("log_e")), power(trial.get("needed"))
    return f"version {trial.get('version')}, e-value {e} of {needed} needed"


def _last(card: Card, now: datetime) -> str:
    last = card.get("last_decision")
    if not last:
        return '<p class="ev-last ev-soft">Nothing has been decided yet.</p>'
    word, tone = kind_of(last["kind"])
    return (
        f'<p class="ev-last"><b class="ev-toned ev-{tone}">{escape(word)}</b> '
        f'<span class="ev-soft">{escape(ago(last["at"], now))}</span><br>'
        f'<span class="ev-clamp">{escape(last["reason"])}</span></p>'
    )
