"""A client that answers from a table of paths, and what the API says of a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import httpx
import pytest

from everlearn.client import Client, Retries

Answers = Mapping[str, Any]

ADMIN = {
    "name": "user:ann",
    "role": "admin",
    "everywhere": ["admin", "label", "operate", "predict", "read"],
    "models": {},
    "expires_at": None,
}
CARD: dict[str, Any] = {
    "name": "shop",
    "task": "classification",
    "metric": "accuracy",
    "lower_is_better": False,
    "threshold": 0.9,
    "score": 0.912,
    "lower": 0.887,
    "upper": 0.934,
    "score_rows": 500,
    "trend": [0.91, 0.9, None, 0.93],
    "champion": 3,
    "champion_since": "2024-05-01T12:00:00.000000Z",
    "champion_age_seconds": 86400.0,
    "rows": 9200,
    "matured": 8700,
    "waiting_labels": 12,
    "unlabelled": 207,
    "lag_events": 0,
    "state": "healthy",
    "severity": "ok",
    "reason": "accuracy keeps the threshold",
    "flags": [],
    "candidate": None,
    "bake": None,
    "last_decision": {
        "number": 12,
        "kind": "promote",
        "at": "2024-05-01T12:00:00.000000Z",
        "reason": "proven better on 107 rows",
        "version": 3,
    },
    "last_event": "2024-05-01T12:00:00.000000Z",
}
EVIL = "<img src=x onerror=alert(1)>"


@pytest.fixture
def card() -> dict[str, Any]:
    """The card of a healthy model."""
    return dict(CARD)


@pytest.fixture
def evil() -> str:
    """What must never become HTML."""
    return EVIL


@pytest.fixture
def admin() -> dict[str, Any]:
    """Who an administrator is, as the API says it."""
    return dict(ADMIN)


@pytest.fixture
def answering() -> Callable[[Answers], Callable[[str], Client]]:
    """Make what connects to an API that answers from a table, by ``METHOD path``: JSON, or a status."""

    def make(answers: Answers) -> Callable[[str], Client]:
        def handle(request: httpx.Request) -> httpx.Response:
            key = request.headers.get("Authorization", "").removeprefix("Bearer ")
            answer = answers.get(f"{request.method} {request.url.path}")
            if callable(answer):
                answer = answer(request, key)
            if isinstance(answer, httpx.Response):
                return answer
            if isinstance(answer, int):
                return httpx.Response(answer, json={"detail": f"HTTP {answer}", "status": answer})
            if answer is None:
                return httpx.Response(404, json={"detail": f"{request.url.path} is not there", "status": 404})
            return httpx.Response(200, json=answer)

        transport = httpx.MockTransport(handle)
        return lambda key: Client("http://api", key, transport=transport, retries=Retries(attempts=1))

    return make
