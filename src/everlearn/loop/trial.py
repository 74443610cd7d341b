"""A candidate on trial: what its answers and the champion's cost on the same matured rows, and the verdict.

Promotion asks for every bar at once, so each may use the whole share of alpha: a candidate that misses
one of them is promoted with probability at most that share (the intersection-union test, Berger 1982).
The shares of all candidates tried against one champion sum to the gate's alpha.

The losses of a regression are clipped and scaled (``bounded`` and ``scale_of`` in
:mod:`everlearn.loop.gate`). The gate then speaks of the mean of clipped losses, which one wild row cannot
decide.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from everlearn.loop import evidence as ev
from everlearn.loop.evidence import Evidence
from everlearn.loop.forgetting import bound, forgetting
from everlearn.loop.pairs import Columns, Pair, Reliability, columns_of
from everlearn.spec import GateSpec

__all__ = [
    "Columns",
    "Pair",
    "Reliability",
    "Trial",
    "Verdict",
    "columns_of",
    "open_trial",
    "take",
    "undecided",
    "verdict",
]

MOST_GROUPS = 100
OTHERS = "all others"
RARE = "the rare ones together"
NOISE = 2.0
"""A rise of the calibration error within so many standard errors of its limit is not held against it."""


class Trial(msgspec.Struct):
    """A candidate on trial. ``alpha`` is its share; ``opened`` the row at which it began."""

    version: int
    attempt: int
    alpha: float
    opened: int = 0
    binary: bool = True
    required: list[str] = []
    overall: Evidence = msgspec.field(default_factory=Evidence)
    groups: dict[str, Evidence] = {}
    old_bins: Reliability = msgspec.field(default_factory=Reliability)
    new_bins: Reliability = msgspec.field(default_factory=Reliability)
    brier: Evidence = msgspec.field(default_factory=lambda: Evidence(binary=False))

    @property
    def rows(self) -> int:
        """How many rows it has been judged on."""
        return self.overall.rows


class Verdict(msgspec.Struct, frozen=True):
    """``end``: ``promote``, ``reject``, ``expire``, or ``None`` while undecided; why, and on what numbers.

    ``bars`` maps every bar to its numbers and ``passed``: ``True``, ``False`` (for good), or ``None`` for
    not yet, or not asked (then it says ``"asked": False`` and holds up nothing).
    """

    end: str | None
    reason: str
    bars: dict[str, dict[str, Any]]


def open_trial(
    version: int,
    attempt: int,
    gate: GateSpec,
    binary: bool,
    required_groups: Iterable[str] = (),
    opened: int = 0,
) -> Trial:
    """A trial of the candidate number ``attempt`` = 1, 2, … against this champion, at its share of alpha.

    ``required_groups`` must be proven even if no row of theirs comes; others once rows of theirs do.
    """
    alpha = ev.share(gate.alpha, attempt)
    required, overall = sorted(set(required_groups)), Evidence(binary)
    return Trial(version, attempt, alpha, opened, binary, required, overall)


def take(trial: Trial, pairs: Sequence[Pair] | Columns) -> None:
    """Take in matured rows, in the order in which they matured."""
    columns = pairs if isinstance(pairs, Columns) else columns_of(pairs)
    trial.overall.take(columns.old, columns.new)
    for name, mask in columns.groups.items():
        known = name in trial.groups or name in trial.required or len(trial.groups) < MOST_GROUPS
        group = trial.groups.setdefault(name if known else OTHERS, Evidence(trial.binary))
        group.take(columns.old[mask], columns.new[mask])
    _take_calibration(trial, columns)


def _take_calibration(trial: Trial, columns: Columns) -> None:
    sides = (
        (trial.old_bins, columns.old_p, columns.old_right, columns.old),
        (trial.new_bins, columns.new_p, columns.new_right, columns.new),
    )
    if columns.old_p is not None and columns.new_p is not None:
        both = ~(np.isnan(columns.old_p) | np.isnan(columns.new_p))
        for bins, p, right, loss in sides:
            known = 1.0 - loss if right is None and trial.binary else right
            if p is not None and known is not None:
                bins.take(p[both], known[both])
    if columns.old_brier is not None and columns.new_brier is not None:
        both = ~(np.isnan(columns.old_brier) | np.isnan(columns.new_brier))
        trial.brier.take(columns.old_brier[both], columns.new_brier[both])


def verdict(
    trial: Trial,
    gate: GateSpec,
    anchors: Mapping[str, Mapping[str, Any]] | None = None,
    facts: Mapping[str, Any] | None = None,
) -> Verdict:
    """The verdict on a trial as it stands; it may be asked after every row.

    ``anchors`` maps a protected regime to what :func:`~everlearn.loop.forgetting.forgetting` takes of it.
    ``facts`` may hold ``servable`` and ``latency_ms``. What is not given is not asked. Rejected at once: what
    cannot be served, is too slow, or has forgotten; at ``alpha``, what is proven worse, or (``alpha`` split
    among the groups) worse by more than the margin in a group; what is proven better and badly calibrated.
    """
    bars = {"servable": _servable(facts or {}), "latency": _latency(gate, facts or {})}
    if gate.name == "open":
        if bars["servable"]["passed"] is False:
            return Verdict("reject", _why(bars["servable"]), bars)
        return Verdict("promote", "the gate is open", bars)
    bars["forgetting"] = forgetting(gate, anchors or {})
    broken = _failed(bars)
    if broken is not None:
        bound(bars["forgetting"], gate)
    if broken is not None or trial.rows < gate.min_rows:
        few = f"only {trial.rows:,} of at least {gate.min_rows:,} rows"
        return Verdict(None, few, bars) if broken is None else Verdict("reject", _why(bars[broken]), bars)
    bars["superiority"] = _superiority(trial, gate)
    bars["non_inferiority"] = _non_inferiority(trial, gate)
    bars["calibration"] = _calibration(trial, gate)
    end = _end(trial, gate, bars)
    if end is not None:
        _add_bounds(trial, bars)
        bound(bars["forgetting"], gate)
    return Verdict(end, _reason(trial, end, bars), bars)


def undecided(trial: Trial, gate: GateSpec) -> bool:
    """Whether its verdict without anchors and facts has no end yet, told without working out the bars."""
    if gate.name == "open":
        return False
    if trial.rows < gate.min_rows:
        return True
    if trial.groups or trial.required or trial.rows >= gate.label_budget:
        return False
    better, worse = ev.log_both(trial.overall)
    return better < -math.log(trial.alpha) and worse < -math.log(gate.alpha)


def _end(trial: Trial, gate: GateSpec, bars: Mapping[str, Mapping[str, Any]]) -> str | None:
    better = bars["superiority"]["passed"]
    if _failed(bars, ("superiority", "non_inferiority")) or (better and _failed(bars)):
        return "reject"
    if better and not _open(bars):
        return "promote"
    return "expire" if trial.rows >= gate.label_budget else None


def _failed(bars: Mapping[str, Mapping[str, Any]], names: Iterable[str] | None = None) -> str | None:
    names = bars if names is None else names
    return next((name for name in names if bars[name]["passed"] is False), None)


def _open(bars: Mapping[str, Mapping[str, Any]]) -> list[str]:
    return [name for name, bar in bars.items() if bar["passed"] is None and bar.get("asked", True)]


def _why(bar: Mapping[str, Any]) -> str:
    return str(bar["why"])


def _servable(facts: Mapping[str, Any]) -> dict[str, Any]:
    servable = facts.get("servable")
    return {
        "passed": servable,
        "asked": servable is not None,
        "why": "its stored artifact does not answer as it does",
    }


def _latency(gate: GateSpec, facts: Mapping[str, Any]) -> dict[str, Any]:
    took, limit = facts.get("latency_ms"), gate.max_latency_ms
    if took is None or limit is None:
        return {"passed": None, "asked": False, "latency_ms": took, "limit_ms": limit}
    why = f"one row takes {took:.3g} ms, more than {limit:g} ms"
    return {"passed": took <= limit, "latency_ms": took, "limit_ms": limit, "why": why}


def _superiority(trial: Trial, gate: GateSpec) -> dict[str, Any]:
    seen, needed, refuted = trial.overall, -math.log(trial.alpha), -math.log(gate.alpha)
    better, worse = ev.log_both(seen)
    passed = True if better >= needed else False if worse >= refuted else None
    numbers = {**ev.numbers(seen, better, needed), "e_worse": math.exp(worse), "alpha": trial.alpha}
    return {"passed": passed, **numbers}


def _judged(trial: Trial, gate: GateSpec) -> dict[str, Evidence]:
    """The groups that are judged by themselves, and those with few rows as one."""
    by_name = {name: trial.groups.get(name, Evidence(trial.binary)) for name in trial.required}
    rare = []
    for name, group in trial.groups.items():
        if name in by_name or group.rows >= gate.min_rows:
            by_name[name] = group
        else:
            rare.append(group)
    if sum(group.rows for group in rare) >= gate.min_rows:
        by_name[RARE] = ev.pooled(rare, trial.binary)
    return by_name


def _group(seen: Evidence, needed: float, refuted: float, margin: float) -> dict[str, Any]:
    kept, worse = ev.log_both(seen, -margin)
    passed = True if kept >= needed else False if worse >= refuted else None
    return {"passed": passed, **ev.numbers(seen, kept, needed), "e_worse": math.exp(worse)}


def _non_inferiority(trial: Trial, gate: GateSpec) -> dict[str, Any]:
    """In every group: proof that the mean loss rises by less than the margin."""
    judged = _judged(trial, gate)
    needed, refuted = -math.log(trial.alpha), math.log(max(1, len(judged)) / gate.alpha)
    groups = {name: _group(seen, needed, refuted, gate.margin) for name, seen in judged.items()}
    states = [group["passed"] for group in groups.values()]
    passed = False if False in states else None if None in states else True
    if not groups:
        return {"passed": None, "asked": False, "margin": gate.margin, "groups": {}}
    return {"passed": passed, "margin": gate.margin, "groups": groups}


def _calibration(trial: Trial, gate: GateSpec) -> dict[str, Any]:
    """Neither the calibration error nor the Brier score rises above the limit, beyond their noise."""
    limit, brier = gate.max_ece_rise, trial.brier
    if not any(trial.new_bins.rows) and not brier.rows:
        return {"passed": None, "asked": False, "limit": limit}
    (old, noise_old), (new, noise_new) = trial.old_bins.error(), trial.new_bins.error()
    rise, noise = new - old, NOISE * math.hypot(noise_old, noise_new)
    worse, doubt = -brier.gain.mean, NOISE * math.sqrt(brier.gain.spread) / max(1, brier.rows)
    bar = {"ece_old": old, "ece_new": new, "ece_noise": noise, "limit": limit}
    bar |= {"brier_old": brier.old.mean, "brier_new": brier.new.mean, "brier_noise": doubt}
    scores = f"Brier score {brier.old.mean:.3g} → {brier.new.mean:.3g}"
    why = f"badly calibrated: error {old:.3g} → {new:.3g}, {scores}, {limit:g} more allowed"
    return {"passed": rise <= limit + noise and worse <= limit + doubt, **bar, "why": why}


def _add_bounds(trial: Trial, bars: Mapping[str, dict[str, Any]]) -> None:
    """Confidence bounds of the gain, at the end only: they cost more than the verdict."""
    low, high = ev.gain_bounds(trial.overall, 0.05)
    bars["superiority"].update(low=low, high=high, confidence=0.95)


def _reason(trial: Trial, end: str | None, bars: Mapping[str, Mapping[str, Any]]) -> str:
    seen = bars["superiority"]
    losses = f"loss {seen['old_loss']:.4g} → {seen['new_loss']:.4g}"
    e_value = f"e-value {seen['e_value']:.3g}, {seen['needed']:.3g} needed"
    if end == "promote":
        gain = f"gain between {seen['low']:.3g} and {seen['high']:.3g}"
        return f"proven better on {trial.rows:,} rows ({e_value}): {losses}, {gain}"
    if end == "reject":
        return _rejected(trial, bars, losses)
    missing = "; ".join(_missing(bars, e_value))
    if end == "expire":
        return f"its label budget is spent: {missing} on {trial.rows:,} rows, {losses}"
    return f"{missing} on {trial.rows:,} rows so far: {losses}"


def _rejected(trial: Trial, bars: Mapping[str, Mapping[str, Any]], losses: str) -> str:
    seen, groups = bars["superiority"], bars["non_inferiority"]["groups"]
    if seen["passed"] is False:
        return f"proven worse on {trial.rows:,} rows (e-value {seen['e_worse']:.3g}): {losses}"
    lost = next(((name, group) for name, group in groups.items() if group["passed"] is False), None)
    if lost is None:
        return _why(bars[_failed(bars) or "calibration"])
    name, group = lost
    return (
        f"worse by more than {bars['non_inferiority']['margin']:g} in {name}: loss "
        f"{group['old_loss']:.4g} → {group['new_loss']:.4g} on {group['rows']:,} rows "
        f"(e-value {group['e_worse']:.3g})"
    )


def _missing(bars: Mapping[str, Mapping[str, Any]], e_value: str) -> list[str]:
    words = [] if bars["superiority"]["passed"] else [f"not proven better ({e_value})"]
    groups = bars["non_inferiority"]["groups"].items()
    unproven = [name for name, group in groups if group["passed"] is None]
    if unproven:
        words.append(f"not proven as good in {', '.join(unproven[:3])}" + (" …" if unproven[3:] else ""))
    return words or ["undecided"]
