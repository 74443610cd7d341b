"""Versions that could not be loaded: why, and when they are tried again."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from loguru import logger

from everlearn.api.instruments import Instruments
from everlearn.errors import EverlearnError
from everlearn.types import Champion

MAX_BACKOFF = 60.0
"""Seconds between two tries, at most."""


@dataclass(frozen=True, slots=True)
class FailedLoad:
    """A version that could not be loaded: why, and when it is tried again (``time.monotonic``).

    ``champion`` is the champion of that moment: the version itself, or the one that it is on trial against.
    """

    champion: Champion
    attempts: int
    retry_at: float
    reason: str


Tell = Callable[[str, Champion, str, bool], None]
"""Tells people of a model's champion, in a text, that it does not load, or (``True``) that it now does."""


class Failures:
    """What could not be loaded; each is tried again after ``poll`` seconds, doubled with each try."""

    def __init__(self, instruments: Instruments, poll: float, tell: Tell = lambda *_: None) -> None:
        self._instruments, self._poll, self._tell = instruments, poll, tell
        self.champions: dict[str, FailedLoad] = {}
        self._trials: dict[tuple[str, int], FailedLoad] = {}

    def waits(self, model: str, champion: Champion) -> bool:
        """Whether a champion that failed is not to be tried yet."""
        failed = self.champions.get(model)
        return failed is not None and failed.champion == champion and time.monotonic() < failed.retry_at

    def note(self, model: str, champion: Champion, error: Exception) -> None:
        """A champion could not be loaded."""
        before = self.champions.get(model)
        failed = self.champions[model] = self._again(
            champion, before if before and before.champion == champion else None, error
        )
        words = (
            f"version {champion.version} cannot be loaded, next try in {self._wait(failed):.1f} s: {error}"
        )
        if failed.attempts == 1:  # a person hears of it once, the log of every try
            logger.error("alert: {}: load: {}", model, words)
            self._say(model, champion, words, False)
        else:
            logger.warning("{}: {}", model, words)

    def loaded(self, model: str, champion: Champion) -> None:
        """A champion was loaded."""
        if self.champions.pop(model, None) is not None:
            self._say(model, champion, f"version {champion.version} answers", True)

    def _say(self, model: str, champion: Champion, text: str, recovered: bool) -> None:
        try:
            self._tell(model, champion, text, recovered)
        except EverlearnError as error:  # what is in memory goes on answering, whoever hears of it
            logger.warning("{}: nobody can be told: {}", model, error)

    def trial_waits(self, model: str, number: int) -> bool:
        """Whether a version on trial that failed is not to be tried yet."""
        failed = self._trials.get((model, number))
        return failed is not None and time.monotonic() < failed.retry_at

    def note_trial(self, model: str, number: int, champion: Champion, error: Exception) -> None:
        """A version on trial could not be loaded."""
        self._trials[model, number] = self._again(champion, self._trials.get((model, number)), error)
        logger.warning("{}: version {} is on trial and cannot be loaded: {}", model, number, error)

    def trial_loaded(self, model: str, number: int) -> None:
        """A version on trial could be loaded."""
        self._trials.pop((model, number), None)

    def forget(self, model: str) -> None:
        """A model is gone."""
        self.champions.pop(model, None)
        for key in [key for key in list(self._trials) if key[0] == model]:
            self._trials.pop(key, None)

    def _again(self, champion: Champion, before: FailedLoad | None, error: Exception) -> FailedLoad:
        attempts = before.attempts + 1 if before else 1
        self._instruments.failed_load()
        failed = FailedLoad(champion, attempts, 0.0, f"{type(error).__name__}: {error}")
        return replace(failed, retry_at=time.monotonic() + self._wait(failed))

    def _wait(self, failed: FailedLoad) -> float:
        """Seconds from a failed load to the next try."""
        return min(MAX_BACKOFF, self._poll * 2.0 ** min(failed.attempts, 60))
