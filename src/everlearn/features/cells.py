"""One cell of a row at a time: what each kind of feature accepts, and the clean value it becomes.

Each function takes any value, returns the clean cell (``None`` for a missing one: null or NaN) and
raises CellError with a message that says what is wrong and what to send instead. A clean cell is
its own clean form. Values of numpy and pandas scalar types are taken as what they hold.

=============  ===========================================  ==========================
kind           accepts                                      clean cell
=============  ===========================================  ==========================
numeric        finite int or float; no booleans, no text    int or float
boolean        true, false, 0, 1, "true", "false"           bool
categorical    text, bool, whole number                     str
timestamp      ISO 8601 (UTC if it has no offset), epoch    float seconds, UTC
               seconds, datetime, date
image          the digest under which it is stored          64 hex digits
=============  ===========================================  ==========================
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time
from numbers import Integral, Real
from typing import Any

import numpy as np

from everlearn.types import FeatureKind, Scalar

Cell = Callable[[Any], Scalar]

EARLIEST = datetime.min.replace(tzinfo=UTC).timestamp()
LATEST = datetime.max.replace(tzinfo=UTC).timestamp()

MAX_WHOLE = 2**64
"""Whole numbers that name a category or a class are smaller than this."""

_WHOLE = 2.0**53
_DIGEST = re.compile(r"[0-9a-f]{64}")


class CellError(ValueError):
    """A cell that does not fit its feature; the message says what it is and what to send instead."""


def is_missing(value: Any) -> bool:
    """Whether a cell holds nothing: null, NaN, or the missing values of pandas."""
    if value is None:
        return True
    try:
        return bool(value != value)
    except (TypeError, ValueError):
        return type(value).__name__ == "NAType"


def numeric(value: Any) -> int | float | None:
    """A finite number.

    >>> numeric(2), numeric(float("nan"))
    (2, None)
    """
    number = _number(value)
    if number is not None:
        return number
    if is_missing(value):
        return None
    if isinstance(value, bool | np.bool_):
        raise CellError(f"is {_json(value)}: send 1 or 0, or declare the feature boolean")
    if isinstance(value, str):
        raise CellError(f"is the text {shown(value)}: send {_unquoted(value)}")
    raise CellError(f"is {shown(value)}: send a number, or null for a missing value")


def boolean(value: Any) -> bool | None:
    """True or false.

    >>> boolean(True), boolean(0), boolean("TRUE"), boolean(None)
    (True, False, True, None)
    """
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if is_missing(value):
        return None
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    if isinstance(value, Real) and value in (0, 1):
        return bool(value)
    raise CellError(f"is {shown(value)}: send true or false (or 1 or 0)")


def categorical(value: Any) -> str | None:
    """The text that names a category.

    >>> categorical("red"), categorical(7), categorical(7.0), categorical(True)
    ('red', '7', '7', 'true')
    """
    if isinstance(value, str):
        return str(value)
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    if is_missing(value):
        return None
    if isinstance(value, Integral) and abs(int(value)) < MAX_WHOLE:
        return str(int(value))
    if (
        not isinstance(value, Integral)
        and isinstance(value, Real)
        and float(value).is_integer()
        and abs(float(value)) <= _WHOLE
    ):
        return str(int(float(value)))
    raise CellError(f"is {shown(value)}: send text, a whole number or a boolean")


def timestamp(value: Any) -> float | None:
    """Seconds since the epoch, UTC.

    >>> timestamp("1970-01-02"), timestamp("1970-01-01T01:00:00+01:00"), timestamp(1.5)
    (86400.0, 0.0, 1.5)
    """
    if is_missing(value):
        return None
    if isinstance(value, str):
        return _from_iso(value)
    if isinstance(value, np.datetime64):
        value = value.astype("datetime64[us]").item()
    if isinstance(value, datetime):
        return _from_datetime(value)
    if isinstance(value, date):
        return _from_datetime(datetime.combine(value, time()))
    number = None if isinstance(value, bool | np.bool_) else _number(value)
    if number is None:
        raise CellError(f"is {shown(value)}: send ISO 8601 such as '2026-01-31T12:00:00Z', or epoch seconds")
    if not EARLIEST <= number <= LATEST:
        raise CellError(f"is {shown(value)}: send seconds since 1970, not milliseconds or less")
    return float(number)


def image(value: Any) -> str | None:
    """The digest of an image that was uploaded.

    >>> image("0" * 64) == "0" * 64
    True
    """
    if isinstance(value, str) and _DIGEST.fullmatch(value):
        return value
    if is_missing(value):
        return None
    raise CellError("is no stored image: send it to …/frames, which stores it and answers")


CELLS: Mapping[FeatureKind, Cell] = {
    "numeric": numeric,
    "boolean": boolean,
    "categorical": categorical,
    "timestamp": timestamp,
    "image": image,
}


def _number(value: Any) -> int | float | None:
    """A finite int or float as itself, else None."""
    if type(value) is float:  # the usual case, without the slow look at abstract types
        return value if math.isfinite(value) else None
    if isinstance(value, bool | np.bool_) or not isinstance(value, Real):
        return None
    number = int(value) if isinstance(value, Integral) else float(value)
    try:
        return number if math.isfinite(number) else None
    except OverflowError:
        return None


def _from_iso(text: str) -> float:
    message = "send ISO 8601 such as '2026-01-31T12:00:00Z', or epoch seconds"
    try:
        return _from_datetime(datetime.fromisoformat(text.strip()))
    except (ValueError, OverflowError):
        raise CellError(f"is the text {shown(text)}: {message}") from None


def _from_datetime(moment: datetime) -> float:
    seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    if not EARLIEST <= seconds <= LATEST:
        raise CellError(f"is {shown(str(moment))}: send a time in the years 1 to 9999, UTC")
    return seconds


def _unquoted(text: str) -> str:
    try:
        number = float(text)
    except ValueError:
        return "a number, or null for a missing value; or declare the feature categorical"
    return f"{text.strip()} without quotes" if math.isfinite(number) else "null for a missing value"


def _json(value: Any) -> str:
    return "true" if value else "false"


def shown(value: Any) -> str:
    """A value for a message: short, and never the whole of something long."""
    try:
        text = repr(value)
    except ValueError:  # an int of more digits than Python prints
        return f"a {type(value).__name__} that is too large"
    return text if len(text) <= 60 else f"{text[:57]}…"
