"""Arrow streams and Parquet files, read a chunk at a time. pyarrow is imported when first used."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, Any

import numpy as np

from everlearn.api.table_parts import Kinds, Part
from everlearn.api.tables_guard import check_arrow, check_rows, check_text, check_unpacked
from everlearn.errors import Fault, InvalidError, MissingExtraError
from everlearn.features.columns import Cells

EXTRA = "arrow"

_PLAIN = ("boolean", "integer", "floating", "string", "large_string", "timestamp", "date", "null", "decimal")


def pyarrow(what: str) -> Any:
    """The module, with ``ipc`` and ``parquet``; raises MissingExtraError that names the extra."""
    try:
        import pyarrow as pa
        import pyarrow.ipc
        import pyarrow.parquet
    except ImportError:
        raise MissingExtraError(what, EXTRA) from None
    return pa


def read_arrow(file: IO[bytes], kinds: Kinds, size: int) -> Iterator[Part]:
    """Chunks of an Arrow stream (IPC); raises InvalidError, TooLargeError, or MissingExtraError."""
    pa = pyarrow("Reading Arrow")
    try:
        check_arrow(file)
        with pa.ipc.open_stream(file) as reader:
            check_types(pa, reader.schema)
            start = 0
            for batch in reader:
                batch.validate(full=True)
                for low in range(0, batch.num_rows, size):
                    part = _part(pa, batch.slice(low, size), kinds, start)
                    yield part
                    start += part.size
    except _malformed(pa) as error:
        raise _unreadable("an Arrow stream", error) from None


def read_parquet(file: IO[bytes], kinds: Kinds, size: int) -> Iterator[Part]:
    """Chunks of a Parquet file; raises InvalidError, TooLargeError, or MissingExtraError."""
    pa = pyarrow("Reading Parquet")
    try:
        stored = pa.parquet.ParquetFile(file).schema_arrow
        check_types(pa, stored)
        # Texts stay in dictionaries: a page that repeats one long text is not multiplied in memory.
        texts = [column.name for column in stored if _is_text(pa, column.type)]
        file.seek(0)
        table = pa.parquet.ParquetFile(file, read_dictionary=texts)
        check_rows(table.metadata.num_rows)
        for i in range(table.metadata.num_row_groups):
            check_unpacked(table.metadata.row_group(i).total_byte_size)
        start = 0
        for batch in table.iter_batches(batch_size=size):
            batch.validate(full=True)
            part = _part(pa, batch, kinds, start)
            check_rows(start + part.size)
            yield part
            start += part.size
    except _malformed(pa) as error:
        raise _unreadable("a Parquet file", error) from None


def check_types(pa: Any, schema: Any) -> None:
    """Raise InvalidError unless every column holds plain values under a name of its own."""
    names = [column.name for column in schema]
    faults = [
        Fault(column.name, f"has the type {column.type}: send numbers, booleans, texts, times or nulls")
        for column in schema
        if not _is_plain(pa.types, column.type)
    ]
    faults += [
        Fault(name, "is there twice: name each column once") for name in names if names.count(name) > 1
    ]
    if faults:
        raise InvalidError("; ".join(f"{f.field} {f.message}" for f in faults[:5]), faults[:100])


def _is_plain(types: Any, kind: Any) -> bool:
    if types.is_dictionary(kind):
        return _is_plain(types, kind.value_type) and not types.is_dictionary(kind.value_type)
    return any(getattr(types, f"is_{test}")(kind) for test in _PLAIN)


def _is_text(pa: Any, kind: Any) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _part(pa: Any, batch: Any, kinds: Kinds, start: int) -> Part:
    columns = {
        name: _cells(pa, batch.column(i), kinds.get(name, "text"))
        for i, name in enumerate(batch.schema.names)
    }
    check_text(columns)
    return Part(start, batch.num_rows, columns)


def _cells(pa: Any, array: Any, kind: str) -> Cells:
    """A column's cells: an array where nothing is lost by it, else plain values."""
    types, sort = pa.types, array.type
    if types.is_dictionary(sort):
        values = _plain(pa, array.dictionary, kind)
        return [None if index is None else values[index] for index in array.indices.to_pylist()]
    if types.is_floating(sort):
        return array.cast(pa.float64()).to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]
    if array.null_count == 0 and (types.is_integer(sort) or types.is_boolean(sort)):
        return array.to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]
    return _plain(pa, array, kind)


def _plain(pa: Any, array: Any, kind: str) -> list[Any]:
    types, sort = pa.types, array.type
    if types.is_timestamp(sort):
        return _times(pa, array, kind)
    if types.is_decimal(sort):
        array = array.cast(pa.float64())
    cells: list[Any] = array.to_pylist()
    if types.is_date(sort) and kind != "timestamp":
        return [None if cell is None else cell.isoformat() for cell in cells]
    return cells


def _times(pa: Any, array: Any, kind: str) -> list[Any]:
    """Seconds since 1970 for a timestamp, ISO 8601 in UTC for anything else; to the microsecond."""
    exact = array.cast(pa.timestamp("us", array.type.tz), safe=False).cast(pa.int64()).to_pylist()
    if kind == "timestamp":
        return [None if cell is None else cell / 1e6 for cell in exact]
    return [None if cell is None else f"{np.datetime64(cell, 'us')}Z" for cell in exact]


def _malformed(pa: Any) -> tuple[type[Exception], ...]:
    import struct

    return (pa.ArrowException, OSError, struct.error, OverflowError, UnicodeDecodeError)


def _unreadable(kind: str, error: Exception) -> InvalidError:
    message = f"cannot be read as {kind} ({type(error).__name__}): send the whole of it as it was written"
    return InvalidError(f"The table {message}", [Fault("body", message)])
