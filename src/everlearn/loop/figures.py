"""What of the loop's state is a figure: for gauges that are read again and again.

It is far less than :func:`everlearn.loop.summary.summary` tells, and costs far less to make.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from everlearn.loop import bake
from everlearn.loop.arrivals import Curve
from everlearn.loop.card import Card, make_card, margin_of
from everlearn.loop.engine import Engine
from everlearn.loop.evidence import log_better
from everlearn.loop.state import LoopState, load

SHARES = (0.5, 0.9, 0.99)
"""Of the labels that come, the shares whose lag is told."""


@dataclass(frozen=True, slots=True)
class Figures:
    """``values`` by name, what is not known left out; ``lags`` in seconds by share of the labels."""

    state: str = "insufficient labels"
    values: Mapping[str, float] = field(default_factory=dict)
    lags: Mapping[float, float] = field(default_factory=dict)
    labels: int = 0
    alerts: Mapping[str, int] = field(default_factory=dict)


def figures(data: bytes) -> Figures:
    """The figures of a checkpoint's state; raises IntegrityError for one that cannot be read."""
    state = load(data)
    if not state.spec:
        return Figures()
    engine = Engine(state)
    card = make_card(engine)
    values = {
        "threshold": card.threshold,
        "waiting_labels": float(card.waiting_labels),
        "matured_rows": float(card.matured),
        "drift_warnings": float(state.drift.warnings),
        "frozen": float(state.frozen),
        "abstaining": float(state.abstaining),
        **dict(_score(card)),
        **dict(_watched(state)),
        **dict(_trial(engine)),
    }
    arrivals = state.watermark.arrivals
    lags = label_lags(arrivals.by_second(state.now))
    return Figures(card.state, values, lags, arrivals.labels, dict(state.alerts))


def label_lags(curve: Curve) -> dict[float, float]:
    """By which age, in seconds, a share of the labels that ever come has come.

    It is read off a curve of label maturity, at the end of the bin in which the share is reached. Empty while
    nobody can tell.
    """
    if not curve.shares or not curve.shares[-1]:
        return {}
    last, ends = curve.shares[-1], [*curve.edges[1:], curve.edges[-1]]
    return {share: float(ends[curve.first(share * last)]) for share in SHARES}


def _score(card: Card) -> Iterator[tuple[str, float]]:
    """The model's metric with its bounds, and by which share of the threshold it keeps it."""
    best = card.lower if card.lower_is_better else card.upper
    found = {
        "score": card.score,
        "score_lower": card.lower,
        "score_upper": card.upper,
        "margin": card.margin,
        "margin_upper": None if best is None else margin_of(best, card.threshold, card.lower_is_better),
    }
    return ((name, value) for name, value in found.items() if value is not None)


def _watched(state: LoopState) -> Iterator[tuple[str, float]]:
    """How many columns are watched, and how many of them have moved."""
    if state.watch is not None and state.watch.columns:
        yield "watched_columns", float(len(state.watch.columns))
        yield "drifting_columns", float(sum(column.found > 0 for column in state.watch.columns.values()))


def _trial(engine: Engine) -> Iterator[tuple[str, float]]:
    """The evidence for the version on trial, and for the version before a new champion."""
    state, spec = engine.state, engine.spec
    if state.candidate is not None:
        trial = state.candidate.trial
        log_e = log_better(trial.overall)
        yield "candidate_version", float(trial.version)
        yield "candidate_log_e_value", log_e
        yield "candidate_evidence_ratio", log_e / -math.log(trial.alpha)
    if state.bake is not None:
        numbers = bake.verdict(state.bake, spec.rollback).numbers
        e_value = max(numbers["e_value"], sys.float_info.min)
        yield "rollback_evidence_ratio", math.log(e_value) / math.log(numbers["needed"])
