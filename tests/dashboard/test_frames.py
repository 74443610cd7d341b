"""Frames in the dashboard, without Streamlit: images, boxes over them, and tables of boxes."""

from __future__ import annotations

import base64
import io
import math
from typing import Any

import pytest

from everlearn.dashboard.views import boxes, forms, frames
from everlearn.dashboard.views.shots import Shot, shot
from everlearn.errors import InvalidError, SchemaError
from everlearn.spec import MEASURED

CAR = {"class": "car", "x1": 10.0, "y1": 20.0, "x2": 60.0, "y2": 50.0}


def image(kind: str, size: tuple[int, int] = (320, 200), mode: str = "RGB", **options: Any) -> bytes:
    from PIL import Image

    target = io.BytesIO()
    Image.new(mode, size).save(target, kind, **options)
    return target.getvalue()


def opened(url: str) -> Any:
    from PIL import Image

    head, _, data = url.partition(",")
    assert head == "data:image/jpeg;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_an_image_is_no_larger_than_it_is_looked_at(kind: str) -> None:
    seen = shot(image(kind, (1280, 720)), 480)
    assert (seen.width, seen.height) == (1280, 720)  # boxes are in pixels of the frame
    assert opened(seen.url).size == (480, 270)
    assert opened(shot(image(kind), 480).url).size == (320, 200)


def test_an_image_is_turned_as_its_camera_says() -> None:
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright
    seen = shot(image("JPEG", (1280, 720), exif=exif), 480)
    assert (seen.width, seen.height) == (720, 1280)
    assert opened(seen.url).size == (270, 480)


@pytest.mark.parametrize("mode", ["RGBA", "P", "L", "I;16", "1"])
def test_every_kind_of_png_is_shown(mode: str) -> None:
    assert opened(shot(image("PNG", mode=mode)).url).mode == "RGB"


@pytest.mark.parametrize(
    "data",
    [b"", b"<svg onload=alert(1)>", image("GIF"), image("PNG")[:60]],
    ids=["nothing", "SVG", "GIF", "half a PNG"],
)
def test_what_is_no_image_is_not_shown(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("PIL.ImageFile.LOAD_TRUNCATED_IMAGES", False)  # what draws PDFs lets them pass
    with pytest.raises(InvalidError, match="cannot be shown"):
        shot(data)


def test_boxes_lie_over_the_image_by_their_share_of_it() -> None:
    seen = Shot("data:,", 100, 200)
    told = frames.picture("f1", seen, [{**CAR, "score": 0.912}], [CAR])
    assert "left:10.00%;top:10.00%;width:50.00%;height:15.00%" in told
    assert "car 0.91" in told
    assert 'aria-label="Frame f1. Answered: 1 car. True: 1 car."' in told
    assert told.count("ev-true") == 1
    beyond = frames.picture("f1", seen, [{**CAR, "x1": -50.0, "x2": 500.0}])
    assert "left:0.00%;top:10.00%;width:100.00%" in beyond  # never over the edge of the page


def test_nothing_foreign_becomes_html(evil: str) -> None:
    frame = {"boxes": [{**CAR, "class": evil, "score": 0.5}], "truth": [{**CAR, "class": evil}]}
    shown = frames.picture(evil, Shot("data:,", 100, 100), frame["boxes"], frame["truth"])
    assert "<img src=x" not in shown + frames.card(frame, "", evil)


def test_a_card_says_whether_the_truth_is_known() -> None:
    unknown = frames.card({"boxes": [{**CAR, "score": 0.4}], "truth": None}, "", "now")
    assert "No truth yet" in unknown
    assert "1 car · score 0.40" in unknown
    assert "true: nothing" in frames.card({"boxes": [], "truth": []}, "", "now")
    assert "no answer yet" in frames.card({"boxes": None, "truth": None}, "", "now")


def test_a_table_becomes_boxes_and_empty_rows_are_left_out() -> None:
    rows = [
        {**CAR, "x1": -0.5},
        dict.fromkeys(CAR),
        {"class": " ", "x1": math.nan},
        {**CAR, "class": " van "},
    ]
    found = boxes.boxes_of(rows, 320, 200)
    assert [box["class"] for box in found] == ["car", "van"]
    assert boxes.boxes_of([], 320, 200) == []


@pytest.mark.parametrize(
    ("change", "field", "says"),
    [
        ({"class": None}, "Row 2, class", "write what it is"),
        ({"class": "c" * 101}, "Row 2, class", "100 characters"),
        ({"x2": None}, "Row 2, x2", "write a number of pixels from 0 to 320"),
        ({"y2": math.nan}, "Row 2, y2", "write a number of pixels from 0 to 200"),
        ({"x2": 400.0}, "Row 2, x2", "400 is outside of the image, which is 320 pixels wide"),
        ({"y1": -5.0}, "Row 2, y1", "-5 is outside of the image, which is 200 pixels high"),
        ({"x2": math.inf}, "Row 2, x2", "outside of the image"),
        ({"x2": 10.0}, "Row 2, x2", "must be more than x1"),
        ({"y1": 50.0, "y2": 20.0}, "Row 2, y2", "20 is not more than 50"),
        ({"x2": 10.04}, "Row 2, x2", "must be more than x1"),  # they are kept to a tenth of a pixel
        ({"class": "van"}, "Row 2", "is the same as row 1"),
    ],
)
def test_each_fault_names_its_row_and_column(change: Any, field: str, says: str) -> None:
    with pytest.raises(SchemaError) as raised:
        boxes.boxes_of([{**CAR, "class": "van"}, {**CAR, **change}], 320, 200)
    (fault,) = raised.value.faults
    assert fault.field == field
    assert says in fault.message


def test_a_table_that_was_not_touched_is_known_to_be_the_same() -> None:
    assert boxes.same([{**CAR, "score": 0.4}], [CAR])
    assert not boxes.same([CAR], [{**CAR, "x2": 61.0}])


def test_what_is_measured_of_a_frame_is_not_asked_for() -> None:
    assert set(forms.MEASURED) == set(MEASURED)
