"""What waits and what was done, for Prometheus: jobs, and messages of the outbox."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from prometheus_client.core import GaugeMetricFamily, Metric, SummaryMetricFamily

from everlearn.api.parts import Parts
from everlearn.api.waits import Waits
from everlearn.errors import EverlearnError
from everlearn.types import QUEUES, JobState, Spent

DESTINATIONS: Final = ("registry", "alerts")
"""Destinations of messages that are told of even while nothing waits for them."""


def jobs(parts: Parts) -> Iterator[Metric]:
    """How many jobs wait, run and ended, and how long they took; none of a store that is down."""
    count = GaugeMetricFamily("everlearn_jobs", "Jobs by queue and state", labels=["queue", "state"])
    took = SummaryMetricFamily(
        "everlearn_job_seconds", "Time that jobs took that have ended", labels=["queue"]
    )
    try:
        depths, spent = parts.backlog.depths(), parts.tallies.spent()
    except (EverlearnError, OSError):
        yield from (count, took)
        return
    for queue in QUEUES:
        for state in JobState:
            count.add_metric([queue, state.value], float(depths.get(queue, {}).get(state.value, 0)))
        ended = spent.get(queue, Spent(0, 0.0))
        took.add_metric([queue], ended.jobs, ended.seconds)
    yield from (count, took)


def messages(parts: Parts, waits: Waits | None) -> Iterator[Metric]:
    """How many messages wait to be delivered, and for how long; none where there is no outbox."""
    count = GaugeMetricFamily(
        "everlearn_outbox_waiting", "Messages that wait to be delivered", labels=["destination"]
    )
    lag = GaugeMetricFamily(
        "everlearn_outbox_lag_seconds",
        "How long the oldest of them has been seen to wait",
        labels=["destination"],
    )
    try:
        found = {} if waits is None else parts.tallies.waiting()
    except (EverlearnError, OSError):
        found, waits = {}, None
    if waits is not None:
        seconds = waits.take(found, parts.clock.now())
        for destination in sorted({*DESTINATIONS, *found}):
            waiting = found.get(destination)
            count.add_metric([destination], 0.0 if waiting is None else float(waiting.messages))
            lag.add_metric([destination], seconds.get(destination, 0.0))
    yield from (count, lag)
