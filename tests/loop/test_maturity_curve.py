"""The maturity curve: what it says of delays is right although most labels may still be under way."""

from __future__ import annotations

import random
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from everlearn.loop.arrivals import MAX_COHORTS, Arrivals
from everlearn.loop.maturity import Waiting, Watermark
from everlearn.spec import parse_spec
from everlearn.types import Label, Output, Prediction

AUTO = parse_spec({"name": "m", "target": "y", "features": {"a": "numeric"}})
SECONDS = 60.0
"""Time between predictions."""


def played(delay: Callable[[int], int | None], rows: int) -> Watermark:
    """A watermark that has seen a prediction a minute, each labelled ``delay(row)`` rows later."""
    mark = Watermark()
    due: dict[int, list[int]] = {}
    for now in range(1, rows + 1):
        late = delay(now)
        if late is not None:
            due.setdefault(now + late, []).append(now)
        mark.rise(AUTO, now, now * SECONDS)
        for row in due.pop(now, []):
            mark.labelled(row, row * SECONDS, now, now * SECONDS)
    return mark


def exponential(mean: float, seed: int = 0, come: float = 1.0) -> Callable[[int], int | None]:
    rng = random.Random(seed)
    return lambda _: int(rng.expovariate(1 / mean)) if rng.random() < come else None


@pytest.mark.parametrize("late", [0, 1, 7, 100, 500, 3000])
def test_a_constant_delay_is_the_horizon(late: int) -> None:
    assert played(lambda _: late, 2 * late + 600).auto_rows == late


@pytest.mark.parametrize("come", [1.0, 0.3])
@pytest.mark.parametrize("seed", range(3))
def test_the_horizon_is_where_most_of_those_that_come_have_come(come: float, seed: int) -> None:
    mark = played(exponential(200, seed, come), 6000)
    assert mark.auto_rows is not None
    assert 520 < mark.auto_rows < 690  # 95% of an exponential delay of mean 200 come by 599


def test_while_all_labels_are_young_nobody_can_tell() -> None:
    """The labels that have come after 300 rows of delays up to 1,000 are all early ones."""
    rng = random.Random(1)
    delays = [rng.randrange(1000) for _ in range(6000)]
    assert played(lambda row: delays[row - 1], 300).auto_rows is None
    assert played(lambda row: delays[row - 1], 900).auto_rows is None
    late = played(lambda row: delays[row - 1], 3500).auto_rows
    assert late is not None
    assert 880 <= late <= 1000


def test_late_positives_do_not_shorten_the_horizon() -> None:
    """One label in ten comes 450 rows late: a quantile of the delays seen would long say 5."""
    mark = played(lambda row: 450 if row % 10 == 0 else 5, 440)
    assert mark.auto_rows is None
    assert mark.row < 10  # not past the first row whose label is missing
    assert played(lambda row: 450 if row % 10 == 0 else 5, 1500).auto_rows == 450


def test_the_horizon_follows_delays_that_grow_soon_and_those_that_shrink_in_time() -> None:
    assert played(lambda row: 10 if row < 3000 else 400, 6000).auto_rows == 400
    assert played(lambda row: 400 if row < 3000 else 10, 30_000).auto_rows == 10


def test_labels_that_never_come_are_reported() -> None:
    rng = random.Random(3)
    mark = played(lambda _: 20 if rng.random() < 0.7 else None, 4000)
    told = mark.maturity(4000, 4000 * SECONDS)
    assert told["auto_rows"] == 20
    assert told["never"] == pytest.approx(0.3, abs=0.03)
    assert told["labels"] == pytest.approx(2800, abs=100)


def test_the_curve_in_rows_and_in_seconds() -> None:
    mark = played(exponential(50, come=0.8), 5000)
    points = mark.curve(5000, 5000 * SECONDS)
    assert len(points) <= 82
    by_row = {p["age_rows"]: p["share"] for p in points if "age_rows" in p}
    by_second = {p["age_seconds"]: p["share"] for p in points if "age_seconds" in p}
    for ages, unit in ((by_row, 1.0), (by_second, SECONDS)):
        shares = list(ages.values())
        assert shares == sorted(shares)
        assert shares[-1] == pytest.approx(0.8, abs=0.02)
        half = min(age for age, share in ages.items() if share >= 0.4) / unit
        assert half == pytest.approx(0.693 * 50, rel=0.3)


def test_without_labels_or_rows_there_is_no_curve_yet() -> None:
    mark = Watermark()
    assert mark.maturity(0, 0.0) == {"labels": 0, "auto_rows": None, "never": None, "curve": []}
    mark = played(lambda _: None, 500)
    assert mark.auto_rows is None
    assert {point["share"] for point in mark.curve(500, 500 * SECONDS)} == {0.0}


def test_a_label_for_a_row_out_of_memory_is_only_counted() -> None:
    mark = played(lambda row: 0, 60_000)
    before = mark.arrivals.by_row(60_000)
    mark.labelled(5, 300.0, 60_000, 60_000 * SECONDS)
    assert mark.arrivals.forgotten == 1
    assert mark.arrivals.by_row(60_000) == before


@given(st.lists(st.tuples(st.integers(1, 64), st.integers(0, 40)), max_size=200))
def test_labels_that_are_counted_twice_do_not_make_more_labels_than_rows(
    given: list[tuple[int, int]],
) -> None:
    """One label takes the place of another whose source was put aside: both were counted when they came."""
    mark = played(lambda _: 0, 160)
    for row, late in given:
        mark.labelled(row, row * SECONDS, 160 + late, (160 + late) * SECONDS)
    told = mark.maturity(400, 400 * SECONDS)
    assert all(0.0 <= point["share"] <= 1.0 for point in told["curve"])
    assert told["never"] is None or 0.0 <= told["never"] <= 1.0


@given(
    st.lists(st.tuples(st.integers(1, 5), st.integers(0, 60), st.booleans()), max_size=300),
    st.integers(0, 300),
)
@settings(max_examples=40, deadline=None)
def test_marks_rise_states_stay_small_and_restarts_change_nothing(
    steps: list[tuple[int, int, bool]], cut: int
) -> None:
    mark, rows, marks = Watermark(), 0, [0]
    for i, (more, back, labelled) in enumerate(steps):
        rows += more
        mark.rise(AUTO, rows, float(rows))
        if labelled and rows > back:
            mark.labelled(rows - back, float(rows - back), rows, float(rows))
        if i == cut:
            again = msgspec.json.decode(msgspec.json.encode(mark), type=Watermark)
            other = msgspec.json.decode(msgspec.json.encode(mark), type=Watermark)
            for each in (again, other, mark):  # a label may be the first thing to come
                each.labelled(each.row + 1, 0.0, rows, float(rows))
            other.rise(AUTO, rows, float(rows))
            assert again == mark == other
            mark = again
        marks.append(mark.row)
        assert len(mark.arrivals.starts) <= MAX_COHORTS
        assert mark.arrivals.starts == sorted(mark.arrivals.starts)
    assert marks == sorted(marks)


def test_a_long_life_leaves_a_small_state() -> None:
    mark = played(exponential(300), 60_000)
    assert len(mark.arrivals.starts) <= MAX_COHORTS
    assert len(msgspec.json.encode(mark)) < 50_000


def test_a_row_matures_at_once_when_every_row_before_it_has_its_label() -> None:
    def label(row: int) -> Label:
        of = Prediction(row, 0.0, f"p{row}", row, 1, {}, Output("yes"))
        return Label(100 + row, 0.0, of.id, "yes", prediction=of)

    mark, waiting = Watermark(), Waiting()
    mark.rise(AUTO, 5, 0.0)
    for row in (3, 2):
        mark.labelled(row, 0.0, 5, 0.0)
        waiting.add(label(row))
    assert not waiting.matured(mark)
    mark.labelled(1, 0.0, 5, 0.0)
    assert mark.covers(1, 0.0)
    assert [found.id for found in waiting.matured(mark)] == ["p2", "p3"]
    assert mark.row == 3
    assert not mark.covers(4, 0.0)


def test_a_curve_is_the_share_that_came_where_all_is_known() -> None:
    arrivals = Arrivals()
    for close in (16, 32):
        arrivals.close(close, float(close), None)
    for row in range(1, 33):
        if row % 4:
            arrivals.add(row, 0.0, row + (3 if row % 2 else 6), 0.0)
    shares = arrivals.by_row(1000).shares
    assert (shares[2], shares[3], shares[5], shares[6], shares[-1]) == pytest.approx(
        (0, 0.5, 0.5, 0.75, 0.75)
    )
