"""The fold: ``advance(state, events) -> state', decisions`` and what they ask for.

It is the only place that decides. It reads no clock, file or database: the same events in the same
order give the same decisions, live, in a replay and in a test.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from everlearn.errors import IntegrityError
from everlearn.loop import commands, feedback, judging, policy, remembering, watching
from everlearn.loop.alerts import alert_kind
from everlearn.loop.bounds import Interval
from everlearn.loop.drift import Rise
from everlearn.loop.maturity import Waiting
from everlearn.loop.scoring import Matured, Scoring
from everlearn.loop.shadow import ShadowRow, plan_of
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
    ScorePoint,
    Tick,
)

DEFAULT_THRESHOLD = 0.8
MAX_PREVIOUS = 50

BLIND = frozenset({"first-version", "publish", "history", "every", "always"})
"""Reasons for an update that have not looked at the champion's losses."""


@dataclass(slots=True)
class Effects:
    """What some events led to: decisions, the jobs and changes of champion that they ask for, and scores."""

    decisions: list[Decision] = field(default_factory=list)
    jobs: list[JobSpec] = field(default_factory=list)
    promotions: list[Promotion] = field(default_factory=list)
    refused: list[int] = field(default_factory=list)
    points: list[ScorePoint] = field(default_factory=list)


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
    """The fold as a machine: one event at a time, effects to be taken when it suits the driver.

    Without ``reports`` it decides the same but does not keep what only people ask for: the totals over
    all rows, what the baselines would have answered, and how late labels come (unless these decide).
    """

    def __init__(
        self, state: LoopState, waiting: Waiting | None = None, *, code: str = "", reports: bool = True
    ) -> None:
        self._reports = reports
        self._state = state
        self._spec = spec_of(state)
        self._waiting = waiting or Waiting(by_time=self._by_time)
        self._effects = Effects()
        self._code = code
        self._within: float | None = None
        self._counted = ((-1, 0), 0)
        self._due: list[Matured] = []
        self._read_spec()

    def _read_spec(self) -> None:
        """What of the spec is asked for at every row."""
        spec = self._spec
        size = None if spec is None else spec.learner.parameters.get("size")
        self._capacity = size if isinstance(size, int) else None
        self._regression = spec is not None and spec.task == "regression"
        self._detection = spec is not None and spec.task == "detection"
        self._horizon = None if spec is None else spec.horizon_rows
        self._by_row = self._horizon is not None
        # What the baselines would have answered is asked for by regressions and by kappa.
        told = spec is not None and (self._regression or str(spec.metric).startswith("kappa"))
        self._baselines = self._reports or told
        self._check_every = math.inf if spec is None else spec.policy.check_every
        self._scoring = None if spec is None else Scoring(self._state, spec, reports=self._reports)

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

    def run(self, events: Iterable[Event], *, until_check: bool = False) -> bool:
        """Fold events in; ``until_check``: stop after the event at which a check was due, and say so.

        Raises IntegrityError if one is not the next.
        """
        state = self._state
        for event in events:
            if event.seq != state.cursor + 1:
                raise IntegrityError(f"Event {event.seq} does not follow position {state.cursor}")
            state.cursor = event.seq
            if event.at > state.now:
                state.now = event.at
            if isinstance(event, Prediction):
                self._on_prediction(event)
            elif isinstance(event, Label):
                if event.prediction is None:
                    state.parked += 1
                else:
                    self._on_truth(event, event.prediction)
            else:
                self._on_other(event)
            if state.learnable + state.matured - state.at_check >= self._check_every:
                self._settle()
                self._check()
                if until_check:
                    self._settle()
                    return True
        self._settle()
        return False

    def step(self, event: Event) -> None:
        """Fold one event in. Raises IntegrityError if it is not the next one."""
        self.run((event,))

    def take(self) -> Effects:
        """The effects since the last call."""
        effects, self._effects = self._effects, Effects()
        return effects

    # -- what is seen ------------------------------------------------------------------------------

    def _on_other(self, event: LoadedExample | Command | Outcome | Tick) -> None:
        if isinstance(event, LoadedExample):
            if feedback.loaded(self._state, event):
                self._state.loaded += 1
                self._learnable(event.seq, event.target)
        elif isinstance(event, Tick):
            self._mature()
        else:
            self._settle()
            if isinstance(event, Command):
                commands.obey(self, event)
            else:
                judging.on_outcome(self, event)

    def _on_prediction(self, event: Prediction) -> None:
        state = self._state
        state.rows = event.row
        self._mature()
        if state.watch is not None or state.estimates is not None:
            self._settle()
            watching.on_prediction(self, event)
        if event.label is not None:
            self._on_truth(event.label, event)

    def _on_truth(self, label: Label, prediction: Prediction) -> None:
        state = self._state
        corrects = label.correction and label.prediction is not None
        if label.prediction is not prediction:
            label = msgspec.structs.replace(label, prediction=prediction)
        known = label.source is not None or state.feedback.sources
        if known and not feedback.observe(self, label, prediction):
            return
        row, at, mark = prediction.row, prediction.at, state.watermark
        if corrects:
            self._settle()
            state.corrected += 1
            remembering.correct(self, label)
            if row in self._waiting:
                self._waiting.add(label)
                return
            if mark.covers(row, at):
                return
            # It waited for no score, so all that was said of the row before was left out: this is its label.
        self._learnable(state.cursor, label.value)
        if self._reports or not self._by_row:
            mark.labelled(row, at, state.rows, state.now)
        if not self._by_row:  # else a label raises no mark
            self._mature()
        if row <= mark.row or at <= mark.at:
            self._on_matured(label)
        else:
            self._waiting.add(label)

    def _learnable(self, seq: int, value: Any) -> None:
        self._state.learnable += 1
        if not self._detection:  # no two frames have the same boxes
            self._state.baselines.learn(seq, value, self._regression, self._baselines)

    def _mature(self) -> None:
        state, spec = self._state, self._spec
        assert spec is not None
        if self._horizon is not None and not self._reports:
            row = state.rows - self._horizon
            if row > state.watermark.row:
                state.watermark.row = row
                for label in self._waiting.matured_by_row(row):
                    self._on_matured(label)
            return
        state.watermark.rise(spec, state.rows, state.now)
        for label in self._waiting.matured(state.watermark):
            self._on_matured(label)

    def _on_matured(self, label: Label) -> None:
        state, asked = self._state, label.prediction
        assert asked is not None
        no_change, majority = state.baselines.before(asked.seq) if self._baselines else (None, None)
        state.matured = matured = state.matured + 1
        self._due.append(
            Matured(label, no_change, majority, state.cursor, state.now, state.rows, state.learnable, matured)
        )

    def _settle(self) -> None:
        """Score the rows that have matured: before anything is decided that they could bear on."""
        if self._due:
            due, self._due = self._due, []
            assert self._scoring is not None
            self._scoring.settle(self, due)

    def settle(self) -> None:
        """Score the rows that have matured so far."""
        self._settle()

    def record(self, points: Iterable[ScorePoint]) -> None:
        """Put down the score of windows that have closed."""
        self._effects.points += points

    def drop_rows(self, source: str) -> None:
        """Let a source's rows that wait to be scored or compared wait no more."""
        self._waiting = self._waiting.without(source)
        self._state.waiting_rows = [row for row in self._state.waiting_rows if row.source != source]

    def drop_ids(self, ids: Collection[str]) -> None:
        """Let the rows of some predictions wait no more."""
        state = self._state
        self._waiting = self._waiting.without_ids(ids)
        state.waiting_rows = [row for row in state.waiting_rows if row.id not in ids]
        if state.shadow is not None:
            state.shadow.rows = [row for row in state.shadow.rows if row.id not in ids]

    def begin_anew(self) -> None:
        """Sum up what is left of the champion's rows; what watched their losses begins anew."""
        self._state.certain, self._state.ece = [], None
        if self._scoring is not None:
            self._scoring.restart()

    def warn(self, risen: Rise) -> None:
        """The champion's loss has risen: say so, and see which regime this is."""
        state = self._state
        state.drift.last = state.cursor
        state.drift.changed = state.matured - risen.width
        state.refusals, state.archived_tried, state.recalibrate_tried = 0, False, False
        state.warned = True
        reason = (
            f"drift: the champion's loss rose from {risen.before:.4f} to {risen.after:.4f} "
            f"over the newest {risen.width} rows ({risen.detector})"
        )
        evidence = {name: getattr(risen, name) for name in ("detector", "before", "after", "width")}
        self.decide(DecisionKind.WARN, reason, evidence, state.champion)
        remembering.cut(self, reason)
        if self.spec.policy.reuse and not state.frozen:
            judging.try_archived(self, reason)

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
        alert = alert_kind(decision)
        if alert is not None:
            state.alerts[alert] = state.alerts.get(alert, 0) + 1
        return decision

    def _hold(self, key: str, reason: str, evidence: Mapping[str, Any]) -> None:
        if self._state.held != key:
            self._state.held = key
            self.decide(DecisionKind.HOLD, reason, evidence, self._state.champion)

    def champion_interval(self) -> Interval | None:
        """The champion's metric with its bounds on the newest matured rows that it answered."""
        return None if self._scoring is None else self._scoring.rows.interval()

    def _abstain(self) -> None:
        """Answers are flagged or withheld while even the good bound of the metric is under the floor."""
        state, wanted = self._state, self.spec.abstain
        interval = self.champion_interval() if wanted is not None and state.champion else None
        below = wanted is not None and interval is not None and self._under(interval, wanted.floor)
        if below == state.abstaining or (wanted is not None and interval is None):
            return
        state.abstaining = below
        evidence: dict[str, Any] = {"abstaining": below}
        words = "answers as usual again"
        if wanted is not None and interval is not None:
            evidence |= {"floor": wanted.floor, "action": wanted.action, "rows": interval.rows}
            evidence |= {"value": interval.value, "lower": interval.lower, "upper": interval.upper}
            side = "does not reach" if below else "reaches"
            words = f"{self.spec.metric} {interval.value:.4f} {side} the floor {wanted.floor:g}: "
            words += (
                f"answers are {'flagged' if wanted.action == 'flag' else 'withheld'}" if below else "over"
            )
        self.decide(DecisionKind.ABSTAIN, words, evidence, state.champion)

    def _under(self, interval: Interval, floor: float) -> bool:
        if interval.rows < self.spec.policy.min_labels:
            return False
        return interval.lower > floor if self.spec.lower_is_better else interval.upper < floor

    def _check(self) -> None:
        state = self._state
        state.at_check = state.learnable + state.matured
        judging.dispatch(self)
        remembering.dispatch(self)
        self._abstain()
        if state.frozen:
            self._hold("frozen", "frozen", {})
        elif state.activity is None:
            self._follow(policy.advise(self.spec, self.threshold, self.streaming, self._situation()))

    def look_again(self) -> None:
        """Check at the end of this event: much may have come while a job was at work."""
        self._state.at_check = self._state.learnable + self._state.matured - self.spec.policy.check_every

    @property
    def streaming(self) -> bool:
        """Whether the model learns from every label as it arrives."""
        return self.spec.update == "stream"

    def _situation(self) -> policy.Situation:
        state = self._state
        scoring = self._scoring
        error = scoring.rows.calibration() if scoring and scoring.calibrates and state.champion else None
        changed = state.drift.changed
        return policy.Situation(
            champion=state.champion,
            learnable=state.learnable,
            since_update=state.learnable - state.at_update,
            at_update=state.at_update,
            new_history=state.loaded - state.loaded_at_update,
            refusals=state.refusals,
            acting=state.acting,
            metric=self.champion_interval() if state.champion else None,
            now=state.now,
            updated_at=state.updated_at,
            warned=state.warned,
            drift_rows=None if changed is None else state.matured - changed,
            ece=None if error is None else error[0],
            ece_noise=None if error is None else error[1],
            archived=self._archived(),
            reuse_tried=state.archived_tried,
            recalibrate_tried=state.recalibrate_tried or self.streaming or state.warned,
            unlabelled=state.unlabelled,
            row=state.rows,
            capacity=self._capacity,
            cost=state.cost,
            budget=state.budget,
        )

    def _archived(self) -> int:
        """How many versions could come back; that changes with a decision, or once a bake has held."""
        now = (self._state.decisions, judging.unproven(self._state))
        if self._counted[0] != now:
            self._counted = (now, len(judging.archived_versions(self._state)))
        return self._counted[1]

    def _follow(self, advice: policy.Advice) -> None:
        state = self._state
        state.status, state.acting = advice.state, advice.acting
        if advice.action == "hold":
            self._hold(advice.key, advice.reason, advice.evidence)
        elif state.learnable < state.quiet_until:
            reason = f"cooling down after a rollback, until {state.quiet_until} labels are known"
            self._hold("after-rollback", reason, {})
        elif advice.action == "reuse":
            judging.try_archived(self, advice.reason)
        elif state.candidate is None or judging.give_way(self):
            self._within = advice.seconds_left
            self.update(advice.action, advice.reason, advice.evidence, looked=advice.key not in BLIND)
            self._within = None

    def update(self, mode: str, reason: str, evidence: Mapping[str, Any], *, looked: bool = False) -> None:
        """Ask for a candidate: ``fresh``, ``incremental`` from the champion, or a ``recalibrate``d champion.

        ``looked``: the champion's losses led to it. The newest rows are then no fair evidence against it,
        so the candidate learns from them, and is judged on rows that mature from now on.
        """
        state = self._state
        if state.tainted(state.champion):
            mode = "fresh"  # what goes on from it would have learned what it did
        version, state.next_version = state.next_version, state.next_version + 1
        champion = state.version(state.champion) or Known(0)
        plan = {
            "mode": mode,
            "holdout": 0 if looked and mode == "fresh" else self.spec.gate.holdout,
            "champion": state.champion,
            "upto": state.cursor,
            "matured_row": state.watermark.row,
            "matured_at": state.watermark.at if self._by_time else None,
            "learned_through": champion.learned_through,
            "learned_upto": champion.learned_upto,
            "since": remembering.since(state),
            "seconds_left": self._within,
        }
        if state.feedback.without:
            plan["without"] = dict(state.feedback.without)
        if self._detection and state.tainted(state.champion):
            plan["anew"] = True  # a detector is fine-tuned from its champion, but not from this one
        job = f"{self.spec.name}-{state.decisions + 1}"
        self.decide(DecisionKind.UPDATE, reason, {**evidence, "job": job, "plan": plan}, version)
        anchors = remembering.anchors_of(state, self.spec.regimes, mode)
        arguments = {**plan, **anchors, "spec": self.spec.to_dict()}
        kind = "vision" if self._detection else "train"
        self._effects.jobs.append(JobSpec(job, self.spec.name, kind, version, arguments))
        state.activity = Activity(job, version, mode, state.champion, state.matured, not looked)
        state.at_update, state.loaded_at_update = state.learnable, state.loaded
        state.updated_at, state.held = state.now, ""
        state.warned = state.unlabelled = False
        state.recalibrate_tried = mode == "recalibrate"
        state.budget.started(state.now)

    def ask_shadow(self, rows: Sequence[ShadowRow], versions: Sequence[int]) -> str:
        """Ask for other versions' answers to rows; the id of the job."""
        state = self._state
        job = f"{self.spec.name}-shadow-{state.cursor}"
        plan = plan_of(rows, versions, self.spec)
        self.ask(JobSpec(job, self.spec.name, "shadow", state.champion, plan))
        return job

    def try_archived(self, reason: str) -> None:
        """Score archived versions beside the champion from now on."""
        judging.try_archived(self, reason)

    def ask(self, job: JobSpec) -> None:
        """Ask for a job."""
        self._effects.jobs.append(job)

    # -- what comes back ---------------------------------------------------------------------------

    def refuse(self, version: int, reason: str, evidence: Mapping[str, Any]) -> None:
        """A candidate is not to answer."""
        self.decide(DecisionKind.REFUSE, reason, evidence, version)
        self._effects.refused.append(version)

    def promote(self, kind: DecisionKind, version: int, reason: str, evidence: Mapping[str, Any]) -> None:
        """Let a version answer from now on; ``kind`` is PROMOTE or ROLLBACK."""
        state = self._state
        decision = self.decide(kind, reason, {**evidence, "replaces": state.champion}, version)
        self._effects.promotions.append(
            Promotion(version, state.champion, state.term, state.now, decision.number)
        )
        if kind is DecisionKind.PROMOTE and not state.tainted(state.champion):
            state.previous = [*state.previous, state.champion][-MAX_PREVIOUS:]
        judging.changed(self, kind, version)
        state.regimes.promoted(state.rows, version)
        if self._scoring and self._scoring.priced:
            state.cost.updated(state.rows, state.learnable, self._capacity)
        state.ece, state.certain = None, []
        if kind is DecisionKind.ROLLBACK or not self.streaming:
            watching.restart(self)
        state.champion, state.term, state.champion_row = version, state.term + 1, state.rows
        if (known := state.version(version)) is not None:
            known.stood = True
        state.refusals, state.acting, state.held = 0, False, ""
        state.history.back = kind is DecisionKind.ROLLBACK
        state.history.origin = state.history.origin or state.champion
        state.status = "insufficient labels"
        state.drift.changed = None
        if self._scoring is not None:
            self._scoring.restart()

    # -- what is asked for -------------------------------------------------------------------------

    def configure(self, spec: ModelSpec) -> list[str]:
        """Put a spec in force; the names of what it changes."""
        state, old = self._state, self._state.spec
        self._spec = spec
        state.spec = spec.to_dict()
        self._read_spec()
        changed = sorted(key for key, value in state.spec.items() if old and old.get(key) != value)
        if state.watch is None or {"features", "drift", "task"} & set(changed):
            watching.begin(state, spec)
        if "label_horizon" in changed:
            self._waiting = self._waiting.reordered(by_time=self._by_time)
            self._mature()
            self._settle()
        return changed
