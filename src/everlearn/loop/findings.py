"""What the loop has found of a model, from a checkpoint's state: for pages that show one thing each."""

from __future__ import annotations

import math
from typing import Any

from everlearn.loop import bake, watching
from everlearn.loop import evidence as ev
from everlearn.loop.evidence import Evidence
from everlearn.loop.state import LoopState, load
from everlearn.loop.trial import Trial
from everlearn.loop.watch import FeatureWatch
from everlearn.spec import ModelSpec, parse_spec


def remembered(data: bytes) -> list[dict[str, Any]]:
    """The regimes that are remembered; see :meth:`everlearn.loop.regimes.Regimes.to_dict`."""
    return _remembered(load(data))


def _remembered(state: LoopState) -> list[dict[str, Any]]:
    return state.regimes.to_dict(parse_spec(state.spec).regimes) if state.spec else []


def matrix(data: bytes) -> dict[str, Any]:
    """R[version, regime] with the measures of forgetting and transfer, and the regimes themselves."""
    state = load(data)
    return {**state.matrix.to_dict(), "regime_list": _remembered(state)}


def maturity(data: bytes, spec: ModelSpec) -> dict[str, Any]:
    """How late labels come: the curves by rows and by seconds, and the horizon that is waited for."""
    state = load(data)
    known = state.watermark.maturity(state.rows, state.now)
    given = spec.horizon_rows, spec.horizon_seconds
    learned = state.watermark.auto_rows
    return {
        "labels": known["labels"],
        "waiting": state.learnable - state.loaded - state.matured,
        "horizon": {
            "given": spec.label_horizon if isinstance(spec.label_horizon, str) else {"rows": given[0]},
            "rows": learned if given == (None, None) else given[0],
            "seconds": given[1],
            "learned_rows": known["auto_rows"],
        },
        "never": known["never"],
        "by_rows": [point for point in known["curve"] if "age_rows" in point],
        "by_seconds": [point for point in known["curve"] if "age_seconds" in point],
    }


def drift(data: bytes) -> dict[str, Any]:
    """What has moved: the loss by its warnings, every watched column, and the estimate without labels."""
    state = load(data)
    return {
        "warnings": state.drift.warnings,
        "last_seq": state.drift.last or None,
        "warned": state.warned,
        "features": _watched(state.watch),
        "estimate": watching.shown(state),
    }


def _watched(watch: FeatureWatch | None) -> dict[str, Any]:
    if watch is None:
        return {
            "reference": "off",
            "alpha": None,
            "window_rows": None,
            "windows": 0,
            "taken": 0,
            "columns": [],
        }
    return {
        "reference": "building" if watch.building else "ready",
        "alpha": watch.alpha,
        "window_rows": watch.rows,
        "windows": watch.windows,
        "taken": watch.taken,
        "columns": [
            {
                "column": one.column,
                "test": one.test,
                "statistic": one.statistic,
                "p_value": one.p_value,
                "size": one.psi,
                "size_is": "psi",
                "missing_before": one.missing[0],
                "missing_now": one.missing[1],
                "rows": one.rows,
                "reference_rows": one.reference_rows,
                "moved": one.windows > 0,
                "windows_in_a_row": one.windows,
            }
            for one in sorted(watch.latest, key=lambda one: (one.p_value, -one.psi))
        ],
    }


def trial(data: bytes) -> dict[str, Any]:
    """The evidence of the candidate on trial, in every group, and that of the bake."""
    state = load(data)
    if not state.spec:
        return {"candidate": None, "bake": None}
    spec = parse_spec(state.spec)
    return {
        "candidate": None if state.candidate is None else _candidate(state.candidate.trial, spec),
        "bake": _bake(state, spec),
    }


def _candidate(of: Trial, spec: ModelSpec) -> dict[str, Any]:
    log_e, needed = ev.log_better(of.overall), -math.log(of.alpha)
    margin = spec.gate.margin
    return {
        "version": of.version,
        "attempt": of.attempt,
        "rows": of.rows,
        "log_e": log_e,
        "needed": needed,
        "e_value": math.exp(log_e),
        "e_needed": math.exp(needed),
        "alpha": of.alpha,
        "champion_loss": _mean(of.overall.old),
        "candidate_loss": _mean(of.overall.new),
        "groups": [_group(name, seen, needed, margin) for name, seen in sorted(of.groups.items())],
    }


def _group(name: str, seen: Evidence, needed: float, margin: float) -> dict[str, Any]:
    """A group of rows: evidence that the candidate loses no more than the margin there."""
    return {
        "name": name,
        "rows": seen.rows,
        "champion_loss": _mean(seen.old),
        "candidate_loss": _mean(seen.new),
        "log_e": ev.log_both(seen, -margin)[0],
        "needed": needed,
    }


def _mean(moments: ev.Moments) -> float | None:
    return moments.mean if moments.rows else None


def _bake(state: LoopState, spec: ModelSpec) -> dict[str, Any] | None:
    watched = state.bake
    if watched is None:
        return None
    log_e, needed = bake.evidence_of(watched, spec.rollback)
    return {
        "old": watched.old,
        "new": watched.new,
        "rows": watched.rows,
        "of": watched.length,
        "log_e": log_e,
        "needed": needed,
        "served_loss": _mean(watched.evidence.old),
        "old_loss": _mean(watched.evidence.new),
        "held": watched.held,
    }
