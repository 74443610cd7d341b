"""When to send a request again, and what error an answer is."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from everlearn import errors
from everlearn.errors import EverlearnError, Fault

_TRANSIENT = frozenset({429, 502, 503, 504})
_LONGEST_ASKED = 60.0


@dataclass(frozen=True, slots=True)
class Retries:
    """How patiently to retry what may pass: no connection, a timeout, or 429, 502, 503 and 504.

    Waits grow from ``base`` to ``longest`` seconds, doubling, each drawn from the upper half of its
    range (jitter); a server's ``Retry-After`` is obeyed, up to a minute. ``Retries(attempts=1)``
    never retries.
    """

    attempts: int = 6
    base: float = 0.1
    longest: float = 5.0

    def delay(self, attempt: int, response: httpx.Response | None) -> float:
        """Seconds to wait after the attempt of this number (from 1)."""
        asked = retry_after(response) if response is not None else None
        if asked is not None:
            return asked
        # S311: jitter is no secret.
        return min(self.longest, self.base * 2.0 ** (attempt - 1)) * random.uniform(0.5, 1.0)


@dataclass(frozen=True, slots=True)
class Retry:
    """A request that is about to be sent again: what ``on_retry`` is told."""

    method: str
    path: str
    attempt: int
    reason: str
    delay: float


def retry_after(response: httpx.Response) -> float | None:
    """The seconds of a ``Retry-After`` header, given as a number or as a date."""
    text = response.headers.get("Retry-After")
    if not text:
        return None
    with contextlib.suppress(ValueError):
        return min(max(float(text), 0.0), _LONGEST_ASKED)
    with contextlib.suppress(ValueError, TypeError):
        wait = (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds()
        return min(max(wait, 0.0), _LONGEST_ASKED)
    return None


def may_pass(result: httpx.Response | httpx.TransportError, accept: frozenset[int]) -> bool:
    """Whether the same request may fare better in a moment."""
    if isinstance(result, httpx.Response):
        return result.status_code in _TRANSIENT and result.status_code not in accept
    return not isinstance(result, (httpx.UnsupportedProtocol, httpx.LocalProtocolError))


def unreachable(url: object, cause: Exception) -> errors.UnavailableError:
    """The error for a server that does not answer."""
    said = str(cause) or type(cause).__name__
    return errors.UnavailableError(
        f"No answer from {url} ({said}). Is it running? Start it with: everlearn up"
    )


_BY_TYPE: Mapping[str, type[EverlearnError]] = {
    "/errors/schema": errors.SchemaError,
    "/errors/spec": errors.SpecError,
    "/errors/fenced": errors.FencedError,
    "/errors/integrity": errors.IntegrityError,
    "/errors/quota": errors.QuotaError,
}
_BY_STATUS: Mapping[int, type[EverlearnError]] = {
    400: errors.InvalidError,
    401: errors.UnauthorizedError,
    403: errors.ForbiddenError,
    404: errors.NotFoundError,
    409: errors.ConflictError,
    413: errors.InvalidError,
    415: errors.InvalidError,
    422: errors.InvalidError,
    429: errors.UnavailableError,
    501: errors.MissingExtraError,
    502: errors.UnavailableError,
    503: errors.UnavailableError,
    504: errors.UnavailableError,
}


def error_of(response: httpx.Response) -> EverlearnError:
    """The error that a failed answer tells of, with its ``detail``, ``faults`` and ``request_id``."""
    problem = _problem(response)
    # A type URI may be absolute behind a proxy: its last two segments name the kind.
    kind = "/" + "/".join(str(problem.get("type", "")).split("/")[-2:])
    known = _BY_TYPE.get(kind) or _BY_STATUS.get(response.status_code, EverlearnError)
    detail = problem.get("detail") or problem.get("title") or f"HTTP {response.status_code}"
    faults = [Fault(str(f.get("field", "")), str(f.get("message", ""))) for f in problem.get("errors") or ()]
    error = known.__new__(known)
    EverlearnError.__init__(error, str(detail), faults)  # some take other arguments
    if isinstance(error, errors.QuotaError):
        error.headers = dict(response.headers)
    request_id = problem.get("request_id") or response.headers.get("X-Request-ID")
    setattr(error, "request_id", request_id)  # noqa: B010 - told by the server, unknown to the base class
    error.add_note(f"{response.request.method} {response.request.url.path}: HTTP {response.status_code}")
    if request_id:
        error.add_note(f"request id {request_id}")
    return error


def _problem(response: httpx.Response) -> Mapping[str, Any]:
    """The problem document (RFC 9457) of an answer; what a proxy wrote instead becomes its detail."""
    with contextlib.suppress(ValueError):
        document = response.json()
        if isinstance(document, dict):
            return document
    return {"detail": f"HTTP {response.status_code} {response.reason_phrase} {response.text[:200]}".strip()}
