"""``everlearn backfill`` on a running server with a worker: the report, and the rows in a file."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.ipc
import pyarrow.parquet as pq
import pytest

Run = Callable[..., Any]


@pytest.fixture
def model(run: Run, data: Path, flowers: Path, tmp_path: Path, wait_until: Callable[..., None]) -> str:
    """A model that learned the flowers, answered them, and was told the truth of the first half."""
    name = f"m-{os.urandom(4).hex()}"
    spec = tmp_path / f"{name}.yaml"
    assert run("init", flowers, "--target", "kind", "--name", name, "--out", spec).code == 0
    assert run("models", "create", spec).code == 0
    assert run("load", name, flowers).code == 0
    wait_until(lambda: run("status", name, "--json").json["items"][0]["champion"] > 0)
    assert run("predict", name, flowers, "--out", "answers.csv").code == 0
    with Path("answers.csv").open() as file, flowers.open() as truths, Path("labels.csv").open("w") as labels:
        both = zip(csv.DictReader(file), csv.DictReader(truths), strict=True)
        writer = csv.writer(labels)
        writer.writerow(["id", "value"])
        writer.writerows([(answer["id"], truth["kind"]) for answer, truth in list(both)[:200]])
    assert run("label", name, "labels.csv").code == 0
    return name


def test_it_waits_for_the_report_and_prints_it(run: Run, model: str) -> None:
    found = run("backfill", model, "--version", 1, "--part-rows", 300, "--json").json
    assert (found["model"], found["version"], found["rows"], found["labels"]) == (model, 1, 400, 200)
    assert len(found["parts"]) > 2
    assert found["scores"]["version"]["accuracy"] > 0.95
    assert found["scores"].keys() == {"version", "served"}
    shown = run("backfill", model, "--since", "1d").out
    assert "400 (200 labelled)" in shown
    assert "as it was served" in shown
    assert "accuracy" in shown
    assert "note: the version may have learned rows" in shown
    nothing = run("backfill", model, "--until", "2001-01-01").out
    assert "note: no prediction lies in this stretch" in nothing


def test_the_rows_are_written_in_the_format_of_the_files_name(run: Run, model: str) -> None:
    with Path("answers.csv").open() as file:
        served = {line["id"]: line for line in csv.DictReader(file)}
    assert "wrote 400 rows to rows.csv" in run("backfill", model, "--out", "rows.csv").out
    with Path("rows.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert {line["id"] for line in lines} == served.keys()
    assert all(
        line["value"] == served[line["id"]]["value"] for line in lines if line["served.version"] == "1"
    )
    for name in ("rows.ndjson", "rows.arrow", "rows.parquet"):
        assert run("backfill", model, "--out", name, "--json").json["out"] == name
    told = [json.loads(line) for line in Path("rows.ndjson").read_text().splitlines()]
    with pyarrow.ipc.open_stream(Path("rows.arrow").read_bytes()) as stream:
        tables = [stream.read_all(), pq.read_table("rows.parquet")]
    for table in tables:
        assert table["id"].to_pylist() == [row["id"] for row in told]
        assert table["label"].to_pylist() == [row["label"] for row in told]
    assert not [path for path in Path().iterdir() if path.name.endswith(".part")]


def test_what_is_wrong_is_told_before_any_work(run: Run, model: str) -> None:
    for wrong, said in (
        (["--out", "rows.xlsx"], "Name it *.parquet"),
        (["--since", "soon"], "--since: 'soon' is no time"),
        (["--version", "99"], "no version 99"),
        (["--after", "1000000"], "give a longer stretch"),
    ):
        ended = run("backfill", model, *wrong)
        assert (ended.code, said in ended.err) == (1, True), ended.err
    assert run("backfill", model, "--version", "0").code == 2
    jobs = run("jobs", "list", model, "--limit", 1000, "--json").json["items"]
    assert "backfill" not in {job["kind"] for job in jobs}


def test_a_part_that_cannot_be_done_is_named(
    run: Run, model: str, store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from everlearn.errors import InvalidError
    from everlearn.loop import backfill_jobs

    def refuse(*_: Any, **__: Any) -> None:
        raise InvalidError("The log up to position 7 was dropped")

    monkeypatch.setattr(backfill_jobs, "work", refuse)
    ended = run("backfill", model, "--part-rows", 100_000)
    assert ended.code == 1
    assert "could not be answered: The log up to position 7 was dropped" in ended.err
    jobs = [job for job in store.jobs.list(model).items if job.spec.kind == "backfill"]
    assert {job.state.value for job in jobs} == {"failed"}
