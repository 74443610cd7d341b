"""Streaming random patches: an ensemble of incremental trees with models in their nodes.

What each file holds: ``patches_grove`` the trees in memory, ``hoeffding_kernels`` histograms and splits,
``patches_models`` what nodes say and learn, ``patches_trees`` growing, ``patches_kernels`` the ensemble,
``patches_check`` whether a stored state is sound.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from everlearn.learners import patches_check, patches_kernels
from everlearn.learners.inputs import at_least, invalid, positive
from everlearn.learners.patches_grove import BINS, Grove
from everlearn.learners.patches_trees import LOSS, STEPS
from everlearn.learners.streaming import Streaming, room
from everlearn.types import FloatArray

_RING = 128  # newest rows that a new tree learns first
_TRIED = 0.6  # the share of what a tree sees that is tried when a leaf is looked at
_LADDER = 60.0  # the largest step of a member over the smallest
_FEWEST = (8, 4)  # nodes and histograms a member that the pools begin with
_POOLS = (("links", "nodes", "counts", "lines"), ("hists", "edges"))


class Patches(Streaming):
    """An ensemble of incremental trees with linear models in their nodes, which replaces members that drift.

    The frame is that of adaptive random forests (Gomes et al. 2017) and streaming random patches (Gomes et
    al. 2019): every tree learns every row a Poisson(``bag``) number of times (Oza and Russell 2001; weights
    are divided by ``bag``) and sees a random share of the columns; a detector of change (HDDM-A,
    Frías-Blanco et al. 2015) of risk ``warning`` has a stand-in planted, which learns beside its member and
    takes its place when the detector of risk ``drift`` goes off, as soon as it is the better of the two.
    The trees grow as Hoeffding trees do (Domingos and Hulten 2000), from histograms at the leaves, but

    * a leaf splits when this saves more in log likelihood than ``caution`` times the length of its
      description, so from tens of rows on in place of hundreds;
    * every node keeps a linear model and a mean (as FIMT-DD does at leaves, Ikonomovska et al. 2011), a leaf
      naive Bayes too, and an answer mixes all on the way by how well each did lately;
    * a tree may split on sums of two columns in a random direction, and so at a slant;
    * members answer with weights that fall with their recent loss; classes by the mean of log probabilities.

    Good for tables whose columns act together, and for drift of any speed. It is not good for very many
    classes (time and memory grow with them), nor for extrapolating: estimates stay near targets that came.
    Splits are greedy: columns that say something only together are found among few others, not among many.
    It is slower than ``linear`` or ``additive``, in proportion to trees and to columns times classes.

    ``trees``: members. ``subspace``: the share of the columns that a tree sees, at most ``max_columns`` of
    them. ``sums``: how many sums of two columns it sees too (none that involve categories). ``grace``: the
    weight that a leaf learns between two looks for a split. ``memory``: rows that means look back. ``step``:
    of the logistic models (AdaGrad); members' steps lie around it, the largest 60 times the smallest.
    ``max_nodes``: of a tree, inner ones and leaves; a tree that is full learns on without splits. A row of
    weight w counts like w rows, up to 64. A category is told by the digits of its code, to base 16.

    Memory in bytes, at most, for T trees of N nodes that see S columns and E sums, with k classes rounded up
    to a power of two (3 for a regression): ``16 T N (S + 1) (k + 1) + 68 T N (S + E) (k + 2)``.

    >>> import numpy as np
    >>> X = np.random.default_rng(0).uniform(-1, 1, size=(2000, 2))
    >>> learner = Patches(trees=3)
    >>> learner.learn(X, np.where(X[:, 0] * X[:, 1] > 0, "same", "other"))
    >>> answers = learner.predict(np.array([[0.5, 0.5], [-0.5, 0.5], [-0.5, -0.5]]))
    >>> [learner.classes[best] for best in answers.argmax(axis=1)]
    ['same', 'other', 'same']
    """

    name: ClassVar[str] = "patches"
    good_for: ClassVar[str] = "many columns that act together, sudden drift"
    cannot: ClassVar[str] = "extrapolate; follow a smooth effect as closely as few rows allow"
    arrays: ClassVar[tuple[str, ...]] = (
        "links", "nodes", "counts", "lines", "hists", "edges", "trees", "spaces", "mixes", "pool",
        "records", "ring", "scale", "numbers", "generator",
    )  # fmt: skip
    free: ClassVar[tuple[str, ...]] = (*_POOLS[0], *_POOLS[1])

    def __init__(
        self,
        *,
        task: str = "classification",
        categorical: Sequence[int] = (),
        seed: int = 0,
        trees: int = 10,
        subspace: float = 1.0,
        sums: int = 8,
        bag: float = 6.0,
        grace: int = 20,
        caution: float = 1.0,
        memory: float = 100.0,
        step: float = 0.3,
        warning: float = 0.01,
        drift: float = 0.001,
        max_nodes: int = 127,
        max_columns: int = 48,
        max_classes: int = 1000,
    ) -> None:
        super().__init__(task=task, categorical=categorical, seed=seed, max_classes=max_classes)
        self.trees = at_least("trees", trees, 1)
        self.subspace = positive("subspace", subspace)
        if self.subspace > 1.0:
            raise invalid("subspace", f"{subspace} is above 1: use 1 for all columns, 0.6 for six of ten")
        self.sums = at_least("sums", sums, 0)
        self.bag = positive("bag", bag)
        if self.bag > 30.0:
            raise invalid("bag", f"{bag} is above 30: use 6, or 1 for more different trees")
        self.grace = at_least("grace", grace, 1)
        self.caution = positive("caution", caution)
        self.memory = positive("memory", memory)
        self.step = positive("step", step)
        self.warning, self.drift = positive("warning", warning), positive("drift", drift)
        if not self.drift <= self.warning < 1.0:
            raise invalid("warning", f"{warning} is not below 1 and at least drift ({drift}): use 10 x drift")
        self.max_nodes = at_least("max_nodes", max_nodes, 1)
        self.max_columns = at_least("max_columns", max_columns, 1)

    def _begin(self, width: int) -> None:
        values, t = self.task == "regression", self.trees
        columns = min(max(math.ceil(self.subspace * width - 1e-9), min(width, 1)), self.max_columns)
        sums = self.sums if width > 1 else 0
        seen = columns + sums
        k = 3 if values else room(0)
        nodes, hists = (few * t for few in _FEWEST)
        self._kinds = np.zeros(width, np.int64)
        self._kinds[list(self.categorical)] = 1
        tried = max(math.ceil(_TRIED * seen - 1e-9), 1)
        self._limits = np.array([values, t, self.max_nodes, tried, self.grace], np.int64)
        self._most = np.array([2 * t * self.max_nodes + 4 * t, t * (self.max_nodes + 1) + 3 * t], np.int64)
        self._settings = np.zeros(STEPS + t)
        self._settings[:STEPS] = self.memory, self.caution, self.bag, self.warning, self.drift
        self._settings[STEPS:] = [self.step * _LADDER ** (m / max(t - 1, 1) - 0.5) for m in range(t)]
        self._links = np.zeros((nodes, 6), np.int64)
        self._nodes = np.zeros((nodes, 8))
        self._counts = np.zeros((nodes, k))
        self._lines = np.zeros((nodes, columns + 2 if values else k + 1, columns + 1))
        self._hists = np.zeros((hists, seen, BINS + 1, k), np.float32)
        self._edges = np.zeros((hists, seen, BINS + 1))
        self._trees = np.zeros((2 * t, 3), np.int64)
        self._trees[:, 0] = -1
        self._spaces = np.zeros((2 * t, columns + 2 * sums), np.int64)
        self._mixes = np.zeros((2 * t, 2 * sums))
        self._pool = np.array([-1, 0, -1, 0, 0, 0, 0], np.int64)
        self._records = np.zeros((2 * t, LOSS + 1))
        self._ring = np.zeros((_RING, width + 2))
        self._scale = np.zeros((3, width))
        self._numbers = np.zeros(4)
        self._generator = np.array([self.seed % 2**64], np.uint64)

    def _grow(self, classes: int) -> None:
        more = room(classes) - self._counts.shape[1]
        if self.task == "classification" and more > 0:
            self._counts = np.pad(self._counts, ((0, 0), (0, more)))
            self._lines = np.pad(self._lines, ((0, 0), (0, more), (0, 0)))
            self._hists = np.pad(self._hists, ((0, 0), (0, 0), (0, 0), (0, more)))

    @property
    def _patch(self) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """What the compiled loops work on."""
        pools = (self._links, self._nodes, self._counts, self._lines, self._hists, self._edges)
        trees = (self._trees, self._spaces, self._mixes, self._kinds, self._pool, self._limits)
        learned = (self._records, self._ring, self._scale, self._numbers)
        return (*pools, *trees), (*learned, self._settings, self._generator)

    def _answer(self, rows: FloatArray) -> FloatArray:
        answers = self._blank(len(rows))
        patches_kernels.answer(*self._patch, rows, self._as_columns(answers))
        return answers

    def _step(
        self,
        asked: FloatArray,
        rows: FloatArray,
        targets: NDArray[Any],
        weights: FloatArray,
        answers: FloatArray,
    ) -> None:
        targets, filled = targets.astype(np.float64), self._as_columns(answers)
        done = 0
        while True:
            done = patches_kernels.step(*self._patch, self._most, asked, rows, targets, weights, done, filled)
            if done == len(rows):
                return
            self._enlarge()

    def _as_columns(self, answers: FloatArray) -> FloatArray:
        """Answers as the compiled loops fill them: (n, k), or (n, 1) for a regression."""
        return answers[:, None] if self.task == "regression" else answers

    def _enlarge(self) -> None:
        """Twice as large pools, up to what all trees together can need."""
        for names, most in zip(_POOLS, self._most.tolist(), strict=True):
            for name in names:
                old = getattr(self, f"_{name}")
                new = np.zeros((min(2 * len(old), most), *old.shape[1:]), old.dtype)
                new[: len(old)] = old
                setattr(self, f"_{name}", new)

    def _check(self) -> None:
        grove = Grove(*self._patch[0])
        numbers = (self._records, self._scale, self._numbers)
        patches_check.check(grove, self._ring, numbers, self._most, len(self._classes))
