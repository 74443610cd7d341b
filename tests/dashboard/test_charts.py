"""Charts hold what they are given, and say it in words."""

from __future__ import annotations

from typing import Any

import pytest

from everlearn.dashboard.views import charts, evidence, timeline
from everlearn.dashboard.views.drawing import Interval, bars, intervals


def point(row: int, score: float | None, **more: Any) -> dict[str, Any]:
    at = f"2024-05-{row // 100:02d}T12:00:00.000000Z"
    return {"at": at, "row": row, "score": score, "lower": None, "upper": None, "champion": 1, **more}


RECORD: dict[str, Any] = {
    "metric": "accuracy",
    "threshold": 0.9,
    "points": [
        point(100, 0.91, lower=0.88, upper=0.94, no_change=0.5, never_updated=None),
        point(200, None, no_change=0.52, never_updated=0.8),
        point(300, 0.93, lower=0.9, upper=0.96, no_change=None, never_updated=0.79),
    ],
    "marks": [
        {"kind": "promote", "number": 7, "at": "2024-05-02T12:00:00Z", "row": 210, "reason": "better"},
        {"kind": "hold", "number": 8, "at": "2024-05-02T13:00:00Z", "row": None, "reason": "well"},
    ],
    "regimes": [
        {"name": "regime 1", "from_row": 1, "to_row": 150, "from": None, "to": "2024-05-01T18:00:00Z"},
        {"name": "regime 2", "from_row": 150, "to_row": None, "from": "2024-05-01T18:00:00Z", "to": None},
    ],
}


def values(chart: Any) -> list[dict[str, Any]]:
    """Everything that a chart holds."""
    drawn = chart.to_dict()
    layers = drawn.get("layer", [drawn])
    return [row for layer in layers for row in layer["data"]["values"]]


@pytest.mark.parametrize("by", ["at", "row"])
def test_the_timeline_has_every_point_that_is_known(by: str) -> None:
    drawn = timeline.timeline(RECORD, by)
    lines = [row["line"] for row in values(drawn.chart) if "line" in row]
    assert sorted(lines) == ["never updated"] * 2 + ["no change"] * 2 + ["served"] * 2
    assert "served from 0.910 to 0.930" in drawn.words
    assert "threshold 0.900" in drawn.words


@pytest.mark.parametrize("by", ["at", "row"])
def test_marks_stand_on_the_axis_of_the_lines(by: str) -> None:
    drawn = timeline.marks(RECORD, by, ["promote", "rollback"])
    assert drawn is not None
    ends = [
        {row["x"] for row in values(each.chart) if list(row) == ["x"]}
        for each in (drawn, timeline.timeline(RECORD, by))
    ]
    assert ends[0] == ends[1]
    assert [row["number"] for row in values(drawn.chart) if "number" in row] == [7]
    assert timeline.marks(RECORD, by, ["rollback"]) is None


def test_a_matrix_leaves_out_what_was_not_measured() -> None:
    drawn = charts.matrix({"regimes": [1, 2], "versions": [1, 3], "R": [[0.9, None], [0.8, 0.7]]})
    assert drawn is not None
    assert (
        "version 1 on regime 1: 0.90; version 3 on regime 1: 0.80; version 3 on regime 2: 0.70" in drawn.words
    )
    assert charts.matrix({"regimes": [], "versions": [], "R": []}) is None


def test_the_running_e_value_is_drawn_in_powers_of_ten() -> None:
    history = [{"rows": 10, "log_e": 0.0}, {"rows": 20, "log_e": 2.302585}]
    drawn = charts.running_e(history, 4.60517)
    assert drawn is not None
    assert drawn.words == "The e-value is 10.00 after 20 rows; 100 is needed."
    assert charts.running_e([], 1.0) is None


def test_label_delays_are_drawn_by_rows_or_by_time() -> None:
    rows = [{"age_rows": 10, "share": 0.4}, {"age_rows": 50, "share": 1.0}]
    seconds = [{"age_seconds": 3.0, "share": 0.5}]
    by_rows = charts.maturity({"by_rows": rows, "by_seconds": seconds, "horizon": {"rows": 48}})
    by_time = charts.maturity({"by_rows": rows, "by_seconds": seconds, "horizon": {"seconds": 7200.0}})
    assert by_rows is not None
    assert by_time is not None
    assert "predictions later" in by_rows.words
    assert "seconds" in by_time.words
    assert charts.maturity({"by_rows": [], "by_seconds": []}) is None


def test_evidence_is_drawn_as_far_as_it_goes() -> None:
    against = {"metric": "accuracy", "value": 0.7, "lower": 0.65, "upper": 0.75, "threshold": 0.8}
    assert [title for title, _ in evidence.drawn(against)] == ["Score against its threshold"]
    proof = {"rows": 107, "old_loss": 0.38, "new_loss": 0.02, "log_e": 18.0, "needed": 32.9}
    titles = [title for title, _ in evidence.drawn(proof)]
    assert titles == ["Loss a row, on the same 107 rows", "E-value 7e+7, where 32.900 was needed"]
    assert evidence.drawn({"examples": 12, "changed": ["threshold"]}) == []


def test_bars_and_intervals_say_their_numbers() -> None:
    assert bars([("a", 1.0), ("b", 2.5)], "loss", 2.0).words == "loss: a 1.000, b 2.500; limit 2.000."
    told = intervals([Interval("EU", 0.7, 0.6, 0.8), Interval("US", 0.9)], "accuracy", 0.8).words
    assert told == "accuracy: EU 0.700 (0.600 to 0.800), US 0.900; threshold 0.800."
