"""What the loop's state says to people and to the API."""

from __future__ import annotations

from typing import Any

from everlearn.loop import bake, judging, watching
from everlearn.loop.champion import champion_rows
from everlearn.loop.engine import Engine
from everlearn.loop.scores import metrics, summed_metrics
from everlearn.loop.state import LoopState, load
from everlearn.spec import ModelSpec


def summary(data: bytes) -> dict[str, Any]:
    """The scores of a model from a checkpoint's state: see the ``/scores`` route for the shape.

    ``served`` are the scores of what was answered: over the newest ``window`` of matured rows, fading,
    and over ``all``. ``baselines`` are what no change and the majority would have scored on the same
    rows. ``champion`` is the metric that decides, with its confidence bounds.
    """
    state = load(data)
    if not state.spec:
        return {"state": "insufficient labels", "rows": 0, "labelled": 0, "matured": 0, "waiting": 0}
    engine = Engine(state)
    return {
        "state": status(state),
        "metric": engine.spec.metric,
        "threshold": engine.threshold,
        "rows": state.rows,
        "labelled": state.learnable,
        "matured": state.matured,
        "waiting": state.learnable - state.loaded - state.matured,
        "corrected": state.corrected,
        "horizon_rows": _horizon(state, engine.spec),
        "served": _served(state, engine.spec),
        "baselines": _baselines(state, engine.spec),
        "champion": _champion(engine),
        "drift": {"warnings": state.drift.warnings, "last": state.drift.last},
        "maturity": state.watermark.maturity(state.rows, state.now),
        "candidate": _candidate(state),
        "bake": _bake(state, engine.spec),
        "estimate": watching.shown(state),
        "regimes": state.regimes.to_dict(engine.spec.regimes),
        "transfer": state.matrix.to_dict(),
        "abstaining": state.abstaining,
        "alerts": state.alerts,
    }


def status(state: LoopState) -> str:
    """The model's state in words: frozen, updating, healthy, degraded or insufficient labels."""
    if state.frozen:
        return "frozen"
    return "updating" if state.activity is not None else state.status


def _candidate(state: LoopState) -> dict[str, Any] | None:
    """The candidate on trial: its evidence so far, which is to reach 1 / alpha."""
    if state.candidate is None:
        return None
    return {"version": state.candidate.trial.version, **judging.numbers_of(state.candidate.trial)}


def _bake(state: LoopState, spec: ModelSpec) -> dict[str, Any] | None:
    """The watch over the newest promotion: the evidence that the old version was better."""
    if state.bake is None:
        return None
    verdict = bake.verdict(state.bake, spec.rollback)
    return {"old": state.bake.old, "new": state.bake.new, "of": state.bake.length, **verdict.numbers}


def _horizon(state: LoopState, spec: ModelSpec) -> int | None:
    if spec.horizon_seconds is not None:
        return None
    return state.watermark.auto_rows if spec.horizon_rows is None else spec.horizon_rows


def _served(state: LoopState, spec: ModelSpec) -> dict[str, Any]:
    newest = state.window[-spec.policy.window :]
    totals = state.totals
    return {
        "window": {"rows": len(newest), **metrics(newest, spec.task)},
        "fading": summed_metrics(totals.fading_sums, totals.fading_weight, spec.task),
        "all": {"rows": totals.rows, **summed_metrics(totals.sums, totals.rows, spec.task)},
    }


def _baselines(state: LoopState, spec: ModelSpec) -> dict[str, Any]:
    totals = state.totals
    return {
        who: summed_metrics(totals.sums, totals.rows, spec.task, who) for who in ("no_change", "majority")
    }


def _champion(engine: Engine) -> dict[str, Any]:
    interval = engine.champion_interval()
    if interval is None:
        return {"rows": len(champion_rows(engine.state, engine.spec)), "value": None}
    return {"rows": interval.rows, "value": interval.value, "lower": interval.lower, "upper": interval.upper}
