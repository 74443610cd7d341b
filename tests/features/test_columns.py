"""A table by columns has the clean rows, the faults and the numbers that its rows have one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from everlearn.errors import SchemaError
from everlearn.features.columns import check_columns, numbers_of, rows_of
from everlearn.features.encoder import Encoder
from everlearn.features.schema import Checked, Schema

KINDS = {"b": "boolean", "c": "categorical", "n": "numeric", "t": "timestamp"}
FLOATS = st.floats() | st.integers(-(2**40), 2**40).map(float)
CELL = (
    st.none() | FLOATS | st.integers(-5, 5) | st.booleans() | st.sampled_from(["red", "true", "2024-05-01"])
)


@st.composite
def tables(draw: st.DrawFn) -> tuple[dict[str, Any], int]:
    """Columns under some of the names, as lists or arrays, and how many rows they have."""
    size = draw(st.integers(0, 6))
    columns: dict[str, Any] = {}
    for name in draw(st.lists(st.sampled_from("bcntx"), unique=True, min_size=1)):
        sort = draw(st.sampled_from(["any", "?", "i8", "f8"]))
        cells = {"any": CELL, "?": st.booleans(), "i8": st.integers(-9, 9), "f8": FLOATS}[sort]
        drawn = draw(st.lists(cells, min_size=size, max_size=size))
        columns[name] = drawn if sort == "any" else np.array(drawn, dtype=sort)
    return columns, size


def checked(check: Any) -> Any:
    """What a check says: its clean rows with the types of their cells, or its faults."""
    try:
        found: Checked = check()
    except SchemaError as error:
        return [(fault.field, fault.message) for fault in error.faults]
    return [[(k, type(v), v) for k, v in row.items()] for row in found.rows], dict(found.ignored)


@given(table=tables(), strict=st.booleans())
@settings(max_examples=300, deadline=None)
def test_columns_say_what_rows_say(table: tuple[dict[str, Any], int], strict: bool) -> None:
    columns, size = table
    schema = Schema(KINDS, strict=strict)
    assert checked(lambda: check_columns(schema, columns, size)) == checked(
        lambda: schema.check(rows_of(columns, size))
    )


@given(cells=st.lists(st.tuples(st.floats(allow_infinity=False), st.booleans()), min_size=1))
@settings(deadline=None)
def test_numbers_are_those_of_the_encoder(cells: list[tuple[float, bool]]) -> None:
    kinds = {"b": "boolean", "n": "numeric"}
    columns = {
        "n": np.array([n for n, _ in cells]),
        "b": np.array([b for _, b in cells]),
        "x": ["?"] * len(cells),
    }
    schema = Schema(kinds)
    rows = check_columns(schema, columns, len(cells)).rows
    np.testing.assert_array_equal(numbers_of(schema, columns), Encoder(kinds).transform(rows))


@pytest.mark.parametrize("columns", [{"n": [1.0]}, {}, {"n": np.array(["a"])}])
def test_what_is_no_array_of_numbers_has_none(columns: dict[str, Any]) -> None:
    assert numbers_of(Schema({"n": "numeric"}), columns) is None
    assert numbers_of(Schema({"n": "categorical"}), {"n": np.array([1.0])}) is None
