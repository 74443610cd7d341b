"""The fold: ``advance(state, events) -> state', decisions`` and what they ask for.

It is the only place that decides. It reads no clock, file or database: the same events in the same
order give the same decisions, live, in a replay and in a test.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from everlearn.errors import IntegrityError
from everlearn.loop import commands, gate, policy
from everlearn.loop.bounds import Interval
from everlearn.loop.drift import ErrorDrift
from everlearn.loop.maturity import Waiting
from everlearn.loop.scores import Scored, loss, metric_interval, score_row, terms_of
from everlearn.loop.state import Activity, Known, LoopState, dump, load, spec_of
from everlearn.spec import ModelSpec
from everlearn.types import (
    Command,
    Decision,
    DecisionKind,
    Event,
    JobSpec,
    Label,
    LoadedExample,
    Outcome,
    Prediction,
    Promotion,
    Tick,
)

DEFAULT_THRESHOLD = 0.8
MAX_PREVIOUS = 50
MAX_KNOWN = 2000


@dataclass(slots=True)
class Effects:
    """What some events led to: decisions, and the jobs and changes of champion that they ask for."""

    decisions: list[Decision] = field(default_factory=list)
    jobs: list[JobSpec] = field(default_factory=list)
    promotions: list[Promotion] = field(default_factory=list)
    refused: list[int] = field(default_factory=list)


def advance(
    state: LoopState, events: Sequence[Event], waiting: Waiting | None = None
) -> tuple[LoopState, Effects]:
    """Fold events into a state; the given state is left as it is.

    ``waiting`` holds the labels that waited for their cohorts at ``state`` (by default none did).
    """
    engine = Engine(load(dump(state)), waiting)
    engine.run(events)
    return engine.state, engine.take()


class Engine:
    """The fold as a machine: one event at a time, effects to be taken when it suits the driver."""

    def __init__(self, state: LoopState, waiting: Waiting | None = None, *, code: str = "") -> None:
        self._state = state
        self._spec = spec_of(state)
        self._waiting = waiting or Waiting(by_time=self._by_time)
        self._drift = ErrorDrift(state.drift)
        self._effects = Effects()
        self._code = code
        self._seq = state.cursor

    @property
    def state(self) -> LoopState:
        """The state after the newest event."""
        self._state.watermark.floor = self._waiting.floor(self._state.rows)
        return self._state

    @property
    def waiting(self) -> int:
        """How many labels wait for their cohorts to mature."""
        return len(self._waiting)

    @property
    def spec(self) -> ModelSpec:
        """The spec in force."""
        if self._spec is None:
            raise IntegrityError("The log of a model must begin with its configure command")
        return self._spec

    @property
    def threshold(self) -> float:
        """The performance that the model must keep, in its metric."""
        return DEFAULT_THRESHOLD if self.spec.threshold is None else self.spec.threshold

    @property
    def _by_time(self) -> bool:
        return self._spec is not None and self._spec.horizon_seconds is not None

    def run(self, events: Iterable[Event]) -> None:
        """Fold events in."""
        for event in events:
            self.step(event)

    def take(self) -> Effects:
        """The effects since the last call."""
        effects, self._effects = self._effects, Effects()
        return effects

    def step(self, event: Event) -> None:
        """Fold one event in. Raises IntegrityError if it is not the next one."""
        state = self._state
        if event.seq != state.cursor + 1:
            raise IntegrityError(f"Event {event.seq} does not follow position {state.cursor}")
        state.cursor = event.seq
        state.now = max(state.now, event.at)
        if isinstance(event, Prediction):
            self._on_prediction(event)
        elif isinstance(event, Label):
            self._on_label(event)
        elif isinstance(event, LoadedExample):
            state.loaded += 1
            self._learnable(event.seq, event.target)
        elif isinstance(event, Command):
            commands.obey(self, event)
        elif isinstance(event, Outcome):
            self._on_outcome(event)
        elif isinstance(event, Tick):
            self._mature()
        self._check_if_due()

    # -- what is seen ------------------------------------------------------------------------------

    def _on_prediction(self, event: Prediction) -> None:
        self._state.rows = event.row
        self._mature()
        if event.label is not None:
            self._on_truth(event.label, event)

    def _on_label(self, event: Label) -> None:
        if event.prediction is None:
            self._state.parked += 1
        else:
            self._on_truth(event, event.prediction)

    def _on_truth(self, label: Label, prediction: Prediction) -> None:
        state = self._state
        joined = label if label.prediction is prediction else replace(label, prediction=prediction)
        if label.correction and label.prediction is not None:
            state.corrected += 1
            if prediction.row in self._waiting:
                self._waiting.add(joined)
            return
        self._learnable(state.cursor, label.value)
        state.watermark.learn_delay(state.rows - prediction.row)
        self._mature()
        if state.watermark.covers(prediction.row, prediction.at):
            self._score(joined)
        else:
            self._waiting.add(joined)

    def _learnable(self, seq: int, value: Any) -> None:
        self._state.learnable += 1
        self._state.baselines.learn(seq, value, self.spec.task == "regression")

    def _mature(self) -> None:
        state = self._state
        state.watermark.rise(self.spec, state.rows, state.now)
        for label in self._waiting.matured(state.watermark):
            self._score(label)

    def _score(self, label: Label) -> None:
        state, prediction = self._state, label.prediction
        assert prediction is not None
        known = state.baselines.before(prediction.seq)
        scored = score_row(prediction.row, prediction.version, label.value, prediction.output, *known)
        state.matured += 1
        state.window.append(scored)
        keep = self.spec.policy.window
        if len(state.window) >= 2 * keep:
            del state.window[:-keep]
        state.totals.add(terms_of(scored, self.spec.task))
        if prediction.version == state.champion:
            self._watch(loss(scored, self.spec.task))

    def _watch(self, value: float) -> None:
        risen = self._drift.update(value)
        if risen is None:
            return
        before, after, width = risen
        self._state.drift.last = self._state.cursor
        self._state.drift.changed = self._state.matured - width
        self._state.refusals = 0
        reason = f"drift: the champion's loss rose from {before:.4f} to {after:.4f} (ADWIN)"
        self.decide(DecisionKind.WARN, reason, {"before": before, "after": after}, self._state.champion)

    # -- what is decided ---------------------------------------------------------------------------

    def decide(
        self, kind: DecisionKind, reason: str, evidence: Mapping[str, Any], version: int | None = None
    ) -> Decision:
        """Write a decision."""
        state = self._state
        state.decisions += 1
        decision = Decision(
            state.decisions, state.cursor, state.now, kind, reason, dict(evidence), version, self._code
        )
        self._effects.decisions.append(decision)
        return decision

    def _hold(self, key: str, reason: str, evidence: Mapping[str, Any]) -> None:
        if self._state.held != key:
            self._state.held = key
            self.decide(DecisionKind.HOLD, reason, evidence, self._state.champion)

    def champion_interval(self) -> Interval | None:
        """The champion's metric with its bounds on the newest matured rows that it answered."""
        state = self._state
        return metric_interval(
            champion_rows(state, self.spec),
            self.spec.metric or "",
            self.spec.task,
            self.spec.policy.confidence,
        )

    def _check_if_due(self) -> None:
        state = self._state
        if (
            self._spec is None
            or state.learnable + state.matured - state.at_check < self._spec.policy.check_every
        ):
            return
        state.at_check = state.learnable + state.matured
        if state.frozen:
            self._hold("frozen", "frozen by command", {})
        elif state.activity is None:
            self._follow(policy.advise(self.spec, self.threshold, self.streaming, self._situation()))

    def _look_again(self) -> None:
        """Check at the end of this event: much may have come while a job was at work."""
        self._state.at_check = self._state.learnable + self._state.matured - self.spec.policy.check_every

    @property
    def streaming(self) -> bool:
        """Whether the model learns from every label as it arrives."""
        return self.spec.update == "stream"

    def _situation(self) -> policy.Situation:
        state = self._state
        return policy.Situation(
            champion=state.champion,
            learnable=state.learnable,
            since_update=state.learnable - state.at_update,
            at_update=state.at_update,
            new_history=state.loaded - state.loaded_at_update,
            refusals=state.refusals,
            acting=state.acting,
            metric=self.champion_interval() if state.champion else None,
        )

    def _follow(self, advice: policy.Advice) -> None:
        self._state.status, self._state.acting = advice.state, advice.acting
        if advice.action == "hold":
            self._hold(advice.key, advice.reason, advice.evidence)
        else:
            self.update(advice.action, advice.reason, advice.evidence)

    def update(self, mode: str, reason: str, evidence: Mapping[str, Any]) -> None:
        """Ask for a candidate: ``fresh``, or ``incremental`` from the champion."""
        state = self._state
        version, state.next_version = state.next_version, state.next_version + 1
        champion = state.version(state.champion) or Known(0)
        plan = {
            "mode": mode,
            "holdout": self._holdout(),
            "champion": state.champion,
            "upto": state.cursor,
            "matured_row": state.watermark.row,
            "matured_at": state.watermark.at if self._by_time else None,
            "learned_through": champion.learned_through,
            "learned_upto": champion.learned_upto,
        }
        job = f"{self.spec.name}-{state.decisions + 1}"
        self.decide(DecisionKind.UPDATE, reason, {**evidence, "job": job, "plan": plan}, version)
        arguments = {**plan, "spec": self.spec.to_dict()}
        self._effects.jobs.append(JobSpec(job, self.spec.name, "train", version, arguments))
        state.activity = Activity(job, version, mode, state.champion)
        state.at_update, state.loaded_at_update = state.learnable, state.loaded
        state.held = ""

    def _holdout(self) -> int:
        """Rows to leave unseen: after a drift a third of those since, so that the rest can be learned."""
        gate, changed = self.spec.gate, self._state.drift.changed
        if changed is None:
            return gate.holdout
        return min(gate.holdout, max(gate.min_rows, (self._state.matured - changed) // 3))

    # -- what comes back ---------------------------------------------------------------------------

    def _on_outcome(self, event: Outcome) -> None:
        state, activity = self._state, self._state.activity
        if activity is None or activity.job != event.job:
            reason = f"the outcome of {event.job} is not awaited any more"
            self.decide(DecisionKind.REFUSE, reason, {"job": event.job}, event.version)
            return
        state.activity = None
        self._look_again()
        if event.error is not None:
            state.refusals += 1
            evidence = {"job": event.job, "error": event.error}
            self.decide(DecisionKind.FAIL, f"the update failed: {event.error}", evidence, event.version)
            return
        self._judge(event, activity)

    def _judge(self, event: Outcome, activity: Activity) -> None:
        state, result = self._state, event.result
        state.known.append(Known(event.version, result["learned_through"], result["learned_upto"]))
        del state.known[:-MAX_KNOWN]
        verdict = gate.judge(result["evidence"], self.spec.gate, quick=activity.mode == "incremental")
        evidence = {**result["evidence"], **verdict.numbers, "job": event.job, "digest": result["digest"]}
        words = f"{gate.headline(result['evidence'], self.spec)}, {verdict.reason}"
        if state.champion != activity.champion:
            self._refuse(
                event.version, f"superseded: version {state.champion} became champion meanwhile", evidence
            )
        elif state.frozen:
            self._refuse(event.version, f"frozen by command; {words}", evidence)
        elif verdict.passed:
            self.promote(DecisionKind.PROMOTE, event.version, words, evidence)
        else:
            state.refusals += 1
            self._refuse(event.version, words, evidence)

    def _refuse(self, version: int, reason: str, evidence: Mapping[str, Any]) -> None:
        self.decide(DecisionKind.REFUSE, reason, evidence, version)
        self._effects.refused.append(version)

    def promote(self, kind: DecisionKind, version: int, reason: str, evidence: Mapping[str, Any]) -> None:
        """Let a version answer from now on; ``kind`` is PROMOTE or ROLLBACK."""
        state = self._state
        decision = self.decide(kind, reason, {**evidence, "replaces": state.champion}, version)
        self._effects.promotions.append(
            Promotion(version, state.champion, state.term, state.now, decision.number)
        )
        if kind is DecisionKind.PROMOTE:
            state.previous = [*state.previous, state.champion][-MAX_PREVIOUS:]
        state.champion, state.term, state.champion_row = version, state.term + 1, state.rows
        state.refusals, state.acting, state.held = 0, False, ""
        state.status = "insufficient labels"
        self._drift.reset()
        state.drift.changed = None

    # -- what is asked for -------------------------------------------------------------------------

    def configure(self, spec: ModelSpec) -> list[str]:
        """Put a spec in force; the names of what it changes."""
        state, old = self._state, self._state.spec
        self._spec = spec
        state.spec = spec.to_dict()
        changed = sorted(key for key, value in state.spec.items() if old and old.get(key) != value)
        if "label_horizon" in changed:
            self._waiting = self._waiting.reordered(by_time=self._by_time)
            self._mature()
        return changed


def champion_rows(state: LoopState, spec: ModelSpec) -> list[Scored]:
    """The newest matured rows that the champion answered since it became champion."""
    rows = [s for s in state.window if s.version == state.champion and s.row > state.champion_row]
    return rows[-spec.policy.window :]
