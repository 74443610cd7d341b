"""``python -m everlearn.worker``: one worker on the installation that the environment describes."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from everlearn import logs
from everlearn.processes import die_with_parent, stop_on_signals
from everlearn.types import ADVANCE
from everlearn.wiring import Installation
from everlearn.worker.apart import Apart, Limits
from everlearn.worker.brokered import BrokeredWorker
from everlearn.worker.counts import Uncounted, counting
from everlearn.worker.embedded import Worker
from everlearn.worker.memory import usual_limit
from everlearn.worker.sibling import Sibling


def main(
    data: Path | None = None,
    queues: str | None = None,
    broker: str | None = None,
    metrics_port: int | None = None,
) -> None:
    """Work until SIGTERM: on some queues (default: all), told by a broker if there is one."""
    installation = Installation.load(data=data, queues=queues, broker_url=broker, metrics_port=metrics_port)
    settings = installation.settings
    logs.setup("worker", level=settings.log_level, as_json=settings.log_json)
    url = installation.broker_url
    counts = counting(settings.host, settings.metrics_port)
    if url is None:
        _embedded(installation, counts)
    else:
        _brokered(installation, url, counts)
    installation.tracer("worker").close()
    sys.stderr.flush()
    os._exit(0)  # a thread in native code would hold up a normal exit


def _embedded(installation: Installation, counts: Uncounted) -> None:
    settings = installation.settings
    worker = Worker(
        installation,
        poll_seconds=settings.poll_seconds,
        lease_seconds=settings.lease_seconds,
        doer=_apart(installation),
        queues=settings.queue_names,
        most=settings.model_jobs,
        counts=counts,
        tracer=installation.tracer("worker"),
    )
    stop_on_signals(worker.stop)
    die_with_parent(worker.stop)
    _push(installation, worker.well)
    worker.run()


def _brokered(installation: Installation, url: str, counts: Uncounted) -> None:
    """Told by a broker. Advancing never waits behind a job: where both are asked for, it gets a process."""
    from everlearn.adapters.celery import CeleryBroker

    settings = installation.settings
    broker = CeleryBroker(url, prefix=settings.broker_prefix, visibility=settings.broker_visibility_seconds)
    queues, sibling = settings.queue_names, None
    if ADVANCE in queues and len(queues) > 1:
        queues = [queue for queue in queues if queue != ADVANCE]
        alone = {"EVERLEARN_QUEUES": ADVANCE, "EVERLEARN_METRICS_PORT": ""}
        sibling = Sibling({**settings.environment(), **alone})
    worker = BrokeredWorker(
        installation,
        broker,
        queues=queues,
        lease_seconds=settings.lease_seconds,
        doer=_apart(installation),
        most=settings.model_jobs,
        on_stop=int if sibling is None else sibling.stop,
        counts=counts,
        tracer=installation.tracer("worker"),
    )
    die_with_parent(broker.stop)
    _push(installation, worker.well)
    worker.run()
    if sibling is not None:
        sibling.close()
    broker.close()


def _push(installation: Installation, well: Callable[[], object]) -> None:
    """Push heart-beats, if there is somebody to push to."""
    url = installation.heartbeat_url
    if url is not None:
        from everlearn.worker.pulse import Pulse

        Pulse(url, well).start(threading.Event())


def _apart(installation: Installation) -> Apart:
    settings = installation.settings
    memory = settings.job_memory_mb or usual_limit()
    apart = Apart(settings.environment(), Limits(settings.job_seconds, memory))
    apart.start()
    return apart


if __name__ == "__main__":
    main()
