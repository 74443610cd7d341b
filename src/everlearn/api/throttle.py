"""Rates over HTTP: how many requests a caller may make, told in ``RateLimit`` headers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from starlette.responses import Response

from everlearn.access.limits import Buckets, Standing
from everlearn.api.problems import problem

WRONG_PER_SECOND: Final = 5.0
WRONG_AT_ONCE: Final = 200


@dataclass(frozen=True, slots=True)
class Rates:
    """What is let in, in the memory of each process.

    ``per_key`` requests a second of each caller with a credential (0: any number), with bursts of two
    seconds' worth; ``wrong`` wrong credentials a second of each address, with ``burst`` at once;
    ``labels_per_day`` of each caller whose credential names no number (``None``: any number).
    """

    per_key: float = 0.0
    wrong: float = WRONG_PER_SECOND
    burst: int = WRONG_AT_ONCE
    labels_per_day: int | None = None


class Throttle:
    """Counts requests of callers, and wrong credentials of addresses."""

    def __init__(self, rates: Rates) -> None:
        per_key = rates.per_key
        self._keys = Buckets(per_key, max(1, math.ceil(2 * per_key))) if per_key > 0 else None
        self._addresses = Buckets(rates.wrong, rates.burst)

    @property
    def counts(self) -> bool:
        """Whether the requests of callers are counted at all."""
        return self._keys is not None

    def of_caller(self, name: str, now: float) -> Standing | None:
        """How a caller stands after this request, or ``None`` where nothing is limited."""
        return None if self._keys is None else self._keys.take(name, now)

    def blocked(self, address: str, now: float) -> float:
        """Seconds until an address may try another credential that is not known yet."""
        return self._addresses.wait(address, now)

    def wrong(self, address: str, now: float) -> None:
        """Count a wrong credential."""
        self._addresses.take(address, now)

    def headers(self, standing: Standing) -> list[tuple[bytes, bytes]]:
        """The headers that tell a caller how it stands."""
        assert self._keys is not None
        policy = f'"caller";q={self._keys.burst};w={math.ceil(self._keys.burst / self._keys.rate)}'
        told = f'"caller";r={standing.left};t={math.ceil(standing.reset)}'
        return [(b"ratelimit-policy", policy.encode()), (b"ratelimit", told.encode())]


def too_many(request_id: str, wait: float, what: str) -> Response:
    """The answer to one who asked too often."""
    seconds = max(1, math.ceil(wait))
    detail = f"{what}: try again in {seconds} seconds"
    headers = {"Retry-After": str(seconds)}
    return problem(request_id, 429, "Too Many Requests", detail, headers=headers)
