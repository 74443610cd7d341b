"""A request and the parser of its answer, without any input or output of its own."""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Generic, TypeVar
from urllib.parse import quote

import httpx

from everlearn.client.answers import Record
from everlearn.errors import InvalidError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One request and how to read its answer. It may be sent again: a repetition changes nothing more.

    ``patience`` is added to the client's read timeout, in seconds. ``accept`` holds statuses of 400
    and above that are answers, not errors. Not ``again``: a repetition would be another act.
    """

    method: str
    path: str
    parse: Callable[[httpx.Response], T]
    params: Mapping[str, str | int | float | Sequence[str]] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes | None = None
    patience: float = 0.0
    accept: frozenset[int] = frozenset()
    again: bool = True


@dataclass(frozen=True, slots=True)
class Download:
    """An answer that goes to a file as it comes, however long: the file is there whole or not at all."""

    method: str
    path: str
    file: Path
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def call(self) -> Call[int]:
        """The request alone."""
        return Call(self.method, self.path, lambda _: self.file.stat().st_size, headers=self.headers)

    @contextmanager
    def writing(self) -> Iterator[IO[bytes]]:
        """A file to write to, which takes its place when all has been written."""
        part = self.file.with_name(f".{self.file.name}.part")
        try:
            with part.open("wb") as file:
                yield file
            part.replace(self.file)
        finally:
            part.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class Pages:
    """A list that is fetched page by page as it is read."""

    first: Call[Record]

    def following(self, page: Record) -> Call[Record] | None:
        """The call for the page after this one, or ``None`` at the end."""
        if not page.get("next"):
            return None
        return replace(self.first, params={**self.first.params, "cursor": page["next"]})


Progress = Callable[[int, int | None], None]
"""Told after each request of a long load: how much is done, and of how much (``None``: unknown)."""


@dataclass(frozen=True, slots=True)
class Series:
    """Several calls in order whose answers add up. Each comes with how far the load is after it."""

    calls: Iterable[tuple[Call[int], int]]
    total: int | None = None
    progress: Progress | None = None

    def report(self, done: int) -> None:
        """Tell the caller how far it is."""
        if self.progress is not None:
            self.progress(done, self.total)


def read_record(response: httpx.Response) -> Record:
    """The JSON object of an answer."""
    record: Record = response.json()
    return record


def reading(reader: Callable[[Record], T]) -> Callable[[httpx.Response], T]:
    """A parser that reads the JSON object with ``reader``."""
    return lambda response: reader(read_record(response))


def path(*parts: str | int) -> str:
    """A path below ``/v1/models`` with every part quoted."""
    return "/v1/models" + "".join(f"/{quote(str(part), safe='')}" for part in parts)


def get(url: str, **params: Any) -> Call[Record]:
    """Ask for a JSON object. Parameters that are ``None`` are left out."""
    return Call("GET", url, read_record, {k: v for k, v in params.items() if v is not None})


def write(
    method: str,
    url: str,
    body: object,
    parse: Callable[[httpx.Response], T],
    *,
    key: str | None = None,
    params: Mapping[str, str | int | float] | None = None,
    patience: float = 0.0,
) -> Call[T]:
    """Send a JSON body under an idempotency key, so that sending it again is harmless."""
    headers = {"Content-Type": "application/json", "Idempotency-Key": key or new_id()}
    return Call(method, url, parse, params or {}, headers, to_json(body), patience)


def new_id() -> str:
    """A new id that nobody else has: 32 hex digits."""
    return uuid.uuid4().hex


def to_time(value: datetime | float | str) -> float | str:
    """A time as the API takes it: ISO 8601 or epoch seconds. A datetime without a zone means UTC."""
    if not isinstance(value, datetime):
        return value
    return (value if value.tzinfo else value.replace(tzinfo=UTC)).isoformat()


def to_json(value: object) -> bytes:
    """JSON in UTF-8. NaN means *missing* and becomes null; numpy scalars and datetimes are taken too.

    Raises InvalidError for infinities and for what is no cell of a row.
    """
    try:
        text = json.dumps(value, allow_nan=False, default=_plain, separators=(",", ":"))
    except ValueError:
        text = json.dumps(_finite(value), separators=(",", ":"))
    return text.encode()


def _plain(value: Any) -> Any:
    """A numpy scalar or array, or a datetime, as a JSON value."""
    if isinstance(value, datetime):
        return to_time(value) if value == value else None  # pandas' NaT is a datetime unlike itself
    for method in ("tolist", "isoformat"):
        if hasattr(value, method):
            return getattr(value, method)()
    raise InvalidError(f"{value!r} is no JSON value: use text, a number, true, false or None")


def _finite(value: Any) -> Any:
    """The value with every NaN replaced by ``None``."""
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        if math.isnan(value):
            return None
        raise InvalidError(f"{value!r} is no JSON number: use a finite number, or None for missing")
    if value is None or isinstance(value, (str, int, float)):
        return value
    return _finite(_plain(value))
