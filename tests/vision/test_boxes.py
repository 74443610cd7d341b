"""Boxes as text, and what an answer to a frame cost."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from everlearn.errors import SchemaError
from everlearn.features.schema import Schema
from everlearn.vision.boxes import (
    Box,
    BoxError,
    canonical_truth,
    corners,
    frame_f1,
    frame_loss,
    iou,
    parse,
    same,
    sureness,
    to_text,
)

SIDES = st.integers(0, 400).map(lambda tenths: tenths / 10)
BOXES = st.lists(
    st.builds(
        lambda name, x, y, w, h, score: Box(name, x, y, x + w + 0.5, y + h + 0.5, score),
        st.sampled_from(["cat", "dog", "Wolf €"]), SIDES, SIDES, SIDES, SIDES,
        st.integers(0, 100).map(lambda percent: percent / 100),
    ),
    max_size=5,
)  # fmt: skip


@given(BOXES)
def test_the_text_of_boxes_is_read_back_and_is_always_the_same(boxes: list[Box]) -> None:
    text = to_text(boxes)
    assert to_text(parse(text)) == text
    assert to_text(reversed(parse(text))) == text
    assert canonical_truth(text) == canonical_truth(to_text(b._replace(score=None) for b in boxes))


@given(BOXES, BOXES)
def test_a_frame_costs_nothing_when_all_is_found_and_never_more_than_one(
    truth: list[Box], answer: list[Box]
) -> None:
    assert frame_loss(to_text(truth), to_text(truth)) == 0.0
    assert 0.0 <= frame_loss(to_text(truth), to_text(answer)) <= 1.0
    if not {box.name for box in truth} & {box.name for box in answer}:
        assert frame_f1(truth, answer) == (1.0 if not truth and not answer else 0.0)


def test_f1_counts_what_was_missed_and_what_was_made_up() -> None:
    truth = [Box("cat", 0, 0, 10, 10), Box("cat", 20, 0, 30, 10), Box("dog", 40, 0, 50, 10)]
    twice = [Box("cat", 0, 0, 10, 10, 0.9), Box("cat", 0, 0, 10, 9, 0.8)]
    assert frame_f1(truth, twice) == pytest.approx(2 / 5), "one truth is found once"
    assert frame_f1(truth, [Box("dog", 0, 0, 10, 10, 0.9)]) == 0.0, "another class is no match"
    assert frame_f1(truth, [Box("dog", 45, 0, 55, 10, 0.9)]) == 0.0, "a third of the two is no match"
    assert frame_loss(to_text(truth), None) == 1.0, "no answer finds nothing"
    assert frame_loss("[]", None) == 0.0, "and there it is right"


def test_overlap_of_boxes() -> None:
    a = corners([Box("", 0, 0, 10, 10)])
    b = corners([Box("", 5, 0, 15, 10), Box("", 0, 0, 10, 10), Box("", 20, 20, 30, 30)])
    assert np.allclose(iou(a, b), [[1 / 3, 1.0, 0.0]])
    assert iou(corners([]), b).shape == (0, 3)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("boxes!", "is no list of boxes"),
        ('{"cat": 1}', "must be a list"),
        ('[["cat", 1, 2]]', "box 0 must be"),
        ('[["", 1, 2, 3, 4]]', "its class must be text"),
        ('[["cat", 1, 2, "3", 4]]', "must be numbers"),
        ('[["cat", 3, 2, 1, 4]]', "x1 < x2"),
        ('[["cat", 1, 2, 3, 1e9]]', "must be numbers"),
        ('[["cat", 1, 2, 3, 4, 7]]', "between 0 and 1"),
        (json.dumps([["cat", 1, 2, 3, 4]] * 1001), "at most 1000"),
    ],
)  # fmt: skip
def test_what_is_no_list_of_boxes_is_refused_with_its_place(text: str, says: str) -> None:
    with pytest.raises(BoxError, match=says):
        parse(text)


@given(st.none() | st.text() | st.integers() | st.binary() | st.lists(st.integers()))
def test_whatever_comes_as_boxes_is_boxes_or_an_error_of_boxes(value: Any) -> None:
    with suppress(BoxError):
        text = canonical_truth(value)
        assert canonical_truth(text) == text


def test_a_label_of_a_detection_is_checked_and_written_in_one_way() -> None:
    schema = Schema({"frame": "image"}, "detection")
    labels = schema.check_target(['[["dog", 5,5, 9.04,9], ["cat",1,1,2,2]]'])
    assert labels == ['[["cat",1.0,1.0,2.0,2.0],["dog",5.0,5.0,9.0,9.0]]']
    with pytest.raises(SchemaError, match=r"targets\[0\]: box 0: send x1 < x2"):
        schema.check_target(['[["dog", 9, 5, 5, 9]]'])


def test_answers_are_the_same_but_for_rounding() -> None:
    stored = to_text([Box("cat", 0, 0, 50, 50, 0.93), Box("dog", 60, 60, 90, 90, 0.26)])
    assert same(stored, to_text([Box("cat", 0.1, 0, 50, 50.1, 0.92)])), "a faint box may be lost elsewhere"
    assert not same(stored, to_text([Box("dog", 60, 60, 90, 90, 0.26)])), "a sure one may not"
    assert not same(stored, to_text([Box("cat", 0, 0, 50, 40, 0.93)]))
    assert same("[]", "[]")
    assert sureness(stored) == pytest.approx(0.595)
    assert sureness("[]") is None
