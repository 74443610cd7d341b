"""``everlearn continual-bench``."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from everlearn.cli import app
from everlearn.errors import InvalidError

ROWS = 200


def ask(*arguments: str):
    return CliRunner().invoke(app, ["continual-bench", *arguments], catch_exceptions=True)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Four classes, each in a place of its own."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 4, ROWS)
    frame = pd.DataFrame(
        {"a": 5 * (y % 2) + rng.normal(size=ROWS), "b": 5 * (y // 2) + rng.normal(size=ROWS)}
    )
    frame["kind"] = [f"k{label}" for label in y]
    path = tmp_path / "rows.csv"
    frame.to_csv(path, index=False)
    return path


def test_it_prints_measures_and_bars(table):
    done = ask(str(table), "--target", "kind", "--learner", "ridge", "--tasks", "2")
    assert done.exit_code == 0, done.output
    assert "WC-ACC %" in done.output
    assert "task 2" in done.output
    assert "█" in done.output


def test_the_json_says_what_was_run_and_where(table, tmp_path):
    plot = tmp_path / "drawn.png"
    given = '{"name": "image", "projection": 40}'
    done = ask(
        str(table), "--target", "kind", "--learner", "ridge", "--learner", given, "--tasks", "2",
        "--seed", "3", "--setting", "task", "--every", "50", "--plot", str(plot), "--json",
    )  # fmt: skip
    found = json.loads(done.stdout)
    assert {"version", "commit", "machine", "seed", "results"} <= set(found)
    assert (found["seed"], found["setting"], found["data"]) == (3, "task", "rows.csv")
    assert set(found["results"]) == {"ridge", "image"}
    assert found["results"]["image"]["average_accuracy"] > 0.9
    assert len(found["results"]["ridge"]["R"][0]) == 2
    assert plot.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--target", "colour"), "give one of the columns a, b, kind"),
        (("--target", "a"), "kind: is no column of numbers"),
        (("--target", "kind", "--learner", "{"), "no JSON"),
        (("--target", "kind", "--learner", "{}"), 'no "name"'),
        (("--target", "kind", "--setting", "all"), "setting"),
    ],
)
def test_bad_input_is_refused(table, arguments, message):
    done = ask(str(table), *arguments)
    assert isinstance(done.exception, InvalidError)
    assert message in str(done.exception)
