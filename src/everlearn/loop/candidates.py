"""Candidates: put on trial when their job is done, judged as rows mature, and what ends them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from everlearn.loop import evidence as ev
from everlearn.loop import gate, remembering, trial
from everlearn.loop.forgetting import forgetting
from everlearn.loop.scores import error
from everlearn.loop.state import Activity, Candidate, Known, LoopState
from everlearn.loop.steering import Judge
from everlearn.loop.trial import Trial
from everlearn.spec import GateSpec
from everlearn.types import DecisionKind, Outcome

MAX_KNOWN = 2000

AGAINST_NOTHING = 0.5
"""Alpha of a first version: version 0 has learned nothing, so evidence of 2 to 1 is enough to replace it."""

PATIENCE = 4
"""Cooldowns within which a candidate is to be proven before a newer one supersedes it; half of them if its
evidence does not grow as fast as that."""


def on_candidate(engine: Judge, event: Outcome, activity: Activity) -> None:
    """A training job has ended: put what it made on trial, or say why not."""
    state = engine.state
    if event.error is not None:
        state.refusals += 1
        evidence = {"job": event.job, "error": event.error}
        engine.decide(DecisionKind.FAIL, f"the update failed: {event.error}", evidence, event.version)
        return
    result = event.result
    learned = result["learned_through"], result["learned_upto"]
    sources = _sources(state, activity, result.get("sources", []))
    state.known.append(Known(event.version, *learned, sources=sources, made=event.seq))
    del state.known[:-MAX_KNOWN]
    evidence = {**result["evidence"], "job": event.job, "digest": result["digest"]}
    words = gate.headline(result["evidence"], engine.spec)
    if state.champion != activity.champion:
        reason = f"superseded: version {state.champion} became champion meanwhile"
        engine.refuse(event.version, reason, {**evidence, "end": "superseded"})
    elif state.frozen:
        engine.refuse(event.version, f"frozen; {words}", evidence)
    else:
        _open(engine, event, activity, evidence, words)


def _sources(state: LoopState, activity: Activity, names: Sequence[str]) -> list[int]:
    """The slots of those who gave what a version learned from, its parent's too where it goes on from it."""
    parent = state.version(activity.champion) if activity.mode != "fresh" else None
    slots = state.feedback.slots(names)
    return sorted({*slots, *parent.sources}) if parent is not None else slots


def _open(engine: Judge, event: Outcome, activity: Activity, evidence: Mapping[str, Any], words: str) -> None:
    """Put a candidate on trial, with the rows that were kept from it as the first evidence."""
    state, spec, result = engine.state, engine.spec, event.result
    answered = msgspec.convert(result.get("answers", []), list[gate.Answered]) if activity.counted else []
    by_brier = activity.mode == "recalibrate" and gate.binary(spec)
    scale = _scale(engine, answered) if spec.task == "regression" else 0.0
    quick = activity.mode == "incremental" and not state.prove and spec.gate.name == "proof"
    attempt = 1 if quick else state.attempts + 1
    zero_one = gate.binary(spec) and not by_brier
    opened = trial.open_trial(event.version, attempt, spec.gate, zero_one, opened=state.cursor)
    if state.champion == 0:
        opened.alpha = AGAINST_NOTHING
    old, new, groups = ([getattr(a, name) for a in answered] for name in ("old", "new", "groups"))
    trial.take(opened, gate.columns(old, new, groups, spec, scale=scale, by_brier=by_brier))
    if quick:
        _quick(engine, opened, evidence, words, scale, result)
        return
    remembering.measured(engine, event.version, result)
    state.attempts = attempt
    kept = {name: value for name, value in result.items() if name != "answers"}
    kept["evidence"] = dict(evidence)
    state.candidate = Candidate(
        opened, activity.mode, state.learnable, activity.matured, kept, scale, by_brier
    )
    if not judge(engine, words):
        numbers = {**evidence, **numbers_of(opened)}
        shown = f"{words} on {opened.rows} rows: " if opened.rows else ""
        reason = (
            f"{shown}learned from {result['rows']} examples, is scored in shadow until the evidence decides"
        )
        engine.decide(DecisionKind.TRIAL, reason, numbers, event.version)


def _scale(engine: Judge, answered: Sequence[gate.Answered]) -> float:
    """The unit of errors of a regression's trial: by the rows it begins with, else by those last scored."""
    marks = [row.old for row in answered] or [gate.Mark(abs(error(s))) for s in engine.state.window]
    return gate.scale_of(marks)


def numbers_of(of: Trial) -> dict[str, Any]:
    """The evidence of a trial as it stands: its e-value is to reach 1 / ``alpha``."""
    seen = of.overall
    log_e = ev.log_better(seen)
    shown = ev.numbers(seen, log_e, -math.log(of.alpha))
    return {
        **shown,
        "attempt": of.attempt,
        "alpha": of.alpha,
        "log_e": log_e,
        "e": math.exp(min(log_e, 700.0)),
    }


def _not_worse(of: Trial, alpha: float, facts: Mapping[str, Any]) -> tuple[bool, str]:
    """Whether a version passes that need not be better, and why; doubt passes."""
    if not facts.get("servable", True):
        return False, "its stored artifact does not answer as it does"
    worse = ev.log_worse(of.overall)
    proven = worse >= -math.log(alpha)
    word = "proven worse" if proven else "not proven worse"
    return (
        not proven,
        f"{word} on {of.rows} rows (e-value {math.exp(worse):.3g}, {1 / alpha:.3g} would prove it)",
    )


def _instead_of_tainted(state: LoopState, candidate: Candidate, gate_spec: GateSpec) -> trial.Verdict | None:
    """The gate of a version that replaces one that learned what is un-learned: not proven worse.

    ``None`` where the champion did not, and until the rows are enough to tell.
    """
    if not state.tainted(state.champion) or candidate.trial.rows < gate_spec.min_rows:
        return None
    passed, reason = _not_worse(candidate.trial, gate_spec.alpha, candidate.result.get("facts", {}))
    what = "erased" if state.has_erased(state.champion) else "un-learned"
    words = f"version {state.champion} learned what is {what}, and this one is {reason}"
    return trial.Verdict("promote" if passed else "reject", words, {})


def _quick(
    engine: Judge,
    opened: Trial,
    evidence: Mapping[str, Any],
    words: str,
    scale: float,
    result: Mapping[str, Any],
) -> None:
    """The gate of a stream learner's next version, its parent and a few labels: not proven worse, and nothing
    forgotten that must not be."""
    passed, reason = _not_worse(opened, engine.spec.gate.alpha, result.get("facts", {}))
    bar = forgetting(engine.spec.gate, remembering.protected_anchors(engine, result), doubt=True)
    if passed and bar["passed"] is False:
        passed, reason = False, bar["why"]
    numbers = {**evidence, **numbers_of(opened), "end": "promote" if passed else "reject"}
    if bar.get("asked", True):
        numbers["bars"] = {"forgetting": bar}
    if passed:
        engine.state.bake_scale = scale
        engine.promote(DecisionKind.PROMOTE, opened.version, f"{words}, {reason}", numbers)
    else:
        engine.state.refusals += 1
        engine.refuse(opened.version, f"{words}, {reason}", numbers)


def judge(engine: Judge, words: str) -> bool:
    """Promote, refuse or keep the candidate on trial; whether its trial has ended."""
    state, spec, candidate = engine.state, engine.spec, engine.state.candidate
    assert candidate is not None
    budget = spec.gate
    if candidate.mode == "incremental":
        most = min(budget.label_budget, 10 * spec.publish_every)
        budget = budget.model_copy(update={"label_budget": most})
    result = candidate.result
    anchors = remembering.protected_anchors(engine, result)
    verdict = _instead_of_tainted(state, candidate, budget) or trial.verdict(
        candidate.trial, budget, anchors, result.get("facts")
    )
    if verdict.end is None:
        return False
    numbers = {**result["evidence"], **numbers_of(candidate.trial)}
    numbers |= {"bars": verdict.bars, "end": verdict.end}
    if spec.task == "regression":
        numbers["scale"] = candidate.scale
    words = f"{words}, {verdict.reason}" if words else verdict.reason
    version = candidate.trial.version
    if verdict.end == "promote" and state.frozen:
        engine.refuse(version, f"frozen; {words}", numbers)
        state.candidate = None
    elif verdict.end == "promote":
        state.bake_scale = candidate.scale
        engine.promote(DecisionKind.PROMOTE, version, words, numbers)
    else:
        state.refusals += 1
        state.candidate = None
        engine.refuse(version, words, numbers)
    return True


def give_way(engine: Judge) -> bool:
    """Whether the candidate on trial gives way to a newer one: not while it is on its way to be proven."""
    state, candidate = engine.state, engine.state.candidate
    assert candidate is not None
    if candidate.mode == "incremental":
        return False
    waited = state.learnable - candidate.opened
    if state.champion == 0 and waited < engine.spec.policy.first_rows:
        return False
    patience = PATIENCE * engine.spec.policy.cooldown
    # The logarithm of an e-value grows with the rows, if there is something to prove. Half the pace will do,
    # but not after a drift: what was learned soon after it is best replaced by what can be learned now.
    pace = numbers_of(candidate.trial)["log_e"] * (2 if state.drift.changed is None else 1)
    on_track = pace * patience >= -math.log(candidate.trial.alpha) * waited
    if waited < (patience if on_track else patience // 2):
        return False
    end_candidate(engine, "superseded: a newer candidate is being made", "superseded")
    return True


def end_candidate(engine: Judge, reason: str, end: str) -> None:
    """End a trial without a verdict of its evidence."""
    candidate = engine.state.candidate
    if candidate is None:
        return
    engine.state.candidate = None
    numbers = {**candidate.result["evidence"], **numbers_of(candidate.trial), "end": end}
    engine.refuse(candidate.trial.version, reason, numbers)
