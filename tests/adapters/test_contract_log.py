"""The log, in memory and in SQL: what it accepts, joins, and gives back."""

from __future__ import annotations

import math
from typing import Any

import pytest

from everlearn.errors import InvalidError, NotFoundError
from everlearn.types import (
    Command,
    EventKind,
    Example,
    Head,
    Label,
    LoadedExample,
    NewEvent,
    Output,
    Prediction,
    Status,
    Tick,
)

ACCEPTED, DUPLICATE, CONFLICT, PARKED = Status.ACCEPTED, Status.DUPLICATE, Status.CONFLICT, Status.PARKED


def statuses(receipts: Any) -> list[tuple[Status, int | None]]:
    return [(receipt.status, receipt.seq) for receipt in receipts]


def test_positions_and_rows_are_dense(store: Any, make: Any) -> None:
    store.log.append("m", [make.prediction("a"), make.tick(), make.prediction("b")])
    store.log.append("m", [make.prediction("a"), make.prediction("c")])
    events = store.log.read("m")
    assert [event.seq for event in events] == [1, 2, 3, 4, 5]
    assert [event.row for event in events if isinstance(event, Prediction)] == [1, 2, 3]


def test_an_accepted_prediction_is_read_back_exactly(store: Any, make: Any) -> None:
    third = 1 / 3
    features = {"x": 0.1 + 0.2, "n": None, "b": True, "s": "ñ\U0001f600", "i": 2**53 + 1}
    event = make.prediction(
        "a", features=features, probabilities={"no": third, "yes": 1 - third}, value="yes"
    )
    assert statuses(store.log.append("m", [event])) == [(ACCEPTED, 2)]
    (read,) = store.log.read("m", after=1)
    assert read == Prediction(
        2, 1.0, "a", 1, 0, features, Output("yes", {"no": third, "yes": 1 - third}), None
    )
    assert [type(value) for value in read.features.values()] == [float, type(None), bool, str, int]


def test_values_that_json_has_not_are_missing(store: Any, make: Any) -> None:
    store.log.append("m", [make.prediction("a", features={"x": math.nan, "y": math.inf}, value=math.nan)])
    (read,) = store.log.read("m", after=1)
    assert read.features == {"x": None, "y": None}
    assert read.output.value is None


def test_regression_outputs_have_no_probabilities(store: Any, make: Any) -> None:
    store.log.append("m", [make.prediction("a", value=0.1, probabilities=None)])
    assert store.log.read("m", after=1)[0].output == Output(0.1, None)


def test_a_repeated_prediction_answers_with_the_recorded_one(store: Any, make: Any) -> None:
    store.log.append("m", [make.prediction("a", x=1.0, value=1)])
    (receipt,) = store.log.append("m", [make.prediction("a", x=1.0, value=0, version=3)])
    assert (receipt.status, receipt.seq) == (DUPLICATE, 2)
    assert receipt.event == store.log.read("m", after=1)[0]
    assert receipt.event.output.value == 1


def test_a_missing_column_is_the_same_as_none(store: Any, make: Any) -> None:
    store.log.append("m", [make.prediction("a", features={"x": 1.0, "y": None})])
    assert store.log.append("m", [make.prediction("a", features={"x": 1.0})])[0].status is DUPLICATE


def test_a_known_id_with_other_features_conflicts(store: Any, make: Any) -> None:
    store.log.append("m", [make.prediction("a", x=1.0)])
    assert statuses(store.log.append("m", [make.prediction("a", x=2.0)])) == [(CONFLICT, 2)]
    assert store.log.head("m").seq == 2


def test_a_label_is_accepted_once(store: Any, make: Any) -> None:
    store.log.append("m", [make.prediction("a")])
    assert statuses(store.log.append("m", [make.label("a", 1)])) == [(ACCEPTED, 3)]
    assert statuses(store.log.append("m", [make.label("a", 1)])) == [(DUPLICATE, 3)]
    assert statuses(store.log.append("m", [make.label("a", 0)])) == [(CONFLICT, 3)]
    prediction, label = store.log.read("m", after=1)
    assert label == Label(3, 2.0, "a", 1, False, prediction)


def test_a_correction_replaces_a_label(store: Any, make: Any) -> None:
    store.log.append("m", [make.prediction("a"), make.label("a", 1)])
    receipts = store.log.append("m", [make.label("a", 0, correction=True), make.label("a", 0)])
    assert statuses(receipts) == [(ACCEPTED, 4), (DUPLICATE, 4)]
    prediction, label = store.log.find("m", ["a"])["a"]
    assert (label.value, label.correction, label.prediction) == (0, True, prediction)
    assert store.log.head("m").labels == 1


def test_a_correction_to_the_value_known_is_a_duplicate(store: Any, make: Any) -> None:
    store.log.append("m", [make.prediction("a"), make.label("a", 1)])
    assert statuses(store.log.append("m", [make.label("a", 1, correction=True)])) == [(DUPLICATE, 3)]


def test_a_label_for_an_unknown_id_is_parked_and_joined_later(store: Any, make: Any) -> None:
    assert statuses(store.log.append("m", [make.label("a", 1)])) == [(PARKED, 2)]
    assert store.log.head("m").parked == 1
    assert statuses(store.log.append("m", [make.prediction("a")])) == [(ACCEPTED, 3)]
    label, prediction = store.log.read("m", after=1)
    assert label.prediction is None
    assert prediction.label == label
    assert store.log.head("m") == Head(3, 1, 1, 0, 0, 1.0)


@pytest.mark.parametrize("calls", [1, 3])
def test_a_parked_label_can_be_corrected(store: Any, make: Any, calls: int) -> None:
    events = [
        make.label("a", 1),
        make.label("a", 1),
        make.label("a", 0),
        make.label("a", 0, correction=True),
        make.prediction("a"),
        make.label("a", 0),
    ]
    size = len(events) // calls
    receipts = [r for i in range(calls) for r in store.log.append("m", events[i * size : (i + 1) * size])]
    assert statuses(receipts) == [
        (PARKED, 2), (DUPLICATE, 2), (CONFLICT, 2), (PARKED, 3), (ACCEPTED, 4), (DUPLICATE, 3),
    ]  # fmt: skip
    assert store.log.read("m", after=3)[0].label == store.log.read("m", after=2, limit=1)[0]
    assert store.log.head("m").parked == 0


def test_labels_follow_and_precede_their_predictions_in_one_call(store: Any, make: Any) -> None:
    call = [
        make.prediction("a"),
        make.label("a"),
        make.label("b"),
        make.prediction("b"),
        make.prediction("a"),
    ]
    receipts = store.log.append("m", call)
    assert statuses(receipts) == [(ACCEPTED, 2), (ACCEPTED, 3), (PARKED, 4), (ACCEPTED, 5), (DUPLICATE, 2)]
    assert receipts[-1].event == store.log.read("m", after=1, limit=1)[0]
    again = store.log.append("m", [make.prediction("b")])[0]
    assert again.event == store.log.read("m", after=4)[0]
    assert again.event.label.seq == 4


def test_a_later_label_knows_the_parked_one_through_its_prediction(store: Any, make: Any) -> None:
    store.log.append("m", [make.label("a", 1), make.prediction("a"), make.label("a", 0, correction=True)])
    parked, prediction, corrected = store.log.read("m", after=1)
    assert corrected.prediction == prediction
    assert corrected.prediction.label == parked


def test_keys_of_other_kinds_make_them_idempotent(store: Any, make: Any) -> None:
    call = [make.tick(key="k"), make.example(key="k"), make.prediction("k"), make.tick(key="k")]
    assert statuses(store.log.append("m", call)) == [
        (ACCEPTED, 2), (ACCEPTED, 3), (ACCEPTED, 4), (DUPLICATE, 2),
    ]  # fmt: skip
    assert statuses(store.log.append("m", [make.example(key="k"), make.example(), make.example()])) == [
        (DUPLICATE, 3), (ACCEPTED, 5), (ACCEPTED, 6),
    ]  # fmt: skip


def test_every_kind_is_read_back(store: Any, make: Any) -> None:
    command = NewEvent(EventKind.COMMAND, 5.0, None, {"name": "retrain", "arguments": {"force": True}})
    store.log.append("m", [make.example("yes", x=2.0), command, make.tick(6.0)])
    configure, *others = store.log.read("m")
    assert configure == Command(1, 100.0, "configure", {"spec": make.spec().to_dict()})
    assert others == [
        LoadedExample(2, 3.0, {"x": 2.0}, "yes"),
        Command(3, 5.0, "retrain", {"force": True}),
        Tick(4, 6.0),
    ]


def test_reading_goes_on_from_a_position(store: Any, make: Any) -> None:
    store.log.append("m", [make.prediction(str(i)) for i in range(10)])
    assert [event.seq for event in store.log.read("m", after=4, limit=3)] == [5, 6, 7]
    assert store.log.read("m", after=11) == []
    assert store.log.read("m", limit=0) == []


def test_examples_are_as_of_a_position(store: Any, make: Any) -> None:
    store.log.append("m", [make.prediction("a", x=1.0), make.prediction("b", x=2.0), make.example(x=3.0)])
    store.log.append("m", [make.label("b", 1), make.label("a", 0), make.label("b", 0, correction=True)])
    output = Output(1, {"0": 0.25, "1": 0.75})
    a = Example(2, 6, 1, 1.0, {"x": 1.0}, 0, 0, output)
    b = Example(3, 5, 2, 1.0, {"x": 2.0}, 1, 0, output)
    c = Example(4, 4, 0, 3.0, {"x": 3.0}, 1)
    corrected = Example(3, 7, 2, 1.0, {"x": 2.0}, 0, 0, output)
    assert store.log.examples("m", upto=3) == []
    assert store.log.examples("m", upto=5) == [b, c]
    assert store.log.examples("m", upto=6) == [a, b, c]
    assert store.log.examples("m", upto=7) == [a, corrected, c]
    assert store.log.examples("m", upto=99, after=4) == [a, corrected]
    assert store.log.examples("m", upto=7, newest=2) == [a, corrected]
    assert store.log.examples("m", upto=7, newest=1) == [corrected]
    assert store.log.examples("m", upto=7, newest=9) == [a, corrected, c]
    assert store.log.examples("m", upto=7, newest=0) == []


def test_newest_examples_count_a_much_corrected_one_once(store: Any, make: Any) -> None:
    store.log.append("m", [make.example(x=float(i)) for i in range(5)])
    store.log.append("m", [make.prediction("a"), make.label("a", 0)])
    store.log.append("m", [make.label("a", i, correction=True) for i in range(1, 20)])
    found = store.log.examples("m", upto=10**6, newest=3)
    assert [(example.order, example.target) for example in found] == [(5, 1), (6, 1), (7, 19)]


def test_a_parked_label_is_an_example_once_its_prediction_is_there(store: Any, make: Any) -> None:
    store.log.append("m", [make.label("a", 0), make.tick(), make.prediction("a")])
    assert store.log.examples("m", upto=3) == []
    (example,) = store.log.examples("m", upto=4, after=3)
    assert (example.order, example.known, example.target) == (4, 4, 0)


def test_pending_gives_the_newest_labels_by_row(store: Any, make: Any) -> None:
    store.log.append("m", [make.prediction(k) for k in "abc"])
    store.log.append("m", [make.label("c", 1), make.label("b", 1), make.label("c", 0, correction=True)])
    pending = store.log.pending("m", after_row=1, upto=7)
    assert [(label.prediction.row, label.value, label.seq) for label in pending] == [(2, 1, 6), (3, 0, 7)]
    assert [label.seq for label in store.log.pending("m", after_row=0, upto=5)] == [5]
    assert store.log.pending("m", after_row=3, upto=7) == []


def test_pending_joins_parked_labels(store: Any, make: Any) -> None:
    store.log.append("m", [make.label("a", 0), make.prediction("a"), make.label("b")])
    assert store.log.pending("m", after_row=0, upto=2) == []
    (label,) = store.log.pending("m", after_row=0, upto=9)
    assert (label.seq, label.value) == (2, 0)
    assert label.prediction == store.log.read("m", after=2, limit=1)[0]


def test_find_leaves_unknown_ids_out(store: Any, make: Any) -> None:
    store.log.append("m", [make.prediction("a"), make.prediction("b"), make.label("b"), make.label("c")])
    found = store.log.find("m", ["c", "b", "a", "nobody", "b"])
    assert list(found) == ["c", "b", "a"]
    assert found["a"][1] is None
    assert found["b"][1].prediction == found["b"][0]
    assert found["c"][0] is None
    assert found["c"][1].prediction is None
    assert store.log.find("m", []) == {}


def test_many_keys_in_one_call(store: Any, make: Any) -> None:
    names = [f"id-{i}" for i in range(2500)]
    store.log.append("m", [make.prediction(name) for name in names])
    receipts = store.log.append("m", [make.label(name) for name in names])
    assert {receipt.status for receipt in receipts} == {ACCEPTED}
    assert len(store.log.find("m", names)) == 2500


def test_an_empty_call_adds_nothing(store: Any) -> None:
    assert store.log.append("m", []) == []
    assert store.log.head("m") == Head(1, 0, 0, 0, 0, 100.0)


def test_models_have_logs_of_their_own(store: Any, make: Any) -> None:
    store.models.create(make.spec("other"), at=1.0)
    store.log.append("m", [make.prediction("a")])
    assert statuses(store.log.append("other", [make.prediction("a", x=9.0)])) == [(ACCEPTED, 2)]
    assert store.log.append("other", [make.label("b")])[0].status is PARKED


@pytest.mark.parametrize("key", [None, "", "a\0b", "x" * 401, "\ud800"])
def test_an_unsound_event_refuses_the_whole_call(store: Any, make: Any, key: Any) -> None:
    with pytest.raises(InvalidError) as raised:
        store.log.append("m", [make.prediction("a"), NewEvent(EventKind.LABEL, 1.0, key, {"value": 1})])
    assert [fault.field for fault in raised.value.faults] == ["events[1].key"]
    assert store.log.head("m").seq == 1


def test_faults_name_what_is_missing(store: Any) -> None:
    with pytest.raises(InvalidError) as raised:
        store.log.append("m", [NewEvent(EventKind.LABEL, math.nan, "a", {})])
    assert [fault.field for fault in raised.value.faults] == ["events[0].body.value", "events[0].at"]


def test_unknown_models_are_not_found(store: Any, make: Any) -> None:
    asks = [
        lambda: store.log.append("no", [make.tick()]),
        lambda: store.log.read("no"),
        lambda: store.log.examples("no", upto=1),
        lambda: store.log.pending("no", after_row=0, upto=1),
        lambda: store.log.find("no", ["a"]),
        lambda: store.log.head("no"),
    ]
    for ask in asks:
        with pytest.raises(NotFoundError, match="'no'"):
            ask()


def test_a_label_and_an_example_know_who_gave_them(store: Any, make: Any) -> None:
    call = [make.label("a", 1, source="user:ann"), make.prediction("a"), make.prediction("b")]
    history = NewEvent(EventKind.EXAMPLE, 3.0, None, {"features": {}, "target": 1, "source": "key:1"})
    store.log.append("m", [*call, make.label("b", 0, source="key:2"), history, make.label("c")])
    parked, prediction, _, label, example, unnamed = store.log.read("m", after=1)
    assert [one.source for one in (parked, prediction.label, label, example, unnamed)] == [
        "user:ann", "user:ann", "key:2", "key:1", None,
    ]  # fmt: skip
    assert [one.source for one in store.log.examples("m", upto=9)] == ["user:ann", "key:2", "key:1"]
    assert store.log.find("m", ["b"])["b"][1].source == "key:2"


def test_examples_without_a_source_are_as_if_it_had_never_spoken(store: Any, make: Any) -> None:
    store.log.append("m", [make.prediction("a"), make.prediction("b"), make.label("a", 1, source="good")])
    wrong = [make.label("a", 0, correction=True, source="bad"), make.label("b", 0, source="bad")]
    store.log.append("m", wrong)
    values = [(e.target, e.source) for e in store.log.examples("m", upto=9)]
    assert values == [(0, "bad"), (0, "bad")]
    (left,) = store.log.examples("m", upto=9, without={"bad": 0})
    assert (left.target, left.source, left.known) == (1, "good", 4)
    assert len(store.log.examples("m", upto=9, newest=1, without={"bad": 0})) == 1
    later = store.log.examples("m", upto=9, without={"bad": 6})
    assert [(e.target, e.known) for e in later] == [(0, 5)]


def test_pending_gives_the_newest_label_of_each_source(store: Any, make: Any) -> None:
    store.log.append("m", [make.prediction("a"), make.label("a", 1, source="good")])
    store.log.append("m", [make.label("a", 0, correction=True, source="bad")])
    store.log.append("m", [make.label("a", 2, correction=True, source="bad")])
    found = store.log.pending("m", after_row=0, upto=9)
    assert [(label.value, label.source) for label in found] == [(1, "good"), (2, "bad")]
