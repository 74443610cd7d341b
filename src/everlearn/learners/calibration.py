"""Recalibration: a thin layer that sets a learner's answers right without teaching it anything.

It is fitted on answers and truths that the learner has not learned from, and is the cheapest remedy
there is: a few numbers, from a few hundred rows. Whether one helps is asked of held-out rows, so an
answer that is already right is left as it is (:func:`fit` then gives the identity).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from everlearn.errors import IntegrityError
from everlearn.learners.isotonic import isotonic_knots
from everlearn.types import FloatArray

FEW = 50
"""With fewer rows than this nothing is fitted."""

FOLDS = 5
FLOOR = 1e-6
"""Probabilities are held this far from 0 and 1 before a logarithm is taken, as the log-loss does."""

SHARPEST = 20.0
"""Temperatures lie between 1/20 and 20."""

KINDS = ("identity", "temperature", "platt", "isotonic", "shift", "affine")

Integers: TypeAlias = NDArray[np.int64]


def _no_knots() -> FloatArray:
    return np.empty((2, 0))


@dataclass(frozen=True, eq=False)
class Calibrator:
    """A fitted layer. Which numbers count depends on ``kind``:

    * ``identity``: none.
    * ``temperature``: probabilities to the power ``scale`` (1/T), normalised (Guo et al. 2017, section
      4.2). The most probable class stays so.
    * ``platt``: the logit of the second class times ``scale`` plus ``shift`` (Platt 1999).
    * ``isotonic``: the probability of the second class through the ``knots`` (2, m), straight lines
      between them (Zadrozny & Elkan 2002).
    * ``shift`` and ``affine``: the estimate times ``scale`` plus ``shift``.
    """

    kind: str = "identity"
    scale: float = 1.0
    shift: float = 0.0
    knots: FloatArray = field(default_factory=_no_knots)

    def apply(self, outputs: FloatArray) -> FloatArray:
        """Answers (n, k) or (n,) set right. What is not finite stays as it is.

        A layer fitted on two classes leaves the answers alone once the learner knows a third.
        """
        if self.kind == "identity" or not outputs.size:
            return outputs
        if outputs.ndim == 1:
            with np.errstate(over="ignore", invalid="ignore"):
                return outputs * self.scale + self.shift
        if self.kind == "temperature":
            return _sharpened(outputs, self.scale)
        return self._of_second(outputs) if outputs.shape[1] == 2 else outputs

    def _of_second(self, outputs: FloatArray) -> FloatArray:
        with np.errstate(divide="ignore", invalid="ignore"):
            second = outputs[:, 1] / outputs.sum(axis=1)
        if self.kind == "platt":
            second = _sigmoid(_logit(second) * self.scale + self.shift)
        else:
            second = np.interp(second, *self.knots)
        fitted = np.column_stack((1 - second, second))
        return np.where(np.isfinite(fitted).all(axis=1, keepdims=True), fitted, outputs)

    def state(self) -> dict[str, Any]:
        """All of it, as JSON values and an array."""
        return {"kind": self.kind, "scale": self.scale, "shift": self.shift, "knots": self.knots.copy()}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Calibrator:
        """The layer that a state describes; raises IntegrityError for a state that is not whole."""
        try:
            kind, scale, shift = state["kind"], float(state["scale"]), float(state["shift"])
            knots = np.array(state["knots"], dtype=np.float64).reshape(2, -1)
        except (KeyError, TypeError, ValueError) as error:
            raise IntegrityError(f"The state of a calibrator is not whole: {error!r}") from error
        whole = np.isfinite([scale, shift]).all() and np.isfinite(knots).all() and scale > 0
        rising = bool((np.diff(knots[0]) > 0).all() and (np.diff(knots[1]) >= 0).all())
        if kind not in KINDS or not whole or not rising or (kind == "isotonic") != bool(knots.size):
            raise IntegrityError(f"The state of a calibrator makes no sense: {kind!r}")
        return cls(kind, scale, shift, knots)


IDENTITY = Calibrator()

_Fit = Callable[[FloatArray, Any], Calibrator]
_Loss = Callable[[FloatArray, Any], FloatArray]


def fit(outputs: FloatArray, truths: FloatArray | Integers) -> Calibrator:
    """The simplest layer that sets answers right, by five-fold cross-validation over stretches of rows.

    ``outputs`` are raw answers: probabilities (n, k) with ``truths`` (n,) the columns that came true
    (-1 for a class that has none), or values (n,) with true values (n,). Layers are tried from simple
    to flexible: temperature, for two classes Platt's sigmoid and isotonic regression, for values a
    shift and a line. One is taken over a simpler one if its held-out loss (log-loss, squared error) is
    smaller by more than the standard error of the difference. Rows that are not finite are left out;
    under 50 rows, or if only one class came true, the identity is all one can know.
    """
    if outputs.ndim == 1:
        usable = np.isfinite(outputs) & np.isfinite(truths)
        return _fit_values(outputs[usable], np.asarray(truths[usable], dtype=np.float64))
    usable = np.isfinite(outputs).all(axis=1) & (truths >= 0) & (truths < outputs.shape[1])
    chances, columns = outputs[usable], np.asarray(truths[usable], dtype=np.int64)
    if len(np.unique(columns)) < 2:
        return IDENTITY
    fits: list[_Fit] = [_temperature]
    if chances.shape[1] == 2:
        fits += [_platt, _isotonic]
    return _chosen(fits, chances, columns, _log_losses)


def _fit_values(values: FloatArray, truths: FloatArray) -> Calibrator:
    scale = max(np.abs(values).max(initial=0.0), np.abs(truths).max(initial=0.0))
    if not 0 < scale < 1e300:
        return IDENTITY
    found = _chosen([_shift, _affine], values / scale, truths / scale, _squares)
    return Calibrator(found.kind, found.scale, float(found.shift * scale))


def _chosen(fits: list[_Fit], outputs: FloatArray, truths: Any, loss: _Loss) -> Calibrator:
    if len(outputs) < FEW:
        return IDENTITY
    best, fitter = loss(outputs, truths), None
    for candidate in fits:
        held_out = _held_out(candidate, outputs, truths, loss)
        gains = best - held_out
        if gains.mean() > gains.std(ddof=1) / np.sqrt(len(gains)):
            best, fitter = held_out, candidate
    return fitter(outputs, truths) if fitter else IDENTITY


def _held_out(fitter: _Fit, outputs: FloatArray, truths: Any, loss: _Loss) -> FloatArray:
    """Each row's loss (n,) under a layer that was fitted on the other stretches."""
    losses = np.empty(len(outputs))
    edges = np.linspace(0, len(outputs), FOLDS + 1).astype(int)
    for start, end in pairwise(edges):
        rest = np.r_[0:start, end : len(outputs)]
        layer = fitter(outputs[rest], truths[rest])
        losses[start:end] = loss(layer.apply(outputs[start:end]), truths[start:end])
    return losses


def _log_losses(chances: FloatArray, columns: Integers) -> FloatArray:
    return -np.log(np.clip(chances[np.arange(len(columns)), columns], FLOOR, 1.0))


def _squares(values: FloatArray, truths: FloatArray) -> FloatArray:
    return np.square(values - truths)


# -- probabilities -------------------------------------------------------------------------------------


def _temperature(chances: FloatArray, columns: Integers) -> Calibrator:
    """The power 1/T that minimises the log-loss, which is convex in it: where its slope is 0."""
    logs = np.log(np.clip(chances, FLOOR, 1.0))
    truth = logs[np.arange(len(columns)), columns].sum()
    slope = partial(_slope, logs, truth)
    low, high = -np.log(SHARPEST), np.log(SHARPEST)
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(np.exp(middle)) < 0 else (low, middle)
    return Calibrator("temperature", float(np.exp((low + high) / 2)))


def _slope(logs: FloatArray, truth: float, power: float) -> float:
    weights = np.exp(power * (logs - logs.max(axis=1, keepdims=True)))
    expected = (weights * logs).sum(axis=1) / weights.sum(axis=1)
    return float(expected.sum() - truth)


def _sharpened(chances: FloatArray, power: float) -> FloatArray:
    finite = np.asarray(np.isfinite(chances).all(axis=1))
    logs = np.log(np.clip(np.where(finite[:, None], chances, 1.0), FLOOR, 1.0))
    weights = np.exp(power * (logs - logs.max(axis=1, keepdims=True)))
    fitted: FloatArray = weights / weights.sum(axis=1, keepdims=True)
    _keep_best(chances, fitted)
    fitted[~finite] = chances[~finite]
    return fitted


def _keep_best(chances: FloatArray, fitted: FloatArray) -> None:
    """Where rounding made two classes equal, let the one that was the most probable stay so."""
    best = chances.argmax(axis=1)
    for row in np.flatnonzero(fitted.argmax(axis=1) != best):
        fitted[row, best[row]] = np.nextafter(fitted[row].max(), 2.0)


def _logit(p: FloatArray) -> FloatArray:
    inside = np.clip(p, FLOOR, 1 - FLOOR)
    return np.log(inside) - np.log1p(-inside)


def _sigmoid(z: FloatArray) -> FloatArray:
    return 1 / (1 + np.exp(-np.clip(z, -500, 500)))


def _platt(chances: FloatArray, columns: Integers) -> Calibrator:
    """Scale and shift of the logit by Newton's method, with Platt's smoothed targets; it always rises."""
    logits = _logit(chances[:, 1] / chances.sum(axis=1))
    positives = int(columns.sum())
    high, low = (positives + 1) / (positives + 2), 1 / (len(columns) - positives + 2)
    targets = np.where(columns == 1, high, low)
    scale, shift = _newton(np.column_stack((logits, np.ones_like(logits))), targets, np.array([1.0, 0.0]))
    if not 1 / SHARPEST <= scale <= SHARPEST:
        scale = min(max(scale, 1 / SHARPEST), SHARPEST)
        (shift,) = _newton(np.ones((len(logits), 1)), targets, np.array([0.0]), scale * logits)
    return Calibrator("platt", float(scale), float(shift))


def _newton(
    design: FloatArray, targets: FloatArray, start: FloatArray, offset: FloatArray | float = 0.0
) -> FloatArray:
    """Weights (p,) of a logistic regression on ``design`` (n, p), by damped Newton steps."""
    weights = start
    for _ in range(30):
        p = _sigmoid(design @ weights + offset)
        slope = design.T @ (p - targets)
        bend = (design * (p * (1 - p))[:, None]).T @ design + 1e-6 * np.eye(len(weights))
        step = np.linalg.solve(bend, slope)
        step *= min(1.0, 2.0 / max(np.abs(step).max(), 1e-12))
        weights = weights - step
        if np.abs(step).max() < 1e-9:
            break
    return weights


def _isotonic(chances: FloatArray, columns: Integers) -> Calibrator:
    second = chances[:, 1] / chances.sum(axis=1)
    return Calibrator("isotonic", knots=isotonic_knots(second, (columns == 1).astype(np.float64)))


# -- values --------------------------------------------------------------------------------------------


def _shift(values: FloatArray, truths: FloatArray) -> Calibrator:
    return Calibrator("shift", 1.0, float((truths - values).mean()))


def _affine(values: FloatArray, truths: FloatArray) -> Calibrator:
    """The least-squares line; only a shift where it would not rise."""
    apart = values - values.mean()
    spread, together = float(apart @ apart), float(apart @ (truths - truths.mean()))
    if spread <= 1e-20 * len(values) or together <= 0:
        return _shift(values, truths)
    scale = together / spread
    return Calibrator("affine", scale, float(truths.mean() - scale * values.mean()))
