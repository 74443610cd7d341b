"""Plays a stream of rows and delayed labels through the engine, doing its jobs at once."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from everlearn.errors import EverlearnError
from everlearn.loop import judging, remembering, shadow
from everlearn.loop.anchors import eligible
from everlearn.loop.drive import result_of
from everlearn.loop.engine import Effects, Engine
from everlearn.loop.scores import Scored, score_row
from everlearn.loop.state import LoopState
from everlearn.loop.training import Trained, examples_wanted, judged, learnable, remember, train
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
    """One replay. After :meth:`run`: what was served, decided and promoted, and when.

    A stream learner answers with all that it has learned so far (its versions are still published and
    judged), unless the policy is ``never``; any other model answers with its champion.
    """

    def __init__(self, spec: ModelSpec, stream: Stream, *, reports: bool = True) -> None:
        self.spec = spec
        self.stream = stream
        self.scored: list[Scored] = []
        self.decisions: list[Decision] = []
        self.decision_rows: list[int] = []
        self.first: tuple[int, Predictor] | None = None
        self.known_before: list[int] = []
        self.learning_seconds = 0.0
        self._state = LoopState()
        self._engine = Engine(self._state, reports=reports)
        self._predictors: dict[int, Predictor] = {}
        self._working = Predictor.new(spec)
        self._working.warm()  # what is measured is learning, and not a compiler at its first use
        self._live = spec.update == "stream" and spec.policy.name != "never"
        self._ahead: list[Output] = []
        self._asked: list[Prediction] = []
        self._known: list[Example] = []
        self._next_label = 0
        self._seq = 0

    @property
    def state(self) -> LoopState:
        """The loop's state after the newest event."""
        return self._engine.state

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
        self.known_before.append(len(self._known))
        output, version, seq = self._answer(i), self._state.champion, self._take_seq()
        asked = Prediction(seq, self.stream.at[i], str(i), i + 1, version, self.stream.rows[i], output)
        self._asked.append(asked)
        truth = self.stream.targets[i]
        if truth is not None:
            known = self._state.baselines.before(seq)
            self.scored.append(score_row(i + 1, version, truth, output, *known))
        self._fold(asked)

    def _answer(self, i: int) -> Output:
        if self._live and not self._state.prove:
            return self._working.predict((self.stream.rows[i],))[0]
        champion = self._predictors.get(self._state.champion)
        if champion is None:
            return self._state.baselines.majority()
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
        seq, value, asked = self._take_seq(), self.stream.targets[i], self._asked[i]
        if self._live and not eligible(i + 1, self.spec.regimes.anchor_every):
            started = time.perf_counter()
            self._working.learn((asked.features,), (value,))
            self.learning_seconds += time.perf_counter() - started
        row, version, output = asked.row, asked.version, asked.output
        self._known.append(
            Example(asked.seq, seq, row, asked.at, asked.features, value, version, output),
        )
        self._fold(Label(seq, self._arrival(i), asked.id, value, prediction=asked))

    def _arrival(self, i: int) -> float:
        """When the label of a row arrives."""
        if self.stream.delay_seconds is not None:
            return self.stream.at[i] + self.stream.delay_seconds
        return self._asked[-1].at

    # -- decisions and jobs ------------------------------------------------------------------------

    def _fold(self, event: Event) -> None:
        self._engine.step(event)
        effects = self._engine.take()
        if effects.decisions or effects.jobs:
            self._follow(effects)

    def _follow(self, effects: Effects) -> None:
        answered = len(self._asked)
        self.decisions += effects.decisions
        self.decision_rows += [bisect_right(self._asked, d.seq, key=_seq_of) for d in effects.decisions]
        for promotion in effects.promotions:
            self._ahead = []
            if self._live and promotion.version < max(self._predictors, default=0):
                self._go_back(promotion.version)
            if self.first is None:
                self.first = (answered, self._predictors[promotion.version])
        for job in effects.jobs:
            self._fold(self._do(job))
        self._forget()

    def _forget(self) -> None:
        state = self._state
        kept = {state.champion, *judging.archived_versions(state)[: judging.MOST_ARCHIVED]}
        kept |= {*state.previous[-1:], *(one.best or 0 for one in state.regimes.regimes)}
        if state.candidate is not None:
            kept.add(state.candidate.trial.version)
        if state.bake is not None:
            kept.add(state.bake.old)
        if state.shadow is not None:
            kept |= set(state.shadow.versions)
        if len(self._predictors) > len(kept):
            self._predictors = {n: p for n, p in self._predictors.items() if n in kept}

    def _do(self, job: JobSpec) -> Outcome:
        """Do a job at once. A failure is an outcome, as it is live."""
        seq, at = self._take_seq(), self._state.now
        started = time.perf_counter()
        try:
            if job.kind != "train":
                return Outcome(seq, at, job.id, job.version, self._compare(job))
            trained = self._train(job.arguments)
        except Exception as error:
            words = error.detail if isinstance(error, EverlearnError) else f"{type(error).__name__}: {error}"
            return Outcome(seq, at, job.id, job.version, error=words)
        finally:
            self.learning_seconds += time.perf_counter() - started
        self._predictors[job.version] = trained.predictor
        if self._live and self.first is None:  # it has been answering already, whatever the gate says
            self.first = (len(self._asked), trained.predictor)
        return Outcome(seq, at, job.id, job.version, result_of(trained, None, True))

    def _compare(self, job: JobSpec) -> dict[str, Any]:
        plan = job.arguments
        if job.kind == "regime":
            return remembering.tested(
                plan, self.spec, self._features(remembering.ids_of(plan)), self._predictors
            )
        return shadow.score(
            plan, self.spec, self._features(name for name, _ in plan["rows"]), self._predictors
        )

    def _features(self, ids: Iterable[str]) -> dict[str, Row]:
        return {name: self.stream.rows[int(name)] for name in ids}

    def _train(self, plan: Mapping[str, Any]) -> Trained:
        champion = self._predictors.get(plan["champion"])
        if self._live and champion is not None and plan["mode"] == "incremental":
            trained = self._snapshot(plan, champion)
        else:
            wants = Predictor.new(self.spec).learner.wants
            examples = self._examples(**examples_wanted(self.spec, plan, wants))
            trained = train(self.spec, plan, examples, champion)
        features = self._features(name for kept in plan.get("anchors", {}).values() for name, _ in kept)
        return replace(trained, remembered=remember(self.spec, plan, features, trained.predictor, champion))

    def _snapshot(self, plan: Mapping[str, Any], champion: Predictor) -> Trained:
        """The learner as it is now, judged by what it answered since the last version.

        As live, on the newest ``holdout`` rows. Rows that were asked before the last version are left out:
        the champion knows labels that the answers to them could not know.
        """
        new = self._examples(upto=plan["upto"], after=plan["learned_upto"])
        asked = [
            e for e in new[-plan["holdout"] :] if e.order > plan["learned_upto"] and e.output is not None
        ]
        rows = [e.features for e in asked]
        served = [e.output for e in asked if e.output is not None]
        evidence, answered = judged(self.spec, asked, champion.predict(rows), served)
        through = max(plan["learned_through"], *(e.order for e in new))
        working = self._working.copy()
        return Trained(working, evidence, answered, rows[-20:], new[0].order, through, plan["upto"], len(new))

    def _go_back(self, version: int) -> None:
        """The stream learner goes on from the version that came back, and what came after it."""
        restored = self._predictors.get(version)
        known = self._state.version(version)
        if restored is None or known is None:
            return
        self._working = restored.copy()
        since = learnable(self._examples(upto=self._seq, after=known.learned_upto), self.spec)
        if since:
            self._working.learn([e.features for e in since], [e.target for e in since])

    def _examples(self, *, upto: int, after: int = 0, newest: int | None = None) -> list[Example]:
        """What :meth:`everlearn.ports.Log.examples` gives; here labels arrive in the order of rows."""
        start = bisect_right(self._known, after, key=lambda e: e.known)
        end = bisect_right(self._known, upto, key=lambda e: e.known)
        return self._known[start if newest is None else max(start, end - newest) : end]


def _seq_of(asked: Prediction) -> int:
    return asked.seq
