"""Asking workers for what no loop needs: the never-updated baseline of windows that have closed."""

from __future__ import annotations

import threading
from typing import Protocol

from loguru import logger

from everlearn.errors import ConflictError, EverlearnError, NotFoundError
from everlearn.holding import Holding
from everlearn.ports import Backlog, Clock, Scores

PLANNING = "hindsight"
"""The name of the lease: one process asks."""

LOOK_SECONDS = 5.0


class Parts(Protocol):
    """What planning needs of an installation."""

    @property
    def clock(self) -> Clock: ...  # noqa: D102
    @property
    def scores(self) -> Scores: ...  # noqa: D102
    @property
    def backlog(self) -> Backlog: ...  # noqa: D102


def plan_hindsight(parts: Parts) -> int:
    """Queue a job for each model that lacks some of its baseline; how many there are now.

    A job is named by what it fills in, so asking twice adds none.
    """
    from everlearn.loop.card import read_card
    from everlearn.loop.hindsight import wanted

    added = 0
    for standing in parts.scores.standings():
        card = read_card(standing.card) if standing.card else None
        if card is None or not card.origin or not card.windows:
            continue
        try:
            job = wanted(standing.model, card, parts.scores.filled(standing.model))
            if job is not None:
                parts.backlog.add(job, parts.clock.now())
                added += 1
        except (ConflictError, NotFoundError):  # asked for already, or deleted meanwhile
            continue
    return added


def keep_planning(parts: Parts, holding: Holding, stop: threading.Event) -> None:
    """Look again and again what is missing, while the lease for that is this process's."""
    while not stop.wait(LOOK_SECONDS):
        try:
            if holding.take(PLANNING):
                plan_hindsight(parts)
        except EverlearnError as error:
            logger.warning("the never-updated baseline waits: {}", error)
