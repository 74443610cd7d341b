"""A chunk of a table as it was read: columns of cells, or rows, which become clean rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from everlearn.features.columns import Cells, check_columns, check_rows, numbers_of
from everlearn.features.schema import Checked, Schema
from everlearn.types import FeatureKind, FloatArray

Kind: TypeAlias = FeatureKind | Literal["text", "value"]
"""How a cell of text (as in a CSV) is read: as its feature's kind says, as text, or as a class or number."""

Kinds: TypeAlias = Mapping[str, Kind]
"""The columns that are looked for. Others are counted, and read as text."""


@dataclass(slots=True)
class Part:
    """Some rows of a table, from row ``start`` on: as ``columns`` of ``size`` cells, or as ``rows``."""

    start: int
    size: int
    columns: dict[str, Cells] = field(default_factory=dict)
    rows: list[dict[str, Any]] | None = None

    def take(self, name: str) -> list[Any] | None:
        """Take a column out as plain values (``None``: missing); ``None`` if the table has no such column."""
        if self.rows is not None:
            if not any(name in row for row in self.rows):
                return None
            return [row.pop(name, None) for row in self.rows]
        cells = self.columns.pop(name, None)
        if cells is None:
            return None
        plain = (
            cells if isinstance(cells, list) else list(cells.tolist() if hasattr(cells, "tolist") else cells)
        )
        return [None if cell != cell else cell for cell in plain]

    def numbers(self, schema: Schema) -> FloatArray | None:
        """A part that fits as an array: see :func:`everlearn.features.columns.numbers_of`."""
        return None if self.rows is not None else numbers_of(schema, self.columns)

    def checked(self, schema: Schema) -> Checked:
        """Clean rows; raises SchemaError with the faults, in rows of this part."""
        if self.rows is not None:
            return check_rows(schema, self.rows)
        return check_columns(schema, self.columns, self.size)
