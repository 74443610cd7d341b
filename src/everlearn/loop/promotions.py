"""Promotions: what begins when another version answers, the watch over it, and the rollback."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from everlearn.loop import bake, gate, remembering
from everlearn.loop.candidates import end_candidate
from everlearn.loop.shadow import Shadow
from everlearn.loop.state import LoopState
from everlearn.loop.steering import Judge
from everlearn.types import DecisionKind


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
    elif state.champion and spec.rollback.bake and not state.tainted(state.champion):
        state.bake = bake.open_bake(state.champion, version, state.rows, spec.rollback, gate.binary(spec))


def watch(engine: Judge, shadow: Shadow, marks: Mapping[int, Sequence[gate.Mark]]) -> None:
    """The reverse shadow: bring the old champion back once it is proven better than what was served."""
    state, spec, watched = engine.state, engine.spec, engine.state.bake
    assert watched is not None
    pairs = [
        gate.pair(row.row, marks[watched.old][i], row.mark, row.groups, spec, scale=state.bake_scale)
        for i, row in enumerate(shadow.rows)
        if row.row > watched.opened and _was_served(state, watched, row.version)
    ]
    bake.take(watched, pairs)
    if state.cost.asked and gate.binary(spec):
        for row in pairs:
            state.cost.compared(row.old, row.new)
    bake.hold(watched, spec.rollback)
    verdict = bake.verdict(watched, spec.rollback)
    if verdict.end == "baked":
        state.bake, state.storm.streak = None, 0
    elif verdict.end == "rollback" and not (
        state.frozen or bake.held_back(state.storm, state.matured, spec.rollback)
    ):
        _roll_back(engine, watched, verdict)


def _was_served(state: LoopState, watched: bake.Bake, version: int) -> bool:
    """Whether a row's answer is what the bake watches: not that of a candidate, or of another version."""
    if version in (watched.old, watched.new):
        return True
    return watched.old < version < watched.new and state.stood(version)


def _roll_back(engine: Judge, watched: bake.Bake, verdict: bake.BakeVerdict) -> None:
    """Bring the old champion back.

    A version that had been proven better in service was right for a while: the concept it was made for has
    gone, and may return. It may then come back too, and does not count as a promotion that failed.
    """
    state, spec, old = engine.state, engine.spec, watched.old
    worse = state.champion
    while state.previous and state.previous.pop() != old:
        pass
    if watched.held:
        state.previous.append(worse)
        newest = state.window[-1].row if state.window else 0
        remembering.turned(engine, newest + 1 - bake.turned(watched), f"version {old} is better again")
    else:
        state.withdrawn = [*state.withdrawn, worse][-50:]
    reason = f"version {worse} is worse than version {old}, which comes back: {verdict.reason}"
    numbers = {**verdict.numbers, "automatic": True, "withdrawn": not watched.held}
    held, streak = watched.held, state.storm.streak
    engine.promote(DecisionKind.ROLLBACK, old, reason, numbers)
    storm = bake.record(state.storm, state.matured, spec.rollback)
    if held:
        state.storm.streak = streak
    elif storm:
        state.frozen, state.held, count = True, "", state.storm.streak
        words = f"frozen: {count} promotions in a row were rolled back; look into it, then unfreeze"
        engine.decide(DecisionKind.FREEZE, words, {"rollbacks": count, "automatic": True}, old)
