"""What every learner is: the contract that :mod:`everlearn.learners.checks` holds it to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal, Protocol, TypeAlias, runtime_checkable

from numpy.typing import NDArray

from everlearn.types import FloatArray, Scalar

Labels: TypeAlias = Sequence[Any] | NDArray[Any]
"""A batch of labels or of target values: any sequence or array of one dimension."""

State: TypeAlias = dict[str, Any]
"""Nested dicts and lists of JSON scalars (no NaN), numpy arrays, and bytes in a named file format."""


@runtime_checkable
class Learner(Protocol):
    """Something that learns from rows in order and answers for rows.

    Rows are ``float64 (n, d)`` with NaN for missing (an infinity counts as missing too); ``d`` is
    fixed by the first batch learned. A learner is built with keyword parameters alone. All take
    ``task`` (``"classification"`` or ``"regression"``), ``categorical`` (the columns that hold
    category codes 0, 1, 2, …) and ``seed``; building one twice gives the same learner. The answers
    of two learners that have learned the same rows are the same, whatever the batches were.

    A learner never keeps or changes the arrays it is given, never touches a global random
    generator, and holds a bounded amount of memory however much it has learned.
    """

    name: ClassVar[str]
    """What :func:`everlearn.learners.build` calls it."""

    prefers: ClassVar[Literal["stream", "triggered"]]
    """Whether it is best taught every label as it comes, or when an update is called for."""

    incremental: ClassVar[bool]
    """Whether it can go on learning from a parent's state; else each version learns afresh."""

    @property
    def wants(self) -> int | None:
        """How many of the newest rows it wants when it learns afresh; ``None`` for all there are."""
        ...

    @property
    def classes(self) -> list[Scalar]:
        """The classes seen so far, in order of first appearance; empty for regression."""
        ...

    def learn(self, X: FloatArray, y: Labels) -> None:
        """Learn rows ``X`` (n, d) with labels ``y`` (n,), in order.

        A batch is learned whole or, when :class:`~everlearn.errors.InvalidError` is raised (shapes
        that do not fit, a missing label), not at all.
        """
        ...

    def predict(self, X: FloatArray) -> FloatArray:
        """Answer for rows ``X`` (n, d); changes nothing that a later answer depends on.

        Classification: probabilities (n, k), each row summing to 1, in the order of ``classes``
        (k = 0 while nothing is known). Regression: estimates (n,), NaN while nothing is known.
        """
        ...

    def state(self) -> State:
        """All that it has learned, as a copy; the parameters are not part of it."""
        ...

    def restore(self, state: State) -> None:
        """Take over a state from a learner with the same parameters, bit for bit.

        Raises :class:`~everlearn.errors.IntegrityError` for a state that is not whole.
        """
        ...


def forgets(learner: object) -> bool:
    """Whether a learner can forget rows exactly: it has ``forget(X, y)``, and says nothing against it.

    ``forget`` removes rows ``X`` (n, d) with labels ``y`` (n,), given as they were learned, in any order and
    in any split into calls: afterwards every answer is that of a learner that learned the other rows alone,
    to 1e-6. A class keeps its place in ``classes``, with probability 0 when its last row is gone; the state
    holds no copy of the rows. Raises :class:`~everlearn.errors.InvalidError`, with nothing forgotten, for
    shapes that do not fit, a class that was never learned, and more rows than there are. A learner that can
    do so only with some parameters has a property ``exact_forgetting``.
    """
    return callable(getattr(learner, "forget", None)) and bool(getattr(learner, "exact_forgetting", True))
