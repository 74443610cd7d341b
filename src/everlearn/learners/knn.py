"""Nearest neighbours in a window that adjusts itself, with a long memory that it keeps consistent.

After SAM-kNN (Losing, Hammer and Wersing, "KNN classifier with self adjusting memory for heterogeneous
concept drift", ICDM 2016), with these changes:

* **Short memory.** Where the paper tries halves of the window and cuts it for good, all of the newest
  16, 32, … rows up to the window vote side by side, each from one pass over the same distances, and are
  mixed by fixed share on their log loss (Herbster and Warmuth 1998). So a drift costs tens of rows, and
  rows of before it serve again if their concept comes back while they are in the window.
* **Long memory.** As in the paper, rows that leave the window are kept while no newer row contradicts
  them, and compressed class by class when they are too many. It votes alone and with the window.
* **Metrics.** Two see the rows side by side: deviations with a weight a feature, learned by gradient
  (Goldberger et al. 2004; for regression Weinberger and Tesauro 2007), and a discriminant metric fitted to
  the window (Hastie and Tibshirani 1996), which tells correlated from telling directions.
* **Votes** fall with squared distance, ``exp(-2 (D - D_1) / mean D)``, of all neighbours and of the
  nearest quarter; smoothed with the classes' recent rates.
* **Regression** mixes weighted means with weighted means of what a ridge line over the window leaves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from everlearn.learners import knn_memory, knn_votes
from everlearn.learners.inputs import at_least, positive
from everlearn.learners.streaming import Streaming, room
from everlearn.types import FloatArray

_LEAST = 16  # rows of the shortest memory
_SHARE = 0.01


class Knn(Streaming):
    """Distance-weighted nearest neighbours that follow drift; good on few features and local patterns.

    ``size`` is how many of the newest rows it remembers, ``long`` how many of those before it (only
    for classification), ``neighbours`` how many vote. ``smooth`` is how many votes the classes' recent
    rates have, ``pace`` the step of the features' weights, ``refresh`` after how many rows the metrics
    are fitted anew; rows of more than ``max_metric`` columns have no discriminant metric, whose
    cost grows with their square. Missing numbers count as the mean, a missing category as a category.

    It cannot say how much each feature contributed, weigh an example as if it had come twice (a weight
    multiplies its vote), or extrapolate beyond its ridge line; irrelevant features by the hundred
    hurt it. Memory: ``(size + long) (16 d + 24) + 8 d (d + 9)`` bytes.

    >>> import numpy as np
    >>> X = np.random.default_rng(0).normal(size=(500, 2))
    >>> learner = Knn()
    >>> learner.learn(X, np.where((X**2).sum(axis=1) < 1, "in", "out"))
    >>> learner.predict(np.array([[0.1, 0.1], [2.0, 1.0]])).round(1)
    array([[1., 0.],
           [0., 1.]])
    """

    name: ClassVar[str] = "knn"
    good_for: ClassVar[str] = "local patterns on few to some dozens of columns; repeated rows"
    cannot: ClassVar[str] = "extrapolate; cope with hundreds of irrelevant columns"
    arrays: ClassVar[tuple[str, ...]] = (
        "rows",
        "targets",
        "weights",
        "points",
        "columns",
        "metric",
        "counts",
        "numbers",
        "shares",
        "prior",
        "generator",
    )

    def __init__(
        self,
        *,
        task: str = "classification",
        categorical: Sequence[int] = (),
        seed: int = 0,
        size: int = 1000,
        long: int = 500,
        neighbours: int = 20,
        smooth: float = 0.3,
        pace: float = 0.4,
        refresh: int = 128,
        max_metric: int = 64,
        max_classes: int = 1000,
    ) -> None:
        super().__init__(task=task, categorical=categorical, seed=seed, max_classes=max_classes)
        self.size = at_least("size", size, 2)
        self.long = at_least("long", long, 0)
        self.neighbours = at_least("neighbours", neighbours, 1)
        self.smooth = positive("smooth", smooth)
        self.pace = positive("pace", pace)
        self.refresh = at_least("refresh", refresh, 1)
        self.max_metric = at_least("max_metric", max_metric, 0)

    def _begin(self, width: int) -> None:
        long = self.long if self.task == "classification" else 0
        columns, metrics = self.size + long, 1 + (width <= self.max_metric)
        stages = 1 + sum(1 for b in range(20) if _LEAST << 2 * b < self.size) + 2 * (long > 0)
        narrow = max(self.neighbours // 4, 1)
        self._kinds = np.zeros(width, np.int64)
        self._kinds[list(self.categorical)] = 1
        self._limits = np.array(
            [self.size, long, self.neighbours, narrow, _LEAST, metrics, stages, self.refresh], np.int64
        )
        self._rows = np.zeros((columns, width))
        values = self.task == "regression"
        self._targets = np.zeros((2, columns)) if values else np.zeros((1, columns), np.int64)
        self._weights = np.zeros(columns)
        self._points = np.zeros((metrics * width, columns), np.float32)
        self._columns = np.zeros((9, width))
        self._metric = np.zeros((width, width) if metrics > 1 else (0, 0))
        self._counts = np.array([0, 0, 0, 0, 2, 0], np.int64)
        self._numbers = np.array([0.0, 0.0, 0.0, self.smooth, self.pace, _SHARE])
        votes = metrics * stages * (4 if values else 2)
        self._shares = np.full(votes, 1.0 / votes)
        self._prior = np.zeros(0 if values else 2)
        self._generator = np.array([self.seed % 2**64], np.uint64)

    def _grow(self, classes: int) -> None:
        if self.task == "classification" and room(classes) > len(self._prior):
            self._prior = np.pad(self._prior, (0, room(classes) - len(self._prior)))

    @property
    def _knower(self) -> tuple[Any, ...]:
        memory = (self._rows, self._targets, self._weights, self._points)
        lens = (self._columns, self._metric, self._kinds)
        learned = (self._numbers, self._shares, self._prior, self._generator)
        return (memory, lens, self._limits, self._counts, *learned)

    def _answer(self, rows: FloatArray) -> FloatArray:
        answers = self._blank(len(rows))
        answer = knn_votes.answer_values if self.task == "regression" else knn_votes.answer_classes
        answer(self._knower, rows, answers)
        return answers

    def _step(
        self,
        asked: FloatArray,
        rows: FloatArray,
        targets: NDArray[Any],
        weights: FloatArray,
        answers: FloatArray,
    ) -> None:
        step = knn_votes.step_values if self.task == "regression" else knn_votes.step_classes
        step(self._knower, asked, rows, targets, weights, answers)

    def _check(self) -> None:
        head, have, kept, learned, later, seen = self._counts.tolist()
        whole = 0 <= have <= self.size and head == learned % self.size and have == min(learned, self.size)
        whole &= 0 <= kept <= (self._limits[knn_memory.LONG] if have == self.size else 0) and later > learned
        if not whole or not 0 <= seen <= len(self._classes):
            raise ValueError(f"its counts are {self._counts.tolist()}")
        if self.task == "classification" and have:
            used = self._targets[0, : have + kept]
            if used.min() < 0 or used.max() >= seen:
                raise ValueError("it holds rows of classes that it has not seen")
        for name in ("weights", "columns", "metric", "numbers", "shares", "prior", "targets"):
            if not np.isfinite(getattr(self, f"_{name}")).all():
                raise ValueError(f"{name} holds values that are not finite")
        if np.isnan(self._points).any():
            raise ValueError("points are missing")
        if not ((self._shares > 0.0).all() and (self._weights[: have + kept] > 0.0).all()):
            raise ValueError("shares and weights are not above 0")
        self._numbers[knn_votes.SMOOTH :] = self.smooth, self.pace, _SHARE
