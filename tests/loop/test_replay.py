from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from everlearn.errors import InvalidError
from everlearn.learners.linear import Linear
from everlearn.loop.file_driver import FileDriver
from everlearn.loop.replay import replay
from everlearn.loop.state import dump, load
from everlearn.loop.tables import stream_of
from everlearn.types import DecisionKind

FAST = {"first_rows": 100, "min_labels": 60, "window": 150, "cooldown": 60}
LOGISTIC = {"name": "window", "size": 300, "estimator": "logistic"}


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    """A stream whose concept turns halfway."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1200, 2))
    y = (x.sum(axis=1) > 0) != (np.arange(1200) >= 600)
    return pd.DataFrame({"a": x[:, 0], "b": x[:, 1], "y": np.where(y, "yes", "no")})


def run(frame: Any, **options: Any) -> Any:
    gate = {"holdout": 60, "min_rows": 30, "look_every": 20}
    given = {"target": "y", "learner": LOGISTIC, "policy": FAST, "gate": gate}
    return replay(frame, **{**given, **options})


def timeless(report: Any) -> str:
    def strip(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: strip(v) for k, v in value.items() if "second" not in k}
        return [strip(v) for v in value] if isinstance(value, list) else value

    return json.dumps(strip(report.to_dict()), sort_keys=True)


def test_updating_beats_never_updating_when_the_world_turns(frame: pd.DataFrame) -> None:
    report = run(frame, label_delay=20)
    served, beside = report.served["accuracy"], report.baselines
    assert report.rows == 1200
    assert served > beside["never_updated"]["accuracy"] + 0.2
    assert served > beside["majority"]["accuracy"]
    assert report.to_dict()["updates"] >= 2


@pytest.mark.parametrize("learner", [LOGISTIC, "linear", "majority", "persistence"])
def test_two_replays_of_one_file_are_identical(frame: pd.DataFrame, learner: Any) -> None:
    assert timeless(run(frame, learner=learner)) == timeless(run(frame, learner=learner))


def test_the_order_of_the_columns_does_not_matter(frame: pd.DataFrame) -> None:
    assert timeless(run(frame)) == timeless(run(frame[["y", "b", "a"]]))


def test_persistence_at_no_delay_is_the_no_change_baseline(frame: pd.DataFrame) -> None:
    report = run(frame, learner="persistence")
    assert report.served["accuracy"] == pytest.approx(
        report.baselines["no_change"]["accuracy"],
        abs=0.02,  # it never learns what may become an anchor
    )


def test_a_delay_hurts_what_lives_off_the_newest_label() -> None:
    blocks = pd.DataFrame({"a": range(900), "y": ["up" if i // 30 % 2 else "down" for i in range(900)]})
    at_once = replay(blocks, target="y", learner="persistence", baselines=False).served["accuracy"]
    late = replay(blocks, target="y", learner="persistence", label_delay=30, baselines=False).served[
        "accuracy"
    ]
    assert at_once > 0.95
    assert late < 0.1


def test_a_delay_in_time_is_measured_on_the_time_column(frame: pd.DataFrame) -> None:
    timed = frame.assign(when=pd.date_range("2024-01-01", periods=len(frame), freq="h"))
    by_rows = run(timed, label_delay=24, drop=["when"], baselines=False)
    by_time = run(timed, label_delay="24h", time_column="when", drop=["when"], baselines=False)
    assert by_time.served["accuracy"] == pytest.approx(by_rows.served["accuracy"], abs=0.03)


@pytest.mark.parametrize("learner", [LOGISTIC, "linear"])
@pytest.mark.parametrize("delay", [0, 30])
def test_the_loop_scores_each_row_as_it_was_served(frame: pd.DataFrame, learner: Any, delay: int) -> None:
    """By the version that answered it, with the baselines of that moment: also when labels come late."""
    spec = run(frame, learner=learner, label_delay=delay, baselines=False).spec
    driver = FileDriver(spec, stream_of(frame, spec, delay, None))
    driver.run(lambda share: None)
    scored = load(dump(driver.state)).window
    assert scored == driver.scored[len(frame) - delay - len(scored) :][: len(scored)]
    assert len({s.version for s in driver.scored}) > 1


def test_a_stream_learner_whose_policy_is_never_stays_as_its_first_version_was(frame: pd.DataFrame) -> None:
    report = run(frame, learner="linear", policy={**FAST, "name": "never"})
    assert report.count(DecisionKind.PROMOTE) == 1
    assert report.served["accuracy"] == report.baselines["never_updated"]["accuracy"] < 0.65
    assert run(frame, learner="linear").served["accuracy"] > 0.85


def test_the_calendar_learns_on_where_that_is_the_same_as_learning_afresh(frame: pd.DataFrame) -> None:
    learning_on = run(frame, learner="linear", refit_every=200).baselines["refit_every"]
    assert learning_on["updates"] == 6
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Linear, "wants", len(frame))
        afresh = run(frame, learner="linear", refit_every=200).baselines["refit_every"]
    assert {**learning_on, "learning_seconds": 0} == {**afresh, "learning_seconds": 0}


def test_a_job_that_breaks_is_a_failure_in_the_ledger_and_the_replay_goes_on(frame: pd.DataFrame) -> None:
    broken = {"name": "window", "estimator": "ridge", "estimator_parameters": {"alpha": -1.0}}
    report = run(frame.assign(y=frame["a"]), learner=broken, baselines=False)
    assert report.count(DecisionKind.FAIL) > 0
    assert report.served["mae"] > 0


def test_rows_without_a_label_are_answered_and_not_scored(frame: pd.DataFrame) -> None:
    holes = frame.assign(y=frame["y"].where(frame.index % 3 != 0))
    report = run(holes, baselines=True)
    assert report.rows == 1200
    assert report.served["accuracy"] > 0.6


def test_regression_keeps_up_with_a_turning_slope() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=1500)
    y = np.where(np.arange(1500) < 700, 3 * x, -3 * x) + rng.normal(size=1500) * 0.1
    report = replay(
        pd.DataFrame({"x": x, "y": y}),
        target="y",
        learner={"name": "window", "size": 300},
        policy=FAST,
        gate={"holdout": 60, "min_rows": 30, "look_every": 20},
    )
    assert report.served["mae"] < 0.6 * report.baselines["never_updated"]["mae"]


def test_a_file_is_read_as_a_frame_is(frame: pd.DataFrame, tmp_path: Path) -> None:
    frame.to_csv(tmp_path / "stream.csv", index=False)
    from_file = run(tmp_path / "stream.csv", baselines=False)
    assert from_file.served["accuracy"] == pytest.approx(run(frame, baselines=False).served["accuracy"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "z"}, "target"),
        ({"label_delay": -1}, "label_delay"),
        ({"label_delay": "2h"}, "time_column"),
        ({"label_delay": "2h", "time_column": "q"}, "no column 'q'"),
        ({"learner": "nosuch"}, "nosuch"),
        ({"update": "stream"}, "row by row"),
        ({"features": {"q": "numeric"}}, "no column 'q'"),
    ],
)
def test_a_bad_setting_is_named(frame: pd.DataFrame, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidError, match=message):
        run(frame, **options)


def test_an_empty_table_is_refused() -> None:
    with pytest.raises(InvalidError, match="no rows"):
        replay(pd.DataFrame({"a": [], "y": []}), target="y")
