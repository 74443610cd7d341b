"""Ridge regression on random features: exact, with forgetting, and able to unlearn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from everlearn.errors import InvalidError
from everlearn.learners import ridge_kernels as kernels
from everlearn.learners import ridge_sums as sums
from everlearn.learners.contract import Labels
from everlearn.learners.inputs import LARGEST, as_batch, as_rows, as_weights, at_least, invalid, positive
from everlearn.learners.streaming import Streaming, room
from everlearn.types import FloatArray

_KINDS = ("fourier", "relu", "linear")
_FAINT = 2.0**-64  # of the heaviest the sums have been: less than this cannot be told from rounding


class Ridge(Streaming):
    """Least squares on the columns and ``size`` random features of them, with a quadratic penalty.

    **Exact** (the default): all that it keeps are sums over the rows in twice the precision of a float, so
    its answers are those of the batch solution to 1e-8 in whatever order the rows came, and
    :meth:`forget` removes examples as if they had never been there. With features ``phi`` (n, M - 1),
    weights ``w`` (its own times ``gamma ** (rows learned since)``) and ``var`` the features' weighted
    variances, it minimises ``sum_i w_i (y_i - b - phi_i beta)^2 + alpha sum_j var_j beta_j^2``: the scale of
    a column does not matter to the penalty, and the intercept is free. Columns are taken as they are
    (divided by ``scale``, one number a column, if given): the random features want columns of about unit
    size, the linear part does not mind. A missing number counts as 0. To answer after a row was learned
    takes ``M^3 / 3`` multiplications, to answer more rows only their features.

    For a classification the target is each class's indicator. A score becomes a probability by the means
    and the variance that scores of rows that were not learned are expected to have within the class and
    outside it, as if they were normal there: right for classes that are clouds about linear in the features.

    **Recursive** (``exact=False``): the inverse is kept instead, in O(M^2) a row, and the columns are
    scaled by a running mean and deviation. With ``gamma=1`` it is the batch solution with the penalty
    ``alpha |beta|^2`` for the features that the rows had when they were learned; a batch solution would
    scale the first rows by what only the last ones tell. With ``gamma`` below 1 the penalty is filled up by
    one coefficient a row, in turn. It cannot forget examples.

    ``gamma`` is how much of its weight an example keeps from row to row, ``alpha`` how many of the newest
    rows' worth of evidence the penalty is, ``width`` how many units the random features' bumps are wide,
    ``slots`` how many columns each categorical column is hashed into. Good for smooth problems, few
    examples, and duties to delete; it cannot pick out a few relevant columns of many.
    Memory: ``M (M + 2 k)`` numbers, M = columns + ``size`` + 1.

    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(400, 2))
    >>> y = np.hypot(X[:, 0], X[:, 1])
    >>> learner = Ridge(task="regression")
    >>> learner.learn(X, y)
    >>> without = Ridge(task="regression")
    >>> without.learn(X[100:], y[100:])
    >>> learner.forget(X[:100], y[:100], np.arange(100))
    >>> bool(np.allclose(learner.predict(X), without.predict(X), atol=1e-12))
    True
    """

    name: ClassVar[str] = "ridge"
    good_for: ClassVar[str] = "smooth problems, few examples, duties to delete: it forgets examples exactly"
    cannot: ClassVar[str] = "pick out a few relevant columns of many"

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
            return ("gram", "moments", "extra", "most", "left", "counts")
        return ("scaling", "target", "inverse", "solution", "link", "counts")

    # -- the map from rows to features -----------------------------------------------------------------

    def _begin(self, width: int) -> None:
        numeric = [column for column in range(width) if column not in set(self.categorical)]
        units = self.scale or (1.0,) * width
        inputs = len(numeric) + self.slots * len(self.categorical)
        drawn = 0 if self.features == "linear" else self.size
        rng = np.random.Generator(np.random.PCG64(self.seed))
        frequencies = rng.normal(size=(inputs, drawn)) / (self.width * math.sqrt(max(inputs, 1)))
        phases = rng.uniform(0.0, 2.0 * math.pi, drawn)
        if self.features == "relu":
            phases = rng.normal(size=drawn)
        linear = 1.0 if self.exact else 0.3
        relu, fading = float(self.features == "relu"), -math.log2(self.gamma)
        numbers = np.array([self.gamma, self.alpha, linear, 5.0, 10_000.0, relu, fading])
        self._how = (
            np.array(numeric, dtype=np.int64), np.array(self.categorical, dtype=np.int64), self.slots,
            np.array([units[column] for column in numeric]), frequencies, phases, numbers,
        )  # fmt: skip
        m = self._m = inputs + drawn + 1
        self._outputs = 1
        if self.exact:
            self._gram, self._moments = np.zeros((2, m * (m + 1) // 2)), np.zeros((2, 1, m))
            self._extra, self._most = np.zeros((2, 2)), np.zeros(1)
            self._left, self._counts = np.zeros(1, dtype=np.int64), np.zeros(5, dtype=np.int64)
            self._solved: tuple[FloatArray, FloatArray] | None = None
        else:
            self._scaling, self._target = np.zeros((3, len(numeric))), np.zeros((3, 1))
            self._inverse = np.eye(m) / self.alpha
            self._solution = np.zeros((1, m))
            self._link, self._counts = np.array([4.0, 0.0]), np.zeros(2, dtype=np.int64)

    def _take(self, X: Any, y: Any, weights: Any) -> tuple[FloatArray, NDArray[Any], FloatArray]:
        if self.scale is not None and len(self.scale) != as_rows(X, self._width).shape[1]:
            raise invalid("scale", f"has {len(self.scale)} units, not one for each column of X")
        return super()._take(X, y, weights)

    def _grow(self, classes: int) -> None:
        more = room(classes) - self._outputs
        if self.task == "regression" or more <= 0:
            return
        if self.exact:
            self._moments = np.pad(self._moments, ((0, 0), (0, more), (0, 0)))
            self._left = np.pad(self._left, (0, more))
        else:
            self._solution = np.pad(self._solution, ((0, more), (0, 0)))
        self._outputs += more

    def _map(self, rows: FloatArray) -> FloatArray:
        phi = np.empty((len(rows), self._m))
        kernels.map_rows(rows, self._how, phi)
        return phi

    # -- learning and answering --------------------------------------------------------------------------

    @property
    def _sums(self) -> tuple[FloatArray, ...]:
        return self._gram, self._moments, self._extra, self._most

    def _step(
        self,
        asked: FloatArray,
        rows: FloatArray,
        targets: NDArray[Any],
        weights: FloatArray,
        answers: FloatArray,
    ) -> None:
        values = self.task == "regression"
        out = answers[:, None] if values else answers
        targets = targets.astype(np.float64)
        if self.exact:
            self._solved = None
            sums.exact_rows(
                asked, rows, targets, weights, values, self._how, self._sums, self._counts, self._left, out
            )
        else:
            kernels.recursive_rows(
                asked, rows, targets, weights, values, self._how, self._scaling, self._target, self._inverse,
                self._solution, self._link, self._counts, out,
            )  # fmt: skip

    def _answer(self, rows: FloatArray) -> FloatArray:
        answers = self._blank(len(rows))
        if not self.exact:
            self._step(rows, rows[:0], np.empty(0), np.empty(0), answers)
            return answers
        values, seen = self.task == "regression", int(self._counts[sums.SEEN])
        out = answers[:, None] if values else answers
        if self._counts[sums.LEFT] > 0:
            solution, shape = self._solve()
            sums.answer_rows(rows, values, self._how, solution, shape, seen, out)
        elif seen and not values:
            answers[:, :seen] = 1.0 / seen
        return answers

    def _solve(self) -> tuple[FloatArray, FloatArray]:
        """See :func:`everlearn.learners.ridge_sums.solve`; kept until the sums change."""
        if self._solved is None:
            solution, shape = np.empty((self._outputs + 1, self._m)), np.zeros((4, self._outputs))
            values = self.task == "regression"
            sums.solve(self._sums, self._counts, self._left, values, self._how[-1], solution, shape)
            self._solved = solution, shape
        return self._solved

    # -- forgetting --------------------------------------------------------------------------------------

    def forget(
        self,
        X: FloatArray,
        y: Labels,
        when: int | Sequence[int] | NDArray[Any] | None = None,
        weights: Sequence[float] | FloatArray | None = None,
    ) -> None:
        """Remove examples as if they had never been learned; the others keep the weight they have.

        ``X`` (n, d) and ``y`` (n,) as they were learned; ``when`` (n,) how many rows had been learned before
        each (0 for the first; a row of weight 0 was not learned), or that of the first of rows that were
        learned one after another (``None``: with ``gamma=1``, where it does not matter); ``weights`` (n,) as
        they were given. Time goes on as it was: rows that
        are learned later are not closer to those that stay. A class keeps its place in ``classes``, with
        probability 0 once all its examples are forgotten; with no example left, all classes are as likely,
        and a value is NaN.

        Answers are then those of a learner that learned the others alone, each at its time, to 1e-8. If
        the others weigh less than 2^-64 of what there was, because ``gamma`` has faded them, nothing can
        be told from them and they are forgotten too.

        Raises InvalidError, with nothing forgotten, with ``exact=False``, for a class that was never
        learned, a time that has not come or that two rows share, and for more rows or weight than there
        are. It cannot know whether the rows are those that were learned.
        """
        if not self.exact:
            raise InvalidError(
                "forget: a ridge with exact=False keeps no sums to subtract from: use exact=True"
            )
        rows, values = as_batch(X, y, self._width, self.task)
        heavy, times = as_weights(weights, len(rows)), self._when(when, len(rows))
        used = heavy > 0.0
        values = [value for value, use in zip(values, used, strict=True) if use]
        if not values:
            return
        if self._width is None:
            raise invalid("X", "nothing has been learned yet: there is nothing to forget")
        rows, heavy, times = rows[used], heavy[used], times[used]
        clock = int(self._counts[sums.CLOCK])
        if times.min() < 0 or times.max() >= clock:
            raise invalid("when", f"is not within 0 and {clock - 1}: give how many rows came before each")
        if len(np.unique(times)) < len(times):
            raise invalid("when", "has the same time for two rows: each was learned at a time of its own")
        targets = self._targets_of(values)
        there = times >= self._counts[sums.GONE]
        self._subtract(rows[there], targets[there], heavy[there], times[there])

    @property
    def exact_forgetting(self) -> bool:
        """Whether rows can be forgotten without saying when they were learned."""
        return self.exact and self.gamma == 1.0

    def _when(self, when: Any, n: int) -> NDArray[np.int64]:
        """When each of ``n`` rows was learned; any times will do where they weigh the same at all of them."""
        if when is not None:
            return _times(when, n)
        if self.gamma != 1.0:
            raise invalid("when", "is needed with gamma below 1: give how many rows came before each")
        clock = n if self._width is None else int(self._counts[sums.CLOCK])
        if n > clock:
            raise invalid("X", f"has {n} rows, but only {clock} were learned")
        return np.arange(clock - n, clock)

    def _targets_of(self, values: list[Any]) -> FloatArray:
        if self.task == "classification":
            known = {label: number for number, label in enumerate(self._classes.values)}
            unknown = [value for value in values if value not in known]
            if unknown:
                raise invalid("y", f"holds {unknown[0]!r}, which was never learned")
            values = [known[value] for value in values]
        return np.array(values, dtype=np.float64)

    def _subtract(
        self, rows: FloatArray, targets: FloatArray, weights: FloatArray, times: NDArray[np.int64]
    ) -> None:
        values = self.task == "regression"
        numbers = np.zeros(len(rows), dtype=np.int64) if values else targets.astype(np.int64)
        gone = np.bincount(numbers, minlength=len(self._left))
        if (gone > self._left).any():
            c = int(np.argmax(gone > self._left))
            what = "rows" if values else f"rows of {self._classes.values[c]!r}"
            raise invalid("y", f"holds {gone[c]} {what}, but only {self._left[c]} are there to forget")
        shifts, total = int(self._counts[sums.SHIFTS]), float(self._gram[0, -1])
        faded = [sums.time_weight(int(when), self._how[-1], shifts) for when in times]
        if weights @ np.array(faded) > total * (1.0 + 1e-9):
            raise invalid("weights", "are more than all that is there: give weights and when as they were")
        tidied = np.ascontiguousarray(np.where(np.abs(rows) < LARGEST, rows, np.nan))
        self._most[0] = max(self._most[0], total)
        sums.forget_rows(
            tidied, targets, weights, times, values, self._how, self._sums, self._counts, self._left
        )
        self._moments[:, self._left == 0] = 0.0
        if self._counts[sums.LEFT] == 0 or self._gram[0, -1] < _FAINT * self._most[0]:
            for kept in (*self._sums, self._left):
                kept[:] = 0
            self._counts[sums.LEFT], self._counts[sums.GONE] = 0, self._counts[sums.CLOCK]
        self._solved = None

    # -- explaining --------------------------------------------------------------------------------------

    def contributions(self, X: FloatArray) -> FloatArray:
        """What each column adds to the scores: (n, d + 1, k), or (n, d + 1); the last is the constant.

        A column adds its slope times how far the row is from the mean, a categorical column those of all
        its slots; the constant is the mean of the target. A regression's are in units of the target and
        sum to the estimate; a classification's are in units of probability and sum to the least-squares
        estimate of each class's indicator, which :meth:`predict` turns into a probability.

        Only for ``features="linear"`` and ``exact=True``; raises InvalidError otherwise, because random
        features mix the columns.
        """
        if self.features != "linear" or not self.exact:
            raise invalid("features", "contributions are exact only with features='linear', exact=True")
        rows = as_rows(X, self._width)
        outputs = 1 if self.task == "regression" else len(self._classes)
        added = np.zeros((len(rows), rows.shape[1] + 1, outputs))
        if self._width is None or self._counts[sums.LEFT] == 0:
            added[:, -1] = np.nan if self.task == "regression" else 1.0 / max(outputs, 1)
            return added[:, :, 0] if self.task == "regression" else added
        solution = self._solve()[0]
        rows = np.ascontiguousarray(np.where(np.abs(rows) < LARGEST, rows, np.nan))
        apart = (self._map(rows) - solution[-1])[:, :-1]
        parts = apart[:, :, None] * solution[:outputs, :-1].T
        numeric = self._how[0]
        added[:, numeric] = parts[:, : len(numeric)]
        for q, column in enumerate(self.categorical):
            start = len(numeric) + q * self.slots
            added[:, column] = parts[:, start : start + self.slots].sum(axis=1)
        added[:, -1] = solution[:outputs, -1]
        return added[:, :, 0] if self.task == "regression" else added

    def _check(self) -> None:
        seen = int(self._counts[kernels.SEEN])
        if not 0 <= seen <= len(self._classes) + (self.task == "regression"):
            raise ValueError(f"{seen} of {len(self._classes)} classes are seen")
        if not all(np.isfinite(getattr(self, f"_{name}")).all() for name in self.arrays):
            raise ValueError("a number is not finite")
        if self.exact:
            self._check_counts()

    def _check_counts(self) -> None:
        _, left, clock, shifts, gone = self._counts.tolist()
        if not (0 <= left <= clock and 0 <= gone <= clock and shifts >= 0):
            raise ValueError(f"{left} rows are left of {clock}")
        if self._left.min() < 0 or self._left.sum() != left or (left and not self._gram[0, -1] > 0.0):
            raise ValueError("the rows left of each class are not those of all")
        self._solved = None


def _times(when: Any, n: int) -> NDArray[np.int64]:
    """When each of ``n`` rows was learned."""
    times = np.asarray(when)
    if n and times.dtype.kind not in "iu":
        raise invalid("when", "holds values that are no whole numbers: give how many rows came before each")
    if times.ndim == 0:
        return int(times) + np.arange(n)
    if times.shape != (n,):
        raise invalid("when", f"has shape {times.shape} for {n} rows of X: give one time a row")
    return times.astype(np.int64)
