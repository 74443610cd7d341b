"""Commands that talk to a running server, on a real one with a real worker."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]


@pytest.fixture
def name() -> str:
    return f"m-{os.urandom(4).hex()}"


@pytest.fixture
def model(run: Run, data: Path, flowers: Path, tmp_path: Path, name: str) -> str:
    """A model made from the flowers, with nothing learned yet."""
    spec = tmp_path / f"{name}.yaml"
    assert run("init", flowers, "--target", "kind", "--name", name, "--out", spec).code == 0
    assert run("models", "create", spec).code == 0
    return name


def test_from_a_table_to_a_champion_that_answers(
    run: Run, model: str, flowers: Path, tmp_path: Path, wait_until: Callable[..., None]
) -> None:
    assert run("load", model, flowers, "--json").json == {"accepted": 400}
    wait_until(lambda: run("status", model, "--json").json["items"][0]["champion"] > 0)
    shown = run("status", model)
    assert "classification of kind" in shown.out
    assert "400 examples" in shown.out

    one = run("predict", model, "--row", '{"height": 90, "colour": "red"}', "--json").json
    (answer,) = one["predictions"]
    assert answer["value"] == "tall"
    assert answer["probabilities"]["tall"] > 0.9

    out = tmp_path / "answers.csv"
    assert "wrote 400 answers" in run("predict", model, flowers, "--out", out).out
    with out.open() as file:
        answers = list(csv.DictReader(file))
    with flowers.open() as file:
        truths = [row["kind"] for row in csv.DictReader(file)]
    right = sum(a["value"] == truth for a, truth in zip(answers, truths, strict=True))
    assert right > 380
    assert set(answers[0]) == {"id", "version", "value", "probability_tall", "probability_small"}

    labels = tmp_path / "labels.csv"
    with labels.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "value"])
        writer.writerows([(a["id"], truth) for a, truth in zip(answers, truths, strict=True)])
    assert run("label", model, labels).out == "400 accepted, 0 known already\n"
    assert run("label", model, labels, "--json").json["duplicate"] == 400

    listed = run("versions", model, "--json").json["items"]
    assert [v["state"] for v in listed].count("champion") == 1
    assert "champion" in run("versions", model).out
    kinds = [d["kind"] for d in run("decisions", model, "--json", "--limit", 1000).json["items"]]
    assert "promote" in kinds
    promoted = run("decisions", model, "--kind", "promote").out
    assert "proven better" in promoted or "promote" in promoted


def test_one_label_by_hand(run: Run, model: str) -> None:
    answer = run("predict", model, "--row", '{"height": 5}', "--json").json["predictions"][0]
    assert run("label", model, "--id", answer["id"], "--value", "small").out.startswith("1 accepted")
    refused = run("label", model, "--id", answer["id"], "--value", "tall")
    assert "--correction" in refused.out
    corrected = run("label", model, "--id", answer["id"], "--value", "tall", "--correction", "--json").json
    assert corrected["accepted"] == 1
    assert run("label", model, "--id", "nobody", "--value", "tall", "--json").json["parked"] == ["nobody"]


def test_ids_of_ones_own(run: Run, model: str, tmp_path: Path) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_text("order,height\nA1,10\nA2,80\n")
    args = ("predict", model, rows, "--id-column", "order", "--json")
    first = run(*args).json["predictions"]
    assert [answer["id"] for answer in first] == ["A1", "A2"]
    assert run(*args).json["predictions"] == first  # known ids: the recorded answers
    rows.write_text("order,height\nA1,11\n")
    ended = run(*args)
    assert ended.code == 1
    assert "A1" in ended.err
    assert "no column 'nr'" in run("predict", model, rows, "--id-column", "nr").err


def test_columns_that_are_not_known_are_said(run: Run, model: str, tmp_path: Path) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_text("height,weather\n10,sun\n")
    ended = run("predict", model, rows)
    assert ended.code == 0
    assert "weather" in ended.err


def test_steering(run: Run, model: str, flowers: Path, wait_until: Callable[..., None]) -> None:
    assert run("freeze", model, "--why", "holidays").out.startswith("freeze: ")
    assert "state" in run("models", "show", model).out
    assert run("unfreeze", model, "--json").json["decision"]["kind"] == "unfreeze"
    refused = run("promote", model, 99)
    assert refused.code == 1
    assert "99" in refused.err
    run("load", model, flowers)
    wait_until(lambda: run("models", "show", model, "--json").json["champion"] > 0)
    # The loop may be learning by itself: then a retrain is refused, until that is done.
    wait_until(lambda: run("retrain", model, "--force").code == 0)
    asked = run("decisions", model, "--kind", "update", "--json").json["items"]
    assert any("by command" in decision["reason"] for decision in asked)
    wait_until(lambda: run("rollback", model).code == 0)
    # What was being learned meanwhile may have been promoted again since.
    rolled_back = run("decisions", model, "--kind", "rollback", "--json").json["items"]
    assert [decision["kind"] for decision in rolled_back] == ["rollback"]


def test_models_are_listed_changed_and_removed(run: Run, model: str, tmp_path: Path) -> None:
    assert model in run("models", "list").out
    assert model in [item["name"] for item in run("models", "list", "--json").json["items"]]
    changes = tmp_path / "changes.yaml"
    changes.write_text("threshold: 0.9\n")
    assert run("models", "update", model, changes).out == f"changed threshold of {model}\n"
    assert run("models", "show", model, "--json").json["threshold"] == 0.9
    taken = run("models", "create", tmp_path / f"{model}.yaml")
    assert taken.code == 1
    assert model in taken.err
    assert run("models", "delete", model, "--yes", "--json").json == {"deleted": model}
    gone = run("models", "show", model)
    assert (gone.code, gone.err.count("\n")) == (1, 1)


def test_a_load_with_a_name_is_stored_once(run: Run, model: str, flowers: Path) -> None:
    for _ in range(2):
        assert run("load", model, flowers, "--once", "day-1", "--json").code == 0
    assert run("models", "show", model, "--json").json["log"]["examples"] == 400


def test_rows_that_break_the_schema_are_all_named(run: Run, model: str, tmp_path: Path) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_text("height,colour\ntwo,red\nthree,blue\n")
    ended = run("predict", model, rows)
    assert ended.code == 1
    assert "rows[0].height" in ended.err
    assert "rows[1].height" in ended.err


@pytest.mark.usefixtures("data")
def test_a_wrong_key_and_a_server_that_is_not_there(run: Run, model: str) -> None:
    wrong = run("status", "--key", "not-the-key-of-this-server")
    assert (wrong.code, wrong.err.count("\n")) == (1, 1)
    elsewhere = run("status", "--url", "http://example.invalid:1")
    assert elsewhere.code == 1
    assert "--key" in elsewhere.err  # this machine's key is not sent to another


def test_status_in_the_right_shape(run: Run, model: str) -> None:
    said = run("status", "--json").json
    assert said["server"]["status"] == "ok"
    assert {"name", "state", "champion", "metric", "threshold", "log"} <= set(said["items"][0])
    assert json.dumps(said)


def test_sources_are_listed_and_steered(run: Run, model: str, wait_until: Callable[..., None]) -> None:
    assert run("predict", model, "--row", '{"height": 90, "colour": "red"}', "--json").code == 0
    assert "no label came from a known source" in run("sources", "list", model).out
    put = run("sources", "quarantine", model, "key:0123", "--why", "stolen")
    assert put.out.startswith("quarantine: key:0123 is put aside by command")
    assert run("sources", "list", model, "--json").json["items"][0]["state"] == "quarantined"
    assert "quarantined" in run("sources", "list", model).out
    assert run("sources", "release", model, "key:0123", "--json").json["decision"]["kind"] == "release"
    assert run("sources", "unlearn", model, "key:0123", "--since", "2").code == 0
    assert run("sources", "unlearn", model, "key:4567").code == 1


def test_jobs_are_listed_shown_cancelled_and_tried_again(
    run: Run, model: str, flowers: Path, wait_until: Callable[..., None]
) -> None:
    assert run("load", model, flowers).code == 0
    wait_until(lambda: run("jobs", "list", model, "--state", "done", "--json").json["items"])
    (job, *_) = run("jobs", "list", model, "--json").json["items"]
    assert (job["kind"], job["queue"]) == ("train", "train")
    assert job["id"] in run("jobs", "list", model).out
    shown = run("jobs", "show", model, job["id"])
    assert "done" in shown.out
    for verb in ("cancel", "retry"):
        refused = run("jobs", verb, model, job["id"])
        assert (refused.code, refused.err.count("\n")) == (1, 1)
        assert "done" in refused.err
    assert run("jobs", "cancel", model, "none").code == 1


def test_a_what_if_over_the_workers(run: Run, model: str, flowers: Path) -> None:
    assert run("predict", model, flowers, "--out", "answers.csv").code == 0
    with Path("answers.csv").open() as file, flowers.open() as truths, Path("labels.csv").open("w") as labels:
        writer = csv.writer(labels)
        writer.writerow(["id", "value"])
        both = zip(csv.DictReader(file), csv.DictReader(truths), strict=True)
        writer.writerows([(answer["id"], truth["kind"]) for answer, truth in both])
    assert run("label", model, "labels.csv").code == 0
    asked = ("what-if", model, "--workers", "--policy", "never", "--policy", "every:every=200,min_labels=50")
    found = run(*asked, "--json").json
    assert [line["name"] for line in found["settings"][:3]] == [
        "never", "every (every 200, min_labels 50)", "as it was served"
    ]  # fmt: skip
    assert {"never", "cadence", "cusum", "always"} < {line["role"] for line in found["settings"]}
    assert found["rows"] == 400
    shown = run(*asked)
    assert "as it was served" in shown.out
    wrong = run("what-if", flowers, "--workers", "--target", "kind")
    assert (wrong.code, "--workers" in wrong.err) == (1, True)
