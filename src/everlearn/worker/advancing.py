"""Moving the loops of all models on: fairly, and each by one process at a time."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from loguru import logger

from everlearn.adapters.tracing import Untraced
from everlearn.errors import NotFoundError
from everlearn.holding import Holding
from everlearn.loop import drive
from everlearn.loop.alerts import alerts_of
from everlearn.types import Decision
from everlearn.worker.counts import Uncounted
from everlearn.worker.pace import Backoff
from everlearn.worker.parts import Parts
from everlearn.worker.reporting import report

BATCH = 1000
STEPS_IN_A_ROW = 5
"""Steps of a model that alone is behind, before others are looked for; where others are: one step each."""


def _alert(model: str, decisions: Sequence[Decision]) -> None:
    """One line in the log for each decision that a person should know of."""
    for alert in alerts_of(decisions):
        logger.warning("{}", alert.line(model))


class Advancer:
    """Moves the loops of models on. One that fails waits, and holds up no other.

    Whoever advances a model holds a lease for it, so that two workers do not do the same work. Should they do
    so all the same, only the first one's step counts.
    """

    def __init__(
        self,
        parts: Parts,
        holding: Holding,
        backoff: Backoff | None = None,
        counts: Uncounted | None = None,
        tracer: Untraced | None = None,
    ) -> None:
        self._tracer = tracer or Untraced()
        self._parts, self._holding, self._counts = parts, holding, counts or Uncounted()
        self._backoff = backoff or Backoff()
        self._engines = drive.EngineCache()

    def run_once(self, stop: threading.Event | None = None) -> int:
        """A few steps for each model that is behind, longest-waiting first; how many events were taken in."""
        taken = 0
        behind = self._parts.ledger.behind(limit=1000)
        steps = STEPS_IN_A_ROW if len(behind) == 1 else 1
        for model in behind:
            if stop is not None and stop.is_set():
                break
            taken += self._advance(model, steps)
        return taken

    def advance(self, model: str, steps: int = STEPS_IN_A_ROW) -> int:
        """A few steps of one model, its lease given back at the end; how many events were taken in."""
        try:
            return self._advance(model, steps)
        finally:
            self._holding.release(name_of(model))

    def _advance(self, model: str, steps: int) -> int:
        taken = 0
        if self._backoff.waits(model):
            return 0
        try:
            if not self._holding.take(name_of(model)):
                return 0
            for _ in range(steps):
                parts = self._parts
                with self._counts.step(), self._tracer.span("step", model=model) as span:
                    moved = drive.advance_model(
                        model, parts.log, parts.ledger, BATCH, self._engines, _alert, parts.erasures
                    )
                    span.tell(events=moved)
                taken += moved
                if moved < BATCH:
                    break
        except NotFoundError:
            self._backoff.failed(model)  # deleted meanwhile
        except Exception as error:
            wait = self._backoff.failed(model)
            with logger.contextualize(model=model):
                report(error, f"the loop could not advance; next try in {wait:.0f} s")
        else:
            self._backoff.succeeded(model)
        return taken

    def give_back(self) -> None:
        """Let other workers advance the models that this one did."""
        self._holding.release_all()


def name_of(model: str) -> str:
    """The name of the lease for advancing a model."""
    return f"advance:{model}"
