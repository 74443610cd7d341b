from __future__ import annotations

import copy
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from everlearn.errors import IntegrityError, InvalidError
from everlearn.features.encoder import CALENDAR, Encoder
from everlearn.features.schema import Schema
from everlearn.types import FeatureKind

FEATURES: dict[str, FeatureKind] = {
    "when": "timestamp",
    "size": "numeric",
    "open": "boolean",
    "colour": "categorical",
    "age": "numeric",
}


def same(a: Any, b: Any) -> bool:
    return np.array_equal(a, b, equal_nan=True)


def test_columns_are_in_the_order_of_names() -> None:
    encoder = Encoder(FEATURES)
    assert encoder.columns == ["age", "colour", "open", "size", *(f"when.{part}" for part in CALENDAR)]
    assert encoder.categorical == (1,)
    assert Encoder(dict(reversed(FEATURES.items()))).columns == encoder.columns


def test_numbers_booleans_and_missing() -> None:
    encoder = Encoder({"b": "boolean", "n": "numeric"})
    X = encoder.transform([{"n": 2, "b": True}, {"b": False}, {"n": None, "b": None}, {}])
    assert same(X, [[1.0, 2.0], [0.0, np.nan], [np.nan, np.nan], [np.nan, np.nan]])
    assert X.dtype == np.float64
    assert X.flags.c_contiguous


def test_categories_get_codes_in_order_of_appearance() -> None:
    encoder = Encoder({"c": "categorical"})
    encoder.learn([{"c": "z"}, {"c": None}, {}, {"c": "a"}, {"c": "z"}])
    encoder.learn([{"c": "m"}])
    assert same(
        encoder.transform([{"c": k} for k in ("z", "a", "m", "new", None)])[:, 0], [0, 1, 2, np.nan, np.nan]
    )


def test_unchecked_categories_mean_what_checked_ones_do() -> None:
    encoder = Encoder({"c": "categorical"})
    encoder.learn([{"c": 7}, {"c": True}])
    assert same(encoder.transform([{"c": "7"}, {"c": 7.0}, {"c": "true"}])[:, 0], [0, 0, 1])


def test_categories_are_bounded_and_the_rest_is_missing() -> None:
    encoder = Encoder({"c": "categorical"}, max_categories=3)
    encoder.learn([{"c": str(i)} for i in range(100_0)])
    assert same(encoder.transform([{"c": "2"}, {"c": "3"}])[:, 0], [2, np.nan])
    assert encoder.state()["categories"] == {"c": ["0", "1", "2"]}


def test_a_timestamp_goes_round_the_day_and_the_week() -> None:
    encoder = Encoder({"t": "timestamp"})
    monday = 4 * 86400.0  # 1970-01-05
    X = encoder.transform([{"t": monday}, {"t": monday + 6 * 3600}, {"t": monday + 7 * 86400}, {"t": None}])
    assert X[0] == pytest.approx([0, 1, 0, 1, 4], abs=1e-9)
    assert X[1, :2] == pytest.approx([1, 0], abs=1e-9)
    assert X[2, :4] == pytest.approx(X[0, :4], abs=1e-9)
    assert np.isnan(X[3]).all()


def test_transform_changes_nothing_and_no_rows_are_fine() -> None:
    encoder = Encoder(FEATURES)
    encoder.learn([{"colour": "red"}])
    before = copy.deepcopy(encoder.state())
    encoder.transform([{"colour": "blue"}])
    assert encoder.state() == before
    assert encoder.transform([]).shape == (0, 9)
    assert Encoder({"x": "numeric"}).transform([]).shape == (0, 1)


@pytest.mark.parametrize("features", [{"x": "numeric"}, {"x": "timestamp"}, {"x": "categorical"}])
def test_rows_that_were_not_checked_say_so(features: Any) -> None:
    with pytest.raises(InvalidError, match=r"Schema\.check"):
        Encoder(features).transform([{"x": ["what"]}])


def test_a_copy_learns_on_its_own() -> None:
    encoder = Encoder({"c": "categorical"})
    encoder.learn([{"c": "a"}])
    twin = encoder.copy()
    twin.learn([{"c": "b"}])
    assert encoder.state()["categories"] == {"c": ["a"]}
    assert twin.state()["categories"] == {"c": ["a", "b"]}


@settings(max_examples=50)
@given(data=st.data())
def test_state_round_trip_batches_and_order_of_keys(fitting_rows: Any, data: st.DataObject) -> None:
    rows = Schema(FEATURES).check(data.draw(fitting_rows)).rows
    encoder, one_by_one = Encoder(FEATURES, max_categories=4), Encoder(FEATURES, max_categories=4)
    encoder.learn(rows)
    for row in rows:
        one_by_one.learn([row])
    assert one_by_one.state() == encoder.state()

    restored = Encoder(dict(reversed(FEATURES.items())))
    restored.restore(json.loads(json.dumps(encoder.state(), sort_keys=True)))
    assert restored.state() == encoder.state()

    X = encoder.transform(rows)
    assert same(restored.transform([dict(reversed(row.items())) for row in rows]), X)
    assert X.shape == (len(rows), len(encoder.columns))
    for i, row in enumerate(rows):
        assert same(restored.transform([row])[0], X[i])


@pytest.mark.parametrize(
    "damage",
    [
        {"columns": ["other"]},
        {"categories": {}},
        {"categories": {"c": ["a", "a"]}},
        {"categories": {"c": 3}},
        {"categories": {"c": [["a"]]}},
        {"categories": {"c": ["a", 1]}},
        {"max_categories": "many"},
        None,
    ],
)
def test_a_damaged_state_is_refused(damage: dict[str, Any] | None) -> None:
    encoder = Encoder({"c": "categorical"})
    encoder.learn([{"c": "a"}])
    state = {} if damage is None else {**encoder.state(), **damage}
    with pytest.raises(IntegrityError):
        encoder.restore(state)
    assert encoder.state()["categories"] == {"c": ["a"]}
