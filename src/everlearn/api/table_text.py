"""Tables of text, read a chunk at a time: NDJSON (an object a line) and CSV."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from itertools import islice
from typing import IO, Any

import msgspec

from everlearn.api.table_parts import Kind, Kinds, Part
from everlearn.errors import Fault, InvalidError, SchemaError
from everlearn.features.columns import Cells

MISSING = frozenset({"", "NA", "N/A", "NaN", "nan", "null", "NULL", "None", "n/a", "<NA>"})
"""What stands for a missing number in a CSV. For texts it is the empty cell alone."""

_TRUTH = {"true": True, "false": False, "1": True, "0": False}
_line = msgspec.json.Decoder(dict[str, Any])


def read_ndjson(file: IO[bytes], kinds: Kinds, size: int) -> Iterator[Part]:  # noqa: ARG001 (JSON has kinds)
    """Chunks of ``size`` rows; raises SchemaError that names the row which is no JSON object."""
    start = 0
    while lines := list(islice(file, size)):
        rows = _objects(lines, start)
        if rows:
            yield Part(start, len(rows), rows=rows)
        start += len(rows)


def _objects(lines: list[bytes], start: int) -> list[dict[str, Any]]:
    try:
        return _line.decode_lines(b"".join(lines))
    except (msgspec.MsgspecError, UnicodeError):
        return _one_by_one(lines, start)


def _one_by_one(lines: list[bytes], start: int) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for line in lines:
        if not line.strip():
            continue
        try:
            rows.append(_line.decode(line))
        except (msgspec.MsgspecError, UnicodeError) as error:
            where = f"rows[{start + len(rows)}]"
            message = f"is not one JSON object on one line: {error}"
            raise SchemaError(f"{where} {message}", [Fault(where, message)]) from None
    return rows


def read_csv_text(file: IO[bytes], kinds: Kinds, size: int) -> Iterator[Part]:
    """Chunks of a CSV in UTF-8 whose first line names the columns; raises InvalidError for what is none."""
    try:
        records = csv.reader(_lines(file), strict=True)
        names = next(records, [])
        _check_names(names)
        start = 0
        while found := list(islice(records, size)):
            rows = [cells for cells in found if cells]
            _check_widths(rows, len(names), start)
            if rows:
                cells = zip(names, zip(*rows, strict=True), strict=True)
                yield Part(start, len(rows), {name: _column(kinds.get(name, "text"), c) for name, c in cells})
            start += len(rows)
    except (csv.Error, UnicodeDecodeError) as error:
        message = f"cannot be read as CSV ({error}): send UTF-8 text with a header line"
        raise InvalidError(f"The table {message}", [Fault("body", message)]) from None


def _lines(file: IO[bytes]) -> Iterator[str]:
    for i, line in enumerate(file):
        yield line.decode("utf-8-sig" if i == 0 else "utf-8")


def _check_names(names: list[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if not names or twice:
        message = f"names a column twice: {twice[0]!r}" if twice else "is missing: name every column in it"
        raise InvalidError(f"The CSV's header {message}", [Fault("body", f"the header {message}")])


def _check_widths(rows: list[list[str]], width: int, start: int) -> None:
    for i, row in enumerate(rows):
        if len(row) != width:
            where, message = (
                f"rows[{start + i}]",
                f"has {len(row)} cells for the {width} columns of the header",
            )
            raise SchemaError(f"{where} {message}", [Fault(where, message)])


def _column(kind: Kind, cells: tuple[str, ...]) -> Cells:
    if kind == "numeric":
        return _numbers(cells)
    if kind in ("boolean", "value"):
        read = _boolean if kind == "boolean" else _value
        known = {cell: read(cell) for cell in set(cells)}
        return [known[cell] for cell in cells]
    return [cell or None for cell in cells]


def _numbers(cells: tuple[str, ...]) -> Cells:
    try:
        if "_" not in "".join(cells):  # which Python would read
            return list(map(float, cells))
    except ValueError:
        pass
    return [_number(cell) for cell in cells]


def _number(cell: str) -> Any:
    if cell.strip() in MISSING:
        return None
    try:
        return cell if "_" in cell else float(cell)
    except ValueError:
        return cell


def _boolean(cell: str) -> Any:
    return None if cell in MISSING else _TRUTH.get(cell.lower(), cell)


def _value(cell: str) -> Any:
    """A class or a number: what looks like a number is one, ``true`` and ``false`` are booleans."""
    if not cell:
        return None
    if cell.lower() in ("true", "false"):
        return _TRUTH[cell.lower()]
    for kind in (int, float) if "_" not in cell else ():
        try:
            number = kind(cell)
        except ValueError:
            continue
        return number if number - number == 0 else cell  # "nan" and "inf" are words here
    return cell
