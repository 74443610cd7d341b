"""What becomes of versions: candidates on trial, archived ones tried again, promotions watched.

All evidence comes from the same matured rows answered by both sides, which neither had learned from.
Rows are marked as they mature (:func:`note`), sent in batches to a job that lets the other versions
answer them (:func:`dispatch`), and judged when it returns (:func:`on_outcome`).
"""

from __future__ import annotations

from collections.abc import Sequence

from everlearn.loop import archive, candidates, promotions, remembering, shadowing, trial
from everlearn.loop.archive import MOST_ARCHIVED, archived_versions, try_archived, unproven
from everlearn.loop.candidates import end_candidate, give_way, numbers_of
from everlearn.loop.promotions import changed
from everlearn.loop.shadow import MOST_ROWS, Shadow, ShadowRow, marks_of
from everlearn.loop.shadowing import note
from everlearn.loop.state import LoopState
from everlearn.loop.steering import Judge
from everlearn.types import DecisionKind, Outcome

__all__ = [
    "MOST_ARCHIVED",
    "archived_versions",
    "changed",
    "dispatch",
    "end_candidate",
    "give_way",
    "note",
    "numbers_of",
    "on_outcome",
    "try_archived",
    "unproven",
]


def dispatch(engine: Judge) -> None:
    """Ask for the other versions' answers once enough rows wait."""
    state, spec = engine.state, engine.spec
    archive.attend(engine)
    if state.candidate is None and state.archived is None and state.bake is None:
        if state.activity is None:
            state.waiting_rows = []
        return
    look = spec.gate.look_every
    if state.archived is not None:
        look = min(look, archive.look_every(state))
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
        asked |= {one.trial.version for one in state.archived.begun}
    if state.bake is not None:
        asked.add(state.bake.old)
    # The champion speaks for itself on the rows that it served.
    if state.champion and (state.candidate or state.archived):
        asked |= {state.champion for row in rows if row.version != state.champion}
    return sorted(asked)


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
        candidates.on_candidate(engine, event, activity)


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
        promotions.watch(engine, shadow, marks)
    if state.champion == champion and state.candidate is not None:
        number = state.candidate.trial.version
        if number in marks:
            how = {"scale": state.candidate.scale, "by_brier": state.candidate.by_brier}
            rows = shadowing.columns(engine, shadow, marks, number, state.candidate.after, **how)
            trial.take(state.candidate.trial, rows)
            candidates.judge(engine, "")
    if state.champion == champion and state.archived is not None:
        archive.judge(engine, shadow, marks)


def _unscored(engine: Judge, event: Outcome) -> None:
    state = engine.state
    evidence = {"job": event.job, "error": event.error}
    engine.decide(DecisionKind.FAIL, f"versions could not be scored: {event.error}", evidence, None)
    state.archived = None
    if state.candidate is not None:
        end_candidate(engine, "refused: its answers could not be computed", "reject")
