"""Traces, where somebody collects them: OpenTelemetry over OTLP (HTTP), and nothing where nobody does.

A process makes one :class:`Tracer`. :class:`Untraced` costs next to nothing: no library is imported for it.
Contexts come and go as W3C Trace Context (``traceparent``, https://www.w3.org/TR/trace-context/).
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, TypeGuard

from everlearn import __version__
from everlearn.errors import MissingExtraError

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace.export import SpanExporter

Facts = str | int | float | bool

TRACE = "traceparent"
"""The argument of a job that says which span asked for it."""


class Span:
    """A span that nobody sees."""

    trace_id = ""

    def tell(self, name: str | None = None, *, failed: bool = False, **facts: Facts) -> None:
        """Give it another name, say that what it spans failed, or add facts."""


_NOTHING = nullcontext(Span())


class Untraced:
    """Traces nothing. ``on`` says so to those for whom even asking costs too much."""

    on = False

    def span(
        self, name: str, parent: str | None = None, *, server: bool = False, **facts: Facts
    ) -> AbstractContextManager[Span]:
        """Within it is a span; ``parent`` is the ``traceparent`` of a caller, ``server``: it is a request."""
        del name, parent, server, facts
        return _NOTHING

    def record(self, name: str, parent: str | None, seconds: float, **facts: Facts) -> str:
        """A request that has just been answered and took so long; the id of its trace."""
        del name, parent, seconds, facts
        return ""

    def traceparent(self) -> str | None:
        """What tells another process of the span that is current here; ``None`` where none is."""
        return None

    def close(self) -> None:
        """Hand over what was not yet."""


class _Seen(Span):
    def __init__(self, span: Any) -> None:
        self._span = span
        context = span.get_span_context()
        self.trace_id = f"{context.trace_id:032x}" if context.trace_flags.sampled else ""

    def tell(self, name: str | None = None, *, failed: bool = False, **facts: Facts) -> None:
        """See :class:`Span`."""
        if name is not None:
            self._span.update_name(name)
        for fact, value in facts.items():
            self._span.set_attribute(_named(fact), value)
        if failed:
            from opentelemetry.trace import StatusCode

            self._span.set_status(StatusCode.ERROR)


class Tracer(Untraced):
    """Hands spans to an exporter, in a thread of its own. See :func:`tracing`."""

    on = True

    def __init__(self, part: str, exporter: SpanExporter, *, at_once: bool = False) -> None:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        named = {} if os.environ.get("OTEL_SERVICE_NAME") else {"service.name": f"everlearn-{part}"}
        about = Resource.create({"service.namespace": "everlearn", "service.version": __version__, **named})
        self._provider = TracerProvider(resource=about, shutdown_on_exit=False)
        processor = SimpleSpanProcessor(exporter) if at_once else BatchSpanProcessor(exporter)
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("everlearn", __version__)
        self._contexts = TraceContextTextMapPropagator()

    @contextmanager
    def span(
        self, name: str, parent: str | None = None, *, server: bool = False, **facts: Facts
    ) -> Iterator[Span]:
        """See :class:`Untraced`. An error that passes is noted."""
        from opentelemetry.trace import SpanKind

        kind = SpanKind.SERVER if server else SpanKind.INTERNAL
        with self._tracer.start_as_current_span(
            name, self._context(parent), kind, {_named(fact): value for fact, value in facts.items()}
        ) as span:
            yield _Seen(span)

    def record(self, name: str, parent: str | None, seconds: float, **facts: Facts) -> str:
        """See :class:`Untraced`."""
        from opentelemetry.trace import SpanKind

        ended = time.time_ns()
        span = self._tracer.start_span(
            name,
            self._context(parent or None),
            SpanKind.SERVER,
            {_named(fact): value for fact, value in facts.items()},
            start_time=ended - int(seconds * 1e9),
        )
        span.end(ended)
        return _Seen(span).trace_id

    def traceparent(self) -> str | None:
        """See :class:`Untraced`."""
        carrier: dict[str, str] = {}
        self._contexts.inject(carrier)
        return carrier.get("traceparent")

    def close(self) -> None:
        """See :class:`Untraced`."""
        self._provider.shutdown()

    def _context(self, parent: str | None) -> Context | None:
        """The context that a caller names; one that cannot be read is none."""
        return self._contexts.extract({"traceparent": parent}) if parent else None


def tracing(part: str, endpoint: str | None) -> Untraced:
    """The tracer of a process: ``api``, ``worker``, ``scheduler`` or ``mirror``.

    ``endpoint`` is the base address of a collector (``http://127.0.0.1:4318``); with ``None`` nothing is
    traced. All else is as the standard variables say: ``OTEL_TRACES_SAMPLER``, ``OTEL_SDK_DISABLED``,
    ``OTEL_EXPORTER_OTLP_HEADERS`` and others. Raises MissingExtraError.
    """
    if not wanted(endpoint):
        return Untraced()
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return Tracer(part, OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces"))


def wanted(endpoint: str | None) -> TypeGuard[str]:
    """Whether anything is to be traced; raises MissingExtraError where the library for it is not there."""
    if endpoint is None or os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    for library in ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http"):
        try:
            found = find_spec(library)
        except ModuleNotFoundError:
            found = None
        if found is None:
            raise MissingExtraError("Tracing (EVERLEARN_OTEL_ENDPOINT)", "otel")
    return True


def _named(fact: str) -> str:
    """The attribute of a fact: the standard's name where it has one (HTTP spans, OpenTelemetry 1.23)."""
    standard = {
        "method": "http.request.method",
        "route": "http.route",
        "status": "http.response.status_code",
    }
    return standard.get(fact, f"everlearn.{fact}")
