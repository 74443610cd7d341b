"""Queues to hold to one suite: rows alone, Celery over Redis, Celery over RabbitMQ; with real processes."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from everlearn.adapters.celery import CeleryBroker, name_of
from everlearn.loop import drive
from everlearn.loop.defaults import with_defaults
from everlearn.spec import parse_spec
from everlearn.types import QUEUES, EventKind, Job, JobSpec, JobState, NewEvent, Outcome, Step
from everlearn.wiring import Installation

REDIS = "redis://127.0.0.1:{port}/0"
RABBITMQ = "amqp://guest:guest@127.0.0.1:{port}//"
SPEC: dict[str, Any] = {
    "target": "y",
    "features": {"x": "numeric"},
    "policy": {"first_rows": 60, "min_labels": 40, "window": 100},
    "gate": {"holdout": 20, "min_rows": 10},
}


class Proxy:
    """A way to a service that can be cut and restored."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._listener: socket.socket | None = None
        self._open: list[socket.socket] = []
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port: int = probe.getsockname()[1]
        self.restore()

    def restore(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def cut(self) -> None:
        """Let nobody in, and hang up on all."""
        assert self._listener is not None
        for end in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self._open = []

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                caller, _ = listener.accept()
                service = socket.create_connection(("127.0.0.1", self._to))
            except OSError:
                return
            self._open += [caller, service]
            for one, other in ((caller, service), (service, caller)):
                threading.Thread(target=self._pump, args=(one, other), daemon=True).start()

    @staticmethod
    def _pump(one: socket.socket, other: socket.socket) -> None:
        try:
            while data := one.recv(65536):
                other.sendall(data)
        except OSError:
            pass
        for end in (one, other):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


class Yard:
    """An installation with a queue, and worker processes to start, stop and kill."""

    def __init__(
        self, folder: Path, environment: dict[str, str], url: str | None, proxy: Proxy | None
    ) -> None:
        self.folder, self.environment, self.proxy = folder, environment, proxy
        self.installation = Installation.load()
        self.installation.prepare()
        self.installation.migrate()
        prefix = environment["EVERLEARN_BROKER_PREFIX"]
        self.broker = None if url is None else CeleryBroker(url, prefix=prefix)
        self.prefix = prefix
        self.workers: list[subprocess.Popen[bytes]] = []
        self._plans: dict[str, Any] = {}

    # workers

    def start(self, queues: str | None = None, **variables: str) -> subprocess.Popen[bytes]:
        """A worker, in the folder's log; returns before it is ready."""
        command = [sys.executable, "-m", "everlearn.worker"]
        own = {} if queues is None else {"EVERLEARN_QUEUES": queues}
        with (self.folder / "workers.log").open("ab") as log:
            process = subprocess.Popen(
                command, env={**os.environ, **self.environment, **own, **variables}, stdout=log, stderr=log
            )
        self.workers.append(process)
        return process

    def stop(self, worker: subprocess.Popen[bytes], seconds: float = 30.0) -> float:
        """SIGTERM; returns how long it took to end."""
        begun = time.monotonic()
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(seconds) == 0, self.log()
        return time.monotonic() - begun

    def log(self) -> str:
        return (self.folder / "workers.log").read_text()

    # models and jobs

    def model(self, name: str, mode: str = "quick", seconds: float = 0.0, rows: int = 100) -> str:
        """A model whose learner behaves so, with rows to learn from."""
        learner = {"name": "awkward", "mode": mode, "folder": str(self.runs(name)), "seconds": seconds}
        spec = with_defaults(parse_spec({**SPEC, "name": name, "learner": learner}))
        self.installation.models.create(spec, time.time())
        self.teach(name, rows)
        return name

    def runs(self, model: str) -> Path:
        """Where a model's learner leaves a file each time it learns."""
        folder = self.folder / "runs" / model
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def teach(self, name: str, rows: int) -> None:
        at = time.time()
        bodies = [{"features": {"x": float(i % 7)}, "target": i % 2 == 0} for i in range(rows)]
        self.installation.log.append(name, [NewEvent(EventKind.EXAMPLE, at, None, body) for body in bodies])

    def queue(self, model: str, count: int = 1, first: int = 1000) -> list[str]:
        """Queue training jobs of a model by hand, each as the loop plans its own."""
        parts = self.installation
        while drive.advance_model(model, parts.log, parts.ledger):
            pass
        own = parts.jobs.list(model, limit=1000).items[-1]
        at = parts.ledger.checkpoint(model)
        jobs = [
            JobSpec(f"{model}/{n}", model, "train", n, own.spec.arguments)
            for n in range(first, first + count)
        ]
        assert parts.ledger.commit(model, Step(at.cursor, at.cursor, at.state, jobs=jobs))
        if own.state is JobState.QUEUED and first == 1000:
            parts.backlog.cancel(own.spec.id, time.time(), "the test queues its own")
        return [job.id for job in jobs]

    def job(self, key: str) -> Job:
        return self.installation.jobs.get(key)

    def state(self, key: str) -> JobState:
        return self.job(key).state

    def outcomes(self, key: str) -> list[Outcome]:
        """What the loop was told of a job."""
        events = self.installation.log.read(self.job(key).spec.model, 0, 1_000_000)
        return [event for event in events if isinstance(event, Outcome) and event.job == key]

    def caught_up(self) -> bool:
        return not self.installation.ledger.behind()

    # the broker

    def flush(self) -> None:
        """Remove all that the broker has of this installation."""
        assert self.broker is not None
        if self.broker.app.conf.broker_url.startswith("redis"):
            import redis

            with redis.Redis(port=6379) as client:
                for key in client.scan_iter(f"{self.prefix}*"):
                    client.delete(key)
            return
        with self.broker.app.connection_for_write() as connection:
            for queue in QUEUES:
                connection.default_channel.queue_purge(name_of(self.prefix, queue))

    def close(self) -> None:
        for worker in self.workers:
            if worker.poll() is None:
                worker.kill()
                worker.wait()
        if self.proxy is not None:
            with contextlib.suppress(AssertionError):
                self.proxy.cut()
        if self.broker is not None:
            self.broker.close()
        self.installation.close()


@pytest.fixture
def until() -> Callable[..., None]:
    """Wait until something holds; fails the test after a while."""

    def wait(condition: Callable[[], object], seconds: float = 150.0, what: str = "it") -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"{what} did not happen within {seconds:.0f} s"
            time.sleep(0.05)

    return wait


@pytest.fixture
def learner_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package that adds the awkward learner by its entry point."""
    package = tmp_path / "package"
    info = package / "awkward-1.0.dist-info"
    info.mkdir(parents=True)
    shutil.copy(Path(__file__).with_name("awkward.py"), package / "awkward.py")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: awkward\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[everlearn.learners]\nawkward = awkward:Awkward\n")
    monkeypatch.syspath_prepend(str(package))
    return str(package)


@pytest.fixture
def make_yard(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    learner_package: str,
    monkeypatch: pytest.MonkeyPatch,
    service: Callable[[str, int], tuple[str, int]],
) -> Iterator[Callable[..., Yard]]:
    """Make an installation: ``make(queue, database, **variables)``."""
    made: list[Yard] = []

    def make(queue: str, database: str, **variables: str) -> Yard:
        environment = {
            "EVERLEARN_DATA": str(tmp_path / "data"),
            "EVERLEARN_BROKER_PREFIX": f"test-{uuid.uuid4().hex[:12]}",
            "EVERLEARN_LEASE_SECONDS": "3",
            "EVERLEARN_MODEL_JOBS": "0",
            "MLFLOW_TRACKING_URI": "off",
            "PYTHONPATH": learner_package,
            **variables,
        }
        if database == "postgres":
            environment["EVERLEARN_DATABASE_URL"] = request.getfixturevalue("fresh_postgres")
        proxy, url = None, None
        if queue != "embedded":
            name, port, form = {
                "redis": ("Redis", 6379, REDIS), "rabbitmq": ("RabbitMQ", 5672, RABBITMQ)
            }[queue]  # fmt: skip
            service(name, port)
            proxy = Proxy(port)
            environment["EVERLEARN_BROKER_URL"] = form.format(port=proxy.port)
            url = form.format(port=port)
        for variable, value in environment.items():
            if variable != "PYTHONPATH":
                monkeypatch.setenv(variable, value)
        (tmp_path / "data").mkdir(exist_ok=True)
        made.append(Yard(tmp_path / "data", environment, url, proxy))
        return made[-1]

    yield make
    for yard in made:
        try:
            _remove(yard)
        finally:
            yard.close()


def _remove(yard: Yard) -> None:
    """Leave nothing in the broker."""
    for worker in yard.workers:
        if worker.poll() is None:
            worker.kill()
            worker.wait()
    if yard.broker is None:
        return
    if yard.broker.app.conf.broker_url.startswith("redis"):
        yard.flush()
        return
    with yard.broker.app.connection_for_write() as connection:
        for queue in QUEUES:
            connection.default_channel.queue_delete(name_of(yard.prefix, queue))


PLACES = [("embedded", "sqlite"), ("embedded", "postgres"), ("redis", "postgres"), ("rabbitmq", "postgres")]


@pytest.fixture(params=PLACES, ids=lambda place: "-".join(place))
def yard(request: pytest.FixtureRequest, make_yard: Callable[..., Yard]) -> Yard:
    """The same suite for each kind of queue."""
    return make_yard(*request.param)


@pytest.fixture(params=["redis", "rabbitmq"])
def brokered(request: pytest.FixtureRequest, make_yard: Callable[..., Yard]) -> Yard:
    """An installation with a broker."""
    return make_yard(request.param, "postgres")
