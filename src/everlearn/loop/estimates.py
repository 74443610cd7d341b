"""How good are answers whose truth is not known yet? Performance without labels.

Classification, CBPE (confidence-based performance estimation, as in NannyML): a probability that is
calibrated is the chance to be right, so its mean is the expected accuracy. Calibrated by isotonic
regression on the newest rows whose truth is known, for each answered class that has enough of them.

Regression, DLE (direct loss estimation): the absolute error is learned from what was answered, on the
same rows, and its mean over new answers is the expected one. :func:`boosted_loss` learns it from the
features too.

Both hold while the truth of a row like this one is what it was (covariate shift); under concept drift
they are blind. So each estimate is compared with what came true (:mod:`everlearn.loop.reconcile`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np

from everlearn.loop.isotonic import Steps, isotonic, regressogram
from everlearn.loop.reconcile import Estimate, Reconciled, Reconciler
from everlearn.loop.serial import autocorrelation_time
from everlearn.predictor import class_key
from everlearn.spec import ModelSpec
from everlearn.types import FloatArray, Output, Scalar, Task

MEMORY = 4000
"""Rows with their truth that the calibration is learned from: the newest."""

PARTS = 10_000
"""Probabilities are kept as whole numbers of so many parts."""

FEWEST_KNOWN = 100
"""Rows with their truth before there is an estimate."""

OWN = 150
"""Rows that an answered class must have for a calibration of its own."""

THIN = 20
"""Rows of a step at least: the ends of a calibration are not fitted to a few rows."""

BINS = 10
"""Bins of the answered value, over which absolute errors are averaged."""

POOLED = ""
"""The calibration of classes that have none of their own."""


class Known(msgspec.Struct):
    """Rows whose truth is known, in order, the newest :data:`MEMORY`: parallel lists.

    ``signal`` is the probability of what was answered (in parts of :data:`PARTS`, for brevity), or the
    value answered; ``outcome`` is 1 if it was right, else 0, or the absolute error; ``group`` numbers the
    class that was answered, in ``names``.
    """

    signal: list[float] = []
    outcome: list[float] = []
    group: list[int] = []
    names: dict[str, int] = {}

    def add(self, signal: float, outcome: float, group: str) -> None:
        """Take in a row; now and then the oldest are dropped."""
        self.signal.append(signal)
        self.outcome.append(outcome)
        self.group.append(self.names.setdefault(group, len(self.names)))
        if len(self.signal) >= MEMORY + MEMORY // 4:
            for part in (self.signal, self.outcome, self.group):
                del part[:-MEMORY]


class Expected(NamedTuple):
    """The mean outcome to expect, its variance for being learned, and the variance of one row's outcome."""

    value: float
    doubt: float
    noise: float


class Calibration(msgspec.Struct):
    """What a signal is worth, by group; ``spread`` is the design effect of outcomes in their order."""

    steps: dict[str, Steps]
    spread: float = 1.0

    def expect(self, signal: Sequence[float], group: Sequence[str]) -> Expected:
        """The expected mean outcome of rows, of which there is at least one."""
        names = np.array([name if name in self.steps else POOLED for name in group])
        values, total, doubt, noise = np.array(signal, dtype=np.float64), 0.0, 0.0, 0.0
        for name in np.unique(names).tolist():
            rows = values[names == name]
            steps, share = self.steps[name], len(rows) / len(values)
            total += float(steps.at(rows).sum())
            noise += float(steps.variance(rows).sum())
            doubt += share**2 * steps.doubt(rows)
        count = len(values)
        return Expected(total / count, self.spread * doubt, self.spread * noise / count)


def calibrate(known: Known, task: Task) -> Calibration:
    """Learn what signals are worth from rows whose truth is known."""
    signal, outcome = np.array(known.signal), np.array(known.outcome)
    spread = autocorrelation_time(known.outcome, ordered=True)
    if task == "regression":
        return Calibration({POOLED: regressogram(signal, outcome, BINS, THIN)}, spread)
    groups = np.array(known.group)
    counts = np.bincount(groups, minlength=len(known.names))
    steps = {POOLED: isotonic(signal, outcome, THIN)}
    for name, group in known.names.items():
        if counts[group] >= OWN:
            steps[name] = isotonic(signal[groups == group], outcome[groups == group], THIN)
    return Calibration(steps, spread)


class LabelFree(msgspec.Struct):
    """The state of the estimates: one for every ``rows`` predictions, and what became of them."""

    task: Task
    rows: int
    known: Known = msgspec.field(default_factory=Known)
    first: int = 0
    signal: list[float] = []
    group: list[str] = []
    newest: Estimate | None = None
    record: Reconciler = msgspec.field(default_factory=Reconciler)

    @classmethod
    def start(cls, spec: ModelSpec) -> LabelFree:
        """Estimates that know nothing yet."""
        return cls(spec.task, spec.drift.rows)

    def take(self, row: int, output: Output) -> Estimate | None:
        """Take in prediction number ``row``; the estimate of its chunk if it is the last of it.

        Rows that were not answered (no value, or no probability of the class) are left out. There is no
        estimate while the truth of fewer than :data:`FEWEST_KNOWN` rows is known.
        """
        said = _said(self.task, output)
        if said is None:
            return None
        if not self.signal:
            self.first = row
        self.signal.append(said[0])
        self.group.append(said[1])
        return self._estimate(row) if len(self.signal) >= self.rows else None

    def learn(self, row: int, output: Output, truth: Scalar) -> list[Reconciled]:
        """Take in what came true of a prediction, in order of rows; the estimates that this settles."""
        said = _said(self.task, output)
        if said is None or truth is None:
            return []
        outcome = _outcome(self.task, output, truth)
        self.known.add(said[0], outcome, said[1])
        return self.record.arrive(row, outcome)

    def restart(self) -> None:
        """Another champion answers: what is known of the one before tells nothing about it."""
        self.known, self.signal, self.group, self.newest = Known(), [], [], None
        self.record.forget()

    def _estimate(self, last: int) -> Estimate | None:
        signal, group, self.signal, self.group = self.signal, self.group, [], []
        if len(self.known.signal) < FEWEST_KNOWN:
            return None
        found = calibrate(self.known, self.task).expect(signal, group)
        blind = self.record.blind is not None
        self.newest = Estimate(self.first, last, len(signal), *found, blind=blind)
        self.record.expect(self.newest)
        return self.newest


def boosted_loss(
    known: FloatArray, losses: FloatArray, rows: FloatArray, seed: int = 0
) -> tuple[float, float]:
    """DLE with features: the expected mean loss over ``rows`` (n, d), and its standard error.

    Gradient-boosted trees on ``known`` (m, d) with their ``losses`` (m,); a column may be the answer
    itself. The standard error is that of losses around what the trees say, in two-fold cross-fitting.
    """
    half = np.random.default_rng(seed).permutation(len(known)) % 2 == 0
    scored, left = np.zeros(len(rows)), np.zeros(len(known))
    for side in (half, ~half):
        trees = _loss_trees(seed).fit(known[side], losses[side])
        scored += trees.predict(rows) / 2.0
        left[~side] = losses[~side] - trees.predict(known[~side])
    value = float(scored.mean() + left.mean())
    return value, math.sqrt(float(left.var()) * (1.0 / len(known) + 1.0 / len(rows)))


def _loss_trees(seed: int) -> Any:
    from sklearn.ensemble import HistGradientBoostingRegressor

    return HistGradientBoostingRegressor(
        max_iter=60, max_leaf_nodes=8, learning_rate=0.1, early_stopping=False, random_state=seed
    )


def _said(task: Task, output: Output) -> tuple[float, str] | None:
    """What an answer says about its own error, in few digits, and its class; ``None`` if it says nothing."""
    if output.value is None:
        return None
    if task == "regression":
        return float(f"{float(output.value):.6g}"), POOLED
    key = class_key(output.value)
    if not output.probabilities:
        return None
    return float(round(PARTS * float(output.probabilities.get(key, 0.0)))), key


def _outcome(task: Task, output: Output, truth: Scalar) -> float:
    """1 for right and 0 for wrong, or the absolute error."""
    if task == "regression":
        return float(f"{abs(float(output.value or 0.0) - float(truth or 0.0)):.6g}")
    return float(output.value == truth or class_key(output.value) == class_key(truth))
