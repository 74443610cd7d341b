"""Category codes as rows of a weight table, with room that grows up to a bound."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from everlearn.types import FloatArray

_MIX = np.uint64(2654435761)  # Knuth's multiplicative hash, 2^32 / golden ratio


class OneHot:
    """Gives each (column, code) its own slot 0, 1, 2, … in order of first appearance.

    Codes from ``limit`` on share the slots of the column's first ``limit`` codes by a fixed hash.

    >>> import numpy as np
    >>> slots = OneHot(columns=2, limit=100)
    >>> slots.learn(np.array([0.0, 3.0])), slots.learn(np.array([1.0, np.nan]))
    (array([0, 1]), array([2]))
    >>> slots.find(np.array([[1.0, 3.0], [9.0, np.nan]])).tolist()  # -1: unseen or missing
    [[2, 1], [-1, -1]]
    """

    def __init__(self, columns: int, limit: int) -> None:
        self.limit = limit
        self._table = np.full((columns, limit), -1, dtype=np.int64)
        self._columns = np.arange(columns)
        self.slots = 0

    def find(self, codes: FloatArray) -> NDArray[np.int64]:
        """The slots (…, columns) of codes (…, columns); -1 for what is missing or unseen."""
        known = np.abs(codes) < 2.0**53
        whole = np.where(known, codes, 0.0).astype(np.int64)
        hashed = (whole.astype(np.uint64) * _MIX & np.uint64(0xFFFFFFFF)) % np.uint64(self.limit)
        place = np.where((whole >= 0) & (whole < self.limit), whole, hashed.astype(np.int64))
        return np.where(known, self._table[self._columns, place], -1)

    def learn(self, codes: FloatArray) -> NDArray[np.int64]:
        """The slots of one row's codes that are not missing, with new slots for what is new."""
        slots = self.find(codes)
        missing = ~(np.abs(codes) < 2.0**53)
        if (slots < 0).any() and not (missing | (slots >= 0)).all():
            for column in np.flatnonzero(~missing & (slots < 0)).tolist():
                self._table[column, self._place(int(codes[column]))] = self.slots
                self.slots += 1
            slots = self.find(codes)
        return slots[slots >= 0]

    def _place(self, code: int) -> int:
        if 0 <= code < self.limit:
            return code
        return (code % 2**64 * int(_MIX) & 0xFFFFFFFF) % self.limit

    def state(self) -> dict[str, Any]:
        """Which slot each (column, place) has, as columns and places in order of their slots."""
        columns, places = np.nonzero(self._table >= 0)
        order = np.argsort(self._table[columns, places])
        return {"columns": columns[order].astype(np.int64), "places": places[order].astype(np.int64)}

    def restore(self, state: dict[str, Any]) -> None:
        """Take over a state."""
        columns, places = np.array(state["columns"]), np.array(state["places"])
        if columns.shape != places.shape:
            raise ValueError("the slots of categories have not one place a column")
        self._table.fill(-1)
        if len(columns):
            self._table[columns, places] = np.arange(len(columns))
        self.slots = len(columns)
