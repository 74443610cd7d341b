"""Reading the files that commands are given."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from everlearn.errors import InvalidError, MissingExtraError

if TYPE_CHECKING:
    import pandas as pd


def read_table(path: Path) -> pd.DataFrame:
    """A CSV or Parquet file with its columns named by text; raises InvalidError if it is neither."""
    import pandas as pd

    try:
        frame = pd.read_parquet(path) if path.suffix in (".parquet", ".pq") else pd.read_csv(path)
    except ImportError:
        raise MissingExtraError("Reading Parquet", "parquet") from None
    except UnicodeDecodeError:
        raise InvalidError(f"{path} is not UTF-8 text: save it as CSV in UTF-8, or as Parquet") from None
    except ValueError as error:  # pandas' parser errors, and pyarrow's
        raise InvalidError(f"{path} cannot be read as a table: {error}") from None
    if frame.empty:
        raise InvalidError(f"{path} has no rows")
    return frame.rename(columns=str)


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
