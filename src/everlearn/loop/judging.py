"""What becomes of versions: candidates on trial, archived ones tried again, promotions watched.

All evidence comes from the same matured rows answered by both sides, which neither had learned from.
Rows are marked as they mature (:func:`note`), sent in batches to a job that lets the other versions
answer them (:func:`dispatch`), and judged when it returns (:func:`on_outcome`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from everlearn.loop import bake, gate, remembering, trial
from everlearn.loop import evidence as ev
from everlearn.loop.scores import error
from everlearn.loop.shadow import MOST_ROWS, MOST_WAITING, Shadow, ShadowRow, marks_of
from everlearn.loop.state import Activity, Archived, Candidate, Known, LoopState
from everlearn.loop.steering import Steered
from everlearn.loop.trial import Trial
from everlearn.types import DecisionKind, JobSpec, Label, Outcome

MAX_KNOWN = 2000
MOST_ARCHIVED = 8
"""Archived versions that are tried at a time: the error budget is split among them."""

ARCHIVED_LOOK = 25
"""Rows between two looks at archived versions: they cost no training, so they are tried in haste."""

ARCHIVED_ROWS = 500
"""Rows after which archived versions that are not proven better are let go."""

AGAINST_NOTHING = 0.5
"""Alpha of a first version: version 0 has learned nothing, so evidence of 2 to 1 is enough to replace it."""

PATIENCE = 4
"""Cooldowns within which a candidate is to be proven before a newer one supersedes it; half of them if its
evidence does not grow as fast as that."""


class Judge(Steered, Protocol):
    """The part of the engine that judging steers."""

    def refuse(self, version: int, reason: str, evidence: Mapping[str, Any]) -> None: ...  # noqa: D102
    def promote(  # noqa: D102
        self, kind: DecisionKind, version: int, reason: str, evidence: Mapping[str, Any]
    ) -> None: ...
    def ask_shadow(self, rows: Sequence[ShadowRow], versions: Sequence[int]) -> str: ...  # noqa: D102
    def look_again(self) -> None: ...  # noqa: D102
    def ask(self, job: JobSpec) -> None: ...  # noqa: D102
    def try_archived(self, reason: str) -> None: ...  # noqa: D102


# -- rows ----------------------------------------------------------------------------------------------


def note(engine: Judge, label: Label) -> None:
    """A row has matured: keep it for those who must answer it too, if there are any."""
    state = engine.state
    if state.candidate is None and state.bake is None and state.archived is None and state.activity is None:
        return
    asked, truth = label.prediction, label.value
    if asked is None or truth is None:
        return
    spec = engine.spec
    groups = gate.groups_of(asked.features, spec) if spec.gate.segments else []
    mark = gate.mark(truth, asked.output, spec)
    state.waiting_rows.append(
        ShadowRow(asked.row, asked.seq, asked.id, truth, asked.version, mark, groups, state.matured)
    )
    if len(state.waiting_rows) > MOST_WAITING:
        del state.waiting_rows[: -MOST_WAITING // 2]


def dispatch(engine: Judge) -> None:
    """Ask for the other versions' answers once enough rows wait."""
    state, spec = engine.state, engine.spec
    if state.candidate is None and state.archived is None and state.bake is None:
        if state.activity is None:
            state.waiting_rows = []
        return
    look = spec.gate.look_every
    if state.archived is not None:
        look = min(look, ARCHIVED_LOOK)
    if state.shadow is not None or len(state.waiting_rows) < look:
        return
    rows, state.waiting_rows = state.waiting_rows[:MOST_ROWS], state.waiting_rows[MOST_ROWS:]
    versions = _asked_versions(state, rows)
    state.shadow = Shadow(engine.ask_shadow(rows, versions), rows, versions)


def _asked_versions(state: LoopState, rows: Sequence[ShadowRow]) -> list[int]:
    asked = set[int]()
    if state.candidate is not None:
        asked.add(state.candidate.trial.version)
    if state.archived is not None:
        asked |= {one.version for one in state.archived.trials}
    if state.bake is not None:
        asked.add(state.bake.old)
    # The champion speaks for itself on the rows that it served.
    if state.champion and (state.candidate or state.archived):
        asked |= {state.champion for row in rows if row.version != state.champion}
    return sorted(asked)


def _pairs(
    engine: Judge,
    shadow: Shadow,
    marks: Mapping[int, Sequence[gate.Mark]],
    version: int,
    after: int,
    **how: Any,
) -> list[trial.Pair]:
    """The rows of a batch that neither the champion nor a version has learned from.

    Only those that matured later than the first ``after``: earlier ones have been counted, or have led to
    the comparison itself.
    """
    state = engine.state
    learned = max(_learned_through(state, number) for number in (version, state.champion))
    pairs = []
    for i, row in enumerate(shadow.rows):
        own = state.champion == row.version
        if row.matured <= after or row.seq <= learned or not (own or state.champion in marks):
            continue
        old = row.mark if own else marks[state.champion][i]
        pairs.append(gate.pair(row.row, old, marks[version][i], row.groups, engine.spec, **how))
    return pairs


def _learned_through(state: LoopState, number: int) -> int:
    known = state.version(number)
    return known.learned_through if known is not None else 0


# -- outcomes ------------------------------------------------------------------------------------------


def on_outcome(engine: Judge, event: Outcome) -> None:
    """A job has ended: what it made is put on trial, or what it scored is judged."""
    state, activity = engine.state, engine.state.activity
    if state.shadow is not None and state.shadow.job == event.job:
        _on_marks(engine, event, state.shadow)
    elif event.job == state.asking:
        remembering.on_outcome(engine, event)
    elif activity is None or activity.job != event.job:
        reason = f"the outcome of {event.job} is not awaited any more"
        engine.decide(DecisionKind.REFUSE, reason, {"job": event.job}, event.version)
    else:
        state.activity = None
        state.budget.finished(state.now, float(event.result.get("facts", {}).get("seconds", 0.0)))
        engine.look_again()
        _on_candidate(engine, event, activity)


def _on_candidate(engine: Judge, event: Outcome, activity: Activity) -> None:
    state = engine.state
    if event.error is not None:
        state.refusals += 1
        evidence = {"job": event.job, "error": event.error}
        engine.decide(DecisionKind.FAIL, f"the update failed: {event.error}", evidence, event.version)
        return
    result = event.result
    state.known.append(Known(event.version, result["learned_through"], result["learned_upto"]))
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
    pairs = [gate.pair(a.row, a.old, a.new, a.groups, spec, scale=scale, by_brier=by_brier) for a in answered]
    trial.take(opened, pairs)
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
    if not _judge_candidate(engine, words):
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


def _quick(
    engine: Judge,
    opened: Trial,
    evidence: Mapping[str, Any],
    words: str,
    scale: float,
    result: Mapping[str, Any],
) -> None:
    """The gate of a stream learner's next version, its parent and a few labels: not proven worse."""
    passed, reason = _not_worse(opened, engine.spec.gate.alpha, result.get("facts", {}))
    numbers = {**evidence, **numbers_of(opened), "end": "promote" if passed else "reject"}
    if passed:
        engine.state.bake_scale = scale
        engine.promote(DecisionKind.PROMOTE, opened.version, f"{words}, {reason}", numbers)
    else:
        engine.state.refusals += 1
        engine.refuse(opened.version, f"{words}, {reason}", numbers)


def _on_marks(engine: Judge, event: Outcome, shadow: Shadow) -> None:
    state = engine.state
    state.shadow = None
    engine.look_again()
    if event.error is not None:
        _unscored(engine, event)
        return
    marks = marks_of(event.result)
    champion = state.champion
    if state.bake is not None and state.bake.old in marks:
        _watch_promotion(engine, shadow, marks)
    if state.champion == champion and state.candidate is not None:
        number = state.candidate.trial.version
        if number in marks:
            how = {"scale": state.candidate.scale, "by_brier": state.candidate.by_brier}
            trial.take(
                state.candidate.trial, _pairs(engine, shadow, marks, number, state.candidate.after, **how)
            )
            _judge_candidate(engine, "")
    if state.champion == champion and state.archived is not None:
        _judge_archived(engine, shadow, marks)


def _unscored(engine: Judge, event: Outcome) -> None:
    state = engine.state
    evidence = {"job": event.job, "error": event.error}
    engine.decide(DecisionKind.FAIL, f"versions could not be scored: {event.error}", evidence, None)
    state.archived = None
    if state.candidate is not None:
        end_candidate(engine, "refused: its answers could not be computed", "reject")


# -- candidates ----------------------------------------------------------------------------------------


def _judge_candidate(engine: Judge, words: str) -> bool:
    """Promote, refuse or keep the candidate on trial; whether its trial has ended."""
    state, spec, candidate = engine.state, engine.spec, engine.state.candidate
    assert candidate is not None
    budget = spec.gate
    if candidate.mode == "incremental":
        most = min(budget.label_budget, 10 * spec.publish_every)
        budget = budget.model_copy(update={"label_budget": most})
    result = candidate.result
    anchors = remembering.protected_anchors(engine, result)
    verdict = trial.verdict(candidate.trial, budget, anchors, result.get("facts"))
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


# -- archived versions ---------------------------------------------------------------------------------


def archived_versions(state: LoopState) -> list[int]:
    """Earlier champions that may come back, the newest first: what was rolled back is not among them."""
    remembered = [one.best for one in reversed(state.regimes.past()) if one.best is not None]
    found = dict.fromkeys([*remembered, *reversed(state.previous)])
    return [n for n in found if n not in (0, state.champion, *state.withdrawn) and state.version(n)]


def try_archived(engine: Judge, reason: str) -> None:
    """Score archived versions beside the champion from now on: the world may have turned back."""
    state, spec = engine.state, engine.spec
    versions = archived_versions(state)[:MOST_ARCHIVED]
    state.archived_tried = True
    if not versions or state.champion == 0:
        return
    state.attempts += 1
    trials = [trial.open_trial(n, state.attempts, spec.gate, gate.binary(spec)) for n in versions]
    for one in trials:
        one.alpha /= len(trials)
    state.archived = Archived(trials, state.matured, reason)
    listed = ", ".join(map(str, versions))
    numbers = {
        "versions": versions,
        "attempt": state.attempts,
        "alpha": ev.share(spec.gate.alpha, state.attempts),
    }
    words = f"archived versions {listed} are scored beside the champion: {reason}"
    engine.decide(DecisionKind.TRIAL, words, {**numbers, "archived": True}, versions[0])


def _judge_archived(engine: Judge, shadow: Shadow, marks: Mapping[int, Sequence[gate.Mark]]) -> None:
    state, spec, archived = engine.state, engine.spec, engine.state.archived
    assert archived is not None
    proven: list[tuple[float, Trial, trial.Verdict]] = []
    for one in archived.trials:
        if one.version in marks:
            trial.take(
                one, _pairs(engine, shadow, marks, one.version, archived.after, scale=state.bake_scale)
            )
        verdict = trial.verdict(one, spec.gate)
        if verdict.end == "promote":
            proven.append((numbers_of(one)["log_e"], one, verdict))
    if proven and not state.frozen:
        _, best, verdict = max(proven, key=lambda item: item[0])
        numbers = {**numbers_of(best), "bars": verdict.bars, "end": "promote", "reused": True}
        reason = f"archived version {best.version} comes back: {verdict.reason}"
        engine.promote(DecisionKind.PROMOTE, best.version, reason, numbers)
    elif max(one.rows for one in archived.trials) >= ARCHIVED_ROWS:
        state.archived = None
        best = max(archived.trials, key=lambda one: numbers_of(one)["log_e"])
        reason = f"no archived version is proven better on {best.rows} rows"
        engine.decide(DecisionKind.HOLD, reason, {**numbers_of(best), "version": best.version})


# -- promotions ----------------------------------------------------------------------------------------


def changed(engine: Judge, kind: DecisionKind, version: int) -> None:
    """Another version is about to answer: end what was compared with the old one, and begin to watch."""
    state, spec = engine.state, engine.spec
    if state.candidate is not None and state.candidate.trial.version != version:
        end_candidate(engine, f"superseded: version {version} answers now", "superseded")
    state.candidate, state.archived = None, None
    state.archived_tried, state.attempts = False, 0
    if kind is DecisionKind.ROLLBACK:
        # What comes next must be proven better than what came back, a stream learner's version too.
        state.bake, state.prove = None, True
        state.quiet_until = state.learnable + spec.rollback.cooldown
        state.at_update = state.learnable
        return
    state.prove = False
    if state.bake is not None:
        state.storm.streak = 0  # the version that is replaced has held so long
    if state.bake is not None and spec.update == "stream":
        state.bake.new = version
    elif state.champion and spec.rollback.bake:
        state.bake = bake.open_bake(state.champion, version, state.rows, spec.rollback, gate.binary(spec))


def _watch_promotion(engine: Judge, shadow: Shadow, marks: Mapping[int, Sequence[gate.Mark]]) -> None:
    """The reverse shadow: bring the old champion back once it is proven better than what was served."""
    state, spec, watched = engine.state, engine.spec, engine.state.bake
    assert watched is not None
    pairs = [
        gate.pair(row.row, marks[watched.old][i], row.mark, row.groups, spec, scale=state.bake_scale)
        for i, row in enumerate(shadow.rows)
        if row.row > watched.opened
    ]
    bake.take(watched, pairs)
    verdict = bake.verdict(watched, spec.rollback)
    if verdict.end == "baked":
        state.bake, state.storm.streak = None, 0
    elif verdict.end == "rollback" and not (
        state.frozen or bake.held_back(state.storm, state.matured, spec.rollback)
    ):
        _roll_back(engine, watched.old, verdict)


def _roll_back(engine: Judge, old: int, verdict: bake.BakeVerdict) -> None:
    state, spec = engine.state, engine.spec
    worse = state.champion
    state.withdrawn = [*state.withdrawn, worse][-50:]
    while state.previous and state.previous.pop() != old:
        pass
    reason = f"version {worse} is worse than version {old}, which comes back: {verdict.reason}"
    engine.promote(DecisionKind.ROLLBACK, old, reason, {**verdict.numbers, "automatic": True})
    if bake.record(state.storm, state.matured, spec.rollback):
        state.frozen, state.held, count = True, "", state.storm.streak
        words = f"frozen: {count} promotions in a row were rolled back; look into it, then unfreeze"
        engine.decide(DecisionKind.FREEZE, words, {"rollbacks": count, "automatic": True}, old)
