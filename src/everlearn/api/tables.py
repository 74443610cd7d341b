"""Uploaded tables as rows and targets, a chunk at a time. pandas is imported when used."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any

from everlearn.api.table_parts import Kind
from everlearn.api.uploads import Reader
from everlearn.errors import Fault, InvalidError
from everlearn.features.columns import rows_of
from everlearn.spec import ModelSpec

_MISSING_NUMBERS = ["", "NA", "N/A", "NaN", "nan", "null", "NULL", "None", "n/a", "<NA>"]


def read_csv(
    file: IO[bytes], spec: ModelSpec, size: int
) -> Iterator[tuple[Sequence[Mapping[str, Any]], Sequence[Any]]]:
    """Chunks of a CSV in UTF-8 with a header.

    Categorical cells and text targets stay as they are written (``"NA"`` is a category, the empty
    cell is missing); numbers also know the usual words for missing. Raises InvalidError for a table
    that cannot be read or lacks the target.
    """
    import pandas as pd

    _check_header(file)
    kinds: Mapping[str, str] = spec.columns
    text = {name: str for name, kind in kinds.items() if kind in ("categorical", "timestamp")}
    numbers = {
        name: _MISSING_NUMBERS for name, kind in kinds.items() if kind not in ("categorical", "timestamp")
    }
    try:
        with pd.read_csv(
            file,
            chunksize=size,
            dtype=text,
            na_values={**{name: [""] for name in (*text, spec.target)}, **numbers},
            keep_default_na=False,
            encoding="utf-8",
        ) as reader:
            numeric = [name for name, kind in kinds.items() if kind == "numeric"]
            for frame in reader:
                yield _split(_numbers_kept(frame, [*numeric, spec.target]), spec)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise _unreadable(error) from None


def read_parts(
    read: Reader, file: IO[bytes], spec: ModelSpec, size: int
) -> Iterator[tuple[Sequence[Mapping[str, Any]], Sequence[Any]]]:
    """Chunks of a table in another format (see :mod:`everlearn.api.uploads`).

    Raises InvalidError for one that cannot be read or lacks the target, MissingExtraError without pyarrow.
    """
    kinds: dict[str, Kind] = {**spec.columns, spec.target: "value"}
    for part in read(file, kinds, size):
        targets = part.take(spec.target)
        if targets is None:
            raise _no_target(spec)
        rows = part.rows if part.rows is not None else rows_of(part.columns, part.size)
        yield rows, targets


def _check_header(file: IO[bytes]) -> None:
    """Raise InvalidError where rows have more cells than the header: pandas would shift them aside.

    It goes by the first row; rows that are longer than that one are errors of its own.
    """
    records = csv.reader(line.decode("utf-8", "replace") for line in file)
    try:
        header, first = next(records, []), next(records, [])
    except csv.Error:  # pandas says better what is wrong
        header = first = []
    file.seek(0)
    if len(first) > len(header):
        message = "rows have more cells than the header names: name every column in the first line"
        raise InvalidError(f"The table's {message}", [Fault("file", message)])


def _numbers_kept(frame: Any, names: Sequence[str]) -> Any:
    """Undo what one word does to a column: pandas reads all of its cells in the chunk as text."""
    import pandas as pd

    for name in names:
        if name in frame.columns and frame[name].dtype.kind not in "ifb":
            numbers = pd.to_numeric(frame[name], errors="coerce")
            frame[name] = frame[name].astype(object).where(numbers.isna(), numbers.astype(object))
    return frame


def _split(frame: Any, spec: ModelSpec) -> tuple[list[dict[str, Any]], list[Any]]:
    if spec.target not in frame.columns:
        raise _no_target(spec)
    targets = _cells(frame[spec.target])
    columns = {str(name): _cells(frame[name]) for name in frame.columns if name != spec.target}
    rows = [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]
    return rows if columns else [{} for _ in targets], targets


def _cells(column: Any) -> list[Any]:
    """A column as plain Python values, with ``None`` for what is missing."""
    return list(column.astype(object).where(column.notna(), None))


def _no_target(spec: ModelSpec) -> InvalidError:
    message = f"the table has no such column: the model's target is {spec.target!r}"
    return InvalidError(f"{spec.target}: {message}", [Fault(spec.target, message)])


def _unreadable(error: Exception) -> InvalidError:
    what = str(error).splitlines()[0][:200] if isinstance(error, ValueError) else type(error).__name__
    message = f"cannot be read as CSV ({what}): send UTF-8 text with a header line"
    return InvalidError(f"The table {message}", [Fault("file", message)])
