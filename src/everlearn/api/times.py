"""Times over HTTP: ISO 8601 in UTC going out, ISO 8601 or epoch seconds coming in."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import Query
from pydantic import BeforeValidator, Field, WithJsonSchema


def iso(at: float) -> str:
    """Seconds since the epoch as ISO 8601 in UTC with microseconds.

    >>> iso(0.25)
    '1970-01-01T00:00:00.250000Z'
    """
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def iso_or_none(at: float | None) -> str | None:
    """The same, for a time that may not have come yet."""
    return None if at is None else iso(at)


def parse_time(value: Any) -> float:
    """Seconds since the epoch from ISO 8601 text (UTC where it names no zone) or a number.

    >>> parse_time("1970-01-01T00:01:00Z"), parse_time("60"), parse_time(60)
    (60.0, 60.0, 60.0)

    Raises ValueError for anything else.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError("a time is ISO 8601 text such as '2024-05-01T12:00:00Z', or seconds since 1970")  # noqa: TRY004
    try:
        seconds = float(value)
    except ValueError:
        seconds = _from_iso(str(value))
    except OverflowError:  # a whole number of hundreds of digits
        seconds = math.inf
    if not math.isfinite(seconds) or not FIRST <= seconds < END:
        raise ValueError("a time must lie in the years 1 to 9999")
    return seconds


def parse_times(value: Any) -> Any:
    """The same for one time or a list of them; ValueError names the one that is none."""
    if not isinstance(value, list):
        return parse_time(value)
    times = []
    for i, item in enumerate(value):
        try:
            times.append(parse_time(item))
        except ValueError as error:
            raise ValueError(f"at[{i}]: {error}") from None
    return times


def _from_iso(text: str) -> float:
    date, has_time, time = text.partition("T")
    if has_time and " " in time:  # the plus of an offset that a query turned into a space
        text = f"{date}T{time.replace(' ', '+')}"
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text[:40]!r} is no time: write it as '2024-05-01T12:00:00Z'") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


FIRST, END = -62_135_596_800, 253_402_300_800
"""The seconds in which the year 1 begins and the year 9999 has ended."""

_SECONDS = {"type": "number", "minimum": FIRST, "exclusiveMaximum": END}
_SCHEMA: dict[str, Any] = {"anyOf": [{"type": "string", "format": "date-time"}, _SECONDS]}

Time = Annotated[float, BeforeValidator(parse_time), WithJsonSchema(_SCHEMA)]
"""A time in a request: ISO 8601 text or seconds since the epoch; seconds once parsed."""

Times = Annotated[
    list[float] | float,
    BeforeValidator(parse_times),
    WithJsonSchema({"anyOf": [{"type": "array", "items": _SCHEMA}, *_SCHEMA["anyOf"]]}),
]
"""One time, or a list of them."""

Since = Annotated[Time | None, Query(alias="from", description="Only from this time on")]
Until = Annotated[Time | None, Query(alias="to", description="Only up to this time")]
"""The time that a list or a chart is asked for; both ends belong to it."""

IsoTime = Annotated[
    str, Field(json_schema_extra={"format": "date-time"}, examples=["2024-05-01T12:00:00.000000Z"])
]
"""A time in an answer."""
