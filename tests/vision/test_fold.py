"""Detection in the fold: its spec, its scores, and the bar of the gate that keeps old classes."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import pytest

from everlearn.errors import MissingExtraError, SpecError
from everlearn.loop import gate, trial
from everlearn.loop.engine import Engine
from everlearn.loop.forgetting import anchor_numbers
from everlearn.loop.scores import loss, metric_interval, metrics, score_row, summed_metrics, terms_of
from everlearn.loop.state import LoopState, dump, load
from everlearn.loop.watch import FeatureWatch
from everlearn.predictor import Predictor
from everlearn.spec import MEASURED, GateSpec, parse_spec
from everlearn.types import Command, Label, Output, Prediction
from everlearn.vision.boxes import Box, to_text

SPEC: dict[str, Any] = {
    "name": "cam",
    "task": "detection",
    "target": "boxes",
    "features": {"frame": "image"},
    "label_horizon": {"rows": 0},
    "policy": {"first_rows": 20, "check_every": 10},
    "drift": {"rows": 50},
}
CAT = to_text([Box("cat", 0, 0, 10, 10)])
SEEN = Output(to_text([Box("cat", 0, 0, 10, 9, 0.9)]))


def test_a_detection_has_one_image_and_what_is_measured_of_it() -> None:
    spec = parse_spec(SPEC)
    assert spec.learner.name == "yolo"
    assert spec.metric == "frame_f1"
    assert set(spec.features) == {"frame", *MEASURED}
    assert parse_spec(spec.to_dict()) == spec
    for features in ({"a": "numeric"}, {"a": "image", "b": "image"}):
        with pytest.raises(SpecError, match="task detection has one"):
            parse_spec({**SPEC, "features": features})
    with pytest.raises(SpecError, match="the other tasks none"):
        parse_spec({**SPEC, "task": "classification"})


def test_the_missing_extra_says_how_to_install_it_and_under_which_licence() -> None:
    if find_spec("onnxruntime") is not None:
        pytest.skip("everlearn[vision] is installed")
    with pytest.raises(MissingExtraError, match=r"AGPL-3\.0.* pip install 'everlearn\[vision\]'"):
        Predictor.new(parse_spec(SPEC))


def test_a_frame_is_scored_by_its_boxes() -> None:
    spec = parse_spec(SPEC)
    rows = [
        score_row(i, 1, CAT, output, None, None)
        for i, output in enumerate([SEEN, Output("[]"), Output(None)])
    ]
    assert [loss(row, "detection") for row in rows] == [0.0, 1.0, 1.0]
    assert metrics(rows, "detection") == {"frame_f1": pytest.approx(1 / 3)}
    assert summed_metrics(terms_of(rows[0], "detection"), 1.0, "detection") == {"frame_f1": 1.0}
    assert summed_metrics(terms_of(rows[0], "detection"), 1.0, "detection", "majority") == {}
    interval = metric_interval(rows * 20, "frame_f1", "detection", 0.95)
    assert interval is not None
    assert interval.lower < 1 / 3 < interval.upper
    mark = gate.mark(CAT, Output("[]"), spec)
    assert (mark.raw, gate.bounded(mark, spec, 0.0), gate.binary(spec)) == (1.0, 1.0, False)


def test_the_loop_asks_for_a_first_version_on_the_queue_for_vision() -> None:
    engine = Engine(LoopState())
    engine.run([Command(1, 0.0, "configure", {"spec": parse_spec(SPEC).to_dict()})])
    for i in range(30):
        seq = 2 + 2 * i
        asked = Prediction(seq, float(i), f"f{i}", i + 1, 0, {"frame": f"{i:064x}"}, Output(None))
        engine.run([asked, Label(seq + 1, float(i), f"f{i}", CAT, prediction=asked)])
    (job,) = engine.take().jobs
    assert (job.kind, job.arguments["mode"]) == ("vision", "fresh")
    assert load(dump(engine.state)).baselines.counts == [], "no two frames have the same boxes"


def test_boxes_and_how_sure_they_are_are_watched_and_the_image_is_not() -> None:
    watch = FeatureWatch.start(parse_spec(SPEC))
    assert {*watch.building} == {*MEASURED, "(boxes)", "(sureness)"}
    row = dict.fromkeys(MEASURED, 0.5) | {"frame": "0" * 64}
    found = []
    for i in range(400):
        dull = Output(to_text([Box("cat", 0, 0, 10, 10, 0.3 + (i % 7) / 100)]))
        watch.take(row, dull if i >= 300 else _sure(i))
        if watch.full:
            found += watch.look()
    assert {finding.column for finding in found} == {"(sureness)"}


def _sure(i: int) -> Output:
    return Output(to_text([Box("cat", 0, 0, 10, 10, 0.9 + (i % 7) / 100)]))


@pytest.mark.parametrize(("now", "end"), [(0.96, "promote"), (0.90, "reject")])
def test_no_class_may_lose_more_average_precision_than_the_margin(now: float, end: str) -> None:
    spec = GateSpec(margin=0.03, min_rows=20)
    on = trial.open_trial(2, 1, spec, binary=False)
    trial.take(on, [trial.Pair(i, 0.8, 0.1, None, None, None, None, ()) for i in range(100)])
    anchors = {
        **anchor_numbers([0.1] * 60, [0.1] * 60, binary=False),
        "classes": {
            "cat": {"champion": 0.97, "candidate": now, "truths": 40},
            "dog": {"champion": 0.97, "candidate": 0.2, "truths": 3},
        },
    }
    verdict = trial.verdict(on, spec, {"regime 1": anchors}, {"servable": True})
    assert verdict.end == end
    bar = verdict.bars["forgetting"]["regimes"]["regime 1"]
    assert bar["fallen"] == ([] if end == "promote" else ["cat"]), (
        "three boxes of a class are too few to judge"
    )
    if end == "reject":
        assert verdict.reason == (
            "it has forgotten cat of regime 1: AP50 0.970 → 0.900 on 40 boxes of 60 anchors, "
            "a fall above 0.03"
        )
