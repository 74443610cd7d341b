"""How the fold remembers regimes: it cuts them at drift, keeps their anchors, and has them tested.

The tests need features, so a job makes them (:func:`tested`); the fold judges by what it reports.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from everlearn.features.encoder import Encoder
from everlearn.loop import changepoint, gate
from everlearn.loop.recurrence import FEWEST, Memory, kind_of_change, recognise
from everlearn.loop.regimes import LEAST_ROWS, Regime
from everlearn.loop.scores import loss
from everlearn.loop.shadow import Answers
from everlearn.loop.state import LoopState, Recent
from everlearn.loop.steering import Steered
from everlearn.loop.transfer import constant_accuracy
from everlearn.spec import ModelSpec, RegimeSpec
from everlearn.types import DecisionKind, FloatArray, JobSpec, Label, Outcome, Row
from everlearn.vision.boxes import parse

RECENT = 200
"""Matured rows of the current stretch that are kept to be compared with the anchors."""

LOOKS = (60, 200, 800, 3200)
"""Matured rows of a stretch at which it is asked whether a known regime has come back."""


class Rememberer(Steered, Protocol):
    """The part of the engine that remembering steers."""

    def ask(self, job: JobSpec) -> None: ...  # noqa: D102
    def try_archived(self, reason: str) -> None: ...  # noqa: D102


def note(state: LoopState, spec: RegimeSpec, labels: Iterable[Label]) -> None:
    """Take in matured rows, where regimes are remembered."""
    recent, take = state.recent, state.regimes.take
    for label in labels:
        asked, truth = label.prediction, label.value
        if asked is None or truth is None:
            continue
        take(asked.row, asked.id, truth, asked.at, spec, label.source)
        recent.append(Recent(asked.row, asked.seq, asked.id, truth, label.source))
        if len(recent) >= 2 * RECENT:
            del recent[:-RECENT]


def correct(engine: Rememberer, label: Label) -> None:
    """A label was wrong: so is what is remembered of its row. A matured score stays as it was counted."""
    state, asked, truth = engine.state, label.prediction, label.value
    if asked is None or truth is None:
        return
    state.regimes.correct(asked.row, truth, label.source)
    for recent in state.recent:
        if recent.row == asked.row:
            recent.truth, recent.source = truth, label.source


def cut(engine: Rememberer, reason: str) -> None:
    """The champion's loss has risen: a new regime begins where that is most likely to have begun."""
    state, current = engine.state, engine.state.regimes.current
    if not engine.spec.regimes.anchor_every or current is None:
        return
    since = current.stretches[-1][0]
    rows = [s for s in state.window if s.version == state.champion and s.row >= since]
    place = changepoint.rise(np.array([loss(s, engine.spec.task) for s in rows], dtype=np.float64))
    if place is not None:
        _cut_at(engine, rows[place].row, reason)


def since(state: LoopState) -> int:
    """The row at which the concept that is there now is thought to have begun."""
    current = state.regimes.current
    return 0 if current is None else current.stretches[-1][0]


def level_before(state: LoopState, spec: ModelSpec) -> float | None:
    """The champion's mean loss on the newest rows before the current stretch; ``None`` with too few."""
    began = since(state)
    rows = [s for s in state.window if s.version == state.champion and s.row < began]
    return sum(loss(s, spec.task) for s in rows) / len(rows) if len(rows) >= FEWEST else None


def turned(engine: Rememberer, row: int, reason: str) -> None:
    """Another version has been proven better since a row: its concept has come back, and this one is over.

    Nothing follows if the current stretch began about there anyway.
    """
    current = engine.state.regimes.current
    if current is not None and row - current.stretches[-1][0] >= LEAST_ROWS:
        _cut_at(engine, row, reason)


def _cut_at(engine: Rememberer, began: int, reason: str) -> None:
    state, spec, before = engine.state, engine.spec.regimes, engine.state.regimes.opened
    regime = state.regimes.cut(began, reason, spec)
    if regime is None or state.regimes.opened == before:
        return
    state.recent = [row for row in state.recent if row.row >= began]
    state.looks = 0
    state.matrix.keep([one.number for one in state.regimes.regimes])
    words = f"regime {regime.number} begins at row {began}: {reason}"
    engine.decide(DecisionKind.REGIME, words, {"regime": regime.number, "row": began}, state.champion)


def anchors_of(state: LoopState, spec: RegimeSpec, mode: str) -> dict[str, Any]:
    """The anchors that a job is to have answered, as its plan carries them.

    Those of every regime that has enough of them, but for the next version of a stream learner, which comes
    often: those of regimes that must not be forgotten since an operator says so. Those that must not be
    forgotten are named, where there are any.
    """
    kept = [
        one.number
        for one in state.regimes.protected(spec)
        if one.reservoir.entries and (mode != "incremental" or spec.told(one.number))
    ]
    asked = [
        one for one in state.regimes.regimes if one.number in kept or (mode != "incremental" and _able(one))
    ]
    plan: dict[str, Any] = {"anchors": {str(one.number): _entries(one) for one in asked}}
    return {**plan, "protected": [str(number) for number in kept]} if kept else plan


def _able(regime: Regime) -> bool:
    return len(regime.reservoir.entries) >= FEWEST


def _entries(regime: Regime) -> list[list[Any]]:
    return [[anchor.id, anchor.truth] for anchor in regime.reservoir.entries]


def measured(engine: Rememberer, version: int, result: Mapping[str, Any]) -> None:
    """Put what a candidate and the champion score on the anchors into the matrix R."""
    state, current = engine.state, engine.state.regimes.current
    found = result.get("anchors") or {}
    if current is None or not found or engine.spec.task != "classification":
        return
    state.matrix.baseline = {
        str(one.number): constant_accuracy([anchor.truth for anchor in one.reservoir.entries])
        for one in state.regimes.regimes
        if _able(one)
    }
    for number, side in ((state.champion, "champion"), (version, "candidate")):
        if number:
            shares = {name: 1.0 - v[side] for name, v in found.items() if name in state.matrix.baseline}
            state.matrix.put(number, current.number, shares)


def protected_anchors(engine: Rememberer, result: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """What a job found on the anchors of regimes that must not be forgotten, by their names."""
    found = result.get("anchors") or {}
    kept = engine.state.regimes.protected(engine.spec.regimes)
    return {one.name: found[str(one.number)] for one in kept if str(one.number) in found}


# -- tests ---------------------------------------------------------------------------------------------


def dispatch(engine: Rememberer) -> None:
    """Ask whether a known regime has come back, and what became of the old ones, at a few sizes."""
    state, current = engine.state, engine.state.regimes.current
    if current is None or state.asking or state.looks >= len(LOOKS) or current.newest < LOOKS[state.looks]:
        return
    state.looks += 1
    known = {str(one.number): one for one in state.regimes.past() if _able(one) and _answering(state, one)}
    learned = state.version(state.champion)
    rows = [row for row in state.recent if learned is None or row.seq > learned.learned_through][-RECENT:]
    if not known or len(rows) < FEWEST or not state.champion:
        return
    plan = {
        "rows": [[row.id, row.truth] for row in rows],
        "incumbent": state.champion,
        "own": current.best == state.champion,
        "known": {name: {"version": one.best, "anchors": _entries(one)} for name, one in known.items()},
        "look": state.looks,
        "spec": engine.spec.to_dict(),
    }
    state.asking = f"{engine.spec.name}-regime-{state.cursor}"
    engine.ask(JobSpec(state.asking, engine.spec.name, "regime", state.champion, plan))


def _answering(state: LoopState, regime: Regime) -> bool:
    best = regime.best
    return best is not None and best > 0 and state.version(best) is not None and not state.has_erased(best)


def versions_of(plan: Mapping[str, Any]) -> set[int]:
    """The versions that a plan of tests needs."""
    return {plan["incumbent"], *(one["version"] for one in plan["known"].values())}


def ids_of(plan: Mapping[str, Any]) -> list[str]:
    """The predictions whose features a plan of tests needs."""
    anchors = [name for one in plan["known"].values() for name, _ in one["anchors"]]
    return [*(name for name, _ in plan["rows"]), *anchors]


def tested(
    plan: Mapping[str, Any], spec: ModelSpec, features: Mapping[str, Row], versions: Mapping[int, Answers]
) -> dict[str, Any]:
    """The result of a job that tests the new rows against every known regime."""
    sides = _Sides(spec, features, versions)
    new, known, incumbent = plan["rows"], plan["known"], plan["incumbent"]
    own = sides.losses(incumbent, new)
    memories = [
        Memory(
            int(number),
            one["version"],
            sides.encoded(one["anchors"]),
            sides.truths(one["anchors"]),
            sides.losses(one["version"], one["anchors"]),
            sides.losses(one["version"], new),
        )
        for number, one in known.items()
    ]
    X, y = sides.encoded(new), sides.truths(new)
    found = recognise(X, y, incumbent, own, memories, look=plan["look"], seed=spec.seed)
    changes = {}
    if plan["own"] and found.regime is None:
        for memory in memories:
            if memory.version != incumbent:
                anchors = known[str(memory.number)]["anchors"]
                change = kind_of_change(
                    memory.X,
                    X,
                    memory.anchor_losses,
                    sides.losses(incumbent, anchors),
                    memory.new_losses,
                    own,
                )
                changes[str(memory.number)] = change.to_dict()
    return {"recognition": {**found.to_dict(), "reason": found.reason}, "changes": changes}


class _Sides:
    """Rows of a plan as the tests want them."""

    def __init__(self, spec: ModelSpec, features: Mapping[str, Row], versions: Mapping[int, Answers]) -> None:
        self._spec, self._features, self._versions = spec, features, versions
        self._encoder = Encoder(spec.features)
        self._encoder.learn(list(features.values()))

    def encoded(self, rows: Sequence[Sequence[Any]]) -> FloatArray:
        return self._encoder.transform([self._features[name] for name, _ in rows])

    def truths(self, rows: Sequence[Sequence[Any]]) -> Any:
        if self._spec.task == "regression":
            return np.array([float(truth) for _, truth in rows])
        if self._spec.task == "detection":
            return np.array([float(len(parse(truth))) for _, truth in rows])
        return np.array([str(truth) for _, truth in rows])

    def losses(self, version: int, rows: Sequence[Sequence[Any]]) -> FloatArray:
        answers = self._versions[version].predict([self._features[name] for name, _ in rows])
        marks = [gate.mark(truth, o, self._spec) for (_, truth), o in zip(rows, answers, strict=True)]
        scale = gate.scale_of(marks)
        return np.array([gate.bounded(m, self._spec, scale) for m in marks])


def on_outcome(engine: Rememberer, event: Outcome) -> None:
    """The tests are back: join the current stretch to a known regime, or judge the old ones."""
    state = engine.state
    state.asking = ""
    if event.error is not None:
        words = f"regimes could not be tested: {event.error}"
        engine.decide(DecisionKind.FAIL, words, {"job": event.job, "error": event.error})
        return
    found, current = event.result["recognition"], state.regimes.current
    number = found["regime"]
    if number is not None and current is not None and state.regimes.find(number) in state.regimes.past():
        gone = current.number
        state.regimes.recognise(number, found["reason"], engine.spec.regimes)
        state.matrix.merge(gone, number)
        state.looks = len(LOOKS)
        evidence = {**found, "recognised": True, "was": gone}
        engine.decide(DecisionKind.REGIME, found["reason"], evidence, state.champion)
        if engine.spec.policy.reuse and not state.frozen and state.archived is None:
            engine.try_archived(found["reason"])
    for name, change in event.result["changes"].items():
        _judge(engine, int(name), change)


def _judge(engine: Rememberer, number: int, change: Mapping[str, Any]) -> None:
    regimes = engine.state.regimes
    regime = regimes.find(number)
    if regime is None or change["kind"] == "undecided":
        return
    was = (regime.protected, regime.obsolete)
    regimes.judge(number, change["kind"], change["reason"])
    if (regime.protected, regime.obsolete) != was:
        words = f"regime {number} is {change['kind']}: {change['reason']}"
        evidence = {**change, "regime": number, "protected": regime.protects(engine.spec.regimes)}
        engine.decide(DecisionKind.REGIME, words, evidence)
