"""How large a table becomes once it is unpacked, told before anything is unpacked.

A small body can hold a large table: compressed buffers, one long text that a million rows point at, a
column of nulls that says it has 2⁶² rows. Here the stated sizes are added up and held against limits;
what the reader then takes from a file is bounded by its chunks.
"""

from __future__ import annotations

import struct
from typing import IO, Any

from everlearn.errors import Fault, InvalidError

MAX_ROWS = 1_000_000
"""Rows of one table."""

MAX_UNPACKED = 512 * 2**20
"""Bytes that one Arrow batch, or one Parquet row group, may take uncompressed."""

MAX_TEXT = 64 * 2**20
"""Characters of text in one chunk of rows."""

_DICTIONARY, _BATCH = 2, 3


class TooLargeError(InvalidError):
    """The table is larger than what is taken in one request."""

    status = 413
    title = "Content Too Large"

    @property
    def type(self) -> str:
        """Its URI reference."""
        return "/errors/too-large"


def too_large(what: str) -> TooLargeError:
    """The error for a table that is too large in some way."""
    message = f"{what}: send it in parts"
    return TooLargeError(f"The table {message}", [Fault("body", message)])


def check_rows(count: int) -> None:
    """Raise TooLargeError for more rows than one request may bring."""
    if count > MAX_ROWS:
        raise too_large(f"has more than {MAX_ROWS} rows")


def check_unpacked(size: int) -> None:
    """Raise TooLargeError for a part that would take too much memory."""
    if not 0 <= size <= MAX_UNPACKED:
        raise too_large(f"has a part of {size} bytes when it is unpacked (at most {MAX_UNPACKED})")


def check_text(columns: dict[str, Any]) -> None:
    """Raise TooLargeError if the texts of a chunk, each counted where it stands, are too long together."""
    size = 0
    for cells in columns.values():
        if isinstance(cells, list):
            size += sum(len(cell) for cell in cells if type(cell) is str)
    if size > MAX_TEXT:
        raise too_large(f"has {size} characters of text in one chunk (at most {MAX_TEXT})")


def check_arrow(file: IO[bytes]) -> None:
    """Check an Arrow stream message by message, and leave the file at its start."""
    import pyarrow as pa

    rows = 0
    reader = pa.ipc.MessageReader.open_stream(file)
    while (message := _next(reader)) is not None:
        count, size = _unpacked(message)
        rows += count
        check_rows(rows)
        check_unpacked(size)
    file.seek(0)


def _next(reader: Any) -> Any:
    try:
        return reader.read_next_message()
    except StopIteration:
        return None


def _unpacked(message: Any) -> tuple[int, int]:
    """Rows of a record batch (0 for other messages) and the bytes that its buffers take uncompressed."""
    table = _Table.root(memoryview(message.metadata))
    kind, header = table.number(1, "B"), table.table(2)
    if kind not in (_DICTIONARY, _BATCH) or header is None:
        return 0, 0
    batch = header if kind == _BATCH else header.table(1)
    if batch is None:
        return 0, 0
    rows = batch.number(0, "q") if kind == _BATCH else 0
    body = memoryview(message.body) if message.body is not None else memoryview(b"")
    if batch.table(3) is None:
        return max(rows, 0), len(body)
    return max(rows, 0), sum(_stated(body, offset, length) for offset, length in batch.pairs(2))


def _stated(body: memoryview, offset: int, length: int) -> int:
    """The uncompressed size of a compressed buffer: its first 8 bytes; -1 says that it is not compressed."""
    if length < 8:
        return 0
    size = int(struct.unpack_from("<q", body, offset)[0])
    return length if size == -1 else size if size >= 0 else MAX_UNPACKED + 1


class _Table:
    """A table of a flatbuffer (https://flatbuffers.dev/internals): fields by number, found by a vtable.

    Raises ``struct.error`` for offsets that point outside of the buffer.
    """

    def __init__(self, data: memoryview, at: int) -> None:
        self._data = data
        self._at = at
        self._fields = at - self._read("i", at)

    @classmethod
    def root(cls, data: memoryview) -> _Table:
        """The table at the root."""
        return cls(data, struct.unpack_from("<I", data, 0)[0])

    def number(self, field: int, kind: str) -> int:
        """A number (0 where it is left out)."""
        offset = self._offset(field)
        return self._read(kind, self._at + offset) if offset else 0

    def table(self, field: int) -> _Table | None:
        """A table, or ``None`` where there is none."""
        at = self._pointed(field)
        return None if at is None else _Table(self._data, at)

    def pairs(self, field: int) -> list[tuple[int, int]]:
        """A vector of structs of two 64-bit numbers."""
        at = self._pointed(field)
        if at is None:
            return []
        count = self._read("I", at)
        flat = struct.unpack_from(f"<{2 * count}q", self._data, at + 4)
        return list(zip(flat[::2], flat[1::2], strict=True))

    def _pointed(self, field: int) -> int | None:
        offset = self._offset(field)
        return self._at + offset + self._read("I", self._at + offset) if offset else None

    def _offset(self, field: int) -> int:
        place = 4 + 2 * field
        return self._read("H", self._fields + place) if place < self._read("H", self._fields) else 0

    def _read(self, kind: str, at: int) -> int:
        return int(struct.unpack_from(f"<{kind}", self._data, at)[0])
