"""What if the settings had been others? The same fold over the same moments, once for each setting.

Beside the settings asked for stand the policies that they must beat: *never*, the best fixed cadence
in hindsight, CUSUM, *always*, and the oracle, which knew every loss beforehand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from everlearn.loop import whatif_oracle
from everlearn.loop.engine import Engine
from everlearn.loop.state import LoopState
from everlearn.loop.training import Progress, silent
from everlearn.loop.whatif_driver import Player
from everlearn.loop.whatif_library import Library, digest_of
from everlearn.loop.whatif_record import Recording
from everlearn.loop.whatif_settings import Setting, lean, learner_name, references
from everlearn.loop.whatif_worth import course, losses_of, metric_of, unit_of
from everlearn.spec import ModelSpec
from everlearn.types import Decision, DecisionKind, FloatArray, Outcome, Output, Prediction

MOST_MARKS = 400
"""Changes of champion that a report holds of each setting."""


class Cache(Protocol):
    """What earlier calls worked out, by the digest of what went in."""

    def get(self, key: str) -> dict[str, Any] | None:
        """A result, or ``None``."""
        ...

    def put(self, key: str, value: Mapping[str, Any]) -> None:
        """Keep a result."""
        ...


class NoCache:
    """Keeps nothing."""

    def get(self, key: str) -> dict[str, Any] | None:  # noqa: ARG002
        """Nothing is known."""
        return None

    def put(self, key: str, value: Mapping[str, Any]) -> None:
        """Forget it."""


@dataclass(slots=True)
class Played:
    """One line of the table. Losses are 0/1 (classification) or absolute errors (regression).

    Of numbers, rows asked before any label had come are left out: nobody had an answer.

    ``cost`` is the sum of the losses and the prices of all trainings but the first; ``regret`` is what
    it exceeds the oracle's cost by. ``trained`` counts trainings, ``updates`` changes of champion.
    ``marks`` are the rows at which another version came, and how; ``folding_seconds`` the time that
    this setting took here, with what it could take from others.
    """

    name: str
    role: str
    rows: int
    metric: float | None
    accuracy: float | None
    loss: float
    mean_loss: float | None
    updates: int
    trained: int
    refused: int
    rollbacks: int
    compute_seconds: float | None
    labels_used: int | None
    course: list[float | None]
    marks: list[tuple[int, str]]
    settings: dict[str, Any]
    folding_seconds: float = 0.0
    cost: float = 0.0
    regret: float | None = None
    cached: bool = False

    def to_dict(self) -> dict[str, Any]:
        """It as JSON values."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class WhatIf:
    """What a what-if found: the settings asked for first, then the references and the oracle."""

    spec: ModelSpec
    rows: int
    events: int
    labels: int
    price: float
    lines: Sequence[Played]
    seconds: float
    notes: Sequence[str] = field(default=())

    @property
    def asked(self) -> list[Played]:
        """The settings that were asked for."""
        return [line for line in self.lines if line.role == "setting"]

    @property
    def best(self) -> Played:
        """The cheapest of the settings asked for."""
        return min(self.asked, key=lambda line: line.cost)

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON values."""
        return {
            "rows": self.rows,
            "events": self.events,
            "labels": self.labels,
            "task": self.spec.task,
            "target": self.spec.target,
            "metric": self.spec.metric,
            "price": self.price,
            "seconds": self.seconds,
            "best": self.best.name,
            "notes": list(self.notes),
            "settings": [line.to_dict() for line in self.lines],
        }


def what_if(
    recording: Recording,
    base: ModelSpec,
    settings: Sequence[Setting],
    *,
    price: float | None = None,
    cache: Cache | None = None,
    library: Library | None = None,
    progress: Progress = silent,
) -> WhatIf:
    """Play a recording under each setting and under the reference policies of each of their learners.

    ``base`` are the settings in force: where a recording holds what was really served, it stands beside
    the others. ``price`` of a training, in rows answered wrongly; by default that of ``base``'s policy.
    Seconds are those of the ``library``'s clock.
    """
    library = Library() if library is None else library
    began = library.clock()
    price = base.policy.price if price is None else price
    play = Play(recording, base, NoCache() if cache is None else cache, library, price)
    learners = {learner_name(s.spec): s.spec for s in reversed(settings)}
    many = len(learners) > 1
    sides = [
        (n, [*references(s, recording.labels, n if many else "")]) for n, s in reversed(learners.items())
    ]
    play.total = len(settings) + sum(len(own) + 1 for _, own in sides)
    play.told = progress
    asked = [play.setting(setting) for setting in settings]
    recorded = [play.recorded()] if recording.events is not None else []
    compared: list[Played] = []
    for name, own in sides:
        lines = [play.setting(setting) for setting in own]
        oracle = play.oracle(learners[name], f" + {name}" if many else "")
        compared += [*best_cadence(lines), *([oracle] if oracle else [])]
        known = [s.spec for s in settings]
        mine = [a for a, s in zip(asked, known, strict=True) if learner_name(s) == name]
        if oracle:
            for line in [*mine, *lines, *(recorded if name == learner_name(base) else [])]:
                line.regret = line.cost - oracle.cost
    progress(1.0)
    lines = [*asked, *recorded, *compared]
    seconds = library.clock() - began
    return WhatIf(
        base, len(recording.rows), len(recording.steps), recording.labels, price, lines, seconds,
        [*recording.notes, *play.notes],
    )  # fmt: skip


def best_cadence(lines: Sequence[Played]) -> list[Played]:
    """The references with only the cheapest of the fixed cadences, which says among which."""
    cadences = [line for line in lines if line.role == "cadence"]
    if not cadences:
        return list(lines)
    best = min(cadences, key=lambda line: line.cost)
    tried = ", ".join(line.name.split()[1] for line in cadences)
    best.settings = {**best.settings, "best_of": tried}
    return [line for line in lines if line.role != "cadence" or line is best]


class Play:
    """Plays settings one after another and tells how far it is."""

    def __init__(
        self, recording: Recording, base: ModelSpec, cache: Cache, library: Library, price: float
    ) -> None:
        self.told: Progress = silent
        self.total = 1
        self.notes: list[str] = []
        self._done = 0
        self._recording, self._base, self._cache, self._library = recording, base, cache, library
        self._price = price * unit_of(recording, base)

    def _progress(self, share: float) -> None:
        self.told((self._done + share) / self.total)

    def setting(self, setting: Setting) -> Played:
        """One setting over the recording, or what an earlier call found."""
        kept = self._kept({"spec": setting.spec.to_dict()})
        line = kept or self._fresh(setting)
        self._done += 1
        line.name, line.role = setting.name, setting.role
        line.cost = line.loss + self._price * max(0, line.trained - 1)
        return line

    def _fresh(self, setting: Setting) -> Played:
        began, spec = self._library.clock(), setting.spec
        player = Player(lean(spec), self._recording, self._library)
        player.run(self._progress)
        spent = self._library.clock() - began
        rows = player.decision_rows
        line = self._line(spec, player.outputs, list(zip(rows, player.decisions, strict=True)))
        line.compute_seconds, line.labels_used = player.compute_seconds, player.labels_used
        line.folding_seconds = spent
        self._cache.put(self._key({"spec": spec.to_dict()}), line.to_dict())
        return line

    def recorded(self) -> Played:
        """What was really served: the recorded answers, and the decisions that the record folds to."""
        engine, told, rows = Engine(LoopState()), list[tuple[int, Decision]](), 0
        for event in self._recording.events or ():
            rows += isinstance(event, Prediction)
            engine.step(event)
            told += [(rows, decision) for decision in engine.take().decisions]
        line = self._line(self._base, self._recording.served or (), told)
        line.compute_seconds = _measured(self._recording)
        line.name, line.role = "as it was served", "recorded"
        line.cost = line.loss + self._price * max(0, line.trained - 1)
        return line

    def _line(self, spec: ModelSpec, outputs: Any, told: Sequence[tuple[int, Decision]]) -> Played:
        losses = losses_of(self._recording, outputs, spec)
        metric = metric_of(self._recording, outputs, losses, spec)
        kinds = [decision.kind for _, decision in told]
        marks = [(r, str(d.kind)) for r, d in told if d.kind in (DecisionKind.PROMOTE, DecisionKind.ROLLBACK)]
        return Played(
            name="", role="setting", rows=len(losses), metric=metric, accuracy=_accuracy(losses, spec),
            loss=float(np.nansum(losses)), mean_loss=_mean(losses), updates=len(marks),
            trained=kinds.count(DecisionKind.UPDATE),
            refused=kinds.count(DecisionKind.REFUSE), rollbacks=kinds.count(DecisionKind.ROLLBACK),
            compute_seconds=None, labels_used=None, course=course(losses, spec.task),
            marks=marks[:MOST_MARKS], settings=shown_settings(spec),
        )  # fmt: skip

    def oracle(self, spec: ModelSpec, mark: str) -> Played | None:
        """The best sequence of updates on a grid, for a learner."""
        asked = {"oracle": spec.to_dict(), "price": self._price}
        line = self._kept(asked)
        if line is None:
            line = self._find_best(spec)
            if line is not None:
                self._cache.put(self._key(asked), line.to_dict())
        self._done += 1
        if line is not None:
            line.name, line.role, line.regret = f"oracle{mark}", "oracle", 0.0
        return line

    def _find_best(self, spec: ModelSpec) -> Played | None:
        clock, recording = self._library.clock, self._recording
        began = clock()
        # Until there is a version, the running majority (or mean) answers.
        majority = [Output(known[1]) for known in recording.baselines]
        before = losses_of(recording, majority, spec)
        found = whatif_oracle.best(recording, spec, before, self._price, clock, self._progress)
        if found is None:
            return None
        accuracy, mean = _accuracy(found.losses, spec), _mean(found.losses)
        exact = {"accuracy": accuracy, "mae": mean}.get(spec.metric or "")
        return Played(
            name="oracle", role="oracle", rows=len(recording.rows),
            metric=exact, accuracy=accuracy,
            loss=float(np.nansum(found.losses)), mean_loss=mean, updates=1 + len(found.updates),
            trained=1 + len(found.updates), refused=0, rollbacks=0, compute_seconds=found.compute_seconds,
            labels_used=found.labels_used, course=course(found.losses, spec.task),
            marks=[(row, "promote") for row in found.updates][:MOST_MARKS],
            settings={**shown_settings(spec), "grid": found.points},
            folding_seconds=clock() - began, cost=found.cost,
        )  # fmt: skip

    def _key(self, asked: Mapping[str, Any]) -> str:
        return digest_of([self._recording.digest, dict(asked)])

    def _kept(self, asked: Mapping[str, Any]) -> Played | None:
        if isinstance(self._cache, NoCache):
            return None
        found = self._cache.get(self._key(asked))
        return None if found is None else Played(**{**found, "cached": True})


def shown_settings(spec: ModelSpec) -> dict[str, Any]:
    """The settings that a report tells of."""
    whole = spec.to_dict()
    return {name: whole[name] for name in ("policy", "learner", "gate", "update", "rollback", "drift")}


def _mean(losses: FloatArray) -> float | None:
    known = losses[~np.isnan(losses)]
    return float(known.mean()) if len(known) else None


def _accuracy(losses: FloatArray, spec: ModelSpec) -> float | None:
    mean = _mean(losses)
    return None if spec.task == "regression" or mean is None else 1.0 - mean


def _measured(recording: Recording) -> float | None:
    """The seconds that recorded jobs report, if they do."""
    ended = [e.result.get("facts", {}) for e in recording.events or () if isinstance(e, Outcome)]
    seconds = [facts["seconds"] for facts in ended if facts.get("seconds") is not None]
    return float(sum(seconds)) if seconds else None
