"""Clean rows to numbers: what a learner sees of a row. Its state is part of the version.

>>> encoder = Encoder({"colour": "categorical", "age": "numeric"})
>>> encoder.learn([{"age": 30, "colour": "red"}, {"age": 40, "colour": "blue"}])
>>> encoder.columns, encoder.categorical
(['age', 'colour'], (1,))
>>> encoder.transform([{"colour": "blue", "age": 31}, {"colour": "green"}])
array([[31.,  1.],
       [nan, nan]])
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any

import numpy as np

from everlearn.errors import IntegrityError, InvalidError
from everlearn.features.cells import categorical as category
from everlearn.features.cells import timestamp
from everlearn.types import FeatureKind, FloatArray, Row

CALENDAR = ("hour_sin", "hour_cos", "weekday_sin", "weekday_cos", "days")
"""The columns of a timestamp: time of day and of week on circles (UTC), and days since 1970."""

_DAY = 86400.0
_THURSDAY = 3.0  # 1970-01-01 counted from Monday


class Encoder:
    """Rows by column name to ``float64 (n, d)``, NaN for missing.

    Features are taken in the order of their names, whatever the order in the spec or the rows: a number or
    a boolean is one column, a category one column of codes in order of first appearance while learning, and
    a timestamp five (:data:`CALENDAR`); an image is none. A category that was never learned is missing, and
    so is one that comes after ``max_categories`` others of its feature: that bounds the state, and does not
    mix rare categories with unrelated ones.
    """

    def __init__(self, features: Mapping[str, FeatureKind], max_categories: int = 1000) -> None:
        self.max_categories = max_categories
        self._kinds: dict[str, FeatureKind] = {
            name: features[name] for name in sorted(features) if features[name] != "image"
        }
        self._codes: dict[str, dict[str, int]] = {
            name: {} for name, kind in self._kinds.items() if kind == "categorical"
        }
        self.columns: list[str] = []
        self._at: dict[str, int] = {}
        for name, kind in self._kinds.items():
            self._at[name] = len(self.columns)
            self.columns += [f"{name}.{part}" for part in CALENDAR] if kind == "timestamp" else [name]
        self._plain = [name for name, kind in self._kinds.items() if kind in ("numeric", "boolean")]
        self._plain_at = [self._at[name] for name in self._plain]
        self._times = [name for name, kind in self._kinds.items() if kind == "timestamp"]
        # A getter of one name gives the bare cell instead of a tuple.
        self._cells = itemgetter(*self._plain) if len(self._plain) > 1 else None

    @property
    def categorical(self) -> tuple[int, ...]:
        """The columns that hold category codes 0, 1, 2, …"""
        return tuple(self._at[name] for name in self._codes)

    def learn(self, rows: Sequence[Row]) -> None:
        """Give codes to the categories that are new, in order of appearance."""
        for row in rows if self._codes else ():
            self._learn_one(row)

    def transform(self, rows: Sequence[Row]) -> FloatArray:
        """Rows as an array (n, d); changes nothing. Raises InvalidError for cells of a wrong kind."""
        try:
            if len(self._plain) == len(self.columns):
                return self._numbers(rows)
            return self._mixed(rows)
        except (TypeError, ValueError, OverflowError) as error:
            message = f"a cell does not fit its feature ({error}): pass rows through Schema.check first"
            raise InvalidError(message) from None

    def single(self) -> Callable[[Row], list[float]] | None:
        """A function from one clean row to its cells (d), as ``transform`` has them; none with timestamps.

        It goes with what is known now: ask again after learning.
        """
        if self._times:
            return None
        codes = {name: dict(known) for name, known in self._codes.items()}
        names, nan = list(self._kinds), math.nan
        if not codes:
            return lambda row: [nan if (cell := row.get(name)) is None else float(cell) for name in names]

        def cells(row: Row) -> list[float]:
            found = []
            for name in names:
                cell = row.get(name)
                if cell is None:
                    found.append(nan)
                elif name in codes:
                    found.append(codes[name].get(cell if type(cell) is str else str(category(cell)), nan))
                else:
                    found.append(float(cell))
            return found

        return cells

    def copy(self) -> Encoder:
        """An encoder of its own with the same codes."""
        twin = Encoder(self._kinds, self.max_categories)
        twin._codes = {name: dict(codes) for name, codes in self._codes.items()}
        return twin

    def state(self) -> dict[str, Any]:
        """The categories by feature, in the order of their codes, and the columns, as JSON values."""
        return {
            "columns": list(self.columns),
            "max_categories": self.max_categories,
            "categories": {name: list(codes) for name, codes in self._codes.items()},
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over a state; raises IntegrityError if it belongs to other features or is not whole."""
        try:
            columns, limit = state["columns"], int(state["max_categories"])
            keys = {name: [str(key) for key in state["categories"][name]] for name in self._codes}
        except (KeyError, TypeError, ValueError) as error:
            raise IntegrityError(f"The encoder's state is not whole: {error!r}") from None
        if columns != self.columns:
            raise IntegrityError(f"The encoder's state is for columns {columns}, not for {self.columns}")
        codes = {name: {key: code for code, key in enumerate(known)} for name, known in keys.items()}
        if keys != state["categories"] or any(len(codes[name]) != len(keys[name]) for name in keys):
            raise IntegrityError("The encoder's state names categories twice, or not as text")
        self.max_categories = limit
        self._codes = codes

    def _learn_one(self, row: Row) -> None:
        for name, codes in self._codes.items():
            key = row.get(name)
            if type(key) is not str:
                key = category(key)
            if key is not None and key not in codes and len(codes) < self.max_categories:
                codes[key] = len(codes)

    def _numbers(self, rows: Sequence[Row]) -> FloatArray:
        if not rows:
            return np.empty((0, len(self._plain)))
        if self._cells is not None:
            try:
                return np.array([self._cells(row) for row in rows], dtype=np.float64)
            except KeyError:  # a missing column
                pass
        names = self._plain
        return np.array([[row.get(name) for name in names] for row in rows], dtype=np.float64)

    def _mixed(self, rows: Sequence[Row]) -> FloatArray:
        out = np.empty((len(rows), len(self.columns)))
        if self._plain:
            out[:, self._plain_at] = self._numbers(rows)
        for name, codes in self._codes.items():
            keys = [key if type(key := row.get(name)) is str else category(key) for row in rows]
            out[:, self._at[name]] = [math.nan if key is None else codes.get(key, math.nan) for key in keys]
        for name in self._times:
            at = self._at[name]
            seconds = [timestamp(row.get(name)) for row in rows]
            out[:, at : at + len(CALENDAR)] = _calendar(np.array(seconds, dtype=np.float64))
        return out


def _calendar(seconds: FloatArray) -> FloatArray:
    days = seconds / _DAY
    hour = (days % 1.0) * (2 * math.pi)
    weekday = ((days + _THURSDAY) % 7.0) * (2 * math.pi / 7.0)
    return np.stack([np.sin(hour), np.cos(hour), np.sin(weekday), np.cos(weekday), days], axis=1)
