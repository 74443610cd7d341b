"""A table as a stream: read a file, mend what is not worth an error, and check the rest."""

from __future__ import annotations

import math
import operator
import os
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from everlearn.errors import Fault, InvalidError, MissingExtraError, SchemaError
from everlearn.features.cells import CellError, is_missing, timestamp
from everlearn.features.schema import Schema
from everlearn.learners.inputs import LARGEST
from everlearn.loop.file_driver import Stream
from everlearn.spec import ModelSpec, parse_duration
from everlearn.types import Row, Scalar

if TYPE_CHECKING:
    import pandas as pd

MISSING_MARK = "?"
"""What many public data files write for a number that is missing."""


def read_table(path: str | os.PathLike[str]) -> pd.DataFrame:
    """A CSV or Parquet file with its columns named by text; raises InvalidError if it is neither.

    Besides commas a CSV may have semicolons or tabs between its cells.
    """
    import pandas as pd

    path = Path(path)
    try:
        frame = pd.read_parquet(path) if path.suffix in (".parquet", ".pq") else _read_csv(path)
    except FileNotFoundError:
        raise InvalidError(f"data: there is no file {path}") from None
    except IsADirectoryError:
        raise InvalidError(f"data: {path} is a folder: give a CSV or Parquet file") from None
    except ImportError:
        raise MissingExtraError("Reading Parquet", "parquet") from None
    except UnicodeDecodeError:
        raise InvalidError(
            f"data: {path} is not UTF-8 text: save it as CSV in UTF-8, or as Parquet"
        ) from None
    except ValueError as error:  # pandas' parser errors, and pyarrow's
        words = str(error).strip()
        raise InvalidError(f"data: {path} cannot be read as a table: {words}") from None
    return frame.rename(columns=str)


def _read_csv(path: Path) -> pd.DataFrame:
    import pandas as pd

    frame = pd.read_csv(path, low_memory=False)
    if frame.shape[1] > 1:
        return frame
    header = str(frame.columns[0])
    mark = next((mark for mark in ";\t" if mark in header), None)
    if mark is None:
        return frame
    found = [pd.read_csv(path, low_memory=False, sep=mark, decimal=point) for point in ".,"]
    return max(found, key=lambda table: len(table.select_dtypes("number").columns))


def tidied(frame: pd.DataFrame, target: str, kinds: Mapping[str, str]) -> pd.DataFrame:
    """The table with numbers where only their writing hid them, and none that is infinite.

    In columns of features that are not declared to be anything but numeric (``kinds``), ``?`` among
    numbers is a missing one, numbers of other types (decimals) become floats, and an infinity is a
    missing value, as it is for learners.
    """
    mended = {
        name: better
        for i, name in enumerate(frame.columns)
        if name != target
        and kinds.get(name, "numeric") == "numeric"
        and (better := _numbers(frame.iloc[:, i])) is not None
    }
    return frame.assign(**mended) if mended and frame.columns.is_unique else frame


def _numbers(column: pd.Series[Any]) -> pd.Series[Any] | None:
    """The column as numbers, or ``None`` if it is good as it is."""
    import pandas as pd
    from pandas.api import types

    if types.is_float_dtype(column.dtype):
        infinite = column.abs() == math.inf
        return column.mask(infinite) if bool(infinite.any()) else None
    if not (types.is_object_dtype(column.dtype) or types.is_string_dtype(column.dtype)):
        return None
    values = column.dropna()
    marked = values.map(lambda value: isinstance(value, str) and value.strip() == MISSING_MARK).astype(bool)
    values = values[~marked]
    texts = values.map(lambda value: isinstance(value, str | bool)).astype(bool)
    if values.empty or (texts.any() and not marked.any()):
        return None
    numbers = pd.to_numeric(values, errors="coerce")
    if not types.is_numeric_dtype(numbers.dtype) or types.is_bool_dtype(numbers.dtype):
        return None
    return None if bool(numbers.isna().any()) else numbers.astype(float).reindex(column.index)


def delay_of(label_delay: Any) -> int | str:
    """A label delay as a number of rows or as a duration; raises InvalidError if it is neither."""
    if isinstance(label_delay, str) and not label_delay.strip().isdigit():
        try:
            parse_duration(label_delay)
        except ValueError as error:
            raise InvalidError(f"label_delay: {error}; or a number of rows such as 500") from None
        return label_delay.strip()
    try:
        rows = int(label_delay) if isinstance(label_delay, str) else operator.index(label_delay)
    except TypeError:
        message = f"{label_delay!r} is neither a whole number of rows nor a duration such as '2h'"
        raise InvalidError(f"label_delay: {message}") from None
    if rows < 0:
        raise InvalidError("label_delay: a label cannot come before its row: use 0 or more")
    return rows


def stream_of(
    frame: pd.DataFrame, spec: ModelSpec, label_delay: int | str, time_column: str | None
) -> Stream:
    """The table as rows, targets and times; raises InvalidError that names the column at fault."""
    missing = [name for name in spec.features if name not in frame.columns]
    if missing:
        message = f"the table has no column {missing[0]!r}"
        raise InvalidError(f"features: {message}", [Fault("features", message)])
    rows, targets = _rows(frame, spec), _targets(frame, spec)
    if isinstance(label_delay, int):
        return Stream(rows, targets, _times(frame, time_column, needed=False), label_delay)
    at = _times(frame, time_column, needed=True)
    return Stream(rows, targets, at, 0, parse_duration(label_delay))


def _rows(frame: pd.DataFrame, spec: ModelSpec) -> Sequence[Row]:
    columns = list(spec.features)
    values = frame[columns].astype(object).to_numpy().tolist()
    return Schema.from_spec(spec).check([dict(zip(columns, row, strict=True)) for row in values]).rows


def _targets(frame: pd.DataFrame, spec: ModelSpec) -> list[Scalar]:
    raw = frame[spec.target].astype(object).tolist()
    known = [i for i, value in enumerate(raw) if not is_missing(value)]
    if not known:
        raise InvalidError(f"target: column {spec.target!r} has no values")
    try:
        clean = Schema.from_spec(spec).check_target([raw[i] for i in known])
    except SchemaError as error:
        faults = [_of_row(fault, known, spec.target) for fault in error.faults]
        raise _bad_targets(faults, spec.target) from None
    targets: list[Scalar] = [None] * len(raw)
    for i, target in zip(known, clean, strict=True):
        targets[i] = target
    if spec.task == "regression":
        _in_bounds(targets, spec.target)
    return targets


def _of_row(fault: Fault, known: Sequence[int], target: str) -> Fault:
    """A fault of ``targets[i]`` (counted without the missing ones) by its place in the table."""
    index = int(fault.field.removeprefix("targets[").removesuffix("]"))
    return Fault(f"rows[{known[index]}].{target}", fault.message)


def _in_bounds(targets: Sequence[Scalar], name: str) -> None:
    message = f"a regression learns numbers under {LARGEST:g}: scale the column, or leave the row out"
    faults = [
        Fault(f"rows[{i}].{name}", f"is {target:g}: {message}")
        for i, target in enumerate(targets)
        if isinstance(target, float) and abs(target) >= LARGEST
    ]
    if faults:
        raise _bad_targets(faults, name)


def _bad_targets(faults: Sequence[Fault], name: str) -> SchemaError:
    first = f"{faults[0].field} {faults[0].message}"
    more = f" (and {len(faults) - 1} more such rows)" if len(faults) > 1 else ""
    return SchemaError(f"target: column {name!r} cannot be learned as it is: {first}{more}", faults)


def _times(frame: pd.DataFrame, column: str | None, *, needed: bool) -> list[float]:
    if column is None:
        if needed:
            raise InvalidError("time_column: a label delay in time needs the column that holds the time")
        return [float(i) for i in range(len(frame))]
    if column not in frame.columns:
        raise InvalidError(f"time_column: the table has no column {column!r}")
    times = [_time(i, value, column) for i, value in enumerate(frame[column].tolist())]
    for i, (before, after) in enumerate(pairwise(times), start=1):
        if after < before:
            raise InvalidError(f"time_column: column {column!r} goes back in time at row {i}: sort the table")
    return times


def _time(i: int, value: Any, column: str) -> float:
    try:
        cell = timestamp(value)
    except CellError as error:
        raise InvalidError(f"time_column: column {column!r}, row {i} {error}") from None
    if cell is None:
        raise InvalidError(f"time_column: column {column!r} has no value in row {i}")
    return float(cell)
