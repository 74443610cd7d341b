"""A first spec from a table: the kinds of its columns, and the task, by type and content."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from everlearn.errors import Fault, InvalidError
from everlearn.features.cells import CellError, timestamp
from everlearn.types import FeatureKind, Task

if TYPE_CHECKING:
    import pandas as pd

MAX_CATEGORIES = 1000
MANY_CLASSES = 100
MANY_VALUES = 20
_ID_NAME = re.compile(r"(?i)(.*[_ .-])?(id|uuid|guid|index)|unnamed: \d+")
_MARKS = {";": "semicolons", "\t": "tabs", "|": "bars"}
_DATE = re.compile(r"\d{4}-\d{2}")


class InferredSpec(dict[str, Any]):
    """A spec that ``parse_spec`` reads, with ``notes`` on what was decided and why, a line each."""

    def __init__(self, spec: dict[str, Any], notes: list[str]) -> None:
        super().__init__(spec)
        self.notes = notes


def infer_spec(frame: pd.DataFrame, target: str, name: str = "model") -> InferredSpec:
    """A spec for predicting a column of a table from the others.

    Numbers are ``numeric``; booleans and the texts true and false ``boolean``; dates ``timestamp``;
    text with few values ``categorical``. Left out, with a note: ids (a different value in every row),
    free text, and columns without a value. A target of numbers with many values or with fractions is
    a regression. Raises InvalidError if there is no such target or nothing is left to learn from.

    >>> import pandas as pd
    >>> spec = infer_spec(pd.DataFrame({"age": [3, 4], "sex": ["f", "m"], "ill": [True, False]}), "ill")
    >>> spec["task"], spec["features"]
    ('classification', {'age': 'numeric', 'sex': 'categorical'})
    """
    names = [str(column) for column in frame.columns]
    _check_names(names, target)
    features: dict[str, FeatureKind] = {}
    notes: list[str] = []
    for i, column in enumerate(names):
        if column == target:
            continue
        kind, note = _kind(frame.iloc[:, i], column)
        if kind is not None:
            features[column] = kind
        if note:
            notes.append(f"{column}: {note}")
    if not features:
        why = "; ".join(notes) or f"there is none beside the target {target!r}"
        raise _invalid("features", f"no column is left to learn from: {why}")
    _check_copies(frame, names, target)
    task, note = _task(frame.iloc[:, names.index(target)], target)
    notes.append(f"{target}: {note}")
    return InferredSpec({"name": name, "task": task, "target": target, "features": features}, notes)


def _check_names(names: list[str], target: str) -> None:
    if target not in names:
        mark = next((mark for mark in _MARKS if len(names) == 1 and mark in names[0]), None)
        if mark:
            found = f"cells seem to be separated by {_MARKS[mark]}: save the file with commas"
            raise _invalid("target", f"there is no column {target!r}, for the {found}")
        raise _invalid("target", f"there is no column {target!r}: use one of {', '.join(names)}")
    doubled = sorted({column for column in names if names.count(column) > 1})
    if doubled:
        raise _invalid("features", f"there are several columns {doubled[0]!r}: rename them")


def _check_copies(frame: pd.DataFrame, names: list[str], target: str) -> None:
    """Refuse a second column of the target's name, which pandas reads as ``target.1``."""
    values = frame.iloc[:, names.index(target)]
    for i, name in enumerate(names):
        if re.fullmatch(re.escape(target) + r"\.\d+", name) and frame.iloc[:, i].equals(values.rename(name)):
            raise _invalid("features", f"column {name!r} repeats the target {target!r}: leave it out")


def _kind(column: pd.Series[Any], name: str) -> tuple[FeatureKind | None, str]:
    from pandas.api import types

    values = column.dropna()
    if values.empty:
        return None, "left out: it has no values"
    if types.is_bool_dtype(values.dtype):
        return "boolean", ""
    if types.is_numeric_dtype(values.dtype):
        if types.is_integer_dtype(values.dtype) and _ID_NAME.fullmatch(name) and _all_differ(values):
            return None, "left out: a number of its own in every row looks like an id"
        return "numeric", ""
    if types.is_datetime64_any_dtype(values.dtype):
        return "timestamp", ""
    return _kind_of_objects(values)


def _kind_of_objects(values: pd.Series[Any]) -> tuple[FeatureKind | None, str]:
    cells = values.tolist()
    if all(isinstance(value, bool) or str(value).lower() in ("true", "false") for value in cells):
        return "boolean", ""
    if all(not isinstance(value, bool) and isinstance(value, int | float) for value in cells):
        return "numeric", ""
    if all(_is_date(value) for value in cells):
        return "timestamp", ""
    odd = next((value for value in cells if not isinstance(value, str | int | float)), None)
    if odd is not None:
        return None, f"left out: it holds values of the type {type(odd).__name__}"
    texts = values.astype(str)
    distinct = int(texts.nunique())
    if _all_differ(texts):
        return None, "left out: a text of its own in every row looks like an id"
    if distinct > MAX_CATEGORIES or distinct > max(MANY_VALUES, len(texts) // 2):
        return None, f"left out: {distinct} different texts in {len(texts)} rows are too many for categories"
    return "categorical", f"categorical with {distinct} values" if distinct > MANY_VALUES else ""


def _task(column: pd.Series[Any], name: str) -> tuple[Task, str]:
    from pandas.api import types

    values = column.dropna()
    if values.empty:
        raise _invalid("target", f"column {name!r} has no values")
    distinct = int(values.nunique())
    if types.is_bool_dtype(values.dtype) or not types.is_numeric_dtype(values.dtype):
        if _all_differ(values):
            raise _invalid("target", f"column {name!r} has a value of its own in every row: no class recurs")
        return "classification", f"classification into {distinct} classes"
    whole = bool((values % 1 == 0).all())
    many = distinct > (MANY_CLASSES if types.is_integer_dtype(values.dtype) else MANY_VALUES)
    if many or not whole:
        return "regression", f"regression, for it has {distinct} different numbers"
    return "classification", f"classification into {distinct} classes (for numbers, set task: regression)"


def _all_differ(values: pd.Series[Any]) -> bool:
    return len(values) >= 10 and bool(values.is_unique)


def _is_date(value: Any) -> bool:
    if isinstance(value, str) and not _DATE.match(value.strip()):
        return False
    try:
        return not isinstance(value, bool | int | float) and timestamp(value) is not None
    except CellError:
        return False


def _invalid(field: str, message: str) -> InvalidError:
    return InvalidError(f"{field}: {message}", [Fault(field, message)])
