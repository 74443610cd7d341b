"""The gathered rows of a backfill as a table, written part by part: NDJSON, CSV, Arrow, Parquet.

Every format has the same columns: ``id``, ``at``, ``position``, ``served.version`` and ``served.value`` (what
was answered then), ``version``, ``value`` and ``probabilities.CLASS`` (what this version answers), and
``label``, empty where there is none. In NDJSON ``served`` and ``probabilities`` are objects.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

import msgspec

from everlearn.api import formats
from everlearn.api.table_arrow import pyarrow
from everlearn.api.table_write import Sink, csv_cells
from everlearn.api.times import iso
from everlearn.loop.backfill_columns import Columns
from everlearn.predictor import class_key

CHUNK = 10_000
"""Rows that are written at once."""

_AFTER, _BEFORE = ("label",), ("id", "at", "position", "served.version", "served.value", "version", "value")


@dataclass(frozen=True, slots=True)
class Shape:
    """What all parts have in common: the version, its classes as ``keys``, and the type of values.

    ``kind`` is ``bool``, ``int``, ``float`` or ``str``: see
    :func:`everlearn.loop.backfill_columns.common_kind`.
    """

    version: int
    keys: tuple[str, ...]
    kind: str

    @property
    def names(self) -> list[str]:
        """The columns."""
        return [*_BEFORE, *(f"probabilities.{key}" for key in self.keys), *_AFTER]

    def cells(self, columns: Columns) -> list[Sequence[Any]]:
        """The cells of some rows, column by column."""
        own = [list(numbers) for numbers in zip(*columns.probabilities, strict=True)]
        chances = own or [[None] * len(columns.ids) for _ in self.keys]
        version = [self.version] * len(columns.ids)
        before = (columns.ids, columns.at, columns.positions, columns.served_versions, columns.served)
        return [*before, version, columns.values, *chances, columns.labels]


class Writer(Protocol):
    """Makes bytes of rows; ``tail`` comes last."""

    def write(self, columns: Columns) -> bytes:
        """Some rows, and before the first of them what a table begins with."""
        ...

    def tail(self) -> bytes:
        """The end."""
        ...


def writer(kind: str, shape: Shape) -> Writer:
    """A writer of a format; raises MissingExtraError."""
    if kind == formats.CSV:
        return CsvWriter(shape)
    if kind == formats.ARROW:
        return ArrowWriter(shape)
    return ParquetWriter(shape) if kind == formats.PARQUET else NdjsonWriter(shape)


def written(out: Writer, parts: Iterator[Columns]) -> Iterator[bytes]:
    """The bytes of all rows, a chunk at a time."""
    for part in parts:
        for low in range(0, len(part.ids), CHUNK):
            yield out.write(part.slice(low, low + CHUNK))
    yield out.tail()


class NdjsonWriter:
    """An object a line."""

    def __init__(self, shape: Shape) -> None:
        self._shape = shape
        self._encode = msgspec.json.Encoder().encode

    def write(self, columns: Columns) -> bytes:
        """A line for each row."""
        return b"".join(self._encode(row) + b"\n" for row in self._rows(columns))

    def tail(self) -> bytes:
        """Nothing."""
        return b""

    def _rows(self, columns: Columns) -> Iterator[dict[str, Any]]:
        keys = columns.keys
        for i, name in enumerate(columns.ids):
            row: dict[str, Any] = {
                "id": name,
                "at": iso(columns.at[i]),
                "position": columns.positions[i],
                "served": {"version": columns.served_versions[i], "value": columns.served[i]},
                "version": self._shape.version,
                "value": columns.values[i],
            }
            if keys:
                row["probabilities"] = dict(zip(keys, columns.probabilities[i], strict=True))
            yield {**row, "label": columns.labels[i]}


class CsvWriter:
    """CSV with a header; the empty cell is a missing value."""

    def __init__(self, shape: Shape) -> None:
        self._shape, self._begun = shape, False

    def write(self, columns: Columns) -> bytes:
        """The rows, and before the first of them the header."""
        begun = self._head()
        cells = self._shape.cells(columns)
        cells[1] = list(map(iso, columns.at))
        return begun + _csv(zip(*map(csv_cells, cells), strict=True))

    def tail(self) -> bytes:
        """The header, if there were no rows."""
        return self._head()

    def _head(self) -> bytes:
        first, self._begun = not self._begun, True
        return _csv([self._shape.names]) if first else b""


def _csv(lines: Any) -> bytes:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(lines)
    return out.getvalue().encode()


class ArrowWriter:
    """An Arrow stream, one batch a chunk."""

    def __init__(self, shape: Shape) -> None:
        self._arrow = pyarrow("Writing Arrow")
        self._shape, self._sink = shape, Sink()
        self._schema = self._schema_of(shape)
        self._out = self._open()

    def write(self, columns: Columns) -> bytes:
        """The rows as a batch."""
        cells = self._shape.cells(columns)
        cells[1] = [datetime.fromtimestamp(at, UTC) for at in columns.at]
        arrays = [self._array(column, field.type) for column, field in zip(cells, self._schema, strict=True)]
        self._out.write_batch(self._arrow.record_batch(arrays, schema=self._schema))
        return self._sink.drain()

    def tail(self) -> bytes:
        """The mark of the end."""
        self._out.close()
        return self._sink.drain()

    def _open(self) -> Any:
        return self._arrow.ipc.new_stream(self._sink, self._schema)

    def _schema_of(self, shape: Shape) -> Any:
        pa = self._arrow
        value = {"bool": pa.bool_(), "int": pa.int64(), "float": pa.float64(), "str": pa.string()}[shape.kind]
        types = {"id": pa.string(), "at": pa.timestamp("us", "UTC")}
        types |= dict.fromkeys(("position", "served.version", "version"), pa.int64())
        types |= dict.fromkeys(("served.value", "value", "label"), value)
        return pa.schema([(name, types.get(name, pa.float64())) for name in shape.names])

    def _array(self, cells: Sequence[Any], kind: Any) -> Any:
        if self._arrow.types.is_string(kind):
            cells = [cell if cell is None or type(cell) is str else class_key(cell) for cell in cells]
        elif self._arrow.types.is_floating(kind):
            cells = [None if cell is None else float(cell) for cell in cells]
        return self._arrow.array(cells, type=kind)


class ParquetWriter(ArrowWriter):
    """A Parquet file, one row group a chunk."""

    def _open(self) -> Any:
        return self._arrow.parquet.ParquetWriter(self._sink, self._schema)
