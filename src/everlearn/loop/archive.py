"""Archived versions: they stay in shadow, and come back when their concept does.

What served a regime that is past is scored beside the champion for as long as it is remembered, and a
warning of drift brings in more. Nobody knows when a concept will return, so a trial of each version begins
every so many rows, and one at every warning. Together the trials spend one ``gate.alpha``, besides that of
candidates: the probability that any archived version no better than the champion ever replaces it is at most
that. A trial that is behind a later one of the same version is given up, which costs nothing but its chance.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence

from everlearn.loop import evidence as ev
from everlearn.loop import gate, remembering, shadowing, trial
from everlearn.loop.candidates import numbers_of
from everlearn.loop.pairs import Columns
from everlearn.loop.shadow import Shadow
from everlearn.loop.state import Archived, Begun, LoopState
from everlearn.loop.steering import Judge
from everlearn.loop.trial import Trial
from everlearn.spec import GateSpec
from everlearn.types import DecisionKind

MOST_ARCHIVED = 8
"""Archived versions that are tried at a time."""

MOST_REMEMBERED = 4
"""Of these, how many regimes' versions stay in shadow while nothing is the matter."""

EVERY = 25
"""Matured rows between two beginnings of trials."""

LOOK, IDLE = 10, 50
"""Matured rows between two looks after a warning or while some evidence grows, and else."""

ROWS = 500
"""Rows after a warning for which versions are tried that no regime remembers."""

FEWEST = 20
"""Rows of a trial below which nothing is judged: an archived version has passed the gate before."""

GROWING = 1.0
"""Log e-value of a trial that is worth looking at more often."""

KEPT = 3
"""Trials of a version that go on beside the newest, the best of them."""

WARNED = 0.8
"""The part of alpha of the trials that begin at warnings: nearly every return leads to one."""

FLAT = 40
"""So many of the other trials begin with nearly equal shares of alpha, before those of later ones fall."""

FAVOURITE = 1 / 3
"""Where ``share`` is so steep, the first has three quarters."""


# -- who is tried --------------------------------------------------------------------------------------


def archived_versions(state: LoopState) -> list[int]:
    """Earlier champions that may come back, the newest first: what was rolled back is not among them."""
    found = dict.fromkeys([*_remembered(state), *reversed(state.previous)])
    return [number for number in found if _may_return(state, number)]


def _remembered(state: LoopState) -> list[int]:
    return [one.best for one in reversed(state.regimes.past()) if one.best is not None]


def _may_return(state: LoopState, number: int) -> bool:
    """Whether a version may come back: not while the bake asks whether it should have been replaced."""
    if number in (0, unproven(state), state.champion, *state.withdrawn):
        return False
    return state.version(number) is not None and not state.tainted(number)


def unproven(state: LoopState) -> int:
    """The old champion of a bake that has not shown yet that it was right to replace it; 0 for none."""
    return 0 if state.bake is None or state.bake.held else state.bake.old


def watched(state: LoopState) -> list[int]:
    """The versions to be scored: what regimes remember, and after a warning the newest champions."""
    able = archived_versions(state)
    kept = set(_remembered(state))
    standing = [number for number in able if number in kept][:MOST_REMEMBERED]
    warned = state.archived is not None and state.matured < state.archived.until
    return list(dict.fromkeys([*standing, *able[:MOST_ARCHIVED]])) if warned else standing


# -- when trials begin ---------------------------------------------------------------------------------


def attend(engine: Judge) -> None:
    """Begin to watch archived versions once there are any, and begin their trials anew now and then."""
    state, spec = engine.state, engine.spec
    if not spec.policy.reuse:
        state.archived = None
    if not spec.policy.reuse or spec.update == "stream" or not state.champion or state.frozen:
        return
    numbers = watched(state)
    if not numbers:
        return
    if state.archived is None:
        state.archived = Archived(newest=state.matured - EVERY)
    archived = state.archived
    if state.matured - archived.newest >= EVERY:
        _begin(engine, archived, numbers, (1 - WARNED) * share(archived.starts, FLAT))
        archived.starts += 1


def try_archived(engine: Judge, reason: str) -> None:
    """Something has changed: begin trials of archived versions at once, in haste."""
    state, spec = engine.state, engine.spec
    state.archived_tried = True
    if not state.champion:
        return
    archived = state.archived or Archived(newest=state.matured)
    archived.until = state.matured + ROWS
    was, state.archived = state.archived, archived
    versions = watched(state)
    if not versions:
        state.archived = was
        return
    _begin(engine, archived, versions, WARNED * share(archived.warned, 1))
    archived.warned += 1
    listed = ", ".join(map(str, versions))
    words = f"archived versions {listed} are scored beside the champion: {reason}"
    numbers = {"versions": versions, "attempt": archived.warned, "alpha": spec.gate.alpha}
    engine.decide(DecisionKind.TRIAL, words, {**numbers, "archived": True}, versions[0])


def share(place: int, flat: float) -> float:
    """The share of what comes at a place 0, 1, 2, …: all of them sum to 1, the first ``flat`` are much alike.

    >>> [round(share(place, 40), 4) for place in (0, 10, 100)]
    [0.0244, 0.0157, 0.002]
    """
    return flat / ((place + flat) * (place + flat + 1))


def _begin(engine: Judge, archived: Archived, versions: Sequence[int], part: float) -> None:
    """Begin a trial of each version at a part of alpha, most of it for the one that does best so far."""
    state, spec = engine.state, engine.spec
    row = state.window[-1].row if state.window else 0
    attempt = archived.starts + archived.warned + 1
    archived.newest = state.matured
    so_far = dict.fromkeys(versions, -math.inf)
    for begun in archived.begun:
        number = begun.trial.version
        so_far[number] = max(so_far.get(number, -math.inf), ev.log_better(begun.trial.overall))
    for place, number in enumerate(sorted(versions, key=lambda number: -so_far[number])):
        one = trial.open_trial(number, attempt, spec.gate, gate.binary(spec), opened=state.cursor)
        one.alpha = spec.gate.alpha * part * share(place, FAVOURITE)
        one.overall.great = True
        archived.begun.append(Begun(one, state.matured, row))


def look_every(state: LoopState) -> int:
    """Matured rows until archived versions are to be scored again."""
    assert state.archived is not None
    growing = any(ev.log_better(one.trial.overall) > GROWING for one in state.archived.begun)
    return LOOK if growing or state.matured < state.archived.until else IDLE


# -- what comes of them --------------------------------------------------------------------------------


def judge(engine: Judge, shadow: Shadow, marks: Mapping[int, Sequence[gate.Mark]]) -> None:
    """Take in answered rows: the best archived version that is proven better comes back."""
    state, archived = engine.state, engine.state.archived
    assert archived is not None
    bars = asked(engine.spec.gate)
    proven: list[tuple[float, Begun, trial.Verdict]] = []
    ended: list[Begun] = []
    _take(engine, archived.begun, shadow, marks)
    for one in archived.begun:
        if trial.undecided(one.trial, bars):
            continue
        verdict = trial.verdict(one.trial, bars)
        if verdict.end == "promote":
            proven.append((_lead(one.trial), one, verdict))
        elif verdict.end is not None:
            ended.append(one)
    if proven and not state.frozen:
        _, best, verdict = max(proven, key=lambda item: item[0])
        _come_back(engine, best, verdict)
    else:
        archived.begun = [one for one in archived.begun if all(one is not other for other in ended)]
        _give_up(engine, archived)


def _take(
    engine: Judge, begun: Sequence[Begun], shadow: Shadow, marks: Mapping[int, Sequence[gate.Mark]]
) -> None:
    """Add answered rows to every trial; those of one version mostly take in the same ones."""
    matured, scale = [row.matured for row in shadow.rows], engine.state.bake_scale
    columns: dict[tuple[int, int], Columns] = {}
    for one in begun:
        number = one.trial.version
        if number not in marks:
            continue
        key = (number, bisect_right(matured, one.after))
        found = columns.get(key)
        if found is None:
            found = shadowing.columns(engine, shadow, marks, number, one.after, scale=scale)
            columns[key] = found
        trial.take(one.trial, found)


def asked(spec: GateSpec) -> GateSpec:
    """The bars of an archived version: always proof, on fewer rows than a new one."""
    return spec.model_copy(update={"name": "proof", "min_rows": min(spec.min_rows, FEWEST)})


def _lead(one: Trial) -> float:
    """How far the evidence is over what would prove it."""
    return ev.log_better(one.overall) + math.log(one.alpha)


def _come_back(engine: Judge, best: Begun, verdict: trial.Verdict) -> None:
    state, one = engine.state, best.trial
    numbers = {**numbers_of(one), "bars": verdict.bars, "end": "promote", "reused": True}
    reason = f"archived version {one.version} comes back: {verdict.reason}"
    remembering.turned(engine, best.row + 1, f"archived version {one.version} is proven better since")
    level, changed = remembering.level_before(state, engine.spec), state.drift.changed
    engine.promote(DecisionKind.PROMOTE, one.version, reason, numbers)
    if _as_good(one, level):
        state.warned = False  # this was the answer to it
    elif state.warned:
        state.drift.changed = changed  # better, and not as good as was lost: an update is asked for still


def _as_good(one: Trial, level: float | None) -> bool:
    """Whether a version loses no more than was lost before the change, within two standard errors."""
    if not one.binary or level is None:
        return not one.binary
    noise = math.sqrt(max(level * (1.0 - level), 0.01) / max(one.rows, 1))
    return one.overall.new.mean <= level + 2.0 * noise


def _give_up(engine: Judge, archived: Archived) -> None:
    """Let go of trials that lag behind, and of versions that no regime remembers once their time is over."""
    state = engine.state
    over = archived.until and state.matured >= archived.until
    if over:
        _say(engine, archived)
        archived.until = 0
    numbers = watched(state)
    kept = [part for number in numbers for part in _best(archived, number)]
    archived.begun = kept
    if not kept and not numbers:
        state.archived = None


def _say(engine: Judge, archived: Archived) -> None:
    if not archived.begun:
        return
    best = max((one.trial for one in archived.begun), key=lambda one: (_lead(one), one.version))
    reason = f"no archived version is proven better in the {ROWS} rows after the warning"
    engine.decide(DecisionKind.HOLD, reason, {**numbers_of(best), "version": best.version})


def _best(archived: Archived, number: int) -> list[Begun]:
    """The newest trial of a version, and the best ones that are not behind it."""
    trials = [one for one in archived.begun if one.trial.version == number]
    if not trials:
        return []
    *older, newest = sorted(trials, key=lambda one: one.after)
    ahead = [one for one in older if _lead(one.trial) > _lead(newest.trial)]
    ahead.sort(key=lambda one: _lead(one.trial))
    return [*ahead[-KEPT:], newest]
