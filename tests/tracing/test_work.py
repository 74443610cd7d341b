"""Spans of what workers do and deliver, and their way to a collector."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from everlearn.adapters.memory import ManualClock, MemoryStore
from everlearn.adapters.outbox import Dispatcher
from everlearn.adapters.tracing import Tracer
from everlearn.config import Settings
from everlearn.errors import InvalidError, MissingExtraError, UnavailableError
from everlearn.holding import Holding
from everlearn.spec import parse_spec
from everlearn.types import JobSpec
from everlearn.worker import Advancer, JobRunner

SPEC = {"name": "m", "target": "y", "features": {"x": "numeric"}, "learner": "majority"}


class Parts(MemoryStore):
    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock(100.0)
        self.models.create(parse_spec(SPEC), 1.0)


def test_steps_and_jobs_have_spans(tracer: Tracer, spans: Callable[[], Any]) -> None:
    parts = Parts()
    advancer = Advancer(parts, Holding(parts.leases, parts.clock, "me", 10.0), tracer=tracer)
    taken = advancer.run_once()
    step = spans()["step"]
    assert (step.attributes["everlearn.model"], step.attributes["everlearn.events"]) == ("m", taken)

    class Broken:
        def do(self, *_: Any) -> Any:
            raise ValueError("no")

        def stop(self) -> None: ...

        def close(self) -> None: ...

    parts.backlog.add(JobSpec("grid-1", "m", "what_if", 0, {}), 1.0)
    JobRunner(parts, "me", doer=Broken(), tracer=tracer).run_once()
    job = spans()["job what_if"]
    assert job.status.status_code.name == "ERROR"
    assert job.attributes["everlearn.error"] == "ValueError"
    assert (job.attributes["everlearn.queue"], job.attributes["everlearn.attempt"]) == ("maintenance", 1)


@pytest.mark.parametrize("error", [None, UnavailableError("down"), InvalidError("poison")])
def test_deliveries_have_spans_that_say_how_they_went(
    error: Exception | None, tracer: Tracer, spans: Callable[[], Any]
) -> None:
    parts = Parts()

    def deliver(_: Any) -> None:
        if error is not None:
            raise error

    Dispatcher(parts.outbox, "registry", deliver, parts.clock, tracer=tracer).run_once()
    span = spans()["deliver registry"]
    assert span.status.status_code.name == ("UNSET" if error is None else "ERROR")
    assert span.attributes["everlearn.attempt"] == 1
    assert ("everlearn.dropped" in span.attributes) == isinstance(error, InvalidError)


@pytest.fixture
def collector() -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    """What takes OTLP over HTTP on this machine: its address, and what it took."""
    taken: list[tuple[str, bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            taken.append((self.path, self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}", taken
    server.shutdown()
    server.server_close()


PROCESS = """
from everlearn.config import Settings
from everlearn.wiring import Installation
installation = Installation(Settings())
tracer = installation.tracer("worker")
with tracer.span("step", model="m") as span:
    print(span.trace_id)
installation.close()
"""


@pytest.mark.parametrize("variable", ["EVERLEARN_OTEL_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"])
def test_spans_reach_a_collector_before_a_process_ends(variable: str, collector: Any) -> None:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    url, taken = collector
    environment = {**os.environ, variable: url}
    command = [sys.executable, "-c", PROCESS]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    ((path, body),) = taken
    assert path == "/v1/traces"
    (group,) = ExportTraceServiceRequest.FromString(body).resource_spans
    named = {one.key: one.value.string_value for one in group.resource.attributes}
    assert (named["service.name"], named["service.namespace"]) == ("everlearn-worker", "everlearn")
    (span,) = group.scope_spans[0].spans
    assert (span.name, span.trace_id.hex()) == ("step", done.stdout.strip())


def test_without_its_library_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from everlearn.wiring import Installation

    def absent(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr("everlearn.adapters.tracing.find_spec", absent)
    installation = Installation(Settings(data=tmp_path, otel_endpoint="http://127.0.0.1:4318"))
    for begin in (installation.prepare, lambda: installation.tracer("api")):
        with pytest.raises(MissingExtraError, match=r"everlearn\[otel\]"):
            begin()
