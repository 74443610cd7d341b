"""Tracers whose spans stay in this process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from everlearn.adapters.tracing import Tracer


@pytest.fixture
def exporter() -> Any:
    """Keeps the spans."""
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    return InMemorySpanExporter()


@pytest.fixture
def tracer(exporter: Any) -> Tracer:
    return Tracer("api", exporter, at_once=True)


@pytest.fixture
def spans(exporter: Any) -> Callable[[], dict[str, Any]]:
    """The newest span of each name."""
    return lambda: {span.name: span for span in exporter.get_finished_spans()}
