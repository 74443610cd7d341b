"""Answers as tables, written a chunk at a time: NDJSON, CSV, Arrow, Parquet, and the JSON document.

Every format has the same columns: ``id``, ``version``, ``value``, and for classification the probabilities
(in JSON one object; else a column ``probabilities.CLASS`` for each class that the version knows).
``abstained`` is there while the model abstains.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec
import numpy as np

from everlearn.api import formats
from everlearn.api.answers import Answers
from everlearn.api.runtime import Served
from everlearn.api.table_arrow import pyarrow
from everlearn.predictor import Predictor, class_key
from everlearn.types import FloatArray, Scalar

_PREFIX = "probabilities."


class Writer(Protocol):
    """Makes bytes of answers. ``head`` comes first, ``tail`` last."""

    def head(self) -> bytes:
        """What comes before the first chunk."""
        ...

    def write(self, answers: Answers) -> bytes:
        """A chunk."""
        ...

    def tail(self, ignored: Mapping[str, int]) -> bytes:
        """The end; ``ignored`` counts the columns that the schema does not name."""
        ...


def writer(kind: str, served: Served) -> Writer:
    """A writer of a format; raises MissingExtraError."""
    if kind == formats.CSV:
        return CsvWriter(served)
    if kind == formats.ARROW:
        return ArrowWriter(served)
    if kind == formats.PARQUET:
        return ParquetWriter(served)
    return JsonWriter(served) if kind == formats.JSON else NdjsonWriter(served)


class NdjsonWriter:
    """An object a line, as in the JSON answer."""

    def __init__(self, served: Served) -> None:
        self._withheld = served.withholding
        self._end = ',"abstained":true}' if served.abstaining else "}"

    def head(self) -> bytes:
        """Nothing."""
        return b""

    def write(self, answers: Answers) -> bytes:
        """A line for each answer."""
        return ("\n".join(self.objects(answers)) + "\n").encode() if answers.ids else b""

    def tail(self, ignored: Mapping[str, int]) -> bytes:  # noqa: ARG002 (lines have no place for it)
        """Nothing."""
        return b""

    def objects(self, answers: Answers) -> list[str]:
        """Each answer as JSON."""
        ids = msgspec.json.encode(answers.ids)[2:-2].decode().split('","')
        if len(ids) != len(answers.ids):  # an id that holds such a thing itself
            ids = [msgspec.json.encode(key)[1:-1].decode() for key in answers.ids]
        start = [f'{{"id":"{k}","version":{v},"value":' for k, v in zip(ids, answers.versions, strict=True)]
        if self._withheld:
            return [f"{begun}null{self._end}" for begun in start]
        return [
            f"{begun}{value}{self._end}"
            if told is None
            else f'{begun}{value},"probabilities":{told}{self._end}'
            for begun, value, told in zip(start, answers.value_texts, answers.probability_texts, strict=True)
        ]


class JsonWriter(NdjsonWriter):
    """One document: what a JSON request is answered with."""

    def __init__(self, served: Served) -> None:
        super().__init__(served)
        self._name = served.spec.name
        self._started = False

    def head(self) -> bytes:
        """Its beginning."""
        return b'{"model":' + msgspec.json.encode(self._name) + b',"predictions":['

    def write(self, answers: Answers) -> bytes:
        """Objects, set apart by commas."""
        comma = "," if self._started else ""
        self._started = True
        return (comma + ",".join(self.objects(answers))).encode()

    def tail(self, ignored: Mapping[str, int]) -> bytes:
        """Its end."""
        told = b',"ignored_columns":' + msgspec.json.encode(dict(ignored)) if ignored else b""
        return b"]" + told + b"}"


class _Columns:
    """Answers as columns; which there are is settled by the first chunk."""

    def __init__(self, served: Served) -> None:
        self._withheld = served.withholding
        self._abstaining = served.abstaining
        self._regression = served.spec.task == "regression"
        self._keys: tuple[str, ...] | None = None

    def columns(self, answers: Answers) -> dict[str, Any]:
        """The columns by name: lists, or arrays (n,) of floats with NaN for what is missing."""
        if self._keys is None:
            self._keys = () if self._withheld else answers.keys
        withheld: list[Scalar] = [None] * len(answers.ids)
        found: dict[str, Any] = {
            "id": answers.ids,
            "version": answers.versions,
            "value": withheld if self._withheld else answers.values,
        }
        for key in self._keys:
            found[_PREFIX + key] = _probabilities(answers, key)
        if self._abstaining:
            found["abstained"] = [True] * len(answers.ids)
        return found


def _probabilities(answers: Answers, key: str) -> FloatArray:
    """One class's probabilities (n,); NaN where an answer does not name it."""
    if answers.grid is None or key not in answers.keys:
        return np.full(len(answers.ids), np.nan)
    return answers.grid[:, answers.keys.index(key)]


class CsvWriter(_Columns):
    """CSV with a header; the empty cell is a missing value."""

    def head(self) -> bytes:
        """Nothing: the header comes with the first chunk."""
        return b""

    def write(self, answers: Answers) -> bytes:
        """The rows, and before the first of them the header."""
        first = self._keys is None
        columns = self.columns(answers)
        out = io.StringIO()
        lines = csv.writer(out, lineterminator="\n")
        if first:
            lines.writerow(columns)
        lines.writerows(zip(*(csv_cells(cells) for cells in columns.values()), strict=True))
        return out.getvalue().encode()

    def tail(self, ignored: Mapping[str, int]) -> bytes:  # noqa: ARG002 (a CSV has no place for it)
        """Nothing."""
        return b""


def csv_cells(cells: Any) -> list[Any]:
    """The cells of a column as CSV writes them: booleans by their class keys, nothing for NaN."""
    if isinstance(cells, np.ndarray):
        return ["" if cell != cell else cell for cell in cells.tolist()]
    return [class_key(cell) if isinstance(cell, bool) else cell for cell in cells]


class ArrowWriter(_Columns):
    """An Arrow stream, one batch a chunk."""

    def __init__(self, served: Served) -> None:
        super().__init__(served)
        self._arrow = pyarrow("Writing Arrow")
        learned = served.predictor
        self._classes = list(learned.learner.classes) if isinstance(learned, Predictor) else []
        self._sink = Sink()
        self._schema: Any = None
        self._out: Any = None

    def head(self) -> bytes:
        """Nothing: the schema comes with the first chunk."""
        return b""

    def write(self, answers: Answers) -> bytes:
        """The chunk as a batch."""
        columns = self.columns(answers)
        if self._schema is None:
            self._schema = self._schema_of(columns)
            self._out = self._open()
        arrays = [self._array(columns[column.name], column.type) for column in self._schema]
        self._out.write_batch(self._arrow.record_batch(arrays, schema=self._schema))
        return self._sink.drain()

    def tail(self, ignored: Mapping[str, int]) -> bytes:  # noqa: ARG002 (a batch has no place for it)
        """The mark of the end."""
        self._out.close()
        return self._sink.drain()

    def _open(self) -> Any:
        return self._arrow.ipc.new_stream(self._sink, self._schema)

    def _schema_of(self, columns: Mapping[str, Any]) -> Any:
        pa = self._arrow
        types = {"id": pa.string(), "version": pa.int64(), "abstained": pa.bool_()}
        types["value"] = (
            pa.float64() if self._regression else _class_type(pa, self._classes or columns["value"])
        )
        return pa.schema([(name, types.get(name, pa.float64())) for name in columns])

    def _array(self, cells: Any, kind: Any) -> Any:
        pa = self._arrow
        if isinstance(cells, np.ndarray):
            return pa.array(np.ascontiguousarray(cells), type=kind, from_pandas=True)
        if pa.types.is_string(kind):
            cells = [cell if cell is None or type(cell) is str else class_key(cell) for cell in cells]
        elif pa.types.is_int64(kind) or pa.types.is_boolean(kind):  # a repeat from a version of other classes
            plain = int if pa.types.is_int64(kind) else bool
            cells = [cell if type(cell) is plain else None for cell in cells]
        return pa.array(cells, type=kind)


class ParquetWriter(ArrowWriter):
    """A Parquet file, one row group a chunk."""

    def _open(self) -> Any:
        return self._arrow.parquet.ParquetWriter(self._sink, self._schema)


def _class_type(pa: Any, values: Sequence[Scalar]) -> Any:
    """The type of classes: that of all of them where they have one in common, else text."""
    kinds = {type(value) for value in values} - {type(None)}
    if kinds == {bool}:
        return pa.bool_()
    if kinds == {int} and all(-(2**63) <= value < 2**63 for value in values if isinstance(value, int)):
        return pa.int64()
    return pa.string()


class Sink(io.RawIOBase):
    """A file to write to, whose bytes are taken out as they come."""

    def __init__(self) -> None:
        super().__init__()
        self._parts: list[bytes] = []
        self._size = 0

    def writable(self) -> bool:
        """Yes."""
        return True

    def write(self, data: Any) -> int:
        """Take bytes in."""
        self._parts.append(bytes(data))
        self._size += len(self._parts[-1])
        return len(self._parts[-1])

    def tell(self) -> int:
        """How many bytes were written so far."""
        return self._size

    def drain(self) -> bytes:
        """Take the bytes out that came since the last time."""
        taken = b"".join(self._parts)
        self._parts.clear()
        return taken
