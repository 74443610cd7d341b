"""Which learners the blend mixes, by what they may cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from everlearn.learners.inputs import invalid
from everlearn.learners.streaming import Streaming
from everlearn.types import FloatArray

Members = dict[str, dict[str, Any]]

_FAST: Members = {
    "labels": {"name": "rates"},
    "linear": {"name": "linear"},
    "curves": {"name": "additive"},
}
_BALANCED: Members = {
    **_FAST,
    "near": {"name": "knn", "size": 2000, "long": 0, "refresh": 256},
    "trees": {"name": "patches", "trees": 3},
}
_BEST: Members = {
    **_FAST,
    "near": {"name": "knn"},
    "near, far back": {"name": "knn", "size": 4000, "long": 0},
    "trees": {"name": "patches"},
    "forest": {"name": "forest"},
}

_CHEAP = ("rates", "linear", "additive")
_BUDGETS: dict[str, Members] = {"fast": _FAST, "balanced": _BALANCED, "best": _BEST}
_MICROSECONDS = {"fast": 10.0, "balanced": 60.0, "best": 300.0}
_TRUST = {"rates": 0.0}
"""What a member is taken to be worth before anything is known of it, beside the 1 of the others: labels
alone say much on few streams, and there they show it within tens of rows."""


def prior(pool: Mapping[str, Streaming]) -> FloatArray | None:
    """What each expert of a pool is taken to be worth at first, (M,); None where all are as good."""
    shares = [np.full(m.experts, _TRUST.get(m.name, 1.0) / m.experts) for m in pool.values()]
    prior: FloatArray = np.concatenate(shares)
    return prior if prior.sum() > 0.0 else None


def choose(budget: str | float) -> Members:
    """The members for a budget: ``"fast"``, ``"balanced"``, ``"best"``, or microseconds an example.

    Microseconds are of one core of a machine of 2024, for 8 features and two classes, and choose the
    dearest of the three that costs no more. Raises InvalidError for anything else.
    """
    if isinstance(budget, str):
        if budget not in _BUDGETS:
            raise invalid("budget", f"{budget!r} is not a budget: use fast, balanced, best, or microseconds")
        return _BUDGETS[budget]
    if isinstance(budget, bool) or not budget >= _MICROSECONDS["fast"]:
        raise invalid(
            "budget", f"{budget!r} microseconds are too few: use at least {_MICROSECONDS['fast']:g}"
        )
    return _BUDGETS[max((n for n in _BUDGETS if _MICROSECONDS[n] <= budget), key=lambda n: _MICROSECONDS[n])]


def costly(members: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
    """The members that are worth putting to sleep while they do not help."""
    return tuple(label for label, given in members.items() if given["name"] not in _CHEAP)


def build(members: Mapping[str, Mapping[str, Any]], **common: Any) -> dict[str, Streaming]:
    """The members, new. Raises InvalidError for one that is no compiled learner, or if there is none."""
    from everlearn import learners

    if not members:
        raise invalid("members", "is empty: name at least one learner")
    pool = {}
    for label, given in members.items():
        parameters = dict(given)
        member = learners.build(parameters.pop("name"), **common, **parameters)
        if not isinstance(member, Streaming):
            raise invalid("members", f"{label} ({member.name}) is not a learner that a blend can hold")
        pool[label] = member
    return pool
