"""The boxes of a frame as a table that people edit, and what is sent of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from everlearn.errors import Fault, SchemaError

CORNERS: Final = ("x1", "y1", "x2", "y2")
COLUMNS: Final = ("class", *CORNERS)
MOST: Final = 1000
LONGEST: Final = 100
SLACK: Final = 1.0
"""Pixels that a box may reach beyond its image: what was answered is rounded."""

Box = dict[str, Any]


def table_of(boxes: Iterable[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Boxes as columns, without their scores.

    >>> table_of([{"class": "car", "x1": 1.0, "y1": 2.0, "x2": 3.0, "y2": 4.0, "score": 0.9}])["x2"]
    [3.0]
    """
    rows = list(boxes)
    return {name: [row[name] for row in rows] for name in COLUMNS}


def boxes_of(rows: Iterable[Mapping[str, Any]], width: int, height: int) -> list[Box]:
    """The boxes of a table for a frame of so many pixels; rows in which nothing stands are left out.

    Raises SchemaError that names each row (the first is 1) and column at fault, and what to write.

    >>> boxes_of([{"class": " car ", "x1": 1, "y1": 2, "x2": 3, "y2": 4}, {"class": None}], 10, 10)
    [{'class': 'car', 'x1': 1.0, 'y1': 2.0, 'x2': 3.0, 'y2': 4.0}]
    """
    faults: list[Fault] = []
    boxes: list[Box] = []
    seen: dict[tuple[Any, ...], int] = {}
    for place, row in enumerate(rows, 1):
        if all(_missing(row.get(name)) for name in COLUMNS):
            continue
        box, wrong = _box(row, place, width, height)
        if box is not None and not wrong:
            first = seen.setdefault(tuple(box.values()), place)
            if first != place:
                wrong = [Fault(f"Row {place}", f"is the same as row {first}: take one of them away")]
        faults += wrong
        boxes += [] if box is None else [box]
    if len(boxes) > MOST:
        faults.append(Fault(f"Row {MOST + 1}", f"a frame has at most {MOST:,} boxes"))
    if faults:
        raise SchemaError("; ".join(f"{f.field}: {f.message}" for f in faults[:5]), faults)
    return boxes


def _box(row: Mapping[str, Any], place: int, width: int, height: int) -> tuple[Box | None, list[Fault]]:
    """A row as a box, and what is wrong with it."""
    faults = []
    name = "" if _missing(row.get("class")) else str(row["class"]).strip()
    if not 0 < len(name) <= LONGEST:
        faults.append(
            Fault(f"Row {place}, class", f"write what it is, in 1 to {LONGEST} characters such as car")
        )
    for column in CORNERS:
        fault = _corner(row.get(column), *((width, "wide") if column[0] == "x" else (height, "high")))
        faults += [Fault(f"Row {place}, {column}", fault)] if fault else []
    if faults:
        return None, faults
    box: Box = {"class": name, **{column: float(row[column]) for column in CORNERS}}
    return box, _flat(box, place)


def _corner(value: Any, whole: int, way: str) -> str:
    """What is wrong with a corner; empty for nothing."""
    if _missing(value) or isinstance(value, (bool, str)):
        return f"write a number of pixels from 0 to {whole:,}"
    if not -SLACK <= float(value) <= whole + SLACK:
        return f"{value:g} is outside of the image, which is {whole:,} pixels {way}"
    return ""


def _flat(box: Box, place: int) -> list[Fault]:
    """What is wrong with the order of the corners; they are kept to a tenth of a pixel."""
    return [
        Fault(f"Row {place}, {high}", f"must be more than {low}: {box[high]:g} is not more than {box[low]:g}")
        for low, high in (("x1", "x2"), ("y1", "y2"))
        if not round(box[low], 1) < round(box[high], 1)
    ]


def _missing(value: Any) -> bool:
    """Whether nothing was written: ``None``, NaN or blanks."""
    return value is None or value != value or (isinstance(value, str) and not value.strip())


def same(boxes: Sequence[Mapping[str, Any]], others: Sequence[Mapping[str, Any]]) -> bool:
    """Whether two lists hold the same boxes, whatever their scores."""
    left, right = (sorted(tuple(box[name] for name in COLUMNS) for box in each) for each in (boxes, others))
    return left == right
