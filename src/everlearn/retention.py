"""Dropping old events, where an operator has said for how long they are kept.

How old an event is, is told by when it was logged, not by the time in it: history that is loaded today is new
today. Before anything is dropped, the loop is folded over it once more and every decision compared with the
ledger; the state in which that ends is kept, so that the record is proven on from there. What is not proven
is not dropped. Nothing that decides or learns later sees a difference: see :func:`_floor_of`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol

import msgspec
from loguru import logger

from everlearn.adapters.sql.retention import SqlRetention
from everlearn.errors import EverlearnError, NotFoundError
from everlearn.loop.state import LoopState, dump, load, spec_of
from everlearn.loop.training import examples_wanted
from everlearn.loop.verify import verify
from everlearn.ports import Artifacts, Clock, Ledger, Log, Models, Versions, all_specs
from everlearn.predictor import Predictor
from everlearn.types import Floor

DAY = 86_400.0
EVERY = 3_600.0
"""Seconds between two looks."""


class Parts(Protocol):
    """What retention needs of an installation."""

    @property
    def clock(self) -> Clock: ...  # noqa: D102
    @property
    def models(self) -> Models: ...  # noqa: D102
    @property
    def log(self) -> Log: ...  # noqa: D102
    @property
    def ledger(self) -> Ledger: ...  # noqa: D102
    @property
    def versions(self) -> Versions: ...  # noqa: D102
    @property
    def artifacts(self) -> Artifacts: ...  # noqa: D102
    @property
    def retention(self) -> SqlRetention: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Thinned:
    """What was done to one model's log: events dropped, and why none were, where something is wrong."""

    model: str
    dropped: int
    kept_from: int
    problem: str | None = None


class Retention:
    """Keeps the events of the last ``days`` days of every model."""

    def __init__(self, parts: Parts, days: float) -> None:
        self._parts, self._seconds = parts, days * DAY
        self._done: dict[str, tuple[int, int]] = {}

    def run(self, stop: threading.Event) -> None:
        """Look every hour until stopped."""
        while not stop.is_set():
            try:
                for thinned in self.run_once(stop):
                    if thinned.problem:
                        logger.warning("{}: nothing is dropped: {}", thinned.model, thinned.problem)
                    elif thinned.dropped:
                        logger.info("{}: {} old events dropped", thinned.model, thinned.dropped)
            except EverlearnError as error:
                logger.warning("old events are not dropped: {}", error)
            except Exception as error:
                logger.opt(exception=error).error("old events are not dropped: {}", type(error).__name__)
            stop.wait(EVERY)

    def run_once(self, stop: threading.Event | None = None) -> Iterator[Thinned]:
        """Note how long the logs are, and thin out each that has something old."""
        now = self._parts.clock.now()
        self._parts.retention.mark(now, min(DAY, self._seconds / 10))
        for model in [spec.name for spec in all_specs(self._parts.models)]:
            if stop is not None and stop.is_set():
                return
            try:
                yield self._thin(model, now)
            except NotFoundError:  # deleted meanwhile
                continue

    def _thin(self, model: str, now: float) -> Thinned:
        parts, store = self._parts, self._parts.retention
        checkpoint, before = parts.ledger.checkpoint(model), store.floor(model)
        upto = min(store.logged_by(model, now - self._seconds), checkpoint.cursor)
        if before is None and not upto:
            return Thinned(model, 0, 0)
        floor = before
        if before is None or upto > before.seq:
            states: list[LoopState] = []
            found = verify(
                model, log=parts.log, ledger=parts.ledger, versions=parts.versions,
                artifacts=parts.artifacts, retrain=False, upto=upto,
                floor=None if before is None else before.checkpoint, reached=states.append,
            )  # fmt: skip
            if not found.identical:
                return Thinned(model, 0, 0, f"its record is not proven: {found.differences[0]}")
            floor = _floor_of(model, parts, states[0], before, now)
        elif before.kept_from <= upto:
            floor = _below_erasure(model, parts, before, upto, now)
        changed = floor is not None and floor is not before
        if changed and floor is not None and not store.raise_floor(model, before.seq if before else 0, floor):
            return Thinned(model, 0, before.kept_from if before else 0)
        if floor is None or self._done.get(model) == (floor.seq, floor.kept_from):
            return Thinned(model, 0, 0 if floor is None else floor.kept_from)
        named = _strings(floor.state) | _strings(parts.ledger.checkpoint(model).state)
        dropped = store.drop(model, floor, named)
        self._done[model] = (floor.seq, floor.kept_from)
        return Thinned(model, dropped, floor.kept_from)


def _below_erasure(model: str, parts: Parts, before: Floor, upto: int, now: float) -> Floor:
    """The floor where an erasure has raised it beyond what is old: nothing from ``upto`` on is dropped."""
    floor = _floor_of(model, parts, load(before.state), before, now)
    kept_from = max(before.kept_from, min(floor.kept_from, upto + 1))
    return replace(floor, kept_from=kept_from, known_from=min(floor.known_from, kept_from))


def _floor_of(model: str, parts: Parts, state: LoopState, before: Floor | None, now: float) -> Floor:
    """What has to stay so that nothing is decided or learned otherwise.

    From ``kept_from`` on everything: the cohorts that were not mature at the floor. From ``known_from`` on
    what can be learned from: as many of the newest examples as a training reads, and where the champion is
    trained on, all that it has not learned yet.
    """
    store, spec = parts.retention, spec_of(state)
    mark = state.watermark
    first = store.first_open(model, mark.floor, (mark.row, mark.at), before.kept_from if before else 0)
    kept_from = state.cursor + 1 if first is None else min(first, state.cursor + 1)
    known_from = kept_from
    if spec is not None:
        learner = Predictor.new(spec).learner
        plan: dict[str, Any] = {"mode": "fresh", "upto": state.cursor}
        newest = examples_wanted(spec, plan, learner.wants)["newest"]
        known_from = min(known_from, store.newest_known(model, newest))
        champion = parts.versions.champion(model).version
        if learner.incremental and champion:
            known_from = min(known_from, parts.versions.get(model, champion).learned_upto + 1)
    return Floor(state.cursor, kept_from, max(known_from, 1), now, dump(state))


def _strings(state: bytes) -> set[str]:
    """Every text in a loop's state: the ids of predictions that it will ask for are among them."""
    load(state)  # raises IntegrityError
    found: set[str] = set()
    waiting: list[Any] = [msgspec.json.decode(state)] if state else []
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            found.add(value)
        elif isinstance(value, dict):
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)
    return {text for text in found if 0 < len(text) <= 400 and "\0" not in text}
