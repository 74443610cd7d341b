"""The embedded worker: it finds its work by looking at the rows."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from everlearn.adapters.tracing import Untraced
from everlearn.errors import UnavailableError
from everlearn.holding import Holding
from everlearn.processes import identity
from everlearn.types import ADVANCE, QUEUES
from everlearn.worker.advancing import BATCH, Advancer
from everlearn.worker.counts import Uncounted
from everlearn.worker.doing import Doer
from everlearn.worker.jobs import JobRunner
from everlearn.worker.pace import Backoff, Pace
from everlearn.worker.parts import Parts
from everlearn.worker.reporting import report

STOP_SECONDS = 3.0

JOBS_SECONDS = 0.5
"""How often a worker looks for jobs while its own steps make none: retries, and other workers' jobs."""

STUCK_SECONDS = 120.0
"""How long a worker may go without a look at the logs until it is not well."""

ORPHANS_SECONDS = 5.0
"""How often it looks for jobs that dead workers left."""


class Worker:
    """One worker process. :meth:`run` works until :meth:`stop` is called.

    Two activities share the process and never wait for each other: advancing, and running jobs. ``queues``
    say which work it does.
    """

    def __init__(
        self,
        parts: Parts,
        *,
        poll_seconds: float = 0.03,
        lease_seconds: float = 15.0,
        owner: str | None = None,
        doer: Doer | None = None,
        queues: Sequence[str] = QUEUES,
        most: int = 0,
        counts: Uncounted | None = None,
        tracer: Untraced | None = None,
    ) -> None:
        self._poll, self._queues = poll_seconds, queues
        self._stop = threading.Event()
        self._moved = threading.Event()
        self._looked = time.monotonic()
        self._ledger = parts.ledger
        owner = owner or identity()
        holding = Holding(parts.leases, parts.clock, owner, lease_seconds)
        self.advancer = Advancer(parts, holding, counts=counts, tracer=tracer)
        self.runner = JobRunner(
            parts, owner, lease_seconds, doer=doer, queues=queues, most=most, counts=counts, tracer=tracer
        )

    def stop(self) -> None:
        """Ask it to stop; harmless when repeated, and callable from a signal handler."""
        self._stop.set()
        self._moved.set()
        self.runner.stop()

    def well(self) -> None:
        """Raise UnavailableError unless the database answers and the loops are looked after."""
        self._ledger.behind(limit=1)
        if ADVANCE in self._queues and time.monotonic() - self._looked > STUCK_SECONDS:
            raise UnavailableError(f"no loop was looked at for {STUCK_SECONDS:.0f} s")

    def run(self) -> None:
        """Advance and run jobs until stopped, then give back what is unfinished."""
        jobs = threading.Thread(target=self._run_jobs, name="jobs", daemon=True)
        jobs.start()
        if ADVANCE in self._queues:
            self._advance()
        self._stop.wait()
        jobs.join(timeout=STOP_SECONDS if self.runner.current else 0.1)
        if jobs.is_alive():
            self.runner.give_back()
        try:
            self.advancer.give_back()
        except Exception as error:
            report(error, "the leases run out by themselves")
        self.runner.close()

    def _advance(self) -> None:
        trouble, pace = Backoff(first=0.5, most=10.0), Pace(self._poll)
        while not self._stop.is_set():
            try:
                moved = self.advancer.run_once(self._stop)
            except Exception as error:
                wait = trouble.failed("advance")
                report(error, f"the log cannot be read; next try in {wait:.1f} s")
                self._stop.wait(wait)
                continue
            trouble.succeeded("advance")
            self._looked = time.monotonic()
            if moved:
                pace.worked()
                self._moved.set()
            if moved < BATCH:  # a few events at a time would cost a transaction each, which requests wait for
                self._stop.wait(pace.wait())

    def _run_jobs(self) -> None:
        trouble = Backoff(first=0.5, most=10.0)
        next_look, looked_at_champions = 0.0, False
        while not self._stop.is_set():
            try:
                if not looked_at_champions:
                    self.runner.mend_champions()
                    looked_at_champions = True
                if time.monotonic() >= next_look:
                    self.runner.adopt_orphans()
                    next_look = time.monotonic() + ORPHANS_SECONDS
                busy = self.runner.run_once()
            except Exception as error:
                wait = trouble.failed("jobs")
                report(error, f"jobs cannot be leased; next try in {wait:.1f} s")
                self._stop.wait(wait)
                continue
            trouble.succeeded("jobs")
            if busy is None:
                # Jobs come from steps: mostly this worker's, which are told of here, or another's.
                self._moved.wait(JOBS_SECONDS)
                self._moved.clear()
