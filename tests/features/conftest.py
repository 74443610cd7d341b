"""Features of every kind, and rows that fit them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import strategies as st

from everlearn.types import FeatureKind

FEATURES: dict[str, FeatureKind] = {
    "when": "timestamp",
    "size": "numeric",
    "open": "boolean",
    "colour": "categorical",
    "age": "numeric",
}

_FITS: dict[str, Any] = {
    "when": st.none() | st.floats(-1e9, 1e10) | st.sampled_from(["2024-02-29T12:00:00Z", "1999-12-31"]),
    "size": st.none() | st.floats(allow_infinity=False) | st.integers(-(2**60), 2**60),
    "open": st.none() | st.booleans() | st.sampled_from([0, 1, "true"]),
    "colour": st.none() | st.text(max_size=5) | st.integers(0, 5) | st.booleans(),
    "age": st.none() | st.integers(0, 120),
    "note": st.text(max_size=3),
}


@pytest.fixture
def features() -> dict[str, FeatureKind]:
    """One feature of every kind and one more number, not in the order of their names."""
    return dict(FEATURES)


@pytest.fixture(scope="session")
def fitting_rows() -> st.SearchStrategy[list[dict[str, Any]]]:
    """Lists of rows that the schema lets through: any order of keys, cells missing, one column extra."""

    def shuffled(row: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
        return st.permutations(list(row.items())).map(dict)

    row = st.fixed_dictionaries({}, optional=_FITS).filter(lambda row: row.keys() & FEATURES.keys())
    return st.lists(row.flatmap(shuffled), max_size=6)
