"""A span for each request, on both ways, with what a caller says of its own trace; off, nothing of it."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from everlearn.adapters.memory import ManualClock, MemoryStore
from everlearn.adapters.tracing import Tracer, Untraced, tracing
from everlearn.api.app import Api, create_app
from everlearn.api.auth import ApiKey
from everlearn.spec import parse_spec

KEY = "a-key-for-these-tests-4711"
CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TRACE, PARENT = CALLER.split("-")[1:3]
SPEC = {"name": "toy", "target": "y", "features": {"a": "numeric"}, "learner": "majority"}
PREDICT = "/v1/models/toy/predict"
ROUTE = "/v1/models/{model}/predict"
OPEN_METRICS = {"Accept": "application/openmetrics-text; version=1.0.0,text/plain;q=0.5"}


class Parts(MemoryStore):
    clock = ManualClock(1000.0)


@pytest.fixture
def parts() -> Parts:
    made = Parts()
    made.models.create(parse_spec(SPEC), 1.0)
    return made


@pytest.fixture
def app(parts: Parts, tracer: Tracer) -> Api:
    return create_app(parts, authenticator=ApiKey(KEY), tracer=tracer)


@pytest.fixture
async def api(app: Api) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"Authorization": f"Bearer {KEY}"}
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test", headers=headers) as client:
        yield client


async def test_a_request_is_a_span_in_its_callers_trace(
    api: httpx.AsyncClient, spans: Callable[[], Any]
) -> None:
    answer = await api.post(PREDICT, json={"row": {"a": 1.0}}, headers={"traceparent": CALLER})
    span = spans()[f"POST {ROUTE}"]
    assert f"{span.context.trace_id:032x}" == TRACE
    assert f"{span.parent.span_id:016x}" == PARENT
    assert span.kind.name == "SERVER"
    assert span.attributes["http.route"] == ROUTE
    assert span.attributes["http.response.status_code"] == 200
    assert span.attributes["everlearn.model"] == "toy"
    assert span.attributes["everlearn.request_id"] == answer.headers["x-request-id"]
    assert span.resource.attributes["service.name"] == "everlearn-api"


async def test_a_caller_without_a_trace_or_with_a_broken_one_begins_one(
    api: httpx.AsyncClient, spans: Callable[[], Any]
) -> None:
    for given in (
        {},
        {"traceparent": "00-nonsense"},
        {"traceparent": "00-" + "0" * 32 + "-" + "0" * 16 + "-01"},
    ):
        await api.get("/v1/models/toy", headers=given)
        assert spans()["GET /v1/models/{model}"].parent is None


async def test_what_is_refused_and_what_fails_is_told(
    api: httpx.AsyncClient, app: Api, parts: Parts, spans: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    await api.get("/v1/models/toy", headers={"Authorization": "Bearer wrong"})
    refused = spans()["GET /v1/models/{model}"]
    assert (refused.attributes["http.response.status_code"], refused.status.status_code.name) == (
        401,
        "UNSET",
    )

    def broken(*_: Any) -> Any:
        raise RuntimeError

    monkeypatch.setattr(parts.models, "get", broken)
    await api.get("/v1/models/toy")
    failed = spans()["GET /v1/models/{model}"]
    assert (failed.attributes["http.response.status_code"], failed.status.status_code.name) == (500, "ERROR")


async def test_the_latency_has_exemplars_for_whoever_takes_open_metrics(api: httpx.AsyncClient) -> None:
    await api.post(PREDICT, json={"row": {"a": 1.0}}, headers={"traceparent": CALLER})
    page = await api.get("/metrics", headers=OPEN_METRICS)
    assert page.headers["content-type"].startswith("application/openmetrics-text")
    families = {family.name: family for family in text_string_to_metric_families(page.text)}
    found = [
        sample.exemplar.labels for sample in families["everlearn_request_seconds"].samples if sample.exemplar
    ]
    assert {"trace_id": TRACE} in found
    plain = await api.get("/metrics")
    assert plain.headers["content-type"].startswith("text/plain")
    assert TRACE not in plain.text


async def test_a_job_that_was_asked_for_is_in_the_trace_of_who_asked(
    api: httpx.AsyncClient, parts: Parts, tracer: Tracer, spans: Callable[[], Any]
) -> None:
    from everlearn.worker import JobRunner

    await api.post(PREDICT, json={"row": {"a": 1.0}})
    body = {"learners": ["majority"]}
    asked = await api.post("/v1/models/toy/what-if", json=body, headers={"traceparent": CALLER})
    assert asked.status_code == 202, asked.text
    runner = JobRunner(parts, "me", tracer=tracer)
    job = runner.run_once()
    assert job is not None
    assert parts.jobs.get(job.spec.id).state == "done"
    span, request = spans()["job what_if"], spans()["POST /v1/models/{model}/what-if"]
    assert f"{span.context.trace_id:032x}" == TRACE
    assert span.parent.span_id == request.context.span_id
    assert span.attributes["everlearn.job"] == job.spec.id


class Reply:
    """The server's side of a request that goes the short way."""

    head = b""

    def whole(self, head: bytes, body: bytes) -> None:
        self.head = head

    def by(self, app: Any) -> None:
        raise AssertionError("it did not go the short way")


def short(app: Api, *headers: tuple[bytes, bytes]) -> Reply:
    """Send a prediction the short way."""
    scope = {
        "type": "http", "method": "POST", "path": PREDICT, "query_string": b"", "state": {},
        "headers": [
            (b"content-type", b"application/json"), (b"content-length", b"17"),
            (b"authorization", f"Bearer {KEY}".encode()), *headers,
        ],
    }  # fmt: skip
    assert app.short_way is not None
    assert app.short_way.expects(scope)
    reply = Reply()
    assert app.short_way.begin(scope, b'{"row":{"a":1.0}}', reply)
    return reply


async def test_the_short_way_has_its_spans_too(
    api: httpx.AsyncClient, app: Api, spans: Callable[[], Any]
) -> None:
    import asyncio

    runtime = app.state.door.runtime
    runtime.start()
    await api.post(PREDICT, json={"row": {"a": 1.0}})  # the caller is known, and the model in memory
    before = time.time_ns()
    reply = short(app, (b"traceparent", CALLER.encode()))
    for _ in range(200):
        if reply.head:
            break
        await asyncio.sleep(0.01)
    runtime.stop()
    span = spans()[f"POST {ROUTE}"]
    assert f"{span.context.trace_id:032x}" == TRACE
    assert span.attributes["http.route"] == ROUTE
    assert span.attributes["everlearn.request_id"].encode() in reply.head
    assert before - 50_000_000 <= span.start_time <= span.end_time <= time.time_ns()
    page = (await api.get("/metrics", headers=OPEN_METRICS)).text
    assert f'# {{trace_id="{TRACE}"}}' in page


IMPORTS = """
import sys
from everlearn.adapters.tracing import tracing
from everlearn.api.app import create_app
assert not tracing("api", None).on
assert not any(name.startswith(("opentelemetry.sdk", "opentelemetry.exporter")) for name in sys.modules)
"""


def test_it_is_off_by_default_and_costs_nothing_then(monkeypatch: pytest.MonkeyPatch) -> None:
    subprocess.run([sys.executable, "-c", IMPORTS], check=True)
    off = Untraced()
    with off.span("anything", CALLER, model="m") as span:
        span.tell("another", failed=True, rows=3)
        assert off.traceparent() is None
    assert (off.record("POST /", None, 0.1), span.trace_id) == ("", "")
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    assert not tracing("api", "http://127.0.0.1:4318").on
