"""Images learned exactly: fixed features, then least squares on all that was ever seen, by its sums alone."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray

from everlearn.errors import IntegrityError
from everlearn.learners.contract import Labels, State
from everlearn.learners.images import filters as dictionaries
from everlearn.learners.images.features import GRAIN, Pooled, Projection, blocks, grained
from everlearn.learners.images.filters import Filters
from everlearn.learners.images.packed import Gram
from everlearn.learners.inputs import Classes, as_batch, as_columns, as_rows, at_least, invalid, positive
from everlearn.types import FloatArray, Scalar

_HELD = 512  # rows whose features wait to be summed together
_LARGEST = 1e30
_SLOTS = 16  # of a category

Backbone = Callable[[NDArray[np.float32]], Any]


@dataclass(kw_only=True, eq=False)
class Image:
    """A classifier of images that learns in one pass, keeps none, and forgets none but those it is told to.

    Features are fixed; on them it is ridge regression on the classes' indicators, of which only sums are
    kept. The features are whole multiples of 1/1024, so the sums are exact: what it has learned is the same,
    bit for bit, whatever the order of images, classes or batches, and :meth:`forget` leaves what would be
    there without the images. New classes come at any time.

    A row is an image of ``shape`` (channels, height, width), its numbers divided by ``scale``. ``features``:

    * ``"learned"``: ``filters`` of ``patch`` pixels a side, learned from the first ``first`` images (whitened
      patches, spherical k-means), rectified beyond ``threshold``, pooled on ``cells`` a side, square-rooted
      (Coates, Lee and Ng 2011). Until ``first`` images have come, they wait and answers are the frequencies
      of the classes. These images cannot be forgotten: the filters come from them.
    * ``"random"``: the same with filters that depend on no image.
    * ``"plain"``: the numbers themselves, and 16 columns of 0 and 1 for a category; all there is without a
      ``shape``.
    * in your own code, a frozen ``backbone``: a function of images float32 (n, \\*shape) that gives (n, f),
      such as a ``torch.nn.Module`` in evaluation mode or a session of ONNX Runtime. It is no part of the
      state: give the same one again.

    With ``mirror`` an image and its mirror image count as one. ``projection`` rectified random projections
    take the place of the features if it is above 0. ``alpha`` is the penalty, as a share of the features'
    mean variance; ``sharpness`` makes scores probabilities. Memory: ``M (M + 1) / 2`` numbers for M features,
    M more a class, and as much again while it solves for the weights, which it does when first asked.

    >>> rng = np.random.default_rng(0)
    >>> X, y = rng.normal(size=(300, 4)), np.arange(300) % 2
    >>> X[:, 0] += 4 * y
    >>> learner = Image(projection=50)
    >>> learner.learn(X, y)
    >>> learner.forget(X[:100], y[:100])
    >>> other = Image(projection=50)
    >>> other.learn(X[:99:-1], y[:99:-1])
    >>> bool(np.array_equal(learner.weights(), other.weights()[:, ::-1]))
    True
    """

    name: ClassVar[str] = "image"
    good_for: ClassVar[str] = (
        "images, class after class: one pass, none kept, none forgotten, any removed exactly"
    )
    cannot: ClassVar[str] = "learn features: they are fixed after the first images; estimate numbers"
    prefers: ClassVar[Literal["stream", "triggered"]] = "stream"
    incremental: ClassVar[bool] = True

    task: str = "classification"
    categorical: Sequence[int] = ()
    seed: int = 0
    shape: Sequence[int] | None = None
    scale: float | None = None
    features: str = "learned"
    filters: int = 400
    patch: int = 6
    cells: int = 2
    threshold: float = 0.25
    first: int = 1000
    mirror: bool = False
    backbone: Backbone | None = None
    projection: int = 0
    alpha: float = 0.01
    sharpness: float = 8.0
    max_classes: int = 1000

    def __post_init__(self) -> None:
        if self.task != "classification":
            raise invalid("task", f"{self.task!r}: images are told apart by class, use 'classification'")
        self.categorical = as_columns(self.categorical)
        if self.features not in ("learned", "random", "plain"):
            raise invalid("features", f"{self.features!r} is none of learned, random, plain")
        self.shape = None if self.shape is None else tuple(at_least("shape", n, 1) for n in self.shape)
        if self.shape is not None and self.categorical:
            raise invalid("shape", "is for rows of pixels alone: leave it out where there are categories")
        for field, least in (("filters", 2), ("patch", 1), ("cells", 1), ("first", 1), ("projection", 0)):
            at_least(field, getattr(self, field), least)
        for field in ("alpha", "sharpness"):
            setattr(self, field, positive(field, getattr(self, field)))
        self.scale = None if self.scale is None else positive("scale", self.scale)
        if self.threshold < 0:
            raise invalid("threshold", f"{self.threshold} is negative: use 0 to count all")
        self._check_shape()
        self._classes = Classes(self.max_classes)
        self._width: int | None = None

    def _check_shape(self) -> None:
        if self.shape is None or not self._filtered:
            return
        if len(self.shape) != 3 or self.patch > min(self.shape[1:]):
            raise invalid(
                "shape", f"{self.shape} is not (channels, height, width) of {self.patch} pixels or more"
            )
        if self.mirror and self.filters % 2:
            raise invalid("filters", f"{self.filters} is odd: with mirror they come in pairs")

    @property
    def _filtered(self) -> bool:
        """Whether features are those of filters."""
        return self.shape is not None and self.backbone is None and self.features != "plain"

    @property
    def exact_forgetting(self) -> bool:
        """Whether every row can be forgotten exactly: not those that filters were learned from."""
        return not (self._filtered and self.features == "learned")

    @property
    def wants(self) -> int | None:
        """All there are."""
        return None

    @property
    def classes(self) -> list[Scalar]:
        """The classes seen so far, in order of first appearance."""
        return list(self._classes.values)

    # -- learning ----------------------------------------------------------------------------------------

    def learn(self, X: FloatArray, y: Labels) -> None:
        """Learn rows of pixels ``X`` (n, d) with labels ``y`` (n,)."""
        rows, values = as_batch(X, y, self._width, "classification")
        self._fits(rows.shape[1])
        if not len(rows):
            return
        numbers = np.array(self._classes.learn(values), dtype=np.int64)
        if self._width is None:
            self._begin(rows.shape[1])
        self._count += np.bincount(numbers, minlength=len(self._count))
        if self._map is None:
            rows, numbers = self._wait(rows, numbers)
        self._add(rows, numbers)

    def _fits(self, width: int) -> None:
        if self.shape is not None and int(np.prod(self.shape)) != width:
            raise invalid("shape", f"{tuple(self.shape)} does not fit rows of {width} numbers")
        if self.categorical and self.categorical[-1] >= width:
            raise invalid(
                "categorical", f"column {self.categorical[-1]} is not one of the {width} columns of X"
            )

    def _begin(self, width: int) -> None:
        self._width = width
        self._count = np.zeros(self.max_classes, dtype=np.int64)
        self._map: Callable[[FloatArray], FloatArray] | None = None
        self._filters: Filters | None = None
        self._waiting = np.zeros((0, width)), np.zeros(0, dtype=np.int64)
        self._marks = np.zeros(0, dtype=np.uint64)
        self._held: list[FloatArray] = []
        self._weights: FloatArray | None = None
        if self._filtered and self.features == "random":
            shape = self.shape or ()
            self._filters = dictionaries.random(
                shape[0], self.patch, self.filters, mirror=self.mirror, draw=self._draw(0)
            )
        if not self._filtered or self._filters is not None:
            self._ready(width)

    def _draw(self, purpose: int) -> np.random.Generator:
        return np.random.Generator(np.random.Philox(key=[self.seed % 2**63, purpose]))

    def _wait(self, rows: FloatArray, numbers: NDArray[np.int64]) -> tuple[FloatArray, NDArray[np.int64]]:
        """Keep the first rows until filters can be learned from them; gives what is then to be learned."""
        rows = np.concatenate([self._waiting[0], rows])
        numbers = np.concatenate([self._waiting[1], numbers])
        if len(rows) < self.first:
            self._waiting = rows, numbers
            return rows[:0], numbers[:0]
        images, draw = self._images(rows[: self.first]), self._draw(1)
        self._filters = dictionaries.learned(images, self.patch, self.filters, mirror=self.mirror, draw=draw)
        self._marks = _marks(rows[: self.first])
        self._waiting = rows[:0].copy(), numbers[:0].copy()
        self._ready(rows.shape[1])
        return rows, numbers

    def _ready(self, width: int) -> None:
        """The map from rows to features is known; there are no sums yet."""
        maps: list[Any] = [self._images]
        size = width
        if self.backbone is not None:
            maps.append(self._asked)
            size = self._asked(self._images(np.zeros((2, width)))).shape[1]
        elif self._filters is not None:
            pooled = Pooled(self._filters, self.patch, self.cells, self.threshold, mirror=self.mirror)
            maps.append(pooled)
            size = pooled.size
        else:
            maps.append(self._spread)
            size = self._spread(np.zeros((1, width), dtype=np.float32)).shape[1]
        if self.projection:
            maps.append(Projection(size, self.projection, self._draw(2)))
            size = self.projection
        else:
            maps.append(grained)

        def features(rows: FloatArray) -> FloatArray:
            found: Any = rows
            for one in maps:
                found = one(found)
            return np.asarray(found)

        self._map = features
        self._gram = Gram(size)
        self._sums = np.zeros((0, size))

    def _images(self, rows: FloatArray) -> NDArray[np.float32]:
        tame = np.where(np.abs(rows) < _LARGEST, rows, 0.0)
        scale = self.scale or (255.0 if self.shape is not None else 1.0)
        images = (tame / scale).astype(np.float32)
        return images if self.shape is None else images.reshape(-1, *self.shape)

    def _spread(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Rows of numbers, with a 0 or 1 for each category: codes beyond the slots share them."""
        flat = rows.reshape(len(rows), -1)
        if not self.categorical:
            return flat
        parts = [np.delete(flat, self.categorical, axis=1)]
        scale = np.float32(self.scale or 1.0)
        for column in self.categorical:
            codes = np.rint(np.clip(flat[:, column] * scale, -1e9, 1e9)).astype(np.int64)
            parts.append(np.equal.outer(codes % _SLOTS, np.arange(_SLOTS)).astype(np.float32))
        return np.concatenate(parts, axis=1)

    def _asked(self, images: NDArray[np.float32]) -> FloatArray:
        """What the backbone says of images, each by itself."""
        backbone = self.backbone
        if hasattr(backbone, "parameters"):
            from everlearn.learners.networks.frozen import features_of

            return features_of(backbone, images)
        said = [np.asarray(backbone(images[i : i + 1])) for i in range(len(images))]  # type: ignore[misc]
        return np.concatenate(said).astype(np.float64).reshape(len(images), -1) if said else np.empty((0, 0))

    def _add(self, rows: FloatArray, numbers: NDArray[np.int64], sign: float = 1.0) -> None:
        """Add rows to the sums, or take them out."""
        if not len(rows) or self._map is None:
            return
        self._weights = None
        more = len(self._classes) - len(self._sums)
        self._sums = np.pad(self._sums, ((0, more), (0, 0)))
        for at in range(0, len(rows), _HELD):
            phi, part = self._map(rows[at : at + _HELD]), numbers[at : at + _HELD]
            for number in np.unique(part):
                self._sums[number] += sign * phi[part == number].sum(axis=0)
            self._held.append(phi if sign > 0 else -phi)
            if sign < 0:
                self._held.pop()
                self._flush()
                self._gram.add(phi, -1.0)
            elif sum(map(len, self._held)) >= _HELD:
                self._flush()

    def _flush(self) -> None:
        if self._held:
            self._gram.add(np.concatenate(self._held))
            self._held = []

    # -- forgetting --------------------------------------------------------------------------------------

    def forget(self, X: FloatArray, y: Labels) -> None:
        """Remove rows ``X`` (n, d) with labels ``y`` (n,) as if they had never been learned, exactly.

        In any order and in any split into calls. A class keeps its place in ``classes``, with probability 0
        when its last row is gone. Raises InvalidError, with nothing forgotten, for shapes that do not fit, a
        class that was never learned, more rows of a class than there are, or a row that filters were learned
        from (a version without it is learned afresh). It cannot know whether other rows were learned.
        """
        rows, values = as_batch(X, y, self._width, "classification")
        if not len(rows):
            return
        known = {label: number for number, label in enumerate(self._classes.values)}
        strange = [value for value in values if value not in known]
        if strange:
            raise invalid("y", f"holds {strange[0]!r}, which was never learned")
        numbers = np.array([known[value] for value in values], dtype=np.int64)
        gone = np.bincount(numbers, minlength=len(self._count))
        if (gone > self._count).any():
            c = int(np.argmax(gone > self._count))
            label, there = self._classes.values[c], self._count[c]
            raise invalid("y", f"holds {gone[c]} rows of {label!r}, but only {there} are there to forget")
        if self._map is None:
            self._forget_waiting(rows, numbers)
        elif np.isin(_marks(rows), self._marks).any():
            raise invalid("X", "holds a row that the filters were learned from: learn afresh without it")
        else:
            self._add(rows, numbers, -1.0)
        self._count -= gone

    def _forget_waiting(self, rows: FloatArray, numbers: NDArray[np.int64]) -> None:
        marks = list(zip(_marks(self._waiting[0]).tolist(), self._waiting[1].tolist(), strict=True))
        for mark in zip(_marks(rows).tolist(), numbers.tolist(), strict=True):
            if mark not in marks:
                raise invalid("X", "holds a row that was never learned")
            marks[marks.index(mark)] = (-1, -1)
        stays = np.array([mark != (-1, -1) for mark in marks])
        self._waiting = self._waiting[0][stays], self._waiting[1][stays]

    # -- answering ---------------------------------------------------------------------------------------

    def weights(self) -> FloatArray:
        """The ridge solution (M + 1, k): a row a feature, the last the constant; a column a class.

        It minimises ``sum_i |Y_i - b - phi_i W|^2 + alpha n v |W|^2``, where Y are indicators of the classes
        and v is the mean variance of the features. It is one number for all: features stay as large beside
        each other as they are.
        """
        if self._weights is None:
            self._flush()
            n, k = int(self._count.sum()), len(self._classes)
            counts = self._count[:k].astype(np.float64)
            sums = np.pad(self._sums, ((0, k - len(self._sums)), (0, 0)))
            mean = sums.sum(axis=0) / n
            centred = self._gram.copy()
            centred.add(np.sqrt(n) * mean[None], -1.0)
            spread = max(float(centred.diagonal().mean()), n * GRAIN**2)
            centred.raise_diagonal(np.full(centred.size, self.alpha * spread))
            slopes = centred.solve((sums - counts[:, None] * mean).T)
            self._weights = np.vstack([slopes, counts / n - mean @ slopes])
        return self._weights.copy()

    def predict(self, X: FloatArray) -> FloatArray:
        """Probabilities (n, k) in the order of ``classes``: the softmax of ``sharpness`` times the scores."""
        rows, k = as_rows(X, self._width), len(self._classes)
        if self._width is None:
            return np.zeros((len(rows), 0))
        there = self._count[:k] > 0
        if self._map is None or not there.any():
            total = self._count[:k].sum()
            prior = self._count[:k] / total if total else np.full(k, 1.0 / k)
            return np.tile(prior, (len(rows), 1))
        weights = self.weights()
        scores = np.empty((len(rows), k))
        for at in range(0, len(rows), _HELD):
            scores[at : at + _HELD] = blocks(self._map(rows[at : at + _HELD]), weights[:-1]) + weights[-1]
        scores = np.where(there, self.sharpness * scores, -np.inf)
        votes = np.exp(scores - scores.max(axis=1, keepdims=True, initial=-1e300))
        probabilities: FloatArray = votes / votes.sum(axis=1, keepdims=True)
        return probabilities

    # -- state -------------------------------------------------------------------------------------------

    def state(self) -> State:
        """The sums, the filters, and the first rows while they wait."""
        if self._width is None:
            return {"width": None}
        state: State = {
            "width": self._width,
            "classes": self.classes,
            "count": self._count[: len(self._classes)].copy(),
            "waiting": self._waiting[0].copy(),
            "waiting_numbers": self._waiting[1].copy(),
            "ready": self._map is not None,
        }
        if self._filters is not None:
            state |= {"filters": self._filters.weights.copy(), "offset": self._filters.offset.copy()}
            state |= {"marks": self._marks.copy()}
        if self._map is not None:
            self._flush()
            state |= {"gram": self._gram.values.copy(), "sums": self._sums.copy()}
        return state

    def restore(self, state: State) -> None:
        """Take over a state, or (IntegrityError) none of it."""
        try:
            fresh = self.fresh()
            if state["width"] is not None:
                fresh._restore(state)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise IntegrityError(f"The state of an image learner is not whole: {error!r}") from None
        self.__dict__.clear()
        self.__dict__.update(fresh.__dict__)

    def fresh(self) -> Self:
        """A learner with the same parameters that has learned nothing."""
        return type(self)(**{field.name: getattr(self, field.name) for field in fields(self)})

    def _restore(self, state: State) -> None:
        width, classes = int(state["width"]), list(state["classes"])
        self._fits(width)
        self._begin(width)
        self._classes.restore(classes)
        k = len(classes)
        self._count[:k] = _whole(state["count"], np.int64, (k,))
        waiting, numbers = np.asarray(state["waiting"]), np.asarray(state["waiting_numbers"])
        n = len(numbers)
        self._waiting = _whole(waiting, np.float64, (n, width)), _whole(numbers, np.int64, (n,))
        if self._filtered and state["ready"]:
            size = (self.shape or (0,))[0] * self.patch**2
            weights = _whole(state["filters"], np.float32, (size, self.filters))
            self._filters = Filters(weights, _whole(state["offset"], np.float32, (self.filters,)))
            marks = np.asarray(state["marks"])
            self._marks = _whole(marks, np.uint64, (self.first if self.features == "learned" else 0,))
            self._ready(width)
        if bool(state["ready"]) != (self._map is not None):
            raise ValueError("ready does not fit these parameters")
        if self._map is not None:
            self._gram.values = _whole(state["gram"], np.float64, self._gram.values.shape)
            sums = np.asarray(state["sums"])
            self._sums = _whole(sums, np.float64, (min(len(sums), k), self._gram.size))


def _whole(values: Any, dtype: Any, shape: tuple[int, ...]) -> Any:
    """A copy of an array of a state; raises ValueError unless it is of this type and shape."""
    if not isinstance(values, np.ndarray) or values.dtype != dtype or values.shape != shape:
        raise ValueError(f"an array is not {np.dtype(dtype)} {shape}")
    return values.copy()


def _marks(rows: FloatArray) -> NDArray[np.uint64]:
    """A digest of each row, by which one is known again without being kept."""
    digests = [hashlib.blake2b(row.tobytes(), digest_size=8).digest() for row in np.ascontiguousarray(rows)]
    return np.frombuffer(b"".join(digests), dtype=np.uint64).copy()
