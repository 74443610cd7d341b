"""The worker: takes what the log holds through the loop, and does the work that the loop asks for.

:class:`Advancer` moves every model's loop to the end of its log, and :class:`JobRunner` leases jobs and has
them done under a heartbeat, in a process of their own. Any number of workers may run against one database: a
step is a compare-and-swap on the cursor, a job belongs to whoever holds its newest fencing token. What a
killed worker left is done again by the next.

A worker finds its work in the rows of the database (:mod:`everlearn.worker.embedded`), or is told of it by a
broker (:mod:`everlearn.worker.brokered`). Both run the same functions on the same rows.
"""

from __future__ import annotations

from everlearn.worker.advancing import Advancer
from everlearn.worker.attempts import MAX_ATTEMPTS, Failure, Stopped, retry_wait
from everlearn.worker.embedded import Worker
from everlearn.worker.heartbeat import Heartbeat
from everlearn.worker.jobs import JobRunner
from everlearn.worker.pace import Backoff, Pace

__all__ = [
    "MAX_ATTEMPTS",
    "Advancer",
    "Backoff",
    "Failure",
    "Heartbeat",
    "JobRunner",
    "Pace",
    "Stopped",
    "Worker",
    "retry_wait",
]
