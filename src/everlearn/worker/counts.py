"""What only a worker knows, for Prometheus: how long its steps take, and the leases that were lost."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Literal

from everlearn.types import QUEUES

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

How = Literal["fenced", "expired", "orphaned"]
HOW: tuple[How, ...] = ("fenced", "expired", "orphaned")
"""How a lease was lost. ``fenced``: this worker's job went to another or was cancelled. ``expired``: it took
over a job whose lease had run out. ``orphaned``: it gave a job back whose worker had died on this host."""

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Uncounted:
    """Counts nothing."""

    def step(self) -> AbstractContextManager[None]:
        """A step of a loop is taken within."""
        return nullcontext()

    def lease_lost(self, queue: str, how: How) -> None:
        """A lease of a job was lost."""


class Counts(Uncounted):
    """Counts into a registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        from prometheus_client import Counter, Histogram

        self._steps = Histogram(
            "everlearn_step_seconds", "Time of a step of the loop", registry=registry, buckets=_BUCKETS
        )
        self._lost = Counter(
            "everlearn_lease_losses", "Leases of jobs that were lost", ["queue", "how"], registry=registry
        )
        for queue in QUEUES:
            for how in HOW:
                self._lost.labels(queue, how)

    @contextmanager
    def step(self) -> Iterator[None]:
        """See :class:`Uncounted`."""
        started = time.perf_counter()
        yield
        self._steps.observe(time.perf_counter() - started)

    def lease_lost(self, queue: str, how: How) -> None:
        """See :class:`Uncounted`."""
        self._lost.labels(queue, how).inc()


def counting(host: str, port: int | None) -> Uncounted:
    """Counts for this process: for its own page at a port, or for the API's (see the supervisor), or neither.

    Raises InvalidError where the port cannot be listened on.
    """
    import os

    if port is None and not os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        return Uncounted()
    from prometheus_client import CollectorRegistry, start_http_server

    registry = CollectorRegistry()
    if port is not None:
        from everlearn.errors import InvalidError

        try:
            start_http_server(port, host, registry)
        except OSError as error:
            raise InvalidError(
                f"The worker's metrics cannot be told on {host} port {port}: {error.strerror}; "
                "use another --metrics-port"
            ) from None
    return Counts(registry)
