"""Tables that nobody has tidied: each gives a sensible replay, or one error that says what to mend."""

from __future__ import annotations

import json
import math
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from everlearn.errors import InvalidError
from everlearn.loop.replay import replay
from everlearn.loop.tables import delay_of, read_table, tidied

ROWS = 240
FAST = {"first_rows": 60, "min_labels": 30, "window": 80, "cooldown": 40}
rng = np.random.default_rng(3)
A, B = rng.normal(size=(2, ROWS))
UP = A + B > 0
NUMBERS = range(ROWS)


def table(**columns: Any) -> pd.DataFrame:
    return pd.DataFrame({"a": A, "b": B, "y": np.where(UP, "up", "down"), **columns})


def run(data: Any, **options: Any) -> Any:
    given: dict[str, Any] = {"target": "y", "learner": "linear", "policy": FAST, "baselines": False}
    report = replay(data, **{**given, **options})
    json.dumps(report.to_dict(), allow_nan=False)
    return report


SENSIBLE = {
    "text with spaces and unicode": table(y=np.where(UP, "très haut ✓", 'bas, "coût"')),
    "whole numbers": table(y=UP.astype(int)),
    "whole floats": table(y=UP.astype(float)),
    "booleans": table(y=UP, flag=A > 0),
    "target first": table()[["y", "a", "b"]],
    "target in the middle": table()[["a", "y", "b"]],
    "constant columns": table(k=7, t="same"),
    "an empty column": table(k=np.nan),
    "numbers and text in one column": table(k=[1 if i % 3 else "x" for i in NUMBERS]),
    "text far down a column of numbers": table(k=[i % 5 if i < 230 else "oops" for i in NUMBERS]),
    "a date that is none, far down": table(k=["2024-01-01" if i < 230 else "unknown" for i in NUMBERS]),
    "dates": table(k=pd.date_range("2024-01-01", periods=ROWS, freq="h", tz="Europe/Berlin")),
    "durations": table(k=pd.to_timedelta(A, unit="h")),
    "many texts": table(k=[f"t{i % 150}" for i in NUMBERS]),
    "decimals": table(k=[Decimal(i % 9) for i in NUMBERS]),
    "lists": table(k=[[1, 2] for _ in NUMBERS]),
    "infinities": table(k=np.where(np.arange(ROWS) % 9 == 0, math.inf, A)),
    "single precision and categories": table(a=A.astype("float32"), k=pd.Categorical(np.where(UP, "r", "g"))),
    "nullable types": table(k=pd.array(np.where(A > 1, None, 1), dtype="Int64")),
    "huge numbers": table(k=A * 1e300),
    "missing labels": table(y=pd.array(np.where(A > 1, None, UP), dtype="boolean")),
    "a hundred columns": table(**{f"f{i}": rng.normal(size=ROWS) for i in range(100)}),
}


@pytest.mark.parametrize("name", SENSIBLE)
def test_an_awkward_table_is_replayed(name: str) -> None:
    report = run(SENSIBLE[name])
    assert report.rows == ROWS
    assert report.served["accuracy"] > (0.6 if name == "a hundred columns" else 0.75)
    assert [d.kind for d in report.decisions][:3] == ["configure", "hold", "update"]


def test_many_classes_and_one_that_comes_late() -> None:
    many = run(table(y=[f"c{i % 60}" for i in NUMBERS]))
    assert many.served["auc"] is None
    late = run(table(y=np.where(np.arange(ROWS) < 200, np.where(UP, "up", "down"), "new")))
    assert 0.5 < late.served["accuracy"] < 1
    assert late.served["auc"] is None


def test_one_class_and_few_rows() -> None:
    assert run(table(y="only")).served["accuracy"] == 1 - 1 / ROWS
    assert run(table().head(2)).rows == 2
    alone = run(table().head(1))
    assert (alone.rows, alone.served["accuracy"], alone.served["log_loss"]) == (1, 0.0, None)


@pytest.mark.parametrize("target", [A, A * 1e-7, 1e9 + A, np.full(ROWS, 0.1), A + 1e6 * (A > 2)])
@pytest.mark.parametrize("delay", [0, 30])
def test_a_regression_of_any_scale(target: Any, delay: int) -> None:
    report = run(table(y=target), label_delay=delay, baselines=True)
    served, mean = report.served, report.baselines["majority"]
    assert served["mae"] <= mean["mae"] * 1.05
    assert served["r2"] is None or served["r2"] > -0.5


def test_labels_that_come_after_the_last_row_teach_nothing() -> None:
    report = run(table(y=A), label_delay=10 * ROWS)
    assert report.served == {"mae": None, "rmse": None, "r2": None}
    assert "no label had come" in report.notes[-1]


def test_columns_that_are_left_out_are_noted() -> None:
    notes = run(table(name=[f"n{i}" for i in NUMBERS])).to_dict()["notes"]
    assert any(note.startswith("name: left out") for note in notes)


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (table(y=np.nan), "column 'y' has no values"),
        (table()[["y"]], "none beside the target 'y'"),
        (table()[["y"]].assign(k=np.nan), "k: left out: it has no values"),
        (table(y=[f"2024-{i}" for i in NUMBERS]), "column 'y' has a value of its own in every row"),
        (table(y=np.where(A > 2, math.inf, A)), r"column 'y' .* rows\[\d+\]\.y is inf"),
        (table(y=A * 1e120), r"column 'y' .* scale the column"),
        (table(**{"y.1": np.where(UP, "up", "down")}), r"column 'y\.1' repeats the target"),
        (pd.concat([table(), table()[["a"]]], axis=1), "several columns 'a'"),
        (table().head(0), "no rows"),
        (table().rename(columns={"y": "z"}), "there is no column 'y': use one of a, b, z"),
    ],
)
def test_what_cannot_be_learned_is_said_in_one_line(frame: pd.DataFrame, message: str) -> None:
    with pytest.raises(InvalidError, match=message) as caught:
        run(frame)
    assert "\n" not in caught.value.detail


def test_the_rows_of_bad_targets_are_counted_with_the_missing_ones() -> None:
    frame = table(y=A).assign(y=[None, None, math.inf, *A[3:]])
    with pytest.raises(InvalidError, match=r"rows\[2\]\.y is inf"):
        run(frame)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot be read as a table"),
        ("a,b,y\n", "no rows"),
        ("a,b,y\n1,2,0\n3,4\n5,6,1,9\n", "Expected 3 fields in line 4"),
        ('a,b,y\n1,"x\n2,y\n', "EOF inside string"),
    ],
)
def test_a_file_that_is_no_table_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(InvalidError, match=message):
        run(tmp_path / "t.csv")


def test_a_file_that_is_not_there_or_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes("a,y\n1,é\n".encode("latin-1"))
    for path, message in [("t.csv", "not UTF-8"), ("q.csv", "no file"), (".", "folder")]:
        with pytest.raises(InvalidError, match=message):
            run(tmp_path / path)


@pytest.mark.parametrize(
    "options",
    [{}, {"sep": ";"}, {"sep": ";", "decimal": ","}, {"sep": "\t"}, {"encoding": "utf-8-sig"}],
)
def test_csv_files_of_other_makes_are_read_the_same(tmp_path: Path, options: dict[str, str]) -> None:
    table().to_csv(tmp_path / "t.csv", index=False, **options)
    pd.testing.assert_frame_equal(read_table(tmp_path / "t.csv"), table(), check_dtype=False)


def test_numbers_hidden_by_question_marks_are_found_unless_declared_otherwise() -> None:
    frame = table(k=[str(i % 4) if i % 9 else "?" for i in NUMBERS], plain=[str(i % 4) for i in NUMBERS])
    found = tidied(frame, "y", {})
    assert found["k"].dropna().tolist() == [i % 4 for i in NUMBERS if i % 9]
    assert found["plain"].equals(frame["plain"])
    assert tidied(frame, "y", {"k": "categorical"}) is frame


def test_a_delay_is_rows_or_a_duration() -> None:
    assert [delay_of(given) for given in (5, "5", np.int64(5), "2h")] == [5, 5, 5, "2h"]
    for bad in (-1, 1.5, "soon", None):
        with pytest.raises(InvalidError, match="label_delay"):
            delay_of(bad)


@pytest.mark.parametrize(
    ("times", "message"),
    [
        ([*range(ROWS - 1), 5], "goes back in time at row 239"),
        ([*range(ROWS - 1), None], "no value in row 239"),
        ([*map(str, range(ROWS - 1)), "later"], "'when', row 0 is the text"),
    ],
)
def test_times_must_be_times_in_order(times: list[Any], message: str) -> None:
    with pytest.raises(InvalidError, match=message):
        run(table(when=times), drop=["when"], time_column="when", label_delay="30s")
