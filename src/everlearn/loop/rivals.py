"""What else a team could have done with the same stream: nothing, or refit by the calendar."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from everlearn.loop.file_driver import FileDriver
from everlearn.loop.scores import Scored, cost, metrics, score_row
from everlearn.predictor import Predictor
from everlearn.types import Output

WINDOW = 5000
"""Rows that the calendar's refits learn from, for learners that learn afresh and set no window."""


def score(
    driver: FileDriver, refit_every: int | None
) -> tuple[dict[str, Mapping[str, Any]], dict[str, list[float]]]:
    """The scores of each rival on the rows that ``driver`` served, and their losses row by row.

    ``never_updated`` is the first promoted version, left as it was; ``refit_every`` learns afresh from
    the newest window (all labels, for a learner without one) every so many labels and asks no gate.
    Both are skipped if it is ``None``.
    """
    task = driver.spec.task
    rivals: dict[str, Mapping[str, Any]] = {}
    curves: dict[str, list[float]] = {}
    if refit_every is not None:
        runs = {"never_updated": (_never(driver), {}), "refit_every": _periodic(driver, refit_every)}
        for name, (scored, facts) in runs.items():
            rivals[name] = {**metrics(scored, task), **facts}
            curves[name] = [cost(s, task) for s in scored]
    for name in ("no_change", "majority"):
        scored = [_baseline(s, name) for s in driver.scored]
        rivals[name] = _simple(scored, task)
        curves[name] = [cost(s, task) for s in scored]
    return rivals, curves


def _simple(scored: Sequence[Scored], task: Any) -> dict[str, Any]:
    """A baseline's metrics; it gives no probabilities, so those that need them are left out."""
    return {k: v for k, v in metrics(scored, task).items() if k not in ("auc", "log_loss")}


def _baseline(s: Scored, name: str) -> Scored:
    answer = s.no_change if name == "no_change" else s.majority
    return Scored(s.row, 0, s.truth, answer, None, None, False, s.no_change, s.majority)


def _rescored(driver: FileDriver, outputs: Mapping[int, Output]) -> list[Scored]:
    """The served rows with other answers for some of them (by index)."""
    return [
        score_row(s.row, 0, s.truth, outputs[s.row - 1], s.no_change, s.majority)
        if s.row - 1 in outputs
        else s
        for s in driver.scored
    ]


def _never(driver: FileDriver) -> list[Scored]:
    if driver.first is None:
        return list(driver.scored)
    start, predictor = driver.first
    answers = predictor.predict(driver.stream.rows[start:])
    return _rescored(driver, dict(enumerate(answers, start)))


def _periodic(driver: FileDriver, every: int) -> tuple[list[Scored], dict[str, Any]]:
    started, updates = time.perf_counter(), 0
    stream, spec = driver.stream, driver.spec
    outputs: dict[int, Output] = {}
    calendar = _Calendar(driver)
    refit_at = spec.policy.first_rows
    start = 0
    for i, known in enumerate([*driver.known_before, None]):
        if known is not None and known < refit_at:
            continue
        if calendar.predictor is not None:
            outputs |= dict(enumerate(calendar.predictor.predict(stream.rows[start:i]), start))
        if known is None:
            break
        calendar.refit(known)
        start, refit_at, updates = i, known + every, updates + 1
    facts = {"every": every, "updates": updates, "learning_seconds": time.perf_counter() - started}
    return _rescored(driver, outputs), facts


class _Calendar:
    """A predictor that is refitted on the newest window of what is known.

    A learner that wants all there is, row by row, need not begin again: going on with the new labels
    gives the same.
    """

    def __init__(self, driver: FileDriver) -> None:
        self.predictor: Predictor | None = None
        self._spec, self._stream = driver.spec, driver.stream
        self._labelled = [i for i, target in enumerate(driver.stream.targets) if target is not None]
        self._learned = 0

    def refit(self, known: int) -> None:
        """Learn from the first ``known`` labels, which arrived in the order of their rows."""
        fresh = self.predictor or Predictor.new(self._spec)
        start = self._learned
        if not (fresh.learner.incremental and fresh.learner.wants is None):
            fresh = Predictor.new(self._spec)
            start = max(0, known - (fresh.learner.wants or WINDOW))
        new = self._labelled[start:known]
        fresh.learn([self._stream.rows[j] for j in new], [self._stream.targets[j] for j in new])
        self.predictor, self._learned = fresh, known
