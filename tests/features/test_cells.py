from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from everlearn.features.cells import CELLS, CellError, boolean, categorical, numeric, timestamp

ANY = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.datetimes(timezones=st.none() | st.just(UTC)),
    st.lists(st.integers(), max_size=2),
    st.sampled_from([10**400, -(10**5000), "nan", "inf", " 1 ", "2024-01-01", np.float32(1.5), np.int8(3)]),
    st.sampled_from([np.bool_(True), pd.NaT, pd.NA, pd.Timestamp("2024-01-01"), b"x", {}, np.zeros(2)]),
)


@pytest.mark.parametrize("kind", list(CELLS))
@given(value=ANY)
def test_any_value_is_a_clean_cell_or_a_cell_error(kind: Any, value: Any) -> None:
    try:
        cell = CELLS[kind](value)
    except CellError as error:
        message = str(error)
    else:
        message = None
    if message is not None:
        assert "send" in message
        assert len(message) < 250
        return
    assert cell is None or type(cell) in (bool, int, float, str)
    assert CELLS[kind](cell) == cell, "a clean cell is its own clean form"


@pytest.mark.parametrize("kind", list(CELLS))
@pytest.mark.parametrize(
    "missing", [None, float("nan"), np.float64("nan"), pd.NaT, pd.NA, np.datetime64("NaT")]
)
def test_null_and_nan_are_missing(kind: Any, missing: Any) -> None:
    assert CELLS[kind](missing) is None


@pytest.mark.parametrize("value", [0, -0.0, 2**70, 1e308, np.float32(0.5), np.int64(7)])
def test_numbers_are_numeric(value: Any) -> None:
    assert numeric(value) == value


@pytest.mark.parametrize(
    ("value", "fix"),
    [
        ("3.5", "send 3.5 without quotes"),
        ("n/a", "null for a missing value"),
        ("nan", "null for a missing value"),
        (True, "declare the feature boolean"),
        (float("inf"), "send a number"),
        (10**400, "send a number"),
        ([1], "send a number"),
    ],
)
def test_what_is_not_numeric_says_the_fix(value: Any, fix: str) -> None:
    with pytest.raises(CellError, match=fix):
        numeric(value)


def test_booleans() -> None:
    assert [boolean(v) for v in (True, False, 1, 0, 1.0, 0.0, "true", "False", np.bool_(True))] == [
        True, False, True, False, True, False, True, False, True,
    ]  # fmt: skip
    for value in (2, "yes", 0.5):
        with pytest.raises(CellError, match="send true or false"):
            boolean(value)


def test_categories_of_one_meaning_have_one_text() -> None:
    assert categorical(7) == categorical(7.0) == categorical(np.int64(7)) == categorical("7") == "7"
    assert categorical(True) == "true"
    assert categorical("") == ""
    for value in (7.5, float("inf"), ["a"], 1e300):
        with pytest.raises(CellError, match="send text"):
            categorical(value)


@pytest.mark.parametrize(
    "value",
    [
        86400,
        86400.0,
        "1970-01-02",
        "1970-01-02T00:00:00Z",
        "1970-01-02 02:00:00+02:00",
        datetime(1970, 1, 2),
        datetime(1970, 1, 2, 1, tzinfo=timezone(timedelta(hours=1))),
        date(1970, 1, 2),
        pd.Timestamp("1970-01-02"),
        np.datetime64("1970-01-02"),
    ],
)
def test_moments_are_seconds_since_1970(value: Any) -> None:
    assert timestamp(value) == 86400.0


@pytest.mark.parametrize(
    ("value", "fix"),
    [
        (1_700_000_000_000, "not milliseconds"),
        ("yesterday", "ISO 8601"),
        ("1700000000", "ISO 8601"),
        (True, "ISO 8601"),
        (float("inf"), "ISO 8601"),
        (datetime.min.isoformat() + "+23:00", "ISO 8601"),
    ],
)
def test_what_is_no_moment_says_the_fix(value: Any, fix: str) -> None:
    with pytest.raises(CellError, match=fix):
        timestamp(value)
