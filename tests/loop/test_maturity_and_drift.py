from __future__ import annotations

from everlearn.loop.maturity import Waiting, Watermark
from everlearn.types import Label, Output, Prediction


def label(row: int, at: float = 0.0, value: str = "yes") -> Label:
    of = Prediction(row, at, f"p{row}", row, 1, {}, Output("yes"))
    return Label(1000 + row, at, of.id, value, prediction=of)


def rows(labels: list[Label]) -> list[int]:
    return [found.prediction.row for found in labels if found.prediction is not None]


def test_labels_come_out_in_order_of_their_predictions_once_mature() -> None:
    waiting, mark = Waiting([label(5), label(2), label(9)]), Watermark()
    mark.row = 5
    assert rows(list(waiting.matured(mark))) == [2, 5]
    assert len(waiting) == 1
    assert waiting.floor(20) == 8


def test_a_correction_replaces_a_waiting_label() -> None:
    waiting, mark = Waiting([label(1)]), Watermark(row=1)
    waiting.add(label(1, value="no"))
    assert [found.value for found in waiting.matured(mark)] == ["no"]


def test_a_horizon_in_time_matures_by_time() -> None:
    waiting, mark = Waiting([label(1, at=50.0), label(2, at=10.0)], by_time=True), Watermark(at=20.0)
    assert rows(list(waiting.matured(mark))) == [2]


def test_marks_never_fall() -> None:
    from everlearn.spec import parse_spec

    base = {"name": "m", "target": "y", "features": {"a": "numeric"}}
    mark = Watermark()
    mark.rise(parse_spec({**base, "label_horizon": {"rows": 2}}), 10, 0.0)
    assert mark.row == 8
    mark.rise(parse_spec({**base, "label_horizon": {"rows": 5}}), 11, 0.0)
    assert mark.row == 8
