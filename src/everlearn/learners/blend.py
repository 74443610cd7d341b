"""The default learner: a mixture of many learners that follows the best mix as it changes."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from everlearn.learners import pools
from everlearn.learners.contract import State
from everlearn.learners.fused import Fused
from everlearn.learners.shifts import BLOCK, History, Sleep
from everlearn.learners.stacking import Stacking
from everlearn.learners.streaming import Streaming
from everlearn.types import FloatArray


class Blend(Streaming):
    """A mixture over a pool of learners, weighted by how well they foretell the labels.

    ``budget`` chooses the pool: ``"fast"``, ``"balanced"``, ``"best"``, or microseconds an example at 8
    features. ``members`` names one of your own instead: ``{label: {"name": …, parameters…}}``.
    ``rest=False`` keeps members awake that do not help.

    Members are judged by what they answered when a row was asked, not by what they would say when its
    label comes, so that with late labels none profits from labels that a caller would not have had.
    For that, ``predict`` remembers the members' answers to the newest 8,192 rows at most until they are
    learned (not in ``state()``); rows that were never asked are judged by fresh answers.

    Over T rows the log loss is at most ``(log 4 + T s / (1 - s)) / r`` more than that of the best of three
    stacks and a fixed share over all members (rate r = 0.1, share s = 0.001: Herbster and Warmuth 1998).
    Memory: that of the members, ``5 (M + 12)^2`` numbers for M answers that are mixed, and 16 MB at most
    for the answers remembered.

    >>> X = np.random.default_rng(0).normal(size=(1000, 2))
    >>> learner = Blend(budget="fast")
    >>> learner.learn(X, np.where(X[:, 0] * X[:, 1] > 0, "same", "apart"))
    >>> best = learner.predict(np.array([[1.0, 1.0], [1.0, -1.0]])).argmax(axis=1)
    >>> [learner.classes[number] for number in best]
    ['same', 'apart']
    """

    name: ClassVar[str] = "blend"
    good_for: ClassVar[str] = "any stream, without a setting: it follows the best mix of its members"
    cannot: ClassVar[str] = "say what one column did, or be as cheap as one learner"
    remembers: ClassVar[bool] = True

    def __init__(
        self,
        *,
        task: str = "classification",
        categorical: Sequence[int] = (),
        seed: int = 0,
        budget: str | float = "balanced",
        members: Mapping[str, Mapping[str, Any]] | None = None,
        rest: bool = True,
        max_classes: int = 1000,
    ) -> None:
        super().__init__(task=task, categorical=categorical, seed=seed, max_classes=max_classes)
        self.budget, self.members = budget, members
        self.rest = rest
        chosen = pools.choose(budget) if members is None else dict(members)
        self._resting = pools.costly(chosen) if rest else ()
        self._pool = pools.build(
            chosen,
            task=self.task,
            categorical=self.categorical,
            seed=seed,
            max_classes=max_classes,
        )
        self._fused: Fused | None = None
        self._taught = False

    def _begin(self, width: int) -> None:
        for member in self._pool.values():
            member._width = width
            member._begin(width)
        ends = np.cumsum([member.experts for member in self._pool.values()]).tolist()
        self._spans = [slice(end - m.experts, end) for end, m in zip(ends, self._pool.values(), strict=True)]
        self._experts = ends[-1]
        costly = [label in self._resting for label in self._pool]
        spans = [span for span, dear in zip(self._spans, costly, strict=True) if dear]
        self._stacking = Stacking(self.task, self._experts, prior=pools.prior(self._pool), costly=spans)
        self._sleep = Sleep(self._spans, costly)
        self._history = History(self._experts)
        members = list(self._pool.values())
        self._fused = Fused(members, self._stacking) if Fused.can(members) else None

    def _forget_arrays(self) -> None:
        if self._fused is not None:
            self._fused.forget()

    def _grow(self, classes: int) -> None:
        self._forget_arrays()
        for member in self._pool.values():
            if len(member._classes) < classes:
                member._classes.restore(self._classes.values)
            member._grow(classes)

    def _answer_all(self, rows: FloatArray) -> FloatArray:
        """The answers of all experts, (n, M, k) or (n, M)."""
        answers = self._room(len(rows), self._experts)
        for member, span, asleep in zip(self._pool.values(), self._spans, self._sleep.asleep, strict=True):
            if not asleep:
                answers[:, span] = member._answer_each(rows)
        return answers

    def _answer(self, rows: FloatArray) -> FloatArray:
        if self._fused:
            return self._fused.answer(rows, len(self._classes), self._taught)
        return self._stacking.answer(self._answer_all(rows), rows, self._sleep.awake, self._taught)

    def _room(self, n: int, experts: int) -> FloatArray:
        if self.task == "regression":
            return np.full((n, experts), np.nan)
        return np.zeros((n, experts, len(self._classes)))

    def _slow_start(self, delay: int) -> int:
        # Rows asked before anything was learned are not remembered; nor are more than the ring holds.
        if delay > self._stacking.asked.limit(len(self._classes)):
            return sys.maxsize
        return 0 if self._taught else 2 * delay + 1

    def _step(
        self,
        asked: FloatArray,
        rows: FloatArray,
        targets: NDArray[Any],
        weights: FloatArray,
        answers: FloatArray,
    ) -> None:
        self._taught = True
        self._forget_arrays()
        start, asking = 0, len(answers) > 0
        while start < len(rows):
            block = slice(start, min(len(rows), start + BLOCK - int(self._history.learned[0]) % BLOCK))
            some = answers[block] if asking else answers
            self._step_block(asked[block], rows[block], targets[block], weights[block], some)
            start = block.stop
            self._history.learned[0] += block.stop - block.start
            if self._history.learned[0] % BLOCK == 0:
                self._sleep.review(self._stacking.merit)
                self._history.append(self._stacking.weights())

    def _step_block(
        self,
        asked: FloatArray,
        rows: FloatArray,
        targets: NDArray[Any],
        weights: FloatArray,
        answers: FloatArray,
    ) -> None:
        fresh = self._room(len(rows), self._experts)
        for member, span, asleep in zip(self._pool.values(), self._spans, self._sleep.asleep, strict=True):
            if not asleep:
                block = self._room(len(rows), member.experts)
                member._step_each(asked, rows, targets, weights, block)
                fresh[:, span] = block
        self._stacking.learn(
            asked, rows, fresh, not len(answers), targets, weights, self._sleep.awake, answers
        )

    @property
    def asleep(self) -> list[str]:
        """The members that are at rest, because they did not help when they were last tried."""
        if self._width is None:
            return []
        return [label for label, asleep in zip(self._pool, self._sleep.asleep, strict=True) if asleep]

    def member_weights(self) -> dict[str, Any]:
        """What each member has weighed over time, evenly sampled from the first row to the last.

        ``members`` are the labels of the M answers that are mixed (a learner that runs several settings
        has one for each), ``rows`` (t,) how many rows had been learned, ``weights`` (t, M) the weights
        of their log-odds (classification) or of their estimates (regression); one may be negative.
        """
        names = []
        for label, member in self._pool.items():
            settings = range(1, member.experts + 1)
            names += [label] if member.experts == 1 else [f"{label} {i}" for i in settings]
        if self._width is None:
            return {
                "members": names,
                "rows": np.zeros(0, dtype=np.int64),
                "weights": np.zeros((0, len(names))),
            }
        rows, weights = self._history.rows.copy(), self._history.weights.copy()
        return {"members": names, "rows": rows, "weights": weights}

    def state(self) -> State:
        """The members' states and what each is worth."""
        if self._width is None:
            return {"width": None}
        return {
            "width": self._width,
            "classes": self.classes,
            "members": {label: member.state() for label, member in self._pool.items()},
            "stacking": self._stacking.state(),
            "sleep": self._sleep.state(),
            "history": self._history.state(),
        }

    def _restore(self, state: State) -> None:
        if state["width"] is None:
            return
        self._classes.restore(state["classes"])
        self._width = int(state["width"])
        self._begin(self._width)
        self._grow(len(self._classes))
        for label, member in self._pool.items():
            member._restore(state["members"][label])
        self._stacking.restore(state["stacking"])
        self._sleep.restore(state["sleep"])
        self._history.restore(state["history"])
        self._forget_arrays()
