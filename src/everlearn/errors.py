"""Every error that everlearn raises on purpose, each with its HTTP status.

::

    EverlearnError                500
    ├── InvalidError              422   a value is wrong; ``faults`` names each field and its fix
    │   ├── SchemaError                 a row breaks the model's schema
    │   └── SpecError                   a model's spec is wrong
    ├── UnauthorizedError         401
    ├── ForbiddenError            403
    ├── NotFoundError             404
    ├── ConflictError             409   it is there already, or something else came first
    │   └── FencedError                 a worker woke up after its lease went to another
    ├── IntegrityError            500   a stored artifact is not what its digest says
    ├── UnavailableError          503   a dependency is down or a queue is full; try again later
    ├── QuotaError                429   a caller has given all that it may for now
    └── MissingExtraError         501   an optional dependency is not installed
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with an input: the field (``rows[3].age``) and what to do about it."""

    field: str
    message: str


class EverlearnError(Exception):
    """Base of all errors here. ``title`` names the kind; the message says what to do next.

    ``request_id`` is that of the request that failed, where a server told it.
    """

    status: ClassVar[int] = 500
    title: ClassVar[str] = "Something went wrong"

    def __init__(self, detail: str, faults: Sequence[Fault] = ()) -> None:
        super().__init__(detail)
        self.detail = detail
        self.faults = tuple(faults)
        self.request_id: str | None = None

    @property
    def type(self) -> str:
        """The error's kind as the URI reference of RFC 9457's ``type``: ``/errors/not-found``."""
        name = type(self).__name__.removesuffix("Error")
        return "/errors/" + "".join(f"-{c.lower()}" if c.isupper() else c for c in name).strip("-")


class InvalidError(EverlearnError):
    """A value is wrong."""

    status = 422
    title = "Invalid input"


class SchemaError(InvalidError):
    """A row breaks the model's schema."""

    title = "Row does not fit the schema"


class SpecError(InvalidError):
    """A model's spec is wrong."""

    title = "Invalid model spec"


class UnauthorizedError(EverlearnError):
    """No credential, or a wrong one."""

    status = 401
    title = "Unauthorized"


class ForbiddenError(EverlearnError):
    """A valid credential that does not allow this."""

    status = 403
    title = "Forbidden"


class NotFoundError(EverlearnError):
    """There is no such thing."""

    status = 404
    title = "Not found"


class ConflictError(EverlearnError):
    """It is there already, or something else came first."""

    status = 409
    title = "Conflict"


class FencedError(ConflictError):
    """The lease went to another worker; this one's result must not count."""

    title = "Lease lost"


class IntegrityError(EverlearnError):
    """Stored state is not what its digest says, or cannot be read."""

    title = "Artifact is damaged"


class UnavailableError(EverlearnError):
    """A dependency is down or a queue is full."""

    status = 503
    title = "Unavailable"


class QuotaError(EverlearnError):
    """A caller has given all that it may for now. ``headers`` say when there is room again."""

    status = 429
    title = "Quota used up"

    def __init__(self, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.headers = dict(headers or {})


class MissingExtraError(EverlearnError):
    """An optional dependency is not installed."""

    status = 501
    title = "Extra not installed"

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs an extra: pip install 'everlearn[{extra}]'")
