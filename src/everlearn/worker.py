"""The worker: takes what the log holds through the loop, and does the work that the loop asks for.

Two activities share the process and never wait for each other: :class:`Advancer` moves every model's
loop to the end of its log, and :class:`JobRunner` leases jobs and runs them under a heartbeat. Any
number of workers may run against one database: a step is a compare-and-swap on the cursor, a job
belongs to whoever holds its newest fencing token. What a killed worker left is done again by the next.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Protocol

from loguru import logger

from everlearn import logs
from everlearn.errors import EverlearnError, FencedError, NotFoundError
from everlearn.loop import drive
from everlearn.loop.alerts import alerts_of
from everlearn.mending import try_to_mend
from everlearn.ports import Artifacts, Clock, Jobs, Ledger, Log, Models, Versions
from everlearn.predictor import Predictor
from everlearn.processes import die_with_parent, identity, is_dead, stop_on_signals
from everlearn.types import Decision, Job, JobState
from everlearn.wiring import model_names

WARM = ("sklearn.ensemble", "sklearn.linear_model", "skops.io", "safetensors.numpy")
BATCH = 1000
STEPS_IN_A_ROW = 5
MAX_ATTEMPTS = 5
STOP_SECONDS = 3.0

ACTIVE_SECONDS = 2.0
"""How long after the last work a worker goes on looking for more at its full pace."""

JOBS_SECONDS = 0.5
"""How often a worker looks for jobs while its own steps make none: retries, and other workers' jobs."""

SLOWER = 5
"""How many times longer an idle worker waits between two looks."""


class Parts(Protocol):
    """What a worker needs of an installation."""

    @property
    def clock(self) -> Clock: ...  # noqa: D102
    @property
    def models(self) -> Models: ...  # noqa: D102
    @property
    def log(self) -> Log: ...  # noqa: D102
    @property
    def versions(self) -> Versions: ...  # noqa: D102
    @property
    def ledger(self) -> Ledger: ...  # noqa: D102
    @property
    def jobs(self) -> Jobs: ...  # noqa: D102
    @property
    def artifacts(self) -> Artifacts: ...  # noqa: D102


class Backoff:
    """Who must wait after failing, and until when: 1 s at first, doubling to 60 s.

    >>> backoff = Backoff(now=lambda: 0.0)
    >>> backoff.failed("m"), backoff.failed("m"), backoff.waits("m"), backoff.waits("other")
    (1.0, 2.0, True, False)
    """

    def __init__(
        self, first: float = 1.0, most: float = 60.0, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._first, self._most, self._now = first, most, now
        self._failures: dict[str, tuple[int, float]] = {}

    def failed(self, name: str) -> float:
        """Note a failure; returns the seconds to wait."""
        count = self._failures.get(name, (0, 0.0))[0]
        wait = min(self._first * 2.0 ** min(count, 20), self._most)
        self._failures[name] = (count + 1, self._now() + wait)
        return wait

    def succeeded(self, name: str) -> None:
        """Forget its failures."""
        self._failures.pop(name, None)

    def waits(self, name: str) -> bool:
        """Whether it must wait still."""
        return name in self._failures and self._now() < self._failures[name][1]


class Pace:
    """How long to wait before the next look for work: ``poll`` seconds, more where there was none lately.

    >>> now = [10.0]
    >>> pace = Pace(0.03, now=lambda: now[0])
    >>> pace.worked()
    >>> pace.wait()
    0.03
    >>> now[0] += 60
    >>> pace.wait()
    0.15
    """

    def __init__(self, poll: float, now: Callable[[], float] = time.monotonic) -> None:
        self._poll, self._now = poll, now
        self._worked_at = float("-inf")

    def worked(self) -> None:
        """Note that there was work."""
        self._worked_at = self._now()

    def wait(self) -> float:
        """Seconds to wait now."""
        return self._poll if self._now() - self._worked_at < ACTIVE_SECONDS else self._poll * SLOWER


def _alert(model: str, decisions: Sequence[Decision]) -> None:
    """One line in the log for each decision that a person should know of."""
    for alert in alerts_of(decisions):
        logger.warning("{}", alert.line(model))


class Advancer:
    """Moves the loops of all models on. One that fails waits, and holds up no other."""

    def __init__(self, parts: Parts, backoff: Backoff | None = None) -> None:
        self._parts = parts
        self._backoff = backoff or Backoff()
        self._engines = drive.EngineCache()

    def run_once(self, stop: threading.Event | None = None) -> int:
        """A few steps for each model that is behind; returns how many events were taken in."""
        taken = 0
        for model in self._parts.ledger.behind(limit=1000):
            if stop is not None and stop.is_set():
                break
            if not self._backoff.waits(model):
                taken += self._advance(model)
        return taken

    def _advance(self, model: str) -> int:
        taken = 0
        try:
            for _ in range(STEPS_IN_A_ROW):
                moved = drive.advance_model(
                    model, self._parts.log, self._parts.ledger, BATCH, self._engines, _alert
                )
                taken += moved
                if moved < BATCH:
                    break
        except NotFoundError:
            self._backoff.failed(model)  # deleted meanwhile
        except Exception as error:
            wait = self._backoff.failed(model)
            with logger.contextualize(model=model):
                _report(error, f"the loop could not advance; next try in {wait:.0f} s")
        else:
            self._backoff.succeeded(model)
        return taken


class Heartbeat:
    """Keeps a job's lease while it runs; :meth:`report` passes progress on, and raises once it is lost."""

    def __init__(self, jobs: Jobs, job: Job, seconds: float, clock: Clock) -> None:
        self._jobs, self._job, self._seconds, self._clock = jobs, job, seconds, clock
        self._progress = 0.0
        self._over = threading.Event()
        self._lost = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def report(self, progress: float) -> None:
        """Note how far the job is, from 0 to 1. Raises FencedError when it is no longer ours."""
        if self._lost.is_set():
            raise FencedError(f"job {self._job.spec.id} was taken over by another worker or cancelled")
        self._progress = progress

    def __enter__(self) -> Heartbeat:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join(timeout=self._seconds)

    def _beat(self) -> None:
        while not self._over.wait(self._seconds / 3):
            try:
                self._jobs.renew(self._job, self._seconds, self._clock.now(), self._progress)
            except (FencedError, NotFoundError):
                self._lost.set()
                return
            except Exception as error:  # the lease outlives two missed beats
                _report(error, f"could not renew the lease of job {self._job.spec.id}")


class JobRunner:
    """Leases jobs and runs them, one at a time."""

    def __init__(self, parts: Parts, owner: str, lease_seconds: float = 15.0) -> None:
        self._parts, self._owner, self._lease_seconds = parts, owner, lease_seconds
        self.current: Job | None = None

    def run_once(self) -> bool:
        """Run the oldest due job, if there is one; returns whether there was."""
        parts = self._parts
        job = parts.jobs.lease(self._owner, self._lease_seconds, parts.clock.now())
        if job is None:
            return False
        self.current = job
        try:
            with logger.contextualize(model=job.spec.model, job=job.spec.id):
                self._run(job)
        finally:
            self.current = None
        return True

    def _run(self, job: Job) -> None:
        parts = self._parts
        if job.attempts > MAX_ATTEMPTS:
            self._fail(job, f"given up: the worker died in each of {MAX_ATTEMPTS} attempts", None)
            return
        started = time.monotonic()
        try:
            with Heartbeat(parts.jobs, job, self._lease_seconds, parts.clock) as heartbeat:
                try_to_mend(job.spec.model, job.spec.arguments.get("champion", 0), parts)
                drive.run_job(
                    job,
                    log=parts.log,
                    versions=parts.versions,
                    jobs=parts.jobs,
                    artifacts=parts.artifacts,
                    clock=parts.clock,
                    progress=heartbeat.report,
                )
        except FencedError:
            logger.info("job {} went to another worker; its result here does not count", job.spec.id)
        except NotFoundError as error:
            logger.info("job {} has lost its model: {}", job.spec.id, error)
        except Exception as error:
            _report(error, f"job {job.spec.id} failed")
            retry = job.attempts < MAX_ATTEMPTS and not isinstance(error, EverlearnError)
            self._fail(job, f"{type(error).__name__}: {error}", 2.0**job.attempts if retry else None)
        else:
            logger.info("job {} done in {:.2f} s", job.spec.id, time.monotonic() - started)

    def _fail(self, job: Job, error: str, retry_in: float | None) -> None:
        now = self._parts.clock.now()
        try:
            self._parts.jobs.fail(job, error, now, None if retry_in is None else now + retry_in)
        except (FencedError, NotFoundError):
            logger.info("job {} is another's already", job.spec.id)

    def give_back(self) -> None:
        """Give the job in hand back, so that another worker takes it at once."""
        if (job := self.current) is not None:
            self._fail(job, "the worker was stopped", 0.0)

    def mend_champions(self) -> None:
        """Make damaged files of the versions that answer again, as the API processes wait for them."""
        for model, champion in self._parts.versions.champions().items():
            try_to_mend(model, champion.version, self._parts)

    def warm(self) -> None:
        """Load what the learners of the models there are have compiled."""
        for model in model_names(self._parts.models):
            try:
                Predictor.new(self._parts.models.get(model)).warm()
            except EverlearnError as error:  # a learner that is not installed here; a model just deleted
                logger.debug("{}: its learner is not warmed: {}", model, error)

    def adopt_orphans(self) -> int:
        """Give back the jobs of dead workers of this host without waiting for their leases to run out."""
        found = 0
        for model in model_names(self._parts.models):
            for job in self._parts.jobs.list(model, limit=10).items:
                if job.state is JobState.RUNNING and job.owner != self._owner and is_dead(job.owner):
                    self._fail(job, "the worker died", 0.0)
                    found += 1
        return found


class Worker:
    """One worker process. :meth:`run` works until :meth:`stop` is called."""

    def __init__(
        self,
        parts: Parts,
        *,
        poll_seconds: float = 0.03,
        lease_seconds: float = 15.0,
        owner: str | None = None,
    ) -> None:
        self._poll = poll_seconds
        self._stop = threading.Event()
        self._moved = threading.Event()
        self.advancer = Advancer(parts)
        self.runner = JobRunner(parts, owner or identity(), lease_seconds)

    def stop(self) -> None:
        """Ask it to stop; harmless when repeated, and callable from a signal handler."""
        self._stop.set()
        self._moved.set()

    def run(self) -> None:
        """Advance and run jobs until stopped, then give back what is unfinished."""
        jobs = threading.Thread(target=self._run_jobs, name="jobs", daemon=True)
        jobs.start()
        trouble, pace = Backoff(first=0.5, most=10.0), Pace(self._poll)
        while not self._stop.is_set():
            try:
                moved = self.advancer.run_once(self._stop)
            except Exception as error:
                wait = trouble.failed("advance")
                _report(error, f"the log cannot be read; next try in {wait:.1f} s")
                self._stop.wait(wait)
                continue
            trouble.succeeded("advance")
            if moved:
                pace.worked()
                self._moved.set()
            else:
                self._stop.wait(pace.wait())
        jobs.join(timeout=STOP_SECONDS if self.runner.current else 0.1)
        if jobs.is_alive():
            self.runner.give_back()

    def _run_jobs(self) -> None:
        for module in WARM:
            import_module(module)
        trouble = Backoff(first=0.5, most=10.0)
        next_look, looked_at_champions = 0.0, False
        while not self._stop.is_set():
            try:
                if not looked_at_champions:
                    self.runner.mend_champions()
                    looked_at_champions = True
                    self.runner.warm()
                if time.monotonic() >= next_look:
                    self.runner.adopt_orphans()
                    next_look = time.monotonic() + 5.0
                busy = self.runner.run_once()
            except Exception as error:
                wait = trouble.failed("jobs")
                _report(error, f"jobs cannot be leased; next try in {wait:.1f} s")
                self._stop.wait(wait)
                continue
            trouble.succeeded("jobs")
            if not busy:
                # Jobs come from steps: mostly this worker's, which are told of here, or another's.
                self._moved.wait(JOBS_SECONDS)
                self._moved.clear()


def _report(error: Exception, what: str) -> None:
    """Log an error: one line for those made to be read, with the traceback for all others."""
    if isinstance(error, EverlearnError):
        logger.warning("{}: {}", what, error)
    else:
        logger.opt(exception=error).error("{}: {}", what, type(error).__name__)


def main(data: Path | None = None) -> None:
    """Run a worker on the installation that the environment describes, until SIGTERM."""
    from everlearn.wiring import Installation

    installation = Installation.load(data=data)
    settings = installation.settings
    logs.setup("worker", level=settings.log_level, as_json=settings.log_json)
    worker = Worker(installation, poll_seconds=settings.poll_seconds, lease_seconds=settings.lease_seconds)
    stop_on_signals(worker.stop)
    die_with_parent(worker.stop)
    worker.run()
    sys.stderr.flush()
    os._exit(0)  # a job thread in native code would hold up a normal exit


if __name__ == "__main__":
    main()
