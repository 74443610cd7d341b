"""The worker that a broker tells of work: it runs what messages name, if the rows agree.

A message is a hint. Whether there is something to do, and whose it is, say the rows: a job by its lease, a
model by the lease for advancing it. So a message that comes twice, late or not at all does no harm.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from loguru import logger

from everlearn.adapters.tracing import Untraced
from everlearn.errors import EverlearnError, UnavailableError
from everlearn.holding import Holding
from everlearn.ports import Broker
from everlearn.processes import identity
from everlearn.types import ADVANCE, queue_of
from everlearn.worker.advancing import BATCH, STEPS_IN_A_ROW, Advancer
from everlearn.worker.counts import Uncounted
from everlearn.worker.dispatching import Dispatcher
from everlearn.worker.doing import Doer
from everlearn.worker.embedded import ORPHANS_SECONDS
from everlearn.worker.jobs import JobRunner
from everlearn.worker.parts import Parts
from everlearn.worker.reporting import report

MENDING = "mend"
MENDING_SECONDS = 60.0
"""Workers that start within this time of one that mends leave it to that one."""


class Consumer(Broker, Protocol):
    """A broker that calls tasks for its messages."""

    def work(
        self, queues: list[str], tasks: Mapping[str, Callable[[str], None]], on_stop: Callable[[], None]
    ) -> None:
        """Call them until SIGTERM."""
        ...


class BrokeredWorker:
    """One worker process. :meth:`run` works until SIGTERM; ``on_stop`` is called when that comes."""

    def __init__(
        self,
        parts: Parts,
        broker: Consumer,
        *,
        queues: Sequence[str],
        lease_seconds: float = 15.0,
        owner: str | None = None,
        doer: Doer | None = None,
        most: int = 0,
        on_stop: Callable[[], object] = int,
        counts: Uncounted | None = None,
        tracer: Untraced | None = None,
    ) -> None:
        self._broker, self._queues, self._on_stop = broker, list(queues), on_stop
        self._stop = threading.Event()
        self._ledger = parts.ledger
        owner = owner or identity()
        holding = [Holding(parts.leases, parts.clock, owner, lease_seconds) for _ in range(2)]
        self._mending = Holding(parts.leases, parts.clock, owner, MENDING_SECONDS)
        self.advancer = Advancer(parts, holding[0], counts=counts, tracer=tracer)
        self.runner = JobRunner(
            parts, owner, lease_seconds, doer=doer, queues=queues, most=most, counts=counts, tracer=tracer
        )
        self.dispatcher = Dispatcher(parts, broker, holding[1], most=most)

    def run(self) -> None:
        """Work until SIGTERM, then give back what is unfinished."""
        threads = [
            threading.Thread(target=self.dispatcher.run, args=(self._stop,), name="dispatcher", daemon=True),
            threading.Thread(target=self._look_after, name="looking-after", daemon=True),
        ]
        for thread in threads:
            thread.start()
        self._broker.work(self._queues, {"advance": self.advance, "job": self.job}, self.stop)
        self.stop()
        for thread in threads:
            thread.join(2.0)
        self.runner.close()

    def well(self) -> None:
        """Raise UnavailableError unless the database answers."""
        self._ledger.behind(limit=1)

    def stop(self) -> None:
        """Ask it to stop: a job that is being done is given back."""
        self._stop.set()
        self.runner.stop()
        self._on_stop()

    def advance(self, model: str) -> None:
        """Move a model's loop on; if it is still behind after some steps, others get their turn first."""
        if ADVANCE in self._queues and self.advancer.advance(model) >= BATCH * STEPS_IN_A_ROW:
            self._tell(ADVANCE, "advance", model)

    def job(self, id: str) -> None:  # noqa: A002
        """Run a job, if it is there and due."""
        if self._stop.is_set():
            return
        job = self.runner.run_once(id)
        if job is None:
            logger.debug("job {} is not due here: the message is dropped", id)
        elif self._stop.is_set():
            self._tell(queue_of(job.spec.kind), "job", id)  # it was given back

    def _tell(self, queue: str, task: str, about: str) -> None:
        try:
            self._broker.tell(queue, task, about)
        except UnavailableError:  # it is told of again
            return

    def _look_after(self) -> None:
        """Mend the files of versions that answer, if no other just did, and find what dead workers left."""
        wait, mended = 0.0, False
        while not self._stop.wait(wait):
            wait = ORPHANS_SECONDS
            try:
                if not mended and self._mending.take(MENDING):
                    self.runner.mend_champions()
                mended = True
                self.runner.adopt_orphans()
            except EverlearnError as error:
                report(error, "what dead workers left cannot be looked for")
