"""A generalised additive model that learns from every row: one curve a column, and surfaces of pairs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from statistics import NormalDist
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from everlearn.learners import additive_kernels as kernels
from everlearn.learners.inputs import LARGEST, as_rows, at_least, invalid, positive
from everlearn.learners.streaming import Streaming, room
from everlearn.types import FloatArray

_SLOTS = 256  # cells that the codes of a categorical column are hashed into


class Additive(Streaming):
    """Online logistic or least-squares regression on the columns' bins, so that every column has a curve.

    A generalised additive model (Hastie and Tibshirani 1986; with pairs: Lou et al. 2013). Columns are
    standardised by their running mean and deviation and cut at ``bins`` quantiles of the normal distribution;
    a missing value is a bin of its own, a category too (codes are hashed into 256). Two models learn side by
    side and are mixed by how well they foretell the labels (fixed share): one of columns alone, one with
    ``pairs`` pairs of columns as well (all of them, or so many drawn by ``seed``), ``pair_bins`` a side.
    Steps are AdaGrad's with sums that fade, as in ``linear``: ``step`` for columns, ``pair_step`` for pairs;
    ``fade`` is what is kept of the sums from row to row, ``memory`` how many rows the scaling looks back.

    Good for effects that are not straight, thresholds, and anything that must be fast and explained; it
    cannot learn how three columns act together. A row of weight w counts like w rows, up to 64. Memory
    in numbers of 8 bytes: ``4 (d (bins + 1) + 257 c + 1) k + 2 pairs (pair_bins + 1)^2 k``, c of the d
    columns categorical, k classes rounded up to a power of two.

    >>> import numpy as np
    >>> X = np.random.default_rng(0).uniform(-1, 1, size=(2000, 2))
    >>> learner = Additive()
    >>> learner.learn(X, np.where(np.abs(X[:, 0]) < 0.5, "inside", "outside"))
    >>> learner.predict(np.array([[0.0, 0.9], [0.9, 0.9]])).argmax(axis=1)
    array([0, 1])
    """

    name: ClassVar[str] = "additive"
    good_for: ClassVar[str] = "curves and thresholds, pairs of columns, very high rates, explanations"
    cannot: ClassVar[str] = "learn how three columns act together"
    arrays: ClassVar[tuple[str, ...]] = ("scale", "tables", "crosses", "worth", "counts")

    def __init__(
        self,
        *,
        task: str = "classification",
        categorical: Sequence[int] = (),
        seed: int = 0,
        bins: int = 16,
        pairs: int = 64,
        pair_bins: int = 8,
        step: float = 0.3,
        pair_step: float = 0.1,
        fade: float = 0.999,
        memory: int = 10_000,
        max_classes: int = 1000,
    ) -> None:
        super().__init__(task=task, categorical=categorical, seed=seed, max_classes=max_classes)
        self.bins, self.pairs = at_least("bins", bins, 2), at_least("pairs", pairs, 0)
        self.pair_bins = at_least("pair_bins", pair_bins, 2)
        self.step, self.pair_step = positive("step", step), positive("pair_step", pair_step)
        self.fade = positive("fade", fade)
        if self.fade > 1.0:
            raise invalid(
                "fade", f"{fade} is above 1: use 1 to keep all, 0.999 to keep steps up after a drift"
            )
        self.memory = at_least("memory", memory, 2)
        side = float(self.pair_bins + 1)
        rates = [self.step, self.pair_step, self.fade, float(self.memory)]
        # CLIP, DAMPING, SHARE, RATE: as in linear.
        self._numbers = np.array([float(self.bins), side, *rates, 5.0, 0.3, 1e-3, 0.5])
        self._edges, self._coarse = _quantiles(self.bins), _quantiles(self.pair_bins)

    @property
    def experts(self) -> int:
        """The model of columns, and the one with pairs."""
        return 2

    def _begin(self, width: int) -> None:
        self._kinds = np.zeros(width, dtype=np.int64)
        self._kinds[list(self.categorical)] = _SLOTS
        sizes = np.where(self._kinds > 0, _SLOTS, self.bins) + 1
        self._starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        self._pairs = _drawn(width, self.pairs, self.seed)
        k = room(0) if self.task == "classification" else 1
        cells = len(self._pairs) * (self.pair_bins + 1) ** 2
        self._scale = np.zeros((3, width + 1))
        self._tables = np.zeros((2, 2, int(self._starts[-1]) + 1, k))
        self._crosses = np.zeros((2, cells, k))
        self._worth = np.array([[0.5, 0.5], [0.0, 0.0]])
        self._counts = np.array([0 if self.task == "classification" else -1, 0], dtype=np.int64)

    def _grow(self, classes: int) -> None:
        more = room(classes) - self._tables.shape[3]
        if self.task == "classification" and more > 0:
            self._tables = np.pad(self._tables, ((0, 0),) * 3 + ((0, more),))
            self._crosses = np.pad(self._crosses, ((0, 0),) * 2 + ((0, more),))

    def _run(
        self,
        asked: FloatArray,
        rows: FloatArray,
        targets: NDArray[Any],
        weights: FloatArray,
        answers: FloatArray,
        each: FloatArray,
    ) -> None:
        if self.task == "regression":
            answers, each = answers[:, None], each[:, :, None]
        kernels.run(
            asked, rows, targets.astype(np.float64), weights, self._kinds, self._starts, self._pairs,
            self._edges, self._coarse, self._numbers, self._scale, self._tables, self._crosses, self._worth,
            self._counts, answers, each,
        )  # fmt: skip

    def _answer(self, rows: FloatArray) -> FloatArray:
        answers = self._blank(len(rows))
        self._run(rows, rows[:0], _NONE, _NONE, answers, self._blank_each(0))
        return answers

    def _answer_each(self, rows: FloatArray) -> FloatArray:
        each = self._blank_each(len(rows))
        self._run(rows, rows[:0], _NONE, _NONE, self._blank(0), each)
        return each

    def _step(
        self,
        asked: FloatArray,
        rows: FloatArray,
        targets: NDArray[Any],
        weights: FloatArray,
        answers: FloatArray,
    ) -> None:
        self._run(asked, rows, targets, weights, answers, self._blank_each(0))

    def _step_each(
        self,
        asked: FloatArray,
        rows: FloatArray,
        targets: NDArray[Any],
        weights: FloatArray,
        answers: FloatArray,
    ) -> None:
        self._run(asked, rows, targets, weights, self._blank(0), answers)

    def contributions(self, X: FloatArray) -> FloatArray:
        """What each column adds to the score: (n, d + 1, k), or (n, d + 1) for a regression.

        The last of axis 1 is the constant; what a pair adds is halved between its columns. A regression's
        are in units of the target and sum to the estimate. A classification's are log-odds (nats) of each
        class against the geometric mean of all: of the two models' log-odds, the mean by their weights in
        the mixture. Raises InvalidError for rows of another width.
        """
        rows = as_rows(X, self._width)
        rows = np.ascontiguousarray(np.where(np.abs(rows) < LARGEST, rows, np.nan))
        outputs = 1 if self.task == "regression" else len(self._classes)
        added = np.zeros((len(rows), rows.shape[1] + 1, outputs))
        if self._width is not None:
            kernels.add_up(
                rows, self._kinds, self._starts, self._pairs, self._edges, self._coarse, self._numbers,
                self._scale, self._tables, self._crosses, self._worth, added,
            )  # fmt: skip
        if self.task == "classification":
            return added - added.mean(axis=2, keepdims=True) if outputs else added
        _, mean, variance = self._scale[:, -1] if self._width is not None else (0.0, np.nan, 0.0)
        values: FloatArray = added[:, :, 0] * np.sqrt(variance)
        values[:, -1] += mean
        return values

    def _check(self) -> None:
        seen, learned = self._counts.tolist()
        if learned < 0 or not (seen == -1 if self.task == "regression" else 0 <= seen <= len(self._classes)):
            raise ValueError(f"its counts are {seen} classes and {learned} rows")
        if not all(np.isfinite(getattr(self, f"_{name}")).all() for name in self.arrays):
            raise ValueError("a number is not finite")


_NONE = np.empty(0)


def _quantiles(bins: int) -> FloatArray:
    """The ``bins - 1`` cuts of the standard normal distribution into parts of equal probability."""
    return np.array([NormalDist().inv_cdf(i / bins) for i in range(1, bins)])


def _drawn(width: int, most: int, seed: int) -> NDArray[np.int64]:
    """All pairs of columns, or ``most`` of them drawn."""
    pairs = np.array(list(combinations(range(width), 2)), dtype=np.int64).reshape(-1, 2)
    if len(pairs) > most:
        pairs = pairs[np.sort(np.random.Generator(np.random.PCG64(seed)).permutation(len(pairs))[:most])]
    return np.ascontiguousarray(pairs)
