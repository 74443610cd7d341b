"""The heartbeat of a job: keeps its lease while somebody works on it."""

from __future__ import annotations

import threading
from types import TracebackType

from everlearn.errors import FencedError, NotFoundError
from everlearn.ports import Clock, Jobs
from everlearn.types import Job
from everlearn.worker.reporting import report


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
                report(error, f"could not renew the lease of job {self._job.spec.id}")
