"""The column that names whose row it is: stored with the row, never learned, and no part of a version."""

from __future__ import annotations

from typing import Any

import pytest

from everlearn.errors import SpecError
from everlearn.features.columns import check_columns
from everlearn.features.schema import Schema
from everlearn.predictor import Predictor
from everlearn.spec import parse_spec


def spec(**changes: Any) -> dict[str, Any]:
    return {"name": "m", "target": "y", "features": {"x": "numeric", "who": "categorical"}, **changes}


def test_a_subject_beside_the_features_is_kept_with_the_row() -> None:
    schema = Schema.from_spec(parse_spec(spec(subject="user")))
    checked = schema.check([{"x": 1.0, "who": "a", "user": 7, "note": "?"}, {"x": 2.0, "who": "b"}])
    assert checked.rows == [{"user": "7", "who": "a", "x": 1.0}, {"who": "b", "x": 2.0}]
    assert checked.ignored == {"note": 1}


def test_tables_keep_it_too() -> None:
    schema = Schema.from_spec(parse_spec(spec(subject="user")))
    columns = {"x": [1.0] * 70, "who": ["a"] * 70, "user": [7] * 70}
    assert check_columns(schema, columns, 70).rows[0] == {"user": "7", "who": "a", "x": 1.0}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"subject": "y"}, "is the target"),
        ({"subject": "x"}, "is a numeric feature: declare it categorical"),
        ({"subject": "who", "gate": {"segments": ["who"]}}, "is in gate.segments"),
    ],
)
def test_a_column_that_cannot_name_a_subject_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        parse_spec(spec(**changes))


def test_a_version_does_not_hold_it_and_has_the_same_digest_without_it() -> None:
    rows = [{"x": float(i % 7), "who": "ab"[i % 2], "user": f"u{i}"} for i in range(40)]
    bundles = []
    for subject in (None, "user"):
        predictor = Predictor.new(parse_spec(spec(subject=subject)))
        predictor.learn(rows, ["yes" if row["x"] > 3 else "no" for row in rows])
        bundles.append(predictor.bundle(rows))
    assert "u3" not in str(bundles[1].manifest)
    assert bundles[0].manifest == bundles[1].manifest
