"""What only workers know is counted, and told: on a page of their own, or on the API's."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from everlearn.adapters.memory import ManualClock, MemoryStore
from everlearn.errors import FencedError, InvalidError
from everlearn.holding import Holding
from everlearn.spec import parse_spec
from everlearn.types import JobSpec
from everlearn.worker import Advancer, JobRunner
from everlearn.worker.counts import Counts, Uncounted, counting

SPEC = {"name": "m", "target": "y", "features": {"x": "numeric"}, "learner": "majority"}


class Store(MemoryStore):
    """A store that is an installation."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock(100.0)
        self.models.create(parse_spec(SPEC), 1.0)
        for number in range(2):
            self.backlog.add(JobSpec(f"grid-{number}", "m", "what_if", 0, {}), 1.0)


class Undoable:
    """A job that is another's before it is done."""

    def do(self, *_: Any) -> Any:
        raise FencedError("another has it")

    def stop(self) -> None: ...

    def close(self) -> None: ...


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


def lost(registry: CollectorRegistry, how: str) -> float | None:
    return registry.get_sample_value("everlearn_lease_losses_total", {"queue": "maintenance", "how": how})


def test_leases_that_are_lost_are_counted_by_how(registry: CollectorRegistry) -> None:
    store, counts = Store(), Counts(registry)
    runner = JobRunner(store, "me", 10.0, doer=Undoable(), counts=counts)
    runner.run_once("grid-0")
    assert [lost(registry, how) for how in ("fenced", "expired", "orphaned")] == [1.0, 0.0, 0.0]
    assert store.jobs.lease("one that stands still", 10.0, store.clock.now(), id="grid-1") is not None
    store.clock.advance(11.0)
    runner.run_once("grid-1")
    assert [lost(registry, how) for how in ("fenced", "expired", "orphaned")] == [2.0, 1.0, 0.0]
    assert store.jobs.get("grid-1").error == "the lease of the worker before ran out"


def test_a_dead_workers_job_is_counted_once(
    registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store()
    runner = JobRunner(store, "me", 10.0, counts=Counts(registry))
    store.jobs.lease("dead", 10.0, store.clock.now(), id="grid-0")
    monkeypatch.setattr("everlearn.worker.jobs.is_dead", lambda owner: owner == "dead")
    assert runner.adopt_orphans() == 1
    again = store.jobs.lease("me", 10.0, store.clock.now(), id="grid-0")
    assert again is not None
    assert not again.taken_over
    assert lost(registry, "orphaned") == 1.0


def test_each_step_of_a_loop_is_timed(registry: CollectorRegistry) -> None:
    store = Store()
    advancer = Advancer(store, Holding(store.leases, store.clock, "me", 10.0), counts=Counts(registry))
    assert advancer.run_once() > 0
    assert registry.get_sample_value("everlearn_step_seconds_count") == 1.0


def test_a_worker_has_a_page_where_it_is_told_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    assert type(counting("127.0.0.1", None)) is Uncounted
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(InvalidError, match="--metrics-port"):
        counting("127.0.0.1", taken.getsockname()[1])


PROCESS = """
import sys
from urllib.request import urlopen
from everlearn.worker.counts import counting
counts = counting("127.0.0.1", int(sys.argv[1]) or None)
counts.lease_lost("train", "expired")
if sys.argv[1] != "0":
    print(urlopen(f"http://127.0.0.1:{sys.argv[1]}/metrics").read().decode())
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.mark.slow
def test_the_page_of_a_worker_and_that_of_the_api_beside_it(tmp_path: Path) -> None:
    from everlearn.api.instruments import Instruments

    line = 'everlearn_lease_losses_total{how="expired",queue="train"}'
    alone = [sys.executable, "-c", PROCESS, str(free_port())]
    page = subprocess.run(alone, capture_output=True, text=True, check=True).stdout
    assert f"{line} 1.0" in page
    for _ in range(2):  # one that was started again
        shared = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
        subprocess.run([sys.executable, "-c", PROCESS, "0"], env=shared, check=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EVERLEARN_BACKGROUND_METRICS", str(tmp_path))
        assert f"{line} 2.0" in Instruments(MemoryStore()).page().decode()
