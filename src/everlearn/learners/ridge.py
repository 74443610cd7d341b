"""Ridge regression on random features: exact, with forgetting, and able to unlearn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from everlearn.errors import InvalidError
from everlearn.learners import ridge_kernels as kernels
from everlearn.learners.contract import Labels
from everlearn.learners.inputs import as_batch, as_weights, at_least, invalid, positive
from everlearn.learners.streaming import Streaming, room
from everlearn.types import FloatArray

_KINDS = ("fourier", "relu", "linear")
_SHIFT = 200.0
_SHIFTS = 3  # the place in ``counts`` of how often the sums were divided by 2 ** _SHIFT


class Ridge(Streaming):
    """Least squares on the columns and ``size`` random features of them, with a quadratic penalty.

    Exact (the default): all that it keeps are sums over the rows, added up without rounding error, so
    its answers are those of the batch solution, to 1e-8, in whatever order the rows came; and
    :meth:`forget` removes examples as if they had never been there. Columns are taken as they are
    (divided by ``scale``, one number a column, if given): the random features want columns of about
    unit size, the linear part does not mind. A missing number counts as 0.

    ``exact=False``: the inverse is kept instead and the columns are scaled by a running mean and
    deviation, in O(M^2) a row. This is the one that learns row by row fast; it cannot forget examples.

    ``gamma`` is how much of its weight an example keeps from row to row, ``alpha`` how many rows'
    worth of evidence the penalty is, ``width`` how many (scaled) units the random features' bumps are
    wide, ``slots`` how many columns each categorical column is hashed into. Good for smooth problems,
    few examples, and duties to delete; it cannot pick out a few relevant columns of many.
    Memory: ``2 M (M + k)`` numbers, M = columns + ``size`` + 1.

    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(400, 2))
    >>> y = np.hypot(X[:, 0], X[:, 1])
    >>> learner = Ridge(task="regression")
    >>> learner.learn(X, y)
    >>> without = Ridge(task="regression")
    >>> without.learn(X[100:], y[100:])
    >>> learner.forget(X[:100], y[:100], np.arange(100))
    >>> bool(np.allclose(learner.predict(X), without.predict(X), atol=1e-8))
    True
    """

    name: ClassVar[str] = "ridge"

    def __init__(
        self,
        *,
        task: str = "classification",
        categorical: Sequence[int] = (),
        seed: int = 0,
        features: str = "fourier",
        size: int = 64,
        gamma: float = 1.0,
        alpha: float = 1.0,
        width: float = 1.0,
        exact: bool = True,
        scale: Sequence[float] | None = None,
        slots: int = 16,
        max_classes: int = 1000,
    ) -> None:
        super().__init__(task=task, categorical=categorical, seed=seed, max_classes=max_classes)
        if features not in _KINDS:
            raise invalid("features", f"{features!r} is none of {', '.join(_KINDS)}")
        self.features, self.size = features, at_least("size", size, 0)
        self.gamma = positive("gamma", gamma)
        if self.gamma > 1.0:
            raise invalid("gamma", f"{gamma} is above 1: use 1 to keep all, 0.999 to follow drift")
        self.alpha, self.width = positive("alpha", alpha), positive("width", width)
        self.exact = bool(exact)
        self.scale = None if scale is None else tuple(positive("scale", unit) for unit in scale)
        if self.scale is not None and not self.exact:
            raise invalid("scale", "is for exact=True: otherwise the scale is learned")
        self.slots = at_least("slots", slots, 1)

    @property
    def arrays(self) -> tuple[str, ...]:  # type: ignore[override]
        """What is kept: sums, or the inverse."""
        if self.exact:
            return ("gram", "moments", "square", "counts")
        return ("scaling", "target", "inverse", "solution", "link", "counts")

    # -- the map from rows to features -----------------------------------------------------------------

    def _begin(self, width: int) -> None:
        numeric = [column for column in range(width) if column not in set(self.categorical)]
        if self.scale is not None and len(self.scale) != width:
            raise invalid("scale", f"has {len(self.scale)} units for {width} columns: give one a column")
        self._numeric = np.array(numeric, dtype=np.int64)
        self._coded = np.array(self.categorical, dtype=np.int64)
        units = self.scale or (1.0,) * width
        self._divide = np.array([units[column] for column in numeric])
        inputs = len(numeric) + self.slots * len(self.categorical)
        drawn = 0 if self.features == "linear" else self.size
        rng = np.random.Generator(np.random.PCG64(self.seed))
        self._frequencies = rng.normal(size=(inputs, drawn)) / (self.width * math.sqrt(max(inputs, 1)))
        self._phases = rng.uniform(0.0, 2.0 * math.pi, drawn)
        if self.features == "relu":
            self._phases = rng.normal(size=drawn)
        self._numbers = np.array([self.gamma, self.alpha, 1.0, 5.0, 10_000.0, float(self.features == "relu")])
        self._m = inputs + drawn + 1
        self._counts = np.zeros(4, dtype=np.int64)  # classes seen, rows learned, the clock, shifts
        self._outputs = 1
        if self.exact:
            self._gram = np.zeros((2, self._m * self._m))
            self._moments = np.zeros((2, self._m))
            self._square = np.zeros((2, 1))
            self._solved: tuple[FloatArray, FloatArray, FloatArray] | None = None
        else:
            self._numbers[kernels.LINEAR] = 0.3
            self._scaling, self._target = np.zeros((3, len(numeric))), np.zeros((3, 1))
            self._inverse = np.eye(self._m) / self.alpha
            self._solution = np.zeros((1, self._m))
            self._link = np.array([4.0, 0.0])

    def _grow(self, classes: int) -> None:
        more = room(classes) - self._outputs
        if self.task == "regression" or more <= 0:
            return
        if self.exact:
            moments = self._moments.reshape(2, self._m, self._outputs)
            self._moments = np.pad(moments, ((0, 0), (0, 0), (0, more))).reshape(2, -1)
        else:
            self._solution = np.pad(self._solution, ((0, more), (0, 0)))
        self._outputs += more

    def _map(self, rows: FloatArray) -> FloatArray:
        phi = np.empty((len(rows), self._m))
        kernels.map_rows(
            rows, self._numeric, self._coded, self.slots, self._divide, self._frequencies, self._phases,
            self._numbers, phi,
        )  # fmt: skip
        return phi

    # -- exact -------------------------------------------------------------------------------------------

    # An example learned at time t weighs gamma ** -t in the sums, so that nothing has to be aged. Before
    # that overflows, the sums are divided by a power of two, which loses nothing.

    def _weigh(self, when: FloatArray) -> FloatArray:
        """What examples learned at these times weigh in the sums."""
        if self.gamma == 1.0:
            return np.ones(len(when))
        weight: FloatArray = np.exp2(-when * math.log2(self.gamma) - _SHIFT * float(self._counts[_SHIFTS]))
        return weight

    def _accumulate(
        self, rows: FloatArray, targets: NDArray[Any], weights: FloatArray, when: FloatArray
    ) -> None:
        """Add examples to the sums (or take them away: negative weights)."""
        kernels.accumulate(
            self._map(rows), targets.astype(np.float64), weights * self._weigh(when),
            self.task == "regression", self._gram, self._moments, self._square,
        )  # fmt: skip
        self._solved = None

    def _learn_exact(self, rows: FloatArray, targets: NDArray[Any], weights: FloatArray) -> None:
        start, clock = 0, int(self._counts[kernels.CLOCK])
        per_row = -math.log2(self.gamma)
        while start < len(rows):
            end = len(rows)
            if per_row > 0.0:  # up to the row at which the sums must be divided
                due = math.floor(_SHIFT * (int(self._counts[_SHIFTS]) + 1) / per_row) + 1
                end = min(end, max(start, due - clock))
            some = slice(start, end)
            self._accumulate(rows[some], targets[some], weights[some], np.arange(clock + start, clock + end))
            start = end
            if start < len(rows):
                for sums in (self._gram, self._moments, self._square):
                    sums *= 2.0**-_SHIFT
                self._counts[_SHIFTS] += 1
        self._counts[kernels.CLOCK] += len(rows)
        self._counts[kernels.LEARNED] += len(rows)
        if self.task == "classification":
            self._counts[kernels.SEEN] = max(self._counts[kernels.SEEN], int(targets.max()) + 1)

    def forget(
        self,
        X: FloatArray,
        y: Labels,
        when: int | Sequence[int] | NDArray[Any],
        weights: Sequence[float] | FloatArray | None = None,
    ) -> None:
        """Remove examples as if they had never been learned; the others keep the weight they have.

        ``X`` (n, d) and ``y`` (n,) as they were learned, ``when`` how many rows had been learned before
        each (0 for the first), ``weights`` as they were given. Raises InvalidError, with nothing
        forgotten, for a class that was never learned, a time that has not come, or with ``exact=False``.
        """
        if not self.exact:
            raise InvalidError(
                "forget: a ridge with exact=False keeps no sums to subtract from: use exact=True"
            )
        rows, values = as_batch(X, y, self._width, self.task)
        heavy = as_weights(weights, len(rows))
        times = np.broadcast_to(np.asarray(when, dtype=np.float64), (len(rows),)).copy()
        if not len(rows):
            return
        if self._width is None:
            raise invalid("X", "nothing has been learned yet: there is nothing to forget")
        if times.min() < 0 or times.max() >= self._counts[kernels.CLOCK]:
            raise invalid("when", f"is not within 0 and {int(self._counts[kernels.CLOCK]) - 1}")
        if self.task == "classification":
            known = {label: number for number, label in enumerate(self._classes.values)}
            unknown = [value for value in values if value not in known]
            if unknown:
                raise invalid("y", f"holds {unknown[0]!r}, which was never learned")
            values = [known[value] for value in values]
        tidied = np.where(np.abs(rows) < 1e100, rows, np.nan)
        self._accumulate(np.ascontiguousarray(tidied), np.array(values), -heavy, times)

    def _solve(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Coefficients (M, K), and of each output the residual variance and the mean."""
        if self._solved is not None:
            return self._solved
        m = self._m
        newest = float(self._weigh(np.array([self._counts[kernels.CLOCK] - 1.0]))[0])
        upper = np.triu((self._gram[0] + self._gram[1]).reshape(m, m)) / newest
        gram = upper + np.triu(upper, 1).T
        moments = (self._moments[0] + self._moments[1]).reshape(m, self._outputs) / newest
        total = gram[-1, -1]
        mean, mean_y = gram[-1, :-1] / total, moments[-1] / total
        centred = gram[:-1, :-1] - np.outer(gram[-1, :-1], mean)
        across = moments[:-1] - np.outer(gram[-1, :-1], mean_y)
        variance = np.maximum(np.diag(centred), 0.0) / total
        used = variance > 1e-10 * (np.abs(mean) ** 2 + 1e-6)
        unit = np.sqrt(np.where(used, variance, 1.0))
        shape = np.outer(unit, unit) * total
        matrix = np.where(np.outer(used, used), centred / shape, 0.0)
        np.fill_diagonal(matrix, 1.0 + self.alpha / total)
        right = np.where(used[:, None], across / (unit * total)[:, None], 0.0)
        flat = np.linalg.solve(matrix, right)
        flat += np.linalg.solve(matrix, right - matrix @ flat)  # one step of iterative refinement
        slopes = np.where(used[:, None], flat / unit[:, None], 0.0)
        coefficients = np.vstack([slopes, mean_y - mean @ slopes])
        squares = moments[-1] if self.task == "classification" else self._square.sum(axis=0) / newest
        spread = squares / total - mean_y**2
        explained = 2.0 * (right * flat).sum(axis=0) - (flat * (matrix @ flat)).sum(axis=0)
        residual = np.maximum(spread - explained, 1e-9 * np.maximum(spread, 1e-300))
        self._solved = coefficients, residual, mean_y
        return self._solved

    def _answer_exact(self, rows: FloatArray) -> FloatArray:
        if self._counts[kernels.LEARNED] == 0 or self._total() <= 0.0:
            return self._blank(len(rows))
        coefficients, residual, mean = self._solve()
        scores = self._map(rows) @ coefficients
        if self.task == "regression":
            return scores[:, 0].copy()
        seen = int(self._counts[kernels.SEEN])
        answers = self._blank(len(rows))
        answers[:, :seen] = _discriminant(scores[:, :seen], residual[:seen], mean[:seen])
        return answers

    def _total(self) -> float:
        return float(self._gram[0, -1] + self._gram[1, -1])

    # -- both --------------------------------------------------------------------------------------------

    def _recursive(
        self,
        asked: FloatArray,
        rows: FloatArray,
        targets: NDArray[Any],
        weights: FloatArray,
        answers: FloatArray,
    ) -> None:
        kernels.recursive_rows(
            asked, rows, targets.astype(np.float64), weights, self.task == "regression", self._numeric,
            self._coded, self.slots, self._divide, self._scaling, self._target, self._frequencies,
            self._phases, self._numbers, self._inverse, self._solution, self._link, self._counts,
            answers[:, None] if self.task == "regression" else answers,
        )  # fmt: skip

    def _answer(self, rows: FloatArray) -> FloatArray:
        if self.exact:
            return self._answer_exact(rows)
        answers = self._blank(len(rows))
        self._recursive(rows, rows[:0], np.empty(0), np.empty(0), answers)
        return answers

    def _step(
        self,
        asked: FloatArray,
        rows: FloatArray,
        targets: NDArray[Any],
        weights: FloatArray,
        answers: FloatArray,
    ) -> None:
        if not self.exact:
            self._recursive(asked, rows, targets, weights, answers)
        elif not len(answers):
            self._learn_exact(rows, targets, weights)
        else:
            for i in range(len(rows)):
                one = slice(i, i + 1)
                answers[i] = self._answer_exact(asked[one])[0]
                self._learn_exact(rows[one], targets[one], weights[one])

    def contributions(self, X: FloatArray) -> FloatArray:
        """What each column adds to the scores: (n, d + 1, k), or (n, d + 1); the last is the constant.

        Only for ``features="linear"`` and ``exact=True``; raises InvalidError otherwise, because random
        features mix the columns. The scores are estimates of the probabilities before they are bounded
        (classification) or of the target.
        """
        if self.features != "linear" or not self.exact:
            raise invalid("features", "contributions are exact only with features='linear', exact=True")
        rows = np.ascontiguousarray(X, dtype=np.float64)
        coefficients = self._solve()[0][:, : max(len(self._classes), 1)]
        parts = self._map(rows)[:, :, None] * coefficients
        added = np.zeros((len(rows), rows.shape[1] + 1, parts.shape[2]))
        added[:, self._numeric] = parts[:, : len(self._numeric)]
        for q, column in enumerate(self.categorical):
            start = len(self._numeric) + q * self.slots
            added[:, column] = parts[:, start : start + self.slots].sum(axis=1)
        added[:, -1] = parts[:, -1]
        return added[:, :, 0] if self.task == "regression" else added

    def _check(self) -> None:
        if not 0 <= self._counts[kernels.SEEN] <= self._outputs:
            raise ValueError(f"{self._counts[kernels.SEEN]} classes in room for {self._outputs}")
        self._solved = None


def _discriminant(scores: FloatArray, residual: FloatArray, mean: FloatArray) -> FloatArray:
    """Probabilities from least-squares scores of class indicators.

    The least-squares slope is that of linear discriminant analysis times the residual variance (Hastie,
    Tibshirani and Buja 1994, section 3), so with Gaussian classes the log-odds of a class against the rest
    are ``(s - p - R^2 (1/2 - p)) / v + log(p / (1 - p))``: p its share, v the residual variance, R^2 =
    1 - v / (p (1 - p)). The classes' probabilities are brought to a sum of 1.
    """
    if scores.shape[1] == 1:
        return np.ones_like(scores)
    share = np.clip(mean, 1e-9, 1.0 - 1e-9)
    explained = np.clip(1.0 - residual / (share * (1.0 - share)), 0.0, 1.0)
    odds = (scores - share - explained * (0.5 - share)) / np.maximum(residual, 1e-6)
    odds = np.clip(odds + np.log(share / (1.0 - share)), -30.0, 30.0)
    likely = 1.0 / (1.0 + np.exp(-odds)) + 1e-6
    return likely / likely.sum(axis=1, keepdims=True)
