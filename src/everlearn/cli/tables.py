"""Reading the files that commands are given."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from everlearn.errors import InvalidError

if TYPE_CHECKING:
    import pandas as pd


def read_table(path: Path) -> pd.DataFrame:
    """A CSV or Parquet file with at least one row; raises InvalidError if it is none."""
    from everlearn.loop.tables import read_table as read

    frame = read(path)
    if frame.empty:
        raise InvalidError(f"data: {path} has no rows")
    return frame


def batches(frame: pd.DataFrame, size: int) -> Iterator[list[dict[str, Any]]]:
    """The rows as plain dicts, ``size`` at a time; missing cells are ``None``, times are ISO text."""
    names = list(frame.columns)
    for start in range(0, len(frame), size):
        values = frame.iloc[start : start + size].astype(object).to_numpy().tolist()
        yield [{name: plain(value) for name, value in zip(names, row, strict=True)} for row in values]


def plain(value: Any) -> Any:
    """A cell as a JSON value."""
    if value is None or value != value or (isinstance(value, float) and math.isnan(value)):
        return None
    if hasattr(value, "isoformat"):
        return value.isoformat()
    return value.item() if hasattr(value, "item") else value
