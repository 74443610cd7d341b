"""Measures one of our learners beside Avalanche's; see ``peers/continual_harness.py`` for the protocol."""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent / "peers"))

import continual_harness as harness
import numpy as np
import torch

from continual_mnist import plain
from everlearn import learners

LEARNERS: dict[str, dict[str, Any]] = {
    "fine_tuning": {}, "oewc": {}, "er": {"offer": "task"},
    "er_balanced": {"offer": "task", "buffer": "balanced"},
}  # fmt: skip
"""What a method has beside what it is given: replay of tasks that have ended, as Avalanche's plugin does."""


class Ours:
    """A learner over the rows of the tasks."""

    def __init__(self, job: dict[str, Any], tasks: harness.Tasks) -> None:
        method = job["method"]
        size = {"size": job["size"]} if job["size"] else {}
        given = plain(**job["parameters"], **size, **LEARNERS[method], seed=job["seed"])
        self._learner: Any = learners.build(method.removesuffix("_balanced"), **given)
        self._tasks = [tasks.train(task) for task in range(tasks.count)]
        self._tasks = [(X.astype(np.float64), y) for X, y in self._tasks]

    def learn(self, task: int) -> None:
        """Learn a task and end it."""
        self._learner.learn(*self._tasks[task])
        self._learner.end_task()

    def answers(self, X: Any) -> Any:
        """The most probable class."""
        return np.array(self._learner.classes)[self._learner.predict(X.astype(np.float64)).argmax(axis=1)]


if __name__ == "__main__":
    torch.set_num_threads(1)
    names = ("everlearn", "torch", "numpy")
    harness.serve(Ours, {"threads": 1, "versions": {name: version(name) for name in names}})
