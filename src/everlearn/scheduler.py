"""The scheduler: puts time into the log of models that need it, so that the loop itself needs no clock.

A label horizon in seconds can pass without any event, so such a model gets a tick once a period while
something of it may still mature. The period is part of the tick's idempotency key: two schedulers, or
one that was restarted, add no second tick. Of several schedulers one ticks, by a lease; the others stand by.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from loguru import logger

from everlearn import logs
from everlearn.errors import EverlearnError, NotFoundError
from everlearn.holding import Holding
from everlearn.planning import keep_planning
from everlearn.ports import Clock, Leases, Log, Models, all_specs
from everlearn.processes import die_with_parent, identity, stop_on_signals
from everlearn.spec import ModelSpec
from everlearn.types import EventKind, NewEvent, Status

if TYPE_CHECKING:
    from everlearn.wiring import Installation

TICKS_A_HORIZON = 100
LINGER = 2
SCHEDULER = "scheduler"
ALERTING = "alerts"
"""The names of the leases: of who ticks, and of who delivers alerts."""

PLAN_SECONDS = 30.0


class Parts(Protocol):
    """What a scheduler needs of an installation."""

    @property
    def clock(self) -> Clock: ...  # noqa: D102
    @property
    def models(self) -> Models: ...  # noqa: D102
    @property
    def log(self) -> Log: ...  # noqa: D102
    @property
    def leases(self) -> Leases: ...  # noqa: D102


class Scheduler:
    """Ticks the models of an installation, while the lease for that is ``owner``'s."""

    def __init__(
        self,
        parts: Parts,
        tick_seconds: float = 10.0,
        *,
        owner: str | None = None,
        lease_seconds: float = 15.0,
    ) -> None:
        self._parts, self._tick_seconds = parts, tick_seconds
        self._pause = min(tick_seconds, 10.0) / 2
        seconds = max(lease_seconds, 3 * self._pause)
        self._holding = Holding(parts.leases, parts.clock, owner or identity(), seconds)
        self._moved: dict[str, tuple[tuple[int, int, int, int], float]] = {}

    def period(self, spec: ModelSpec) -> float | None:
        """Seconds between ticks: a hundredth of the horizon, but no shorter than the setting.

        ``None`` for a model whose horizon is counted in rows: time alone changes nothing there.
        """
        horizon = spec.horizon_seconds
        return None if horizon is None else max(self._tick_seconds, horizon / TICKS_A_HORIZON)

    def run_once(self) -> int:
        """Tick every model that is due; returns how many ticks were added."""
        added = 0
        for spec in all_specs(self._parts.models):
            try:
                added += self._tick(spec)
            except NotFoundError:  # deleted meanwhile
                self._moved.pop(spec.name, None)
        return added

    def _tick(self, spec: ModelSpec) -> int:
        period = self.period(spec)
        if period is None or not self._may_mature(spec, period):
            return 0
        now = self._parts.clock.now()
        tick = NewEvent(EventKind.TICK, at=now, key=f"tick:{int(now // period)}")
        receipts = self._parts.log.append(spec.name, [tick])
        return sum(receipt.status is Status.ACCEPTED for receipt in receipts)

    def _may_mature(self, spec: ModelSpec, period: float) -> bool:
        """Whether anything but ticks came within the horizon (and a little longer)."""
        head, now = self._parts.log.head(spec.name), self._parts.clock.now()
        counts = (head.rows, head.labels, head.parked, head.examples)
        if not any(counts):
            return False
        before = self._moved.get(spec.name)
        if before is None or before[0] != counts:
            self._moved[spec.name] = (counts, now)
            return True
        return now - before[1] <= (spec.horizon_seconds or 0.0) + LINGER * period

    def run(self, stop: threading.Event) -> None:
        """Tick until stopped, then let another do so."""
        while not stop.is_set():
            try:
                if self._holding.take(SCHEDULER):
                    self.run_once()
            except EverlearnError as error:
                logger.warning("could not tick: {}", error)
            except Exception as error:
                logger.opt(exception=error).error("could not tick: {}", type(error).__name__)
            stop.wait(self._pause)
        try:
            self._holding.release_all()
        except EverlearnError as error:
            logger.warning("the lease runs out by itself: {}", error)


def tell(installation: Installation, holding: Holding, stop: threading.Event) -> None:
    """Deliver alerts while the lease for that is this process's; a plan that is wrong is read again."""
    said = ""
    while not stop.is_set():
        try:
            alerting = installation.alerting(lambda: holding.take(ALERTING))
        except EverlearnError as error:
            if str(error) != said:
                logger.error("alerts wait: {}", error)
            said = str(error)
            stop.wait(PLAN_SECONDS)
        else:
            for thread in alerting.start(stop):
                thread.join()


def main(data: Path | None = None) -> None:
    """Run a scheduler on the installation that the environment describes, until SIGTERM."""
    from everlearn.erasing import ERASING, Eraser
    from everlearn.wiring import Installation

    installation = Installation.load(data=data)
    settings = installation.settings
    logs.setup("scheduler", level=settings.log_level, as_json=settings.log_json)
    stop = threading.Event()
    stop_on_signals(stop.set)
    die_with_parent(stop.set)
    if settings.retention_days is not None:
        from everlearn.retention import Retention

        tidy = Retention(installation, settings.retention_days)
        threading.Thread(target=tidy.run, args=(stop,), name="retention", daemon=True).start()
    holding = Holding(installation.leases, installation.clock, identity(), settings.lease_seconds)
    threading.Thread(target=tell, args=(installation, holding, stop), name="alerting", daemon=True).start()
    erasing = Holding(installation.leases, installation.clock, identity(), settings.lease_seconds)
    eraser = Eraser(installation, installation.seal, lambda: erasing.take(ERASING))
    threading.Thread(target=eraser.run, args=(stop,), name="erasing", daemon=True).start()
    planning = Holding(installation.leases, installation.clock, identity(), settings.lease_seconds)
    looking = (installation, planning, stop)
    threading.Thread(target=keep_planning, args=looking, name="planning", daemon=True).start()
    Scheduler(installation, settings.tick_seconds, lease_seconds=settings.lease_seconds).run(stop)
    installation.tracer("scheduler").close()


if __name__ == "__main__":
    main()
