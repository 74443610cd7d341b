from __future__ import annotations

import json
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from everlearn.errors import SchemaError
from everlearn.features.schema import MAX_FAULTS, Schema
from everlearn.spec import parse_spec


def faults_of(schema: Schema, rows: Any, **options: Any) -> dict[str, str]:
    with pytest.raises(SchemaError) as caught:
        schema.check(rows, **options)
    return {fault.field: fault.message for fault in caught.value.faults}


def test_clean_rows_are_canonical(features: Any) -> None:
    checked = Schema(features).check(
        [
            {"size": 2, "colour": 7.0, "when": "1970-01-02", "open": 1, "age": 30.5},
            {"colour": "red", "size": None, "age": float("nan")},
        ]
    )
    assert checked.rows == [
        {"age": 30.5, "colour": "7", "open": True, "size": 2, "when": 86400.0},
        {"colour": "red"},
    ]
    assert list(checked.rows[0]) == sorted(features)
    assert checked.ignored == {}


def test_every_fault_of_every_row_is_named(features: Any) -> None:
    faults = faults_of(
        Schema(features),
        [
            {"age": "30", "colour": 1.5},
            {"age": 1},
            {"open": "yes"},
            {"size": float("inf")},
            ["age"],
            {"agee": 1},
        ],
    )
    assert list(faults) == [
        "rows[0].age",
        "rows[0].colour",
        "rows[2].open",
        "rows[3].size",
        "rows[4]",
        "rows[5]",
    ]
    assert "30 without quotes" in faults["rows[0].age"]
    assert "age, colour, open, size, when" in faults["rows[5]"]


def test_the_listing_is_capped_and_the_count_is_not() -> None:
    schema = Schema({"x": "numeric"})
    with pytest.raises(SchemaError, match=r"^250 faults: rows\[0\].x: .*; and 245 more$") as caught:
        schema.check([{"x": "a"}] * 250)
    assert len(caught.value.faults) == MAX_FAULTS


def test_missing_columns_are_missing_values_but_a_row_must_name_a_feature() -> None:
    schema = Schema({"a": "numeric", "b": "numeric"})
    assert schema.check([{"b": 1}, {"a": None}, {"b": None, "a": None}]).rows == [
        {"b": 1},
        {"a": None},
        {"a": None},
    ]
    assert list(faults_of(schema, [{}, {"c": 1}])) == ["rows[0]", "rows[1]"]


def test_unknown_columns_are_counted_or_refused() -> None:
    schema = Schema({"a": "numeric"})
    rows = [{"a": 1, "note": "x"}, {"a": 2}, {"a": 3, "note": "y", "id": 4}]
    assert schema.check(rows).ignored == {"note": 2, "id": 1}
    assert list(faults_of(schema, rows, strict=True)) == ["rows[0].note", "rows[2].note", "rows[2].id"]


def test_strictness_comes_from_the_spec_and_can_be_overridden() -> None:
    spec = parse_spec({"name": "m", "target": "y", "features": {"a": "numeric"}, "strict": True})
    schema = Schema.from_spec(spec)
    assert list(faults_of(schema, [{"a": 1, "b": 2}])) == ["rows[0].b"]
    assert schema.check([{"a": 1, "b": 2}], strict=False).ignored == {"b": 1}


def test_a_row_of_as_many_columns_as_features_is_still_looked_at() -> None:
    schema = Schema({"a": "numeric", "b": "numeric"})
    assert schema.check([{"a": 1, "c": 2}]).rows == [{"a": 1}]
    assert list(faults_of(schema, [{"a": 1e308, "b": "1"}])) == ["rows[0].b"]
    assert schema.check([{"a": 1e308, "b": 1e308}]).rows == [{"a": 1e308, "b": 1e308}]
    assert list(faults_of(schema, [{"a": float("inf"), "b": -float("inf")}])) == ["rows[0].a", "rows[0].b"]
    assert list(faults_of(schema, [{"a": 1, "b": 10**400}])) == ["rows[0].b"]


def test_values_of_numpy_become_json_values() -> None:
    schema = Schema({"a": "numeric", "b": "numeric", "c": "boolean"})
    row = {"a": np.float32(0.5), "b": np.int64(3), "c": np.bool_(True)}
    assert json.dumps(schema.check([row]).rows) == '[{"a": 0.5, "b": 3, "c": true}]'


@settings(max_examples=50)
@given(data=st.data())
def test_clean_rows_are_their_own_clean_rows_and_json(fitting_rows: Any, data: st.DataObject) -> None:
    from everlearn.types import FeatureKind

    features: dict[str, FeatureKind] = {
        "when": "timestamp",
        "size": "numeric",
        "open": "boolean",
        "colour": "categorical",
        "age": "numeric",
    }
    schema = Schema(features)
    rows = data.draw(fitting_rows)
    once = schema.check(rows)
    again = schema.check(json.loads(json.dumps(once.rows)), strict=True)
    assert again.rows == once.rows
    assert sum(once.ignored.values()) == sum("note" in row for row in rows)
    one_by_one = [schema.check([row]).rows[0] for row in rows]
    assert one_by_one == once.rows


CLASSES = Schema({"x": "numeric"}, "classification")
NUMBERS = Schema({"x": "numeric"}, "regression")


def test_classes_are_canonical() -> None:
    values = ["a", "", True, 3, 3.0, -2.0, np.int64(5), np.float64(4.0), np.str_("b"), np.bool_(False)]
    clean = CLASSES.check_target(values)
    assert clean == ["a", "", True, 3, 3, -2, 5, 4, "b", False]
    assert [type(value) for value in clean] == [str, str, bool, int, int, int, int, int, str, bool]


def test_targets_of_a_regression_are_finite_floats() -> None:
    clean = NUMBERS.check_target([1, 2.5, np.float32(0.5)])
    assert clean == [1.0, 2.5, 0.5]
    assert {type(value) for value in clean} == {float}


@pytest.mark.parametrize("schema", [CLASSES, NUMBERS])
def test_every_bad_target_is_named(schema: Schema) -> None:
    with pytest.raises(SchemaError) as caught:
        schema.check_target([1, None, float("nan"), float("inf"), [2], 4])
    assert [fault.field for fault in caught.value.faults] == [f"targets[{i}]" for i in (1, 2, 3, 4)]


def test_fractions_are_no_classes_and_texts_no_numbers() -> None:
    with pytest.raises(SchemaError, match="use task regression"):
        CLASSES.check_target([1.5])
    for value in ("1.5", True):
        with pytest.raises(SchemaError, match="send a finite number"):
            NUMBERS.check_target([value])


def test_good_rows_are_checked_fast() -> None:
    row = {f"x{i}": i + 0.5 for i in range(8)}
    schema = Schema(dict.fromkeys(row, "numeric"))
    rows = [row] * 2000
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        schema.check(rows)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) / len(rows) < 20e-6, "about 1 µs a row on a slow core"
