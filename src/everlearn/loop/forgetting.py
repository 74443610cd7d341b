"""The bar against forgetting: what champion and candidate make of anchors that must not be forgotten.

A candidate fails it where it is proven worse by more than the margin on a regime's anchors. For
classification it fails also where its loss rises by more than the margin, and not by chance, on the anchors
of one class, whichever regimes they lie in, or on all of them together: a class that is lost where another is
won leaves a regime's mean as it was, and a little that is lost everywhere shows in the whole alone. The next
version of a stream learner need not be proven better, and the one after it is near: where it loses more than
the margin on all of them together, chance is no excuse. For detection no class's average precision may fall.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from everlearn.loop import evidence as ev
from everlearn.loop.evidence import Evidence
from everlearn.predictor import class_key
from everlearn.spec import GateSpec
from everlearn.types import Scalar

FEWEST_BOXES = 20
"""True boxes of a class that anchors must hold for its average precision to be judged."""


def anchor_numbers(old: Sequence[float], new: Sequence[float], binary: bool) -> dict[str, Any]:
    """Losses of both on a regime's anchors: one entry of what :func:`forgetting` takes."""
    seen = Evidence(binary)
    seen.take(np.asarray(old, dtype=np.float64), np.asarray(new, dtype=np.float64))
    return {
        "rows": seen.rows,
        "champion": seen.old.mean,
        "candidate": seen.new.mean,
        "wins": seen.wins,
        "losses": seen.losses,
        "spread": None if binary else seen.gain.spread,
    }


def class_numbers(
    truths: Sequence[Scalar], old: Sequence[float], new: Sequence[float], binary: bool
) -> dict[str, dict[str, Any]]:
    """:func:`anchor_numbers` of each class among a regime's anchors: the ``classes`` of its entry."""
    rows = defaultdict[str, list[int]](list)
    for i, truth in enumerate(truths):
        rows[class_key(truth)].append(i)
    return {
        name: anchor_numbers([old[i] for i in of], [new[i] for i in of], binary)
        for name, of in sorted(rows.items())
    }


def forgetting(
    gate: GateSpec, anchors: Mapping[str, Mapping[str, Any]], *, doubt: bool = False
) -> dict[str, Any]:
    """The bar: ``passed`` (``None`` where no anchors are given), its numbers, and ``why`` it is failed.

    ``anchors`` maps a protected regime to :func:`anchor_numbers`, and its ``classes``. ``doubt`` is enough to
    fail it on all anchors together: a rise above the margin that chance may have made.
    """
    kept = {name: regime for name, regime in anchors.items() if regime["rows"]}
    regimes = {name: _regime(regime, gate) for name, regime in kept.items()}
    bar: dict[str, Any] = {"passed": None, "margin": gate.margin, "regimes": regimes}
    if not regimes:
        return {**bar, "asked": False}
    bar |= _classes(list(kept.values()), gate, doubt)
    why = _why(bar)
    return {**bar, "passed": why is None, **({} if why is None else {"why": why})}


def bound(bar: Mapping[str, Any], gate: GateSpec) -> None:
    """Confidence bounds of the gain on each regime's anchors, at the end only: they cost much."""
    for regime in bar.get("regimes", {}).values():
        regime["low"], regime["high"] = ev.gain_bounds(_seen(regime), gate.alpha)


def _seen(numbers: Mapping[str, Any]) -> Evidence:
    rows, spread = int(numbers["rows"]), numbers.get("spread")
    gain = ev.Moments(rows, rows * (numbers["champion"] - numbers["candidate"]), spread or 0.0)
    return Evidence(spread is None, numbers["wins"], numbers["losses"], gain)


def _regime(regime: Mapping[str, Any], gate: GateSpec) -> dict[str, Any]:
    """On a regime's anchors not proven worse by more than the margin: reservoirs are too small for more."""
    worse, refuted = ev.log_worse(_seen(regime), -gate.margin), -math.log(gate.alpha)
    told = {name: value for name, value in regime.items() if name != "classes"}
    if _boxes(regime):
        fallen = fallen_classes(regime["classes"], gate.margin)
        told |= {"classes": regime["classes"], "fallen": fallen}
    return {**told, "passed": worse < refuted and not told.get("fallen"), "e_worse": math.exp(worse)}


def _boxes(regime: Mapping[str, Any]) -> bool:
    """Whether what is told of its classes is the average precision of a detection."""
    return any("truths" in one for one in regime.get("classes", {}).values())


def fallen_classes(classes: Mapping[str, Mapping[str, Any]], margin: float) -> list[str]:
    """The classes of a detection whose average precision falls by more than the margin, the deepest first.

    Classes of which the anchors hold fewer than :data:`FEWEST_BOXES` are not judged: chance alone moves them.
    """
    falls = {
        name: found["champion"] - found["candidate"]
        for name, found in classes.items()
        if found["truths"] >= FEWEST_BOXES
    }
    return sorted((name for name, fall in falls.items() if fall > margin), key=lambda name: -falls[name])


def _classes(regimes: Sequence[Mapping[str, Any]], gate: GateSpec, doubt: bool) -> dict[str, Any]:
    """Each class of a classification, in whichever regimes its anchors lie, and all anchors together."""
    by_name = defaultdict[str, list[Mapping[str, Any]]](list)
    for regime in regimes:
        for name, numbers in {} if _boxes(regime) else regime.get("classes", {}).items():
            by_name[name].append(numbers)
    if not by_name:
        return {}
    every = [one for of in by_name.values() for one in of]
    level = gate.alpha / len(by_name)
    return {
        "classes": {name: _risen(parts, gate.margin, level) for name, parts in sorted(by_name.items())},
        "together": _risen(every, gate.margin, 1.0 if doubt else gate.alpha),
    }


def _risen(parts: Sequence[Mapping[str, Any]], margin: float, level: float) -> dict[str, Any]:
    """Both sides' loss on some anchors: failed if it rises by more than the margin, with a p-value of
    ``level`` or less."""
    rows = sum(int(part["rows"]) for part in parts)
    old, new = (sum(part["rows"] * part[side] for part in parts) / rows for side in ("champion", "candidate"))
    each = [_seen(part) for part in parts]
    seen = ev.pooled(each, each[0].binary)
    p = _p_worse(seen)
    numbers = {"rows": rows, "champion": old, "candidate": new, "wins": seen.wins, "losses": seen.losses}
    return {**numbers, "passed": new - old <= margin or p > level, "p_worse": p}


def _p_worse(seen: Evidence) -> float:
    """p-value of "the candidate is no worse here".

    For losses of 0 and 1 it is that of the exact test of McNemar (1947): anchors are asked once for a
    candidate, so nothing need be paid for looking often.
    """
    from scipy.special import betainc

    if not seen.binary:
        return min(1.0, math.exp(-ev.log_worse(seen)))
    return float(betainc(seen.losses, seen.wins + 1, 0.5)) if seen.losses else 1.0


def _why(bar: Mapping[str, Any]) -> str | None:
    """What the anchors say of a candidate that has forgotten something; ``None`` of one that has not."""
    margin = bar["margin"]
    lost = [(name, one) for name, one in bar["regimes"].items() if not one["passed"]]
    lost += [(f"class {name}", one) for name, one in _deepest(bar.get("classes", {})) if not one["passed"]]
    if "together" in bar and not bar["together"]["passed"]:
        lost.append(("some of all that must not be forgotten", bar["together"]))
    if not lost:
        return None
    name, one = lost[0]
    if one.get("fallen"):
        fallen = one["fallen"][0]
        found = one["classes"][fallen]
        return (
            f"it has forgotten {fallen} of {name}: AP50 {found['champion']:.3f} → {found['candidate']:.3f} "
            f"on {found['truths']:,} boxes of {one['rows']:,} anchors, a fall above {margin:g}"
        )
    proof = f"p = {one['p_worse']:.3g}" if "p_worse" in one else f"e-value {one['e_worse']:.3g}"
    return (
        f"it has forgotten {name}: loss {one['champion']:.4g} → {one['candidate']:.4g} on "
        f"{one['rows']:,} anchors, a rise above {margin:g} ({proof})"
    )


def _deepest(classes: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, Mapping[str, Any]]]:
    """Classes with those first whose loss rises most."""
    return sorted(classes.items(), key=lambda item: item[1]["champion"] - item[1]["candidate"])
