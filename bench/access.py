"""What authentication adds to a request, and what a login costs.

Prints, or with ``--json`` gives: ``requests``, ``admit_us`` and ``admit_p99_us`` (identify a key that is
known, find what the route needs, check it; microseconds a request), ``limited_us`` (the same with a rate
limit), ``login_known_ms`` and ``login_unknown_ms`` (one argon2id hash for a wrong password of a user who is
there, and of one who is not), ``rounds``, ``seconds``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from typing import Any

import numpy as np

from everlearn.access.keys import make_key
from everlearn.access.words import Scope
from everlearn.adapters.clock import SystemClock
from everlearn.adapters.memory import MemoryStore
from everlearn.adapters.memory_access import MemoryAccess
from everlearn.adapters.passwords import Argon2
from everlearn.adapters.tokens import Hs256
from everlearn.api.app import create_app
from everlearn.api.auth import ApiKey, Authentication
from everlearn.api.doorkeeper import make_doorkeeper
from everlearn.api.permissions import Permissions
from everlearn.api.throttle import Rates

KEY = "the-installation's-own-key"
PLENTY = 1e9


class Parts(MemoryStore):
    """A store in memory, with the wall clock."""

    clock = SystemClock()


async def admitted(requests: int, rates: Rates) -> list[float]:
    """Microseconds that each request spends in authentication alone."""
    store = MemoryAccess()
    key, record = make_key("bench", [Scope.PREDICT], ["toy"], None, by="bench", now=time.time())
    store.keys.add(record)
    keeper = make_doorkeeper(ApiKey(KEY), store, Argon2(), Hs256([KEY * 2]), time.time, rates)
    permissions = Permissions(create_app(Parts(), authenticator=ApiKey(KEY)))
    middleware = Authentication(nothing, keeper, permissions)
    headers = [
        (b"host", b"x"),
        (b"content-type", b"application/json"),
        (b"authorization", b"Bearer " + key.encode()),
    ]
    scope = {
        "type": "http", "method": "POST", "path": "/v1/models/toy/predict", "headers": headers,
        "client": ("127.0.0.1", 1),
    }  # fmt: skip
    took = []
    for _ in range(requests):
        request: dict[str, Any] = {**scope, "state": {"request_id": "bench"}}
        started = time.perf_counter()
        await middleware(request, nothing, nothing)
        took.append((time.perf_counter() - started) * 1e6)
        assert request["state"]["permitted"] == "/v1/models/{model}/predict"
    return took


async def nothing(*_: Any) -> Any:
    """The app behind the middleware, and what it would receive and send."""


def hashed(rounds: int) -> tuple[float, float]:
    """Milliseconds (medians) to refuse a wrong password of somebody, and of nobody; taken in turns."""
    hasher = Argon2()
    somebody = hasher.hash("correct horse battery")
    took: dict[str | None, list[float]] = {somebody: [], None: []}
    for _ in range(rounds + 1):
        for who, times in took.items():
            started = time.perf_counter()
            assert not hasher.verify(who, "wrong")
            times.append((time.perf_counter() - started) * 1e3)
    return float(np.median(took[somebody][1:])), float(np.median(took[None][1:]))


def measure(requests: int, rounds: int) -> dict[str, Any]:
    """All of it."""
    started = time.perf_counter()
    free = asyncio.run(admitted(requests, Rates()))
    limited = asyncio.run(admitted(requests, Rates(per_key=PLENTY)))
    known, unknown = hashed(rounds)
    return {
        "requests": requests,
        "admit_us": round(float(np.median(free)), 2),
        "admit_p99_us": round(float(np.percentile(free, 99)), 2),
        "limited_us": round(float(np.median(limited)), 2),
        "rounds": rounds,
        "login_known_ms": round(known, 1),
        "login_unknown_ms": round(unknown, 1),
        "seconds": round(time.perf_counter() - started, 1),
    }


def main() -> None:
    """Read the options, measure, tell."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument(
        "--seed", type=int, default=0, help="taken as by every script; nothing here is random"
    )
    parser.add_argument("--quick", action="store_true", help="fewer requests")
    options = parser.parse_args()
    found = measure(*((5_000, 5) if options.quick else (100_000, 41)))
    if options.json:
        print(json.dumps(found))
        return
    for name, value in found.items():
        print(f"{name:<18} {value}")


if __name__ == "__main__":
    main()
