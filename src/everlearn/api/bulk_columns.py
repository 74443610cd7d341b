"""The columns of a table that are no features: ids, times, labels' values and corrections."""

from __future__ import annotations

from datetime import date
from typing import Any, NamedTuple

from everlearn.api.table_parts import Part
from everlearn.api.times import parse_time
from everlearn.api.values import MAX_ID
from everlearn.errors import Fault, InvalidError, SchemaError
from everlearn.features.schema import Schema
from everlearn.types import Scalar


class Named(NamedTuple):
    """Where something stands in a table: a column's name, and whether it must be there. ``None``: nowhere."""

    name: str | None
    required: bool = False


def checked_ids(part: Part, column: Named) -> list[str] | None:
    """The ids of a part's rows, taken out of it; ``None`` if the table has none. Raises SchemaError."""
    cells = _taken(part, column)
    if cells is None:
        return None
    ids = [cell if type(cell) is str else _id_of(cell) for cell in cells]
    for i, key in enumerate(ids):
        if not 0 < len(key) <= MAX_ID or not key.isprintable():
            raise _fault(part, i, column, f"an id has 1 to {MAX_ID} printable characters")
    return ids


def checked_times(part: Part, column: Named, now: float) -> list[float]:
    """The times of a part's rows, taken out of it; ``now`` where there are none. Raises SchemaError."""
    cells = _taken(part, column)
    if cells is None:
        return [now] * part.size
    times = []
    for i, cell in enumerate(cells):
        try:
            time = cell.isoformat() if isinstance(cell, date) else cell
            times.append(now if time is None else parse_time(time))
        except ValueError as error:
            raise _fault(part, i, column, str(error)) from None
    return times


def checked_values(part: Part, column: Named, schema: Schema) -> list[Scalar]:
    """The targets or labels of a part's rows, taken out of it. Raises SchemaError."""
    cells = _taken(part, column)
    assert cells is not None  # the column is required
    try:
        return schema.check_target(cells)
    except SchemaError as error:
        first = error.faults[0]
        raise _fault(part, int(first.field[len("targets[") : -1]), column, first.message) from None


def checked_flags(part: Part, column: Named) -> list[bool]:
    """Booleans, taken out; false where there are none. Raises SchemaError."""
    cells = _taken(part, column)
    if cells is None:
        return [False] * part.size
    for i, cell in enumerate(cells):
        if cell is not None and type(cell) is not bool:
            raise _fault(part, i, column, "send true or false")
    return [cell is True for cell in cells]


def _taken(part: Part, column: Named) -> list[Any] | None:
    cells = None if column.name is None else part.take(column.name)
    if cells is None and column.required:
        message = f"the table has no column {str(column.name)[:60]!r}"
        raise InvalidError(f"Nothing was recorded: {message}", [Fault(str(column.name)[:200], message)])
    return cells


def _id_of(cell: Any) -> str:
    """A whole number as the text of an id; anything else is none."""
    return str(cell) if isinstance(cell, int) and not isinstance(cell, bool) and abs(cell) < 2**64 else ""


def _fault(part: Part, i: int, column: Named, message: str) -> SchemaError:
    where = f"rows[{part.start + i}].{column.name}"
    return SchemaError(f"Nothing was recorded. {where}: {message}", [Fault(where, message)])
