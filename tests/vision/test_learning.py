"""What is learned from: which frames, as which pictures, and how they are varied."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from everlearn.vision import shapes
from everlearn.vision.boxes import Box, corners
from everlearn.vision.session import suppressed
from everlearn.vision.training import Picture, augmented
from everlearn.vision.yolo import chosen


def picture(seed: int) -> Picture:
    frame = shapes.draw(seed)
    names = np.array([shapes.SHAPES.index(box.name) for box in frame.boxes])
    return Picture(frame.image, names, corners(frame.boxes))


@given(st.integers(0, 200), st.integers(1, 50), st.integers(0, 50))
def test_the_newest_frames_are_learned_and_older_ones_spread_evenly(
    count: int, fresh: int, replay: int
) -> None:
    places = chosen(count, fresh, replay)
    assert places == sorted(set(places))
    assert places[-fresh:] == list(range(max(0, count - fresh), count))
    old = [place for place in places if place < count - fresh]
    assert len(old) == min(replay, max(0, count - fresh))
    if len(old) > 1:
        assert (old[0], old[-1]) == (0, count - fresh - 1), "from the first to the last"


@pytest.mark.parametrize("seed", range(30))
def test_what_is_varied_still_has_its_objects_in_its_boxes(seed: int) -> None:
    pictures = [picture(100 * seed + i) for i in range(5)]
    before = [one.image.copy() for one in pictures]
    varied = augmented(pictures[0], pictures, np.random.default_rng(seed))
    assert varied.image.shape == pictures[0].image.shape
    assert varied.image.dtype == np.uint8
    assert len(varied.names) == len(varied.corners)
    assert np.all((varied.corners >= 0) & (varied.corners <= shapes.SIDE))
    assert np.all(varied.corners[:, 2:] - varied.corners[:, :2] > 2)
    assert all(np.array_equal(a, b.image) for a, b in zip(before, pictures, strict=True)), (
        "nothing is changed"
    )
    for (x1, y1, x2, y2), name in zip(varied.corners, varied.names, strict=True):
        if shapes.SHAPES[name] != "square" or min(x2 - x1, y2 - y1) < 12:
            continue
        # A square is of one colour: its middle varies less than the noise around it and its edges.
        middle = varied.image[int(y1) + 4 : int(y2) - 4, int(x1) + 4 : int(x2) - 4].astype(float)
        assert middle.std(axis=(0, 1)).max() < 30


def test_the_last_epochs_see_whole_frames() -> None:
    pictures = [picture(i) for i in range(4)]
    plain = augmented(pictures[0], pictures, np.random.default_rng(0), plain=True)
    same = np.array_equal(plain.image, pictures[0].image)
    assert same or np.array_equal(plain.image[:, ::-1], pictures[0].image)


def test_of_boxes_that_overlap_the_surest_of_each_class_stays() -> None:
    raw = np.zeros((6, 5))
    raw[:4] = np.array(
        [[50, 50, 20, 20], [51, 50, 20, 20], [50, 51, 20, 20], [90, 90, 10, 10], [10, 10, 4, 4]]
    ).T
    raw[4:] = np.array([[0.9, 0.8, 0.1, 0.3, 0.01], [0.0, 0.0, 0.7, 0.0, 0.0]])
    numbers, found, scores = suppressed(raw, 0.05)
    assert list(zip(numbers.tolist(), scores.tolist(), strict=True)) == [(0, 0.9), (1, 0.7), (0, 0.3)]
    assert found[0].tolist() == [40, 40, 60, 60]
    assert suppressed(raw, 0.95)[0].tolist() == []


def test_shapes_are_the_same_on_any_machine_and_never_touch() -> None:
    frame = shapes.draw(7)
    assert np.array_equal(frame.image, shapes.draw(7).image)
    assert not np.array_equal(frame.image, shapes.draw(8).image)
    for seed in range(40):
        boxes: list[Box] = shapes.draw(seed, names=(*shapes.SHAPES, shapes.STAR), night=seed % 2 == 0).boxes
        assert 1 <= len(boxes) <= 3
        for i, a in enumerate(boxes):
            assert all(a.x2 <= b.x1 or b.x2 <= a.x1 or a.y2 <= b.y1 or b.y2 <= a.y1 for b in boxes[i + 1 :])
    day, night = shapes.draw(1).image, shapes.draw(1, night=True).image
    assert night.mean() < 0.5 * day.mean()
    assert shapes.draw(1).boxes == shapes.draw(1, night=True).boxes
