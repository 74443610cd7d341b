"""The check at the door for tables: whole columns at a time where that is exact, else cell by cell.

A table that fits gives the same clean rows as :meth:`everlearn.features.schema.Schema.check` gives for
its rows, and a table that does not fit the same faults.

>>> from everlearn.features.schema import Schema
>>> schema = Schema({"age": "numeric", "colour": "categorical"})
>>> check_columns(schema, {"age": np.array([30.0, np.nan]), "colour": ["red", None]}, 2)
Checked(rows=[{'age': 30.0, 'colour': 'red'}, {'age': None}], ignored={})
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from everlearn.features.cells import CELLS, EARLIEST, LATEST
from everlearn.features.schema import Checked, Schema
from everlearn.types import FeatureKind, FloatArray, Scalar

Cells: TypeAlias = Sequence[Any] | NDArray[Any]
"""One column (n,): plain values, or an array of booleans, whole numbers or floats (NaN: missing)."""

MANY = 64
"""Rows from which on a look at whole columns pays."""

_NUMBERS = frozenset({int, float})


def check_columns(schema: Schema, columns: Mapping[str, Cells], size: int) -> Checked:
    """Clean rows of a table of ``size`` rows; raises SchemaError as ``Schema.check`` does."""
    clean: dict[str, list[Scalar]] = {}
    whole = bool(columns)
    for name, kind in schema.features.items():
        if name not in columns:
            continue
        found = _quick(kind, columns[name])
        if found is None:
            return schema.check(rows_of(columns, size))
        clean[name], filled = found
        whole = whole and filled
    extra = [name for name in columns if name not in schema.features]
    if not clean or (extra and schema.strict):
        return schema.check(rows_of(columns, size))
    rows = rows_of(clean, size)
    if not whole:
        first = next(iter(schema.features))
        rows = [{k: v for k, v in row.items() if v is not None} or {first: None} for row in rows]
    return Checked(rows, dict.fromkeys(extra, size) if size else {})


def check_rows(schema: Schema, rows: Sequence[Mapping[str, Any]]) -> Checked:
    """``schema.check``, by columns where there are many rows and all name the same ones."""
    columns = _columns_of(rows) if len(rows) >= MANY else None
    return schema.check(rows) if columns is None else check_columns(schema, columns, len(rows))


def _columns_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, Cells] | None:
    """The columns of rows that all name the same ones, else ``None``."""
    width = len(rows[0])
    if not all(type(row) is dict and len(row) == width for row in rows):
        return None
    try:
        return {name: [row[name] for row in rows] for name in rows[0]}
    except KeyError:
        return None


def numbers_of(schema: Schema, columns: Mapping[str, Cells]) -> FloatArray | None:
    """A table that fits as an array (n, d), the features by name, NaN for missing.

    ``None`` unless there is an array of booleans or numbers for each feature, and no other kind of feature.
    """
    kinds = set(schema.features.values())
    arrays = [columns.get(name) for name in schema.features]
    if not kinds <= {"numeric", "boolean"}:
        return None
    if not all(isinstance(array, np.ndarray) and array.dtype.kind in "biuf" for array in arrays):
        return None
    return np.column_stack([np.asarray(array, dtype=np.float64) for array in arrays])


def rows_of(columns: Mapping[str, Cells], size: int) -> list[dict[str, Any]]:
    """The rows of a table; arrays become plain values."""
    if not columns:
        return [{} for _ in range(size)]
    names = tuple(columns)
    cells = [column.tolist() if isinstance(column, np.ndarray) else column for column in columns.values()]
    return [dict(zip(names, row, strict=True)) for row in zip(*cells, strict=True)]


def _quick(kind: FeatureKind, cells: Cells) -> tuple[list[Scalar], bool] | None:
    """Clean cells and whether none is missing; ``None`` where each cell needs a closer look."""
    if isinstance(cells, np.ndarray):
        return _of_array(kind, cells)
    kinds = set(map(type, cells))
    if kind == "categorical" and kinds <= {str, type(None)}:
        return list(cells), type(None) not in kinds
    if kind == "numeric" and kinds <= _NUMBERS:
        try:
            return (list(cells), True) if math.isfinite(math.fsum(cells)) else None
        except (OverflowError, ValueError):
            return None
    if kind == "boolean" and kinds <= {bool, type(None)}:
        return list(cells), type(None) not in kinds
    return _each(kind, cells)


def _each(kind: FeatureKind, cells: Cells) -> tuple[list[Scalar], bool] | None:
    check = CELLS[kind]
    try:
        clean = [check(cell) for cell in cells]
    except ValueError:  # the rows say which
        return None
    return clean, None not in clean


def _of_array(kind: FeatureKind, cells: NDArray[Any]) -> tuple[list[Scalar], bool] | None:
    sort = cells.dtype.kind
    if (kind, sort) in (("boolean", "b"), ("numeric", "i"), ("numeric", "u")):
        return cells.tolist(), True
    if sort != "f" or kind not in ("numeric", "timestamp"):
        return _each(kind, cells.tolist())
    missing = np.isnan(cells)
    low, high = (EARLIEST, LATEST) if kind == "timestamp" else (-math.inf, math.inf)
    inside = (cells >= low) & (cells <= high) & np.isfinite(cells)
    if not bool((inside | missing).all()):
        return None
    if not missing.any():
        return cells.tolist(), True
    return [None if cell != cell else cell for cell in cells.tolist()], False
