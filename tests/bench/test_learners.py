"""The learners' benchmark: its measures by hand, its streams, its runners and cache, and a quick run."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from rich.console import Console

KEYS = {
    "ridge",
    "machine",
    "seed",
    "seeds",
    "peer_seeds",
    "quick",
    "peers",
    "streams",
    "rates",
    "drift",
    "memory",
    "latency",
    "regression",
    "goals",
    "figures",
    "seconds",
}


@pytest.fixture
def measures(bench: Path) -> ModuleType:
    return import_module("measures")


@pytest.fixture
def streams(bench: Path) -> ModuleType:
    return import_module("streams")


@pytest.fixture
def runs(bench: Path) -> ModuleType:
    return import_module("runs")


class TestMeasures:
    Y = np.array([0, 0, 1, 1, 0])

    def test_labels_at_once(self, measures: ModuleType) -> None:
        picks = np.array([-1, 0, 1, 1, 1])
        answers = np.array([[0, 0], [0.9, 0.1], [0.2, 0.8], [0.5, 0.5], [0.25, 0.75]])
        found = measures.classification(picks, answers, self.Y, 0)
        assert found["accuracy"] == pytest.approx(60.0)
        # the newest label is right on rows 1 and 3: 40%
        assert found["kappa_t"] == pytest.approx(100 * (0.6 - 0.4) / 0.6)
        losses = [-math.log(p) for p in (0.9, 0.8, 0.5, 0.25)]
        assert found["log_loss"] == pytest.approx(sum(losses) / 4)

    def test_late_labels_are_not_known_to_the_no_change_baseline(self, measures: ModuleType) -> None:
        assert measures.no_change(self.Y, 0) == pytest.approx(2 / 5)
        assert measures.no_change(self.Y, 1) == pytest.approx(0 / 5)
        assert measures.no_change(self.Y, 3) == pytest.approx(1 / 5)

    def test_probabilities_are_scaled_and_clipped(self, measures: ModuleType) -> None:
        answers = np.array([[0, 0], [2.0, 2.0], [1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
        found = measures.classification(np.zeros(5), answers, self.Y, 0)
        clipped = -math.log(1e-15)
        assert found["log_loss"] == pytest.approx((math.log(2) + clipped + 0.0 + clipped) / 4)

    def test_recall_of_a_class_counts_from_the_row_on_which_it_arrives(self, measures: ModuleType) -> None:
        y, picks = np.array([1, 0, 1, 1, 1]), np.array([1, 0, 0, 1, 1])
        assert measures.recall(picks, y, {1: 2}) == pytest.approx(200 / 3)
        assert measures.recall(picks, y, {1: 2}, examples=2) == pytest.approx(50.0)
        assert measures.recall(picks, y, {}) is None

    def test_after_a_change(self, measures: ModuleType) -> None:
        picks = np.array([0, 0, 0, 1, 0])
        assert measures.after(picks, self.Y, (2,), rows=2) == pytest.approx(50.0)
        assert measures.after(picks, self.Y, ()) is None

    def test_no_value_counts_as_zero(self, measures: ModuleType) -> None:
        assert measures.mean_error(np.array([np.nan, 3.0]), np.array([2.0, 4.0])) == pytest.approx(1.5)


class TestStreams:
    def test_the_planted_change_is_where_it_is_said_to_be(self, streams: ModuleType) -> None:
        plain = streams.join("a", "sea", [(0, 0)], 400, 0, 3)
        changed = streams.join("b", "sea", [(0, 0), (300, 1)], 400, 0, 3)
        assert changed.changes == (300,)
        assert (plain.X[:300] == changed.X[:300]).all()
        assert (plain.X[300:] != changed.X[300:]).any()

    def test_a_gradual_change_mixes_both(self, streams: ModuleType) -> None:
        stream = streams.join("c", "sea", [(0, 0), (300, 1)], 600, 200, 3)
        assert stream.changes == (200,)

    def test_digits_arrive_class_by_class(self, streams: ModuleType) -> None:
        stream = streams.growing_digits()
        firsts = [stream.arriving[c] for c in range(1, 10)]
        assert firsts == sorted(firsts)
        assert not (stream.y[: firsts[-1]] == 9).any()

    def test_the_first_rows_keep_the_number_of_classes(self, streams: ModuleType) -> None:
        stream = streams.growing_digits().first(400)
        assert (len(stream.y), stream.classes, stream.delay) == (400, 10, 40)
        assert 9 not in stream.arriving
        assert stream.digest != streams.growing_digits().digest

    def test_a_missing_file_is_named(self, streams: ModuleType, tmp_path: Path) -> None:
        with pytest.raises(streams.Missing, match=r"elec\.csv"):
            streams.from_csv("elec", tmp_path)

    def test_files_are_written_once(self, streams: ModuleType, tmp_path: Path) -> None:
        stream = streams.growing_digits().first(50)
        path = stream.file(tmp_path)
        with np.load(path) as stored:
            assert (stored["X"] == stream.X).all()
        assert stream.file(tmp_path) == path
        assert list(tmp_path.iterdir()) == [path]


class TestRuns:
    @pytest.fixture
    def desk(self, runs: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
        """Runs whose peers are in this environment, where River is installed."""
        monkeypatch.setenv("EVERLEARN_BENCH_PYTHON", sys.executable)
        return runs.Bench(Console(quiet=True), cache=tmp_path)

    def test_ours_by_the_row_and_at_once_are_the_same(
        self, desk: Any, runs: ModuleType, streams: ModuleType
    ) -> None:
        from everlearn import learners

        stream = streams.growing_digits().first(200)
        (result,) = desk.results(runs.Entry("ours", "linear"), stream, [(20, 3)])
        learner = learners.build("linear", seed=3)
        picks = np.full(200, -1)
        for i in range(200):
            answer = learner.predict(stream.X[i : i + 1])
            if answer.shape[1]:
                picks[i] = learner.classes[int(answer.argmax())]
            if i >= 20:
                learner.learn(stream.X[i - 20 : i - 19], stream.y[i - 20 : i - 19])
        assert (result["picks"] == picks).all()
        assert result["state_bytes"] > 0
        assert result["seconds"] > 0

    def test_peers_learn_late_and_are_kept(self, desk: Any, runs: ModuleType, streams: ModuleType) -> None:
        stream, entry = streams.growing_digits().first(120), runs.Entry("river", "logistic")
        (first,) = desk.results(entry, stream, [(30, 0)])
        assert not first["cached"]
        # row 30 is answered before any label is learned, row 31 after one
        assert (first["picks"][:31] == -1).all()
        assert first["picks"][31] == stream.y[0]
        (again,) = desk.results(entry, stream, [(30, 0)])
        assert again["cached"]
        assert (again["picks"] == first["picks"]).all()
        assert again["seconds"] == first["seconds"]

    def test_a_peer_that_cannot_run_says_why(self, desk: Any, runs: ModuleType, streams: ModuleType) -> None:
        stream = streams.growing_digits().first(50)
        with pytest.raises(runs.Failed, match="nothing"):
            desk.results(runs.Entry("ours", "nothing"), stream, [(0, 0)])
        with pytest.raises(runs.Failed, match="not installed"):
            desk.results(runs.Entry("capymoa", "arf30"), stream, [(0, 0)])

    def test_stretches_are_timed(self, desk: Any, runs: ModuleType, streams: ModuleType) -> None:
        stream, entry = streams.growing_digits().first(120), runs.Entry("ours", "linear")
        with desk.runner(entry, core=0) as runner:
            runner.ask({**desk.job(entry, stream, 0, 0), "stretches": True})
            assert 0 < runner.ask([0, 60]) < 10
            assert 0 < runner.ask([60, 120]) < 10


class TestGoals:
    def test_a_goal_is_judged_by_the_default_alone(self, bench: Path) -> None:
        goals = import_module("learners_goals")
        results = [
            {"learner": "blend", "kind": "ours", "delay": delay, "accuracy": accuracy, "rows_per_second": 1.0}
            for delay, accuracy in ((0, 91.0), (48, 79.0))
        ]
        peer = {"learner": "river arf10", "kind": "river", "delay": 48, "accuracy": 79.2}
        report: dict[str, Any] = dict.fromkeys(KEYS)
        report["quick"] = False
        report["streams"] = {"elec": {"delay": 48, "results": [*results, peer]}}
        met = {goal["goal"]: goal["met"] for goal in goals.judge(report)}
        assert met["accuracy at once"] is True
        assert met["accuracy late"] is False
        assert met["first, or near, late"] is True

    def test_a_quick_run_judges_no_accuracy(self, bench: Path) -> None:
        goals = import_module("learners_goals")
        assert goals.at_least("accuracy", "elec", 50.0, 91.0, whole=False)["met"] is None
        assert goals.at_most("error", "trump", 0.2, None)["met"] is None


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_quick_run_has_every_part(bench: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(bench / "learners.py"), "--quick", "--peers", "none", "--json"]
    command += ["--figure", str(tmp_path / "rate.png"), "--drift-figure", str(tmp_path / "drift.png")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    report = json.loads(done.stdout)
    assert set(report) == KEYS
    assert {"bananas", "segments", "phishing1250", "digits", "recurring"} <= set(report["streams"])
    for stream in report["streams"].values():
        assert {result["learner"] for result in stream["results"]} == {"blend", "blend fast", "linear"}
        assert {result["delay"] for result in stream["results"]} == {0, stream["delay"]}
        assert all(0 < result["accuracy"] <= 100 for result in stream["results"])
    assert len(report["drift"]) == 9
    assert {one["learner"] for one in report["latency"]} == {"blend", "blend fast", "linear"}
    assert all(one["same_in_new_process"] for one in report["memory"])
    assert set(report["regression"]) == {"trump", "chick", "airline", "friedman"}
    assert all(Path(figure).stat().st_size > 10_000 for figure in report["figures"])
