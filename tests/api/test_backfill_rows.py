"""The formats of a backfill's rows hold what was answered, whatever its type."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from everlearn.api import formats
from everlearn.api.backfill_rows import CHUNK, Shape, writer, written
from everlearn.loop.backfill_columns import Columns
from everlearn.types import Output, Prediction, Scalar


def columns(served: list[Scalar], values: list[Scalar], labels: list[Scalar], keys: str = "") -> Columns:
    made = Columns()
    for i, (was, value, label) in enumerate(zip(served, values, labels, strict=True)):
        asked = Prediction(10 + i, 1_700_000_000.25 + i, f"p{i}", i, 1, {}, Output(was))
        made.add(asked, Output(value, {key: 1 / len(keys) for key in keys} if keys else None), label)
    return made


def told(kind: str, shape: Shape, *parts: Columns) -> bytes:
    return b"".join(written(writer(kind, shape), iter(parts)))


def table(kind: str, data: bytes) -> Any:
    if kind == formats.PARQUET:
        return pq.read_table(io.BytesIO(data))
    with pa.ipc.open_stream(data) as stream:
        return stream.read_all()


CASES: list[tuple[str, list[Scalar], Any]] = [
    ("float", [1.5, None, 3], [1.5, None, 3.0]),
    ("int", [1, None, 2**53 + 1], [1, None, 2**53 + 1]),
    ("bool", [True, None, False], [True, None, False]),
    ("str", ['ä, "b"\n', None, "c"], ['ä, "b"\n', None, "c"]),
    ("str", [True, None, 2**70], ["true", None, str(2**70)]),
]


@pytest.mark.parametrize(("kind", "cells", "kept"), CASES)
@pytest.mark.parametrize("form", [formats.ARROW, formats.PARQUET])
def test_tables_keep_every_cell(form: str, kind: str, cells: list[Scalar], kept: Any) -> None:
    found = table(form, told(form, Shape(7, (), kind), columns(cells, cells[::-1], cells)))
    assert found["served.value"].to_pylist() == kept
    assert found["value"].to_pylist() == kept[::-1]
    assert found["label"].to_pylist() == kept
    assert found["version"].to_pylist() == [7, 7, 7]
    assert found["position"].to_pylist() == [10, 11, 12]


def test_lines_keep_every_cell() -> None:
    for _, cells, _ in CASES[:4]:
        lines = told(formats.NDJSON, Shape(7, (), "str"), columns(cells, cells, cells)).decode().splitlines()
        assert [json.loads(line)["value"] for line in lines] == cells
        assert "probabilities" not in lines[0]
    text = told(formats.CSV, Shape(7, (), "str"), columns(["a,b"], [True], [None])).decode()
    (line,) = csv.DictReader(io.StringIO(text))
    assert (line["served.value"], line["value"], line["label"]) == ("a,b", "true", "")
    assert line["at"] == "2023-11-14T22:13:20.250000Z"


def test_many_parts_are_one_table() -> None:
    size = CHUNK + 5
    part = columns(["x"] * size, ["y"] * size, [None] * size, "xy")
    for form in (formats.ARROW, formats.PARQUET):
        found = table(form, told(form, Shape(1, ("x", "y"), "str"), part, part))
        assert found.num_rows == 2 * size
        assert found["probabilities.x"].to_pylist() == [0.5] * found.num_rows
    text = told(formats.CSV, Shape(1, ("x", "y"), "str"), part, part).decode()
    assert text.count("\n") == 2 * size + 1
    assert text.count("id,at") == 1


def test_memory_holds_a_chunk_however_many_parts_there_are() -> None:
    part, asked = columns(["x"] * 10, ["y"] * 10, [None] * 10, "xy"), list[int]()

    def parts() -> Any:
        for i in range(100):
            asked.append(i)
            yield part

    chunks = written(writer(formats.NDJSON, Shape(1, ("x", "y"), "str")), parts())
    for i in range(3):
        next(chunks)
        assert asked[-1] == i
