"""What the learners over PyTorch share: rows in, blocks of them to a training step, plain arrays out.

An algorithm is a subclass with one method, :meth:`Network.observe`: the training step, as its paper has it.
One that keeps more than the network makes it in :meth:`Network.begin`; one that acts between two tasks does
so in :meth:`Network.consolidate`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from everlearn.errors import IntegrityError
from everlearn.learners.contract import Labels, State
from everlearn.learners.inputs import Classes, as_batch, as_rows, as_task, invalid
from everlearn.learners.kernels import tidy
from everlearn.learners.networks.modules import seeded
from everlearn.learners.networks.tools import Batch, Tools
from everlearn.types import FloatArray, Scalar

__all__ = ["Batch", "Network"]

_ASKED = 64  # rows answered together: always as many, so that a row's place changes nothing
_LARGEST = 1e30  # what single precision can square
_SHARE = 1e-3  # of the class frequencies in every answer


@dataclass(kw_only=True, eq=False)
class Network(Tools):
    """A network that is taught ``batch`` rows at a time by stochastic gradient descent.

    ``network`` is the backbone: ``"mlp"`` (``network_parameters``: ``hidden``, two layers of 100),
    ``"resnet"`` (``width``, ``blocks``; needs ``shape``), one that an installed package offers, or in your
    own code any class of ``torch.nn.Module`` that maps inputs to features (n, f). ``shape`` is what a row is
    reshaped to, such as ``(3, 32, 32)``. The head has ``outputs`` outputs at first and twice as many whenever
    more classes come; their weights start ``head="small"`` or, as those of the layers, ``"glorot"``.

    Numbers are divided by ``scale`` if it is given (255 for pixels), else standardised as they come; missing
    ones count as the mean (as 0 with a ``scale``); a category is a column of 0 and 1.

    ``rate``, ``momentum`` and ``decay`` (of weights) are those of the descent. Rows of a block that is not
    full wait in the state, and count when it is. A *task* ends when :meth:`end_task` says so; with
    ``boundary="classes"`` also where a new class comes after at least ``task_rows`` rows, with
    ``boundary="rows"`` after every ``task_rows``.

    ``device="cuda"`` trains on a GPU, with ``mixed`` in bfloat16 where that is safe; answers are then the
    same on that kind of device alone.
    """

    name: ClassVar[str] = "network"
    good_for: ClassVar[str] = ""
    cannot: ClassVar[str] = (
        "say what it would be without an example: what a network learned stays in its weights"
    )
    prefers: ClassVar[Literal["stream", "triggered"]] = "stream"
    incremental: ClassVar[bool] = True
    tasks: ClassVar[tuple[str, ...]] = ("classification", "regression")

    def __post_init__(self) -> None:
        super().__post_init__()
        self._classes = Classes(self.max_classes)

    def end_task(self) -> None:
        """Say that a task has ended: rows that wait are learned, and what was learned is consolidated."""
        if self._width is None:
            return
        with self._working():
            if waiting := int(self.counters[3]):
                self._step(self.rows[:waiting].copy(), self.targets[:waiting].copy())
                self.counters[3] = 0
                self.rows[:], self.targets[:] = 0.0, 0.0
            self._end()

    # -- the contract ------------------------------------------------------------------------------------

    @property
    def wants(self) -> int | None:
        """All there are."""
        return None

    @property
    def classes(self) -> list[Scalar]:
        """The classes seen so far, in order of first appearance."""
        return list(self._classes.values)

    @property
    def buffer_bytes(self) -> int:
        """What its buffers of examples take when they are full."""
        return sum(buffer.bytes for buffer in self._buffers.values()) if self._width is not None else 0

    def learn(self, X: FloatArray, y: Labels) -> None:
        """Learn rows ``X`` (n, d) with labels ``y`` (n,), in order, a block at a time."""
        rows, values = as_batch(X, y, self._width, as_task(self.task))
        self._check(rows.shape[1])
        if not len(rows):
            return
        fresh = None if self._width is not None else self._fresh(rows.shape[1])
        numbers = self._classes.learn(values) if self.task == "classification" else values
        if fresh is not None:
            self._take_over(fresh)
        targets = np.array(numbers, dtype=np.float64)
        if self.task == "classification":
            self._count(targets.astype(np.int64))
        with self._working():
            self._take(_tame(rows), targets)

    def _take(self, rows: FloatArray, targets: FloatArray) -> None:
        """Fill blocks and learn those that are full."""
        at = 0
        while at < len(rows):
            waiting = int(self.counters[3])
            if not waiting and at + self.batch <= len(rows):
                self._step(rows[at : at + self.batch], targets[at : at + self.batch])
                at += self.batch
                continue
            some = slice(at, at + self.batch - waiting)
            count = len(targets[some])
            self.rows[waiting : waiting + count] = rows[some]
            self.targets[waiting : waiting + count] = targets[some]
            at += count
            self.counters[3] = (waiting + count) % self.batch
            if waiting + count == self.batch:
                self._step(self.rows.copy(), self.targets.copy())
                self.rows[:], self.targets[:] = 0.0, 0.0

    def predict(self, X: FloatArray) -> FloatArray:
        """Probabilities (n, k) in the order of ``classes``, or estimates (n,)."""
        rows = as_rows(X, self._width)
        k = len(self._classes)
        if self._width is None:
            return np.zeros((len(rows), 0)) if self.task == "classification" else np.full(len(rows), np.nan)
        with self._working():
            self.ready()
            scores = self._asked(_tame(rows))
        if self.task == "regression":
            _, mean, variance = self.target
            said = np.clip(np.nan_to_num(scores[:, 0], nan=0.0), -1e6, 1e6)
            estimates: FloatArray = mean + np.sqrt(variance) * said
            return estimates
        prior = self.counts[:k] / self.counts.sum()
        shown = scores[:, : self.known]
        shown = np.where(np.isfinite(shown).all(axis=1, keepdims=True), shown, 0.0)
        votes = np.exp(shown - shown.max(axis=1, keepdims=True, initial=-np.inf)) if self.known else shown
        table = np.tile(prior, (len(rows), 1))
        if self.known:
            table *= _SHARE
            table[:, : self.known] += (1.0 - _SHARE) * votes / votes.sum(axis=1, keepdims=True)
        probabilities: FloatArray = table / table.sum(axis=1, keepdims=True)
        return probabilities

    def ready(self) -> None:
        """Before it answers or is stored; for an algorithm that learns only then."""

    def state(self) -> State:
        """All that it has learned, as arrays."""
        if self._width is None:
            return {"width": None}
        with self._working():
            self.ready()
        outputs = self.net.head.out_features
        arrays = {name: _array(part).copy() for name, part in self.parts().items()}
        return {"width": self._width, "classes": self.classes, "outputs": outputs, **arrays}

    def restore(self, state: State) -> None:
        """Take over a state, or (IntegrityError) none of it."""
        try:
            fresh = self.fresh()
            if state["width"] is not None:
                fresh._restore(state)
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise IntegrityError(f"The state of a {self.name} learner is not whole: {error!r}") from None
        self.__dict__.clear()
        self.__dict__.update(fresh.__dict__)

    def fresh(self) -> Self:
        """A learner with the same parameters that has learned nothing."""
        return type(self)(**{field.name: getattr(self, field.name) for field in fields(self)})

    # -- helpers -----------------------------------------------------------------------------------------

    def _check(self, width: int) -> None:
        if self.categorical and self.categorical[-1] >= width:
            last = self.categorical[-1]
            raise invalid("categorical", f"column {last} is not one of the {width} columns of X")
        if self.shape is not None and int(np.prod(self.shape)) != width:
            raise invalid("shape", f"{tuple(self.shape)} does not fit rows of {width} numbers")

    def _fresh(self, width: int) -> Self:
        made = self.fresh()
        made.make(width, self.outputs)
        return made

    def _take_over(self, fresh: Self) -> None:
        classes = self._classes
        self.__dict__.update(fresh.__dict__)
        self._classes = classes

    def _restore(self, state: State) -> None:
        width, outputs = int(state["width"]), int(state["outputs"])
        self._check(width)
        self._classes.restore(state["classes"])
        if (
            not len(self._classes) <= self.max_classes
            or not 1 <= outputs <= 2 * self.max_classes + self.outputs
        ):
            raise ValueError(
                f"{len(self._classes)} classes and {outputs} outputs do not fit these parameters"
            )
        self.make(width, outputs)
        for name, part in self.parts().items():
            mine, given = _array(part), state[name]
            if not isinstance(given, np.ndarray) or given.shape != mine.shape or given.dtype != mine.dtype:
                raise ValueError(f"{name} is not {mine.dtype} {mine.shape}")
            if isinstance(part, Tensor):
                part.copy_(torch.from_numpy(given.copy()))
            else:
                part[...] = given
        if self.known > outputs or not 0 <= self.counters[3] < self.batch:
            raise ValueError("the counters do not fit the rest")

    def _count(self, numbers: NDArray[np.int64]) -> None:
        self.counts += np.bincount(numbers, minlength=len(self.counts))

    def _step(self, rows: FloatArray, targets: FloatArray) -> None:
        """Learn a block."""
        if self.task == "regression":
            self.standardise(targets)
        elif len(self._classes) > self.known:
            self._meet(int(targets.max()) + 1)
        self.inputs.learn(rows)
        self.reseed(0)
        self._shown(Batch(rows, targets, *self.tensors(rows, targets)))
        self.counters[0] += 1
        self.counters[4] += len(rows)
        if self.boundary == "rows" and self.counters[4] >= self.task_rows:
            self._end()

    def _shown(self, batch: Batch) -> None:
        """Take a training step; one that draws from PyTorch's generator does so from a seed."""
        if not (self._modal or self.mixed):
            self.observe(batch)
            return
        with seeded(self.seed, int(self.counters[0]) + 2), self._mixed():
            self.net.train()
            self.observe(batch)
            self.net.eval()

    def _meet(self, classes: int) -> None:
        """Classes of a block: the first of a new one may end a task, and the head may have to grow."""
        if classes <= self.known:
            return
        if self.boundary == "classes" and self.counters[4] >= self.task_rows:
            self._end()
        self.counters[2] = classes
        outputs = self.net.head.out_features
        if classes > outputs:
            while outputs < classes:
                outputs *= 2
            self.grow(outputs)

    def _end(self) -> None:
        if self.counters[4]:
            self.reseed(1)
            self.consolidate()
            self.counters[1] += 1
            self.counters[4] = 0

    @torch.no_grad()
    def _asked(self, rows: FloatArray) -> FloatArray:
        """The network's scores float64 (n, outputs), asked in blocks of one size."""
        padded = np.zeros((-(-len(rows) // _ASKED) * _ASKED, rows.shape[1]))
        padded[: len(rows)] = rows
        inputs = self._inputs(padded)
        parts = [self.scores(inputs[at : at + _ASKED]) for at in range(0, len(padded), _ASKED)]
        if not parts:
            return np.zeros((0, self.net.head.out_features))
        found: FloatArray = torch.cat(parts)[: len(rows)].cpu().numpy().astype(np.float64)
        return found

    @contextmanager
    def _working(self) -> Iterator[None]:
        """One thread: small matrices are faster so, and sums are made in one order."""
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)

    def _mixed(self) -> Any:
        kind = torch.device(self.device).type
        return torch.autocast(kind, torch.bfloat16, enabled=self.mixed and kind == "cuda")


def _tame(rows: FloatArray) -> FloatArray:
    """Rows in C order with NaN for what single precision cannot take."""
    rows = np.require(rows, requirements=["C", "A", "W"])
    return rows if tidy(rows, _LARGEST) else np.where(np.abs(rows) < _LARGEST, rows, np.nan)


def _array(part: Any) -> NDArray[Any]:
    if isinstance(part, Tensor):
        found: NDArray[Any] = part.detach().cpu().numpy()
        return found
    return np.asarray(part)
