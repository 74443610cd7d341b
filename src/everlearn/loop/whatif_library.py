"""What many settings share: each training and each stretch of answers is worked out once.

Keys are digests of what went in, so equal keys mean equal results. Kept in memory, the newest used.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import msgspec

from everlearn.loop.training import Trained
from everlearn.predictor import Predictor
from everlearn.types import Output

T = TypeVar("T")

MOST_TRAINED = 512
MOST_OUTPUTS = 2_500_000
"""Answers that are kept: about a gigabyte of two-class probabilities."""

MOST_REMEMBERED = 10_000
"""Other results that are kept: chunks of marks, and tests of regimes."""


def digest_of(value: Any) -> str:
    """A digest of JSON values."""
    encoded = msgspec.json.encode(value, order="deterministic")
    return hashlib.blake2b(encoded, digest_size=16).hexdigest()


def no_clock() -> float:
    """The clock of those who do not care how long work takes."""
    return 0.0


class Library:
    """Trainings, answers, and what a stream learner answered, by content.

    ``clock`` gives seconds, to tell what trainings cost; it decides nothing.
    """

    def __init__(
        self,
        clock: Callable[[], float] = no_clock,
        *,
        most_outputs: int = MOST_OUTPUTS,
        most_trained: int = MOST_TRAINED,
    ) -> None:
        self.clock = clock
        self._trained: OrderedDict[str, Trained] = OrderedDict()
        self._outputs: OrderedDict[str, list[Output]] = OrderedDict()
        self._remembered: OrderedDict[str, Any] = OrderedDict()
        self._live: dict[str, list[Output]] = {}
        self._facts: dict[str, Any] = {}
        self._names: WeakKeyDictionary[Predictor, str] = WeakKeyDictionary()
        self._most_outputs, self._most_trained = most_outputs, most_trained
        self._held = 0
        self.made = 0
        self.reused = 0

    def trained(self, key: str, make: Callable[[], Trained]) -> Trained:
        """The training of a key; ``make`` does it the first time."""
        found = self._trained.get(key)
        if found is None:
            found = self._trained[key] = make()
            self._names[found.predictor] = key
            while len(self._trained) > self._most_trained:
                self._facts.pop(self._trained.popitem(last=False)[0], None)
        else:
            self._trained.move_to_end(key)
        return found

    def outputs(self, key: str, make: Callable[[], list[Output]]) -> list[Output]:
        """A stretch of answers of a key; ``make`` works them out the first time."""
        found = self._outputs.get(key)
        if found is not None:
            self.reused += len(found)
            self._outputs.move_to_end(key)
            return found
        found = self._outputs[key] = make()
        self.made += len(found)
        self._held += len(found)
        while self._held > self._most_outputs and len(self._outputs) > 1:
            self._held -= len(self._outputs.popitem(last=False)[1])
        return found

    def remembered(self, key: str, make: Callable[[], T]) -> T:
        """What else follows from its key alone; ``make`` works it out the first time."""
        found = self._remembered.get(key)
        if found is None:
            found = self._remembered[key] = make()
            if len(self._remembered) > MOST_REMEMBERED:
                self._remembered.popitem(last=False)
        else:
            self._remembered.move_to_end(key)
        return found

    def live(self, key: str) -> list[Output]:
        """What a stream learner answered to the first rows, which its driver goes on with."""
        return self._live.setdefault(key, [])

    def facts(self, key: str, value: T | None = None) -> T | None:
        """What is to be known beside a training, such as how long it took."""
        if value is not None:
            self._facts[key] = value
        return self._facts.get(key)

    def name_of(self, predictor: Predictor | None) -> str:
        """The key under which a predictor was trained; empty for none."""
        return "" if predictor is None else self._names.get(predictor, f"at {id(predictor)}")
