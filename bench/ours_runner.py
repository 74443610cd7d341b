"""Measures one learner of everlearn; see ``peers/harness.py`` for the protocol.

A learner answers and learns through ``test_then_train`` where it has it, else row by row. One that would
rather be fitted now and then than learn every row is asked and taught 500 rows at a time.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent / "peers"))

import harness

from everlearn import learners
from everlearn.learners.states import size

CHUNK = 500


class Ours:
    """A learner over arrays."""

    def __init__(self, job: dict[str, Any], X: Any, y: Any) -> None:
        self._job, self._X, self._y = job, X, y
        self.picks, self.answers = harness.room(job, len(X))

    def begin(self) -> None:  # noqa: D102 - of Session
        job = self._job
        given = {"task": job["task"], "seed": job["seed"], **job.get("parameters", {})}
        self._learner = learners.build(job["learner"], **given)
        self._chunk = CHUNK if self._learner.prefers == "triggered" else 1

    def run(self, start: int, end: int, delay: int) -> None:  # noqa: D102 - of Session
        learner: Any = self._learner
        at_once = hasattr(learner, "test_then_train") and self._chunk == 1
        if at_once and (start == 0 or delay == 0):
            some = slice(start, end)
            self._take(start, end, learner.test_then_train(self._X[some], self._y[some], delay=delay))
            return
        for first in range(start, end, self._chunk):
            last = min(first + self._chunk, end)
            self._take(first, last, learner.predict(self._X[first:last]))
            due = slice(max(first - delay, 0), max(last - delay, 0))
            if due.start < due.stop:
                learner.learn(self._X[due], self._y[due])

    def _take(self, start: int, end: int, answers: Any) -> None:
        if self.answers is None:
            self.picks[start:end] = answers
            return
        classes = [int(label) for label in self._learner.classes]
        if classes:
            self.answers[start:end, classes] = answers
            picks = self.answers[start:end].argmax(axis=1)
            self.picks[start:end] = picks
            self.picks[start:end][answers.sum(axis=1) <= 0.0] = harness.NONE

    def size(self) -> int:  # noqa: D102 - of Session
        return size(self._learner.state())


if __name__ == "__main__":
    harness.main(Ours)
