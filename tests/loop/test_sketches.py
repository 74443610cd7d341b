from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from everlearn.loop.cells import cells_of
from everlearn.loop.sketches import (
    BINS,
    NAMES,
    NumericSketch,
    Sketch,
    category_sketch,
    merge,
    numeric_sketch,
)

numbers = st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6, width=32)), max_size=400)
words = st.lists(st.one_of(st.none(), st.sampled_from("abcdefg"), st.booleans()), max_size=60)


def ranks(sketch: NumericSketch, at: list[float]) -> list[float]:
    return sketch.below(np.array(at)).tolist() if sketch.counts else [0.0] * len(at)


def test_few_values_are_kept_exactly() -> None:
    sketch = numeric_sketch([0, 1, 1, None, 0, 1])
    assert (sketch.lows, sketch.highs, sketch.counts, sketch.missing) == ([0, 1], [0, 1], [2, 3], 1)


def test_a_sketch_is_bounded_and_exact_at_the_ends_of_its_bins() -> None:
    values = np.random.default_rng(0).normal(size=5000)
    sketch = numeric_sketch(values)
    assert len(sketch.counts) <= BINS
    assert sketch.rows == 5000
    for high, reached in zip(sketch.highs, np.cumsum(sketch.counts), strict=True):
        assert reached == (values <= high).sum()


@given(numbers, numbers)
@settings(max_examples=60, deadline=None)
def test_merging_is_right_up_to_its_stated_error_in_any_order(left: list[float], right: list[float]) -> None:
    merged = merge(numeric_sketch(left), numeric_sketch(right))
    turned = merge(numeric_sketch(right), numeric_sketch(left))
    assert isinstance(merged, NumericSketch)
    assert isinstance(turned, NumericSketch)
    assert merged.rows == turned.rows == len(left) + len(right)
    assert merged.missing == sum(value is None for value in [*left, *right])
    assert merged.highs == turned.highs
    here = np.array([value for value in [*left, *right] if value is not None])
    for high, reached in zip(merged.highs, np.cumsum(merged.counts), strict=True):
        assert abs(reached - (here <= high).sum()) <= merged.error + 1e-3


@given(numbers, numbers, numbers)
@settings(max_examples=40, deadline=None)
def test_merging_is_associative_up_to_its_stated_error(
    a: list[float], b: list[float], c: list[float]
) -> None:
    x, y, z = numeric_sketch(a), numeric_sketch(b), numeric_sketch(c)
    left, right = merge(merge(x, y), z), merge(x, merge(y, z))
    assert isinstance(left, NumericSketch)
    assert isinstance(right, NumericSketch)
    assert left.rows == right.rows
    # Between the ends of its bins a sketch may besides be wrong by the rows of one bin.
    slack = left.error + right.error + max([*left.counts, *right.counts, 0.0]) + 1e-3
    at = [*left.highs, *right.highs]
    assert all(abs(p - q) <= slack for p, q in zip(ranks(left, at), ranks(right, at), strict=True))


@given(words, words, words)
@settings(max_examples=60, deadline=None)
def test_counts_of_categories_do_not_depend_on_order(a: list[str], b: list[str], c: list[str]) -> None:
    parts = [category_sketch(part) for part in (a, b, c)]
    whole = category_sketch([*c, *a, *b])
    assert merge(merge(parts[0], parts[1]), parts[2]) == whole
    assert merge(parts[0], merge(parts[2], parts[1])) == whole


def test_rare_categories_are_counted_together() -> None:
    sketch = category_sketch(["often"] * 9 + [f"rare{i:03}" for i in range(500)])
    assert len(sketch.counts) == NAMES
    assert sketch.counts["often"] == 9
    assert sketch.rows == 509


@pytest.mark.parametrize("sketch", [numeric_sketch([1.5, None, 2.5]), category_sketch(["a", None])])
def test_a_sketch_survives_json(sketch: Sketch) -> None:
    assert msgspec.json.decode(msgspec.json.encode(sketch), type=Sketch) == sketch


def test_kinds_do_not_mix() -> None:
    with pytest.raises(TypeError, match="numeric"):
        merge(numeric_sketch([1.0]), category_sketch(["a"]))


def test_every_value_has_a_cell_and_the_unseen_have_empty_ones() -> None:
    cells = cells_of(numeric_sketch([1.0, 1.0, 2.0, None]))
    assert cells.reference == [1.0, 0.0, 2.0, 1.0, 0.0]
    assert [cells.place(value) for value in (None, 0.5, 1.0, 1.5, 2.0, 3.0)] == [0, 1, 2, 3, 3, 4]
    names = cells_of(category_sketch(["a", "b", True]))
    assert [names.place(value) for value in (None, "a", "b", True, "new")] == [0, 1, 2, 3, 4]
    assert cells_of(numeric_sketch([None, None])).reference == [2.0, 0.0]


@given(numbers)
@settings(max_examples=60, deadline=None)
def test_cells_count_the_rows_of_their_own_reference(values: list[float | None]) -> None:
    cells = cells_of(numeric_sketch(values))
    assert cells.count(list(values)).tolist() == pytest.approx(cells.reference)
