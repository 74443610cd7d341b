"""What is counted, for Prometheus. One registry for each app, so that two apps in a process do not mix."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from everlearn.api.parts import Parts
from everlearn.api.served import Role
from everlearn.errors import EverlearnError
from everlearn.types import Receipt, Status

MAX_MODELS = 200
"""How many models the gauges tell of: labels must stay bounded."""

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
MULTIPROCESS = "PROMETHEUS_MULTIPROC_DIR"


class Instruments:
    """Counters and histograms of one app, and gauges that are read from the store when scraped.

    With ``PROMETHEUS_MULTIPROC_DIR`` set before the process starts, the counts of all API processes
    that share the folder are added up, whichever of them is scraped.
    """

    def __init__(self, parts: Parts) -> None:
        self._registry = registry = CollectorRegistry()
        self._gauges = StoreGauges(parts)
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
        self._failed_loads = Counter(
            "everlearn_failed_loads", "Champions that failed to load", registry=registry
        )

        self._unwritten = Counter(
            "everlearn_unwritten",
            "Predictions answered with durability async that could not be stored",
            registry=registry,
        )

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """A request was answered (status 0: its caller was gone)."""
        answered = self._known.get((method, route, status))
        if answered is None:
            answered = self._of(method, route, status)
        answered[0].inc()
        answered[1].observe(seconds)

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

    def failed_load(self) -> None:
        """A champion could not be loaded."""
        self._failed_loads.inc()

    def page(self) -> bytes:
        """The page that Prometheus reads. Asks the store, so it may block for a moment."""
        registry = CollectorRegistry()
        if os.environ.get(MULTIPROCESS):
            from prometheus_client.multiprocess import MultiProcessCollector

            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        else:
            registry.register(_Within(self._registry))
        registry.register(self._gauges)
        return generate_latest(registry)


class _Within(Collector):
    """A registry as a collector of another, made anew for each scrape."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Metric]:
        yield from self._registry.collect()

    def describe(self) -> Iterable[Metric]:
        return ()


class StoreGauges(Collector):
    """Where each model stands, read from the store; a store that is down leaves them out."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def describe(self) -> Iterable[Metric]:
        """Nothing is known before a scrape."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Read the gauges."""
        gauges = {
            name: GaugeMetricFamily(f"everlearn_{name}", text, labels=["model"])
            for name, text in (
                ("champion_version", "The version that answers"),
                ("log_seq", "The newest position of the log"),
                ("loop_lag_events", "Events that the loop has not read yet"),
                ("score", "The model's metric over the newest window"),
            )
        }
        alerts = CounterMetricFamily(
            "everlearn_alerts",
            "Alerts that the loop raised, from the model's ledger",
            labels=["model", "kind"],
        )
        for model, values, raised in self._rows():
            for name, value in values.items():
                gauges[name].add_metric([model], value)
            for kind, count in raised.items():
                alerts.add_metric([model, kind], float(count))
        yield from (*gauges.values(), alerts)

    def _rows(self) -> Iterator[tuple[str, Mapping[str, float], Mapping[str, int]]]:
        """Each model's gauges, and how many alerts of each kind it has raised."""
        from everlearn.api.standing import standing

        try:
            champions = self._parts.versions.champions()
            for model in sorted(champions)[:MAX_MODELS]:
                where = standing(self._parts, model, champions[model])
                values = {
                    "champion_version": float(champions[model].version),
                    "log_seq": float(where.head.seq),
                    "loop_lag_events": float(max(0, where.head.seq - where.cursor)),
                }
                if where.performance is not None:
                    values["score"] = where.performance
                yield model, values, where.scores.get("alerts", {})
        except (EverlearnError, OSError):
            return
