"""Plays a stream of rows and delayed labels through the engine, doing its jobs at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from everlearn.errors import EverlearnError
from everlearn.loop import gate
from everlearn.loop.drive import result_of
from everlearn.loop.engine import Effects, Engine
from everlearn.loop.scores import Scored, score_row
from everlearn.loop.state import LoopState
from everlearn.loop.training import Trained, examples_wanted, train
from everlearn.predictor import Predictor
from everlearn.spec import ModelSpec
from everlearn.types import (
    Command,
    Decision,
    Event,
    Example,
    JobSpec,
    Label,
    Outcome,
    Output,
    Prediction,
    Row,
    Scalar,
)

CHUNK = 256
"""Rows that a frozen champion answers at a time."""


@dataclass(frozen=True, slots=True)
class Stream:
    """Rows in time order with their targets (``None``: never labelled) and times, and the label delay.

    A label arrives ``delay_rows`` rows after its own, or ``delay_seconds`` later if that is not None.
    """

    rows: Sequence[Row]
    targets: Sequence[Scalar]
    at: Sequence[float]
    delay_rows: int
    delay_seconds: float | None = None

    def arrived(self, row: int, now: int) -> bool:
        """Whether the label of a row has arrived once row ``now`` has been answered (or, for a delay
        in time, when row ``now`` comes)."""
        if self.delay_seconds is not None:
            return self.at[row] + self.delay_seconds <= self.at[now]
        return row + self.delay_rows <= now


class FileDriver:
    """One replay. After :meth:`run`: what was served, decided and promoted, and when."""

    def __init__(self, spec: ModelSpec, stream: Stream) -> None:
        self.spec = spec
        self.stream = stream
        self.scored: list[Scored] = []
        self.decisions: list[Decision] = []
        self.decision_rows: list[int] = []
        self.first: tuple[int, Predictor] | None = None
        self.known_before: list[int] = []
        self.learning_seconds = 0.0
        self._engine = Engine(LoopState())
        self._predictors: dict[int, Predictor] = {}
        self._working = Predictor.new(spec)
        self._served: list[Output] = []
        self._ahead: list[Output] = []
        self._order: list[int] = []
        self._known: list[tuple[int, int]] = []
        self._now = -1
        self._next_label = 0
        self._seq = 0

    @property
    def engine(self) -> Engine:
        """The engine that decides."""
        return self._engine

    def run(self, progress: Callable[[float], None]) -> None:
        """Play the whole stream; labels that are late at its end arrive then."""
        total = len(self.stream.rows)
        self._fold(Command(self._take_seq(), self.stream.at[0], "configure", {"spec": self.spec.to_dict()}))
        by_time = self.stream.delay_seconds is not None
        for i in range(total):
            if by_time:
                self._labels(i, i)
            self._predict(i)
            if not by_time:
                self._labels(i + 1, i)
            if i % 500 == 0:
                progress(i / total)
        self._labels(total, None)

    def _take_seq(self) -> int:
        self._seq += 1
        return self._seq

    # -- rows and labels ---------------------------------------------------------------------------

    def _predict(self, i: int) -> None:
        self._now = i
        self.known_before.append(len(self._known))
        output = self._answer(i)
        state = self._engine.state
        self._served.append(output)
        seq = self._take_seq()
        self._order.append(seq)
        truth = self.stream.targets[i]
        if truth is not None:
            known = state.baselines.before(seq)
            self.scored.append(score_row(i + 1, state.champion, truth, output, *known))
        row = self.stream.rows[i]
        self._fold(Prediction(seq, self.stream.at[i], str(i), i + 1, state.champion, row, output))

    def _answer(self, i: int) -> Output:
        if self._engine.streaming:
            return self._working.predict([self.stream.rows[i]])[0]
        champion = self._predictors.get(self._engine.state.champion)
        if champion is None:
            return self._engine.state.baselines.majority()
        if not self._ahead:
            self._ahead = champion.predict(self.stream.rows[i : i + CHUNK])[::-1]
        return self._ahead.pop()

    def _labels(self, before: int, now: int | None) -> None:
        """Deliver the labels of rows under ``before`` that have arrived (all of them if now is None)."""
        while self._next_label < before and (now is None or self.stream.arrived(self._next_label, now)):
            row, self._next_label = self._next_label, self._next_label + 1
            if self.stream.targets[row] is not None:
                self._label(row)

    def _label(self, i: int) -> None:
        seq, at, value = self._take_seq(), self.stream.at[max(i, self._now)], self.stream.targets[i]
        row, output = self.stream.rows[i], self._served[i]
        if self._engine.streaming:
            started = time.perf_counter()
            self._working.learn([row], [value])
            self.learning_seconds += time.perf_counter() - started
        self._known.append((seq, i))
        of = Prediction(
            self._order[i], self.stream.at[i], str(i), i + 1, self.scored[-1].version, row, output
        )
        self._fold(Label(seq, at, str(i), value, prediction=of))

    # -- decisions and jobs ------------------------------------------------------------------------

    def _fold(self, event: Event) -> None:
        self._engine.step(event)
        effects = self._engine.take()
        if effects.decisions:
            self._follow(effects)

    def _follow(self, effects: Effects) -> None:
        self.decisions += effects.decisions
        self.decision_rows += [self._now + 1] * len(effects.decisions)
        for promotion in effects.promotions:
            self._ahead = []
            if self.first is None:
                self.first = (self._now + 1, self._predictors[promotion.version])
        for job in effects.jobs:
            self._fold(self._do(job))
        self._forget()

    def _forget(self) -> None:
        state = self._engine.state
        kept = {state.champion, *(state.previous[-1:])}
        self._predictors = {n: p for n, p in self._predictors.items() if n in kept}

    def _do(self, job: JobSpec) -> Outcome:
        seq, at = self._take_seq(), self._engine.state.now
        started = time.perf_counter()
        try:
            trained = self._train(job.arguments)
        except EverlearnError as error:
            return Outcome(seq, at, job.id, job.version, error=error.detail)
        finally:
            self.learning_seconds += time.perf_counter() - started
        self._predictors[job.version] = trained.predictor
        return Outcome(seq, at, job.id, job.version, result_of(trained, None, True))

    def _train(self, plan: Mapping[str, Any]) -> Trained:
        champion = self._predictors.get(plan["champion"])
        if self._engine.streaming and champion is not None:
            return self._snapshot(plan, champion)
        wants = Predictor.new(self.spec).learner.wants
        return train(self.spec, plan, self._examples(**examples_wanted(self.spec, plan, wants)), champion)

    def _snapshot(self, plan: Mapping[str, Any], champion: Predictor) -> Trained:
        """The learner as it is now, judged by what it answered since the last version."""
        new = self._examples(upto=plan["upto"], after=plan["learned_upto"])
        rows = [e.features for e in new]
        answered = [e.output for e in new if e.output is not None]
        evidence = gate.compare(
            _against(new, champion.predict(rows)),
            _against(new, answered),
            self.spec.metric or "",
            self.spec.task,
        )
        through = max(plan["learned_through"], *(e.order for e in new))
        return Trained(
            self._working.copy(), evidence, rows[-20:], new[0].order, through, plan["upto"], len(new)
        )

    def _examples(self, *, upto: int, after: int = 0, newest: int | None = None) -> list[Example]:
        """What :meth:`everlearn.ports.Log.examples` gives; here labels arrive in the order of rows."""
        start = len(self._known)
        while start > 0 and self._known[start - 1][0] > after and len(self._known) - start != newest:
            start -= 1
        stream = self.stream
        return [
            Example(
                self._order[i],
                seq,
                i + 1,
                stream.at[i],
                stream.rows[i],
                stream.targets[i],
                0,
                self._served[i],
            )
            for seq, i in self._known[start:]
            if seq <= upto
        ]


def _against(examples: Sequence[Example], outputs: Sequence[Output]) -> list[Scored]:
    return [score_row(e.row, 0, e.target, o, None, None) for e, o in zip(examples, outputs, strict=True)]
