"""Leasing jobs and having them done, one at a time, under a heartbeat."""

from __future__ import annotations

import time
from collections.abc import Sequence

from loguru import logger

from everlearn.adapters.tracing import TRACE, Span, Untraced
from everlearn.errors import FencedError, NotFoundError
from everlearn.mending import try_to_mend
from everlearn.processes import is_dead
from everlearn.types import QUEUES, Job
from everlearn.worker.attempts import MAX_ATTEMPTS, Failure, Stopped, failure_of, retry_wait
from everlearn.worker.counts import Uncounted
from everlearn.worker.doing import Doer, InProcess
from everlearn.worker.heartbeat import Heartbeat
from everlearn.worker.parts import Parts
from everlearn.worker.reporting import report


class JobRunner:
    """Leases jobs of some queues and runs them. ``most``: how many of one model may run at once (0: any)."""

    def __init__(
        self,
        parts: Parts,
        owner: str,
        lease_seconds: float = 15.0,
        *,
        doer: Doer | None = None,
        queues: Sequence[str] = QUEUES,
        most: int = 0,
        counts: Uncounted | None = None,
        tracer: Untraced | None = None,
    ) -> None:
        self._tracer = tracer or Untraced()
        self._counts = counts or Uncounted()
        self._parts, self._owner, self._lease_seconds = parts, owner, lease_seconds
        self._doer, self._queues, self._most = doer or InProcess(parts), queues, most
        self.current: Job | None = None

    def run_once(self, id: str | None = None) -> Job | None:  # noqa: A002
        """Run the job whose turn it is, or that of an id if it is due; returns the job, if there was one."""
        parts, now = self._parts, self._parts.clock.now()
        job = parts.jobs.lease(
            self._owner, self._lease_seconds, now, id=id, queues=self._queues, most=self._most
        )
        if job is None:
            return None
        if job.taken_over:
            self._counts.lease_lost(job.queue, "expired")
        self.current = job
        try:
            spec = job.spec
            with (
                logger.contextualize(model=spec.model, job=spec.id),
                self._tracer.span(
                    f"job {spec.kind}",
                    spec.arguments.get(TRACE),
                    model=spec.model,
                    job=spec.id,
                    queue=job.queue,
                    attempt=job.attempts,
                ) as span,
            ):
                self._run(job, span)
        finally:
            self.current = None
        return job

    def _run(self, job: Job, span: Span) -> None:
        if job.attempts > MAX_ATTEMPTS:
            self._fail(job, f"given up: the worker died in each of {MAX_ATTEMPTS} attempts", None, dead=True)
            return
        started = time.monotonic()
        try:
            with Heartbeat(self._parts.jobs, job, self._lease_seconds, self._parts.clock) as heartbeat:
                done = self._doer.do(job.spec, heartbeat.report)
                now = self._parts.clock.now()
                self._parts.jobs.finish(job, done.version, done.outcome, now, done.result)
        except FencedError:
            span.tell(lost=True)
            self._counts.lease_lost(job.queue, "fenced")
            logger.info("job {} went to another worker; its result here does not count", job.spec.id)
        except Stopped:
            self._give_back(job)
        except Exception as error:
            span.tell(failed=True, error=type(error).__name__)
            self._failed(job, error)
        else:
            logger.info("job {} done in {:.2f} s", job.spec.id, time.monotonic() - started)

    def _failed(self, job: Job, error: Exception) -> None:
        failure = failure_of(error)
        if isinstance(error, Failure):
            logger.warning("job {} failed: {}", job.spec.id, failure.words)
        else:
            report(error, f"job {job.spec.id} failed")
        wait = None
        if failure.passing and job.attempts < MAX_ATTEMPTS:
            wait = retry_wait(job.spec.id, job.attempts)
        self._fail(job, failure.words, wait, failure.traceback, dead=failure.passing and wait is None)

    def _fail(
        self,
        job: Job,
        error: str,
        retry_in: float | None,
        traceback: str | None = None,
        *,
        dead: bool = False,
        spared: bool = False,
    ) -> None:
        now = self._parts.clock.now()
        retry_at = None if retry_in is None else now + retry_in
        try:
            self._parts.jobs.fail(job, error, now, retry_at, traceback=traceback, dead=dead, spared=spared)
        except (FencedError, NotFoundError):
            logger.info("job {} is another's already, or its model is gone", job.spec.id)

    def stop(self) -> None:
        """Ask what is being done to stop, from any thread or signal handler."""
        self._doer.stop()

    def close(self) -> None:
        """Give back what doing jobs holds."""
        self._doer.close()

    def give_back(self) -> None:
        """Give the job in hand back, so that another worker takes it at once."""
        if (job := self.current) is not None:
            self._give_back(job)

    def _give_back(self, job: Job) -> None:
        logger.info("job {} is given back: the worker was stopped", job.spec.id)
        self._fail(job, "the worker was stopped", 0.0, spared=True)

    def mend_champions(self) -> None:
        """Make damaged files of the versions that answer again, as the API processes wait for them."""
        for model, champion in self._parts.versions.champions().items():
            try_to_mend(model, champion.version, self._parts)

    def adopt_orphans(self) -> int:
        """Give back the jobs of dead workers of this host without waiting for their leases to run out."""
        found = 0
        for job in self._parts.backlog.running():
            if job.owner != self._owner and is_dead(job.owner):
                self._fail(job, "the worker died", 0.0)
                self._counts.lease_lost(job.queue, "orphaned")
                found += 1
        return found
