from __future__ import annotations

from io import StringIO
from typing import Any

import pandas as pd
import pytest

from everlearn.errors import InvalidError
from everlearn.features.infer import infer_spec
from everlearn.features.schema import Schema
from everlearn.spec import parse_spec


def table(**columns: Any) -> pd.DataFrame:
    return pd.DataFrame({"y": ["a", "b"] * 15, **columns})


def test_kinds_by_type_and_content() -> None:
    frame = table(
        number=[i / 7 for i in range(30)],
        zero_one=[0, 1] * 15,
        flag=[True, False] * 15,
        flag_with_gaps=[True, None, False] * 10,
        flag_text=["true", "FALSE", None] * 10,
        colour=["red", "green", "blue"] * 10,
        moment=pd.date_range("2024-01-01", periods=30),
        day=[f"2024-01-{i + 1:02d}" for i in range(30)],
        mixed=["1", "x", None] * 10,
        category=pd.Categorical(["u", "v"] * 15),
    )
    assert infer_spec(frame, "y")["features"] == {
        "number": "numeric",
        "zero_one": "numeric",
        "flag": "boolean",
        "flag_with_gaps": "boolean",
        "flag_text": "boolean",
        "colour": "categorical",
        "moment": "timestamp",
        "day": "timestamp",
        "mixed": "categorical",
        "category": "categorical",
    }


def test_what_cannot_be_learned_from_is_left_out_with_a_note() -> None:
    frame = table(
        x=range(30),
        id=range(1000, 1030),
        customer=[f"c-{i}" for i in range(30)],
        empty=[None] * 30,
        words=[f"text {i % 25}" for i in range(30)],
    )
    spec = infer_spec(frame, "y", name="m")
    assert spec["features"] == {"x": "numeric"}
    assert [note.partition(":")[0] for note in spec.notes] == ["id", "customer", "empty", "words", "y"]
    assert parse_spec(spec).name == "m"


@pytest.mark.parametrize(
    ("values", "task"),
    [
        (["a", "b", "c"] * 10, "classification"),
        ([True, False, True] * 10, "classification"),
        ([0, 1, 2] * 10, "classification"),
        ([0.0, 1.0, None] * 10, "classification"),
        ([0.5, 1.5, 2.5] * 10, "regression"),
        ([float(i) for i in range(30)], "regression"),
        (list(range(30)), "classification"),
    ],
)
def test_task_by_target(values: list[Any], task: str) -> None:
    frame = pd.DataFrame({"x": range(30), "y": values})
    spec = infer_spec(frame, "y")
    assert spec["task"] == task
    targets = frame["y"].dropna().tolist()
    assert len(Schema.from_spec(parse_spec(spec)).check_target(targets)) == len(targets)


def test_many_whole_numbers_are_a_regression() -> None:
    assert infer_spec(pd.DataFrame({"x": range(200), "y": range(200)}), "y")["task"] == "regression"


def test_rows_of_the_table_fit_the_inferred_schema() -> None:
    text = "n,flag,day,colour,y\n1,True,2024-01-01,red,0\n,False,2024-01-02,,1\n2.5,,,blue,0\n"
    frame = pd.read_csv(StringIO(text))
    spec = parse_spec(infer_spec(frame, "y"))
    assert spec.features == {"n": "numeric", "flag": "boolean", "day": "timestamp", "colour": "categorical"}
    checked = Schema.from_spec(spec).check(frame.to_dict("records"))
    assert checked.rows[1] == {"day": 1704153600.0, "flag": False}
    assert checked.ignored == {"y": 3}


def test_the_schema_infers_too() -> None:
    assert Schema.infer(table(x=range(30)), "y") == ({"x": "numeric"}, "classification")


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (pd.DataFrame({"x": [1]}), "there is no column 'y': use one of x"),
        (pd.DataFrame({"y": [1]}), "no column is left"),
        (pd.DataFrame({"x": [1], "y": [None]}), "has no values"),
        (pd.DataFrame([[1, 2, 3]], columns=["x", "x", "y"]), "several columns 'x'"),
    ],
)
def test_tables_without_a_question_are_refused(frame: pd.DataFrame, message: str) -> None:
    with pytest.raises(InvalidError, match=message):
        infer_spec(frame, "y")


def test_a_file_of_other_separators_is_recognised_by_its_only_column() -> None:
    with pytest.raises(InvalidError, match="separated by semicolons: save the file with commas"):
        infer_spec(pd.DataFrame({"a;b;y": ["1;2;3"]}), "y")


def test_what_comes_late_in_a_column_counts_for_its_kind() -> None:
    values = [float(i % 5) for i in range(1500)]
    frame = pd.DataFrame({"y": ["a", "b"] * 750, "late": [*values[:-1], "none yet"], "lists": [[1]] * 1500})
    spec = infer_spec(frame, "y")
    assert spec["features"] == {"late": "categorical"}
    assert "lists: left out: it holds values of the type list" in spec.notes
