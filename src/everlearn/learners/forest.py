"""An aggregated Mondrian forest that follows drift."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from everlearn.learners import forest_kernels as kernels
from everlearn.learners.forest_nodes import (
    AGE,
    BORN,
    COLUMN,
    LEARNED,
    LEFT,
    MASS,
    NODES,
    ORDER,
    PARENT,
    RIGHT,
    ROOT,
    SEEN,
    SPARE,
    Grove,
)
from everlearn.learners.inputs import LARGEST, as_rows, at_least, invalid, positive
from everlearn.learners.streaming import Streaming, room
from everlearn.types import FloatArray

_CANDIDATES = 2
_FIRST = 64  # nodes a tree that there is room for at first


class Forest(Streaming):
    """Online Mondrian trees whose prunings are all aggregated, some of them always young.

    Mondrian trees (Lakshminarayanan, Roy and Teh 2014) grow with every row: a cut that parts a row from a
    node's box is drawn in proportion to how far the row lies outside. A tree's answer is the mean over all
    its prunings, weighted exponentially by their past losses (AMF: Mourtada, Gaïffas and Scornet 2021), found
    on one path from root to leaf; a node answers by its classes' counts with ``dirichlet`` added to each
    (logarithmic loss, learning rate ``step``), or by its mean (squared loss in units of the usual error).
    A leaf whose rows agree with a new one is not cut. Four things are added:

    * **Cuts inside a leaf.** Where a row disagrees with the leaf whose box it lies in, a cut is drawn between
      the row and the leaf's centre; plain Mondrian trees could never part the two any more.
    * **Relevance.** Cuts come at a rate that follows the share of the labels' entropy (or of the variance)
      which a column alone explains on the rows so far, to the power ``sharpness``; 0 is plain AMF. Widths
      are in running deviations, and values farther than ``clip`` of them count as if they lay there.
    * **Forgetting.** A node keeps ``forgetting`` of its counts and of its past losses at each row that it
      learns, so that the great nodes follow a drift and the small ones decide how fast.
    * **Renewal.** Two candidates learn beside the ``trees``. One that has learned ``patience`` rows and has
      lost less over the last ``horizon`` rows than the worst tree takes its place, and a new one begins. A
      tree of ``max_nodes`` nodes loses a cut that no row has met with for long before it is cut anew.

    The answer is the mean of the trees, weighted by the exponential of minus ``trust`` times the recent loss.
    A missing value neither extends a box nor is cut off; at a cut it goes to the child that has learned
    more. Categories lie on a line in random order, another in each tree, so that a cut parts a random
    set of codes. A row of weight w counts like w rows in the nodes, up to 64, but is cut as one. Memory in
    numbers of 8 bytes: at most ``(trees + 2) max_nodes (3 d + k + 9)``, k classes rounded up to a power of 2.

    >>> import numpy as np
    >>> X = np.random.default_rng(0).uniform(-1, 1, size=(2000, 2))
    >>> learner = Forest()
    >>> learner.learn(X, np.where(X[:, 0] * X[:, 1] > 0, "same", "other"))
    >>> [learner.classes[i] for i in learner.predict(np.array([[0.5, 0.5], [-0.5, 0.5]])).argmax(axis=1)]
    ['same', 'other']
    """

    name: ClassVar[str] = "forest"
    good_for: ClassVar[str] = "a few dozen columns that act together, slow and sudden drift"
    cannot: ClassVar[str] = "extrapolate; be as quick on hundreds of columns"
    arrays: ClassVar[tuple[str, ...]] = (
        "links", "facts", "boxes", "counts", "spare", "trees", "losses", "numbers", "scale", "table", "rates",
        "generator",
    )  # fmt: skip
    free: ClassVar[tuple[str, ...]] = ("links", "facts", "boxes", "counts", "spare")

    def __init__(
        self,
        *,
        task: str = "classification",
        categorical: Sequence[int] = (),
        seed: int = 0,
        trees: int = 10,
        max_nodes: int = 2000,
        dirichlet: float = 0.1,
        step: float = 1.0,
        forgetting: float = 0.9995,
        sharpness: float = 0.5,
        patience: int = 500,
        horizon: int = 200,
        trust: float = 3.0,
        clip: float = 5.0,
        memory: int = 10_000,
        max_classes: int = 1000,
    ) -> None:
        super().__init__(task=task, categorical=categorical, seed=seed, max_classes=max_classes)
        self.trees, self.max_nodes = at_least("trees", trees, 1), at_least("max_nodes", max_nodes, 3)
        self.dirichlet, self.step = positive("dirichlet", dirichlet), positive("step", step)
        self.forgetting = positive("forgetting", forgetting)
        if self.forgetting > 1.0:
            raise invalid(
                "forgetting", f"{forgetting} is above 1: use 1 to keep all, 0.9995 to follow a drift"
            )
        self.sharpness, self.trust = _not_negative("sharpness", sharpness), _not_negative("trust", trust)
        self.patience, self.horizon = at_least("patience", patience, 1), at_least("horizon", horizon, 1)
        self.clip, self.memory = positive("clip", clip), at_least("memory", memory, 100)
        self._settings = np.array(
            [self.step, self.dirichlet, self.forgetting, self.clip, self.memory, self.sharpness, self.horizon,
             self.trust, self.max_nodes, self.trees, self.patience], dtype=np.float64,
        )  # fmt: skip

    def _begin(self, width: int) -> None:
        values, total = self.task == "regression", self.trees + _CANDIDATES
        places = total * (min(_FIRST, self.max_nodes) + 2)
        k = 1 if values else room(0)
        self._kinds = np.zeros(width, dtype=np.int64)
        self._kinds[list(self.categorical)] = 1
        self._links = np.full((places, 4), -1, dtype=np.int32)
        self._facts, self._boxes = np.zeros((places, 6)), np.zeros((places, 3, width))
        self._counts = np.zeros((places, k))
        self._spare = np.arange(places, dtype=np.int32)[::-1].copy()
        self._trees = np.zeros((total, 4), dtype=np.int64)
        self._trees[:, ROOT] = -1
        self._losses = np.zeros(total)
        self._numbers = np.array([-1 if values else 0, 0, places, 0], dtype=np.int64)
        self._scale = np.zeros((3, width + 2))
        self._scale[0, -1] = 1.0
        self._table = np.zeros((width, kernels.BINS, 3 if values else k))
        self._rates = np.zeros(width)
        self._generator = np.array([self.seed], dtype=np.int64).view(np.uint64)

    def _grow(self, classes: int) -> None:
        more = room(classes) - self._counts.shape[1]
        if self.task == "classification" and more > 0:
            self._counts = np.pad(self._counts, ((0, 0), (0, more)))
            self._table = np.pad(self._table, ((0, 0), (0, 0), (0, more)))

    @property
    def _grove(self) -> Grove:
        return Grove(**{name: getattr(self, f"_{name}") for name in Grove._fields})

    def _enlarge(self) -> None:
        """Make room for more nodes: twice as many, up to what the trees may have."""
        old = len(self._links)
        new = min(old, len(self._trees) * (self.max_nodes + 2) - old)
        for name in self.free:
            array = getattr(self, f"_{name}")
            setattr(self, f"_{name}", np.concatenate([array, np.zeros((new, *array.shape[1:]), array.dtype)]))
        self._links[old:] = -1
        # The free places of before stay on top of the stack.
        kept = self._spare[: self._numbers[SPARE]].copy()
        self._spare[:new] = np.arange(old, old + new)[::-1]
        self._spare[new : new + len(kept)] = kept
        self._spare[new + len(kept) :] = 0
        self._numbers[SPARE] += new

    def _answer(self, rows: FloatArray) -> FloatArray:
        answers = self._blank(len(rows))
        kernels.run(self._grove, rows, rows[:0], _NONE, _NONE, 0, self._columns(answers))
        return answers

    def _step(
        self,
        asked: FloatArray,
        rows: FloatArray,
        targets: NDArray[Any],
        weights: FloatArray,
        answers: FloatArray,
    ) -> None:
        values, done = targets.astype(np.float64), 0
        while True:
            done = kernels.run(self._grove, asked, rows, values, weights, done, self._columns(answers))
            if done >= len(rows):
                return
            self._enlarge()

    def _columns(self, answers: FloatArray) -> FloatArray:
        return answers[:, None] if self.task == "regression" else answers

    def contributions(self, X: FloatArray) -> FloatArray:
        """What each column adds to the answer: (n, d + 1, k), or (n, d + 1) for a regression.

        They sum to :meth:`predict` over axis 1, whose last place is what the trees' roots say (Saabas's path
        attribution, on the aggregated answers). Raises InvalidError for rows of another width.
        """
        rows = as_rows(X, self._width)
        rows = np.ascontiguousarray(np.where(np.abs(rows) < LARGEST, rows, np.nan))
        outputs = 1 if self.task == "regression" else len(self._classes)
        added = np.zeros((len(rows), rows.shape[1] + 1, outputs))
        if self._width is not None:
            kernels.add_up(self._grove, rows, added)
        return added[:, :, 0] if self.task == "regression" else added

    def _check(self) -> None:
        seen, learned, spare, born = (int(self._numbers[place]) for place in (SEEN, LEARNED, SPARE, BORN))
        places = len(self._links)
        if any(len(getattr(self, f"_{name}")) != places for name in self.free):
            raise ValueError("the nodes' arrays differ in length")
        if not (seen == -1 if self.task == "regression" else 0 <= seen <= len(self._classes)):
            raise ValueError(f"it has seen {seen} of {len(self._classes)} classes")
        if learned < 0 or born < 0 or not 0 <= spare <= places:
            raise ValueError(f"its numbers are {self._numbers.tolist()}")
        finite = ("losses", "scale", "table", "rates", "counts")
        if not all(np.isfinite(getattr(self, f"_{name}")).all() for name in finite):
            raise ValueError("a number is not finite")
        if np.isnan(self._facts).any() or np.isnan(self._boxes[:, :2]).any():
            raise ValueError("a node's number is missing")
        if (self.task == "classification" and (self._counts < 0.0).any()) or (
            self._facts[:, MASS] < 0.0
        ).any():
            raise ValueError("a node's count is negative")
        if (self._rates < 0.0).any() or (self._scale[::2] < 0.0).any():
            raise ValueError("a weight, a rate or a variance is negative")
        roots, members = self._trees[:, ROOT], self._trees[:, [NODES, AGE, ORDER]]
        if roots.min() < -1 or members.min() < 0 or bool((roots[: self.trees] < 0).any()) == (learned > 0):
            raise ValueError("a tree has no root, or the forest none that may answer")
        self._check_nodes(roots[roots >= 0])

    def _check_nodes(self, roots: NDArray[np.int64]) -> None:
        """Every place is in exactly one tree or free, and every link leads back: no loop can go astray."""
        links, width = self._links, self._boxes.shape[2]
        free = self._spare[: self._numbers[SPARE]]
        met = np.zeros(len(links), dtype=np.int64)
        level = roots
        parents = np.full(len(roots), -1)
        while len(level):
            if level.min() < 0 or level.max() >= len(links) or (links[level, PARENT] != parents).any():
                raise ValueError("a link leads astray")
            np.add.at(met, level, 1)
            if met.max() > 1:
                raise ValueError("a node has two parents")
            inner = level[links[level, COLUMN] >= 0]
            level = links[inner][:, [LEFT, RIGHT]].ravel().astype(np.int64)
            parents = np.repeat(inner, 2)
        if len(free) and (free.min() < 0 or free.max() >= len(links)):
            raise ValueError("a free place is none")
        np.add.at(met, free, 1)
        if (met != 1).any() or links[:, COLUMN].max() >= width:
            raise ValueError("a place is neither in a tree nor free, or a column is none")
        held = len(links) - len(free)
        if self._trees[:, NODES].sum() != held or self._trees[:, NODES].min() < 0:
            raise ValueError("the trees' sizes are not those of their nodes")


_NONE = np.empty(0)


def _not_negative(field: str, value: float) -> float:
    return 0.0 if value == 0 and not isinstance(value, bool) else positive(field, value)
