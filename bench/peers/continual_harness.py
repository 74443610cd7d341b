"""What the runners of the comparison with Avalanche share: jobs, tasks, the clock. Needs numpy alone.

A runner is a process that measures one library. Each line of its standard input is a job, an object, and is
answered by one line of JSON:

method       "fine_tuning", "oewc", "er" or "er_balanced"
data         an ``.npz`` file with ``x`` uint8 (n, 784), ``y`` (n,) and ``task`` (n,) of training rows in
             their order, and ``test_x``, ``test_y``, ``test_task``
size         rows of the buffer (0: none)
parameters   of the method: rate, batch, replay, hold
seed         of weights, order and buffer

The answer has ``accuracy`` (%, the mean over tasks after the last, among all classes), ``tasks`` (that of
each), ``seconds`` and ``cpu_seconds`` of teaching, ``threads`` and ``versions``; or ``failed``, a reason.
Teaching is timed from rows in memory, in the form that the library takes, to the network after them; a job is
done on a few rows first, which count for nothing.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

WARM_ROWS = 40


class Tasks:
    """Rows of a stream by task."""

    def __init__(self, file: str) -> None:
        with np.load(file) as stored:
            self._stored = {name: stored[name] for name in stored.files}
        self.count = int(self._stored["task"].max()) + 1

    def train(self, task: int) -> tuple[Any, Any]:
        """Training rows uint8 (n, 784) of a task and their classes int64 (n,)."""
        mine = self._stored["task"] == task
        return self._stored["x"][mine], self._stored["y"][mine]

    def test(self, task: int) -> tuple[Any, Any]:
        """Test rows of a task and their classes."""
        mine = self._stored["test_task"] == task
        return self._stored["test_x"][mine], self._stored["test_y"][mine]


class Few(Tasks):
    """The first rows of each task of others."""

    def train(self, task: int) -> tuple[Any, Any]:
        """The first training rows."""
        X, y = super().train(task)
        return X[:WARM_ROWS], y[:WARM_ROWS]


class Pupil(Protocol):
    """One learner; it is made with a job and tasks, whose rows it brings into its library's form."""

    def learn(self, task: int) -> None:
        """Learn the training rows of a task, and that it has ended."""

    def answers(self, X: Any) -> Any:
        """The class of each of the rows uint8 (n, 784)."""


def measure(make: Callable[[dict[str, Any], Tasks], Pupil], job: dict[str, Any]) -> dict[str, Any]:
    """Teach a learner all tasks, then ask it about each."""
    few = Few(job["data"])
    warm = make(job, few)
    for task in range(few.count):
        warm.learn(task)
    tasks = Tasks(job["data"])
    pupil = make(job, tasks)
    taken = np.zeros(2)
    for task in range(tasks.count):
        started = np.array([time.perf_counter(), time.process_time()])
        pupil.learn(task)
        taken += np.array([time.perf_counter(), time.process_time()]) - started
    found = []
    for task in range(tasks.count):
        X, y = tasks.test(task)
        found.append(100.0 * float((pupil.answers(X) == y).mean()))
    seconds, cpu = taken.tolist()
    return {"accuracy": float(np.mean(found)), "tasks": found, "seconds": seconds, "cpu_seconds": cpu}


def serve(make: Callable[[dict[str, Any], Tasks], Pupil], about: dict[str, Any]) -> None:
    """Do jobs until there are no more; a library's own words go to standard error."""
    out, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        try:
            answer = measure(make, json.loads(line)) | about
        except Exception as error:
            answer = {"failed": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=out, flush=True)
