from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from everlearn.loop.drift import KEPT, DriftState, ErrorDrift
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


@given(st.lists(st.floats(0, 1), max_size=60), st.integers(0, 60))
@settings(max_examples=30, deadline=None)
def test_a_drift_detector_made_again_from_its_state_goes_on_the_same(values: list[float], cut: int) -> None:
    whole = ErrorDrift(DriftState())
    said = [whole.update(value) for value in values]
    first = ErrorDrift(DriftState())
    before = [first.update(value) for value in values[:cut]]
    second = ErrorDrift(DriftState(list(first.state.inputs), first.state.warnings))
    assert before + [second.update(value) for value in values[cut:]] == said
    assert second.state == whole.state


def test_a_trim_keeps_the_detector_and_its_state_the_same() -> None:
    rng = random.Random(5)
    values = [float(rng.random() < 0.2) for _ in range(2 * KEPT + 300)]
    whole = ErrorDrift(DriftState())
    for value in values:
        whole.update(value)
    assert len(whole.state.inputs) < 2 * KEPT
    again = ErrorDrift(DriftState(list(whole.state.inputs), whole.state.warnings))
    more = [float(rng.random() < 0.6) for _ in range(400)]
    assert [whole.update(v) for v in more] == [again.update(v) for v in more]


def test_only_a_rise_of_the_loss_is_a_warning() -> None:
    rng = random.Random(2)
    drift = ErrorDrift(DriftState())
    better = [drift.update(float(rng.random() < rate)) for rate in [0.5] * 500 + [0.05] * 500]
    assert not any(better)
    drift.reset()
    worse = [drift.update(float(rng.random() < rate)) for rate in [0.05] * 500 + [0.5] * 500]
    assert sum(found is not None for found in worse) == 1
    assert drift.state.warnings == 1
