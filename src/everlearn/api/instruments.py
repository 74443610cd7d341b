"""What is counted, for Prometheus. One registry for each app, so that two apps in a process do not mix."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import get_args

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from everlearn.adapters.tracing import Untraced
from everlearn.api.gauges import StoreGauges
from everlearn.api.parts import Parts
from everlearn.api.served import Role
from everlearn.ports import Outbox
from everlearn.types import Receipt, Status

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_GROUPS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096, 10_000)
MULTIPROCESS = "PROMETHEUS_MULTIPROC_DIR"
BACKGROUND_METRICS = "EVERLEARN_BACKGROUND_METRICS"
"""Where the supervisor says that workers leave their counts."""


class Instruments:
    """Counters and histograms of one app, and gauges that are read from the store when scraped.

    With ``PROMETHEUS_MULTIPROC_DIR`` set before the process starts, the counts of all API processes
    that share the folder are added up, whichever of them is scraped. Those of workers that were started with
    them are told, too.
    """

    def __init__(self, parts: Parts, outbox: Outbox | None = None, tracer: Untraced | None = None) -> None:
        self.tracer = tracer or Untraced()
        self._registry = registry = CollectorRegistry()
        self._gauges = StoreGauges(parts, outbox)
        self._known: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        self._requests = Counter(
            "everlearn_requests", "HTTP requests", ["method", "route", "status"], registry=registry
        )
        self._request_seconds = Histogram(
            "everlearn_request_seconds", "Time to answer", ["route"], registry=registry, buckets=_BUCKETS
        )
        self._predict_seconds = Histogram(
            "everlearn_predict_seconds", "Time in the model alone", registry=registry, buckets=_BUCKETS
        )
        predictions = Counter("everlearn_predictions", "Rows answered", ["role"], registry=registry)
        self._predictions = {role: predictions.labels(role) for role in get_args(Role)}
        self._labels = Counter(
            "everlearn_labels", "Labels by what became of them", ["status"], registry=registry
        )
        self._examples = Counter("everlearn_examples", "Rows of history stored", registry=registry)
        self._swaps = Counter("everlearn_swaps", "Champions taken into service", registry=registry)
        self._cold_loads = Counter(
            "everlearn_cold_loads", "Models taken into memory that were not in it", registry=registry
        )
        self._evictions = Counter(
            "everlearn_evictions", "Models that went out of memory to make room", registry=registry
        )
        self._failed_loads = Counter(
            "everlearn_failed_loads", "Champions that failed to load", registry=registry
        )

        self._unwritten = Counter(
            "everlearn_unwritten",
            "Predictions answered with durability async that could not be stored",
            registry=registry,
        )

        self._commits = Histogram(
            "everlearn_commit_events", "Events stored by one commit", registry=registry, buckets=_GROUPS
        )

    def committed(self, events: int) -> None:
        """So many events were stored together."""
        self._commits.observe(events)

    def request(self, method: str, route: str, status: int, seconds: float, trace_id: str = "") -> None:
        """A request was answered (status 0: its caller was gone); ``trace_id`` is that of its trace."""
        answered = self._known.get((method, route, status))
        if answered is None:
            answered = self._of(method, route, status)
        answered[0].inc()
        answered[1].observe(seconds, {"trace_id": trace_id} if trace_id else None)

    def _of(self, method: str, route: str, status: int) -> tuple[Counter, Histogram]:
        """The counter and the histogram of one kind of request; looking them up costs more than counting."""
        known = method if method in ("GET", "POST", "PATCH", "DELETE") else "other"
        found = self._requests.labels(known, route, str(status)), self._request_seconds.labels(route)
        if known == method:  # a caller may invent methods
            self._known[method, route, status] = found
        return found

    def predicted(self, rows: Mapping[Role, int], seconds: float) -> None:
        """Versions of a model answered rows, so many of each role."""
        for role, count in rows.items():
            self._predictions[role].inc(count)
        self._predict_seconds.observe(seconds)

    def labelled(self, receipts: Sequence[Receipt]) -> None:
        """Labels were taken in."""
        for status in Status:
            count = sum(receipt.status is status for receipt in receipts)
            if count:
                self._labels.labels(status.value).inc(count)

    def unwritten(self, rows: int) -> None:
        """Rows were answered and could not be stored (``durability: async``)."""
        self._unwritten.inc(rows)

    def loaded(self, rows: int) -> None:
        """Rows of history were stored."""
        self._examples.inc(rows)

    def swapped(self) -> None:
        """A champion was taken into service."""
        self._swaps.inc()

    def cold_load(self) -> None:
        """A model was taken into memory that was not in it."""
        self._cold_loads.inc()

    def evicted(self, models: int) -> None:
        """So many models went out of memory."""
        if models:
            self._evictions.inc(models)

    def failed_load(self) -> None:
        """A champion could not be loaded."""
        self._failed_loads.inc()

    def page(self) -> bytes:
        """The page that Prometheus reads. Asks the store, so it may block for a moment."""
        return generate_latest(self._everything())

    def page_for(self, accepts: str) -> tuple[bytes, str]:
        """The same and its content type, in OpenMetrics for whoever takes it where there are traces to name.

        Exemplars are in OpenMetrics alone, and those of one process are not among the counts of several.
        """
        if not (self.tracer.on and "application/openmetrics-text" in accepts):
            return self.page(), CONTENT_TYPE_LATEST
        from prometheus_client.openmetrics import exposition

        page: bytes = exposition.generate_latest(self._everything())  # type: ignore[no-untyped-call]
        return page, exposition.CONTENT_TYPE_LATEST

    def _everything(self) -> CollectorRegistry:
        """All that is told, as it is now."""
        registry = CollectorRegistry()
        folder = os.environ.get(MULTIPROCESS)
        if folder:
            _add_folder(registry, folder)
        else:
            registry.register(_Within(self._registry))
        if background := os.environ.get(BACKGROUND_METRICS):
            _add_folder(registry, background)
        registry.register(self._gauges)
        return registry


def _add_folder(registry: CollectorRegistry, folder: str) -> None:
    """Add up what the processes that share a folder have counted."""
    from prometheus_client.multiprocess import MultiProcessCollector

    MultiProcessCollector(registry, folder)  # type: ignore[no-untyped-call]


class _Within(Collector):
    """A registry as a collector of another, made anew for each scrape."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Metric]:
        yield from self._registry.collect()

    def describe(self) -> Iterable[Metric]:
        return ()
