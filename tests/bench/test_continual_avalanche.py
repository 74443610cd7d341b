"""The comparison with Avalanche: what its runners are asked, what its goals ask, and a quick run."""

import json
import os
import subprocess
import sys
from argparse import Namespace
from importlib import import_module

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra torch", exc_type=ImportError)

KEYS = {
    "machine", "commit", "seed", "seeds", "quick", "versions", "load", "threads", "results", "goals",
    "unavailable", "seconds",
}  # fmt: skip


def test_both_sides_are_asked_the_same(bench, tmp_path):
    made = import_module("continual_avalanche").job("er_balanced", 200, tmp_path / "stream.npz", 3)
    assert made["parameters"] == {"rate": 0.01, "batch": 10, "replay": 10}
    assert (made["size"], made["seed"]) == (200, 3)


def test_a_stream_has_every_row_once_and_in_order(bench, shared_data, tmp_path):
    Mnist = import_module("continual_mnist").Mnist
    data = Mnist("split_mnist", 0, shared_data("mnist.npz"), rows=50)
    with np.load(import_module("continual_avalanche").stream(data, 2, tmp_path / "stream.npz")) as stored:
        assert stored["task"].tolist() == [0] * 50 + [1] * 50
        assert set(stored["y"][:50]) == {0, 1}
        assert np.array_equal(stored["x"][50:], next(data.train(1))[0])
        assert np.array_equal(stored["test_y"], np.concatenate([data.test(0)[1], data.test(1)[1]]))


def of(accuracy, std, seconds):
    return [
        {"accuracy": accuracy - std, "seconds": seconds, "cpu_seconds": seconds},
        {"accuracy": accuracy + std, "seconds": seconds, "cpu_seconds": seconds},
    ]


@pytest.mark.parametrize(
    ("ours", "peer", "met"),
    [
        (of(80.0, 1.0, 2.0), of(79.0, 1.0, 4.0), [True, True]),
        (of(80.0, 1.0, 2.0), of(81.0, 1.0, 3.9), [True, False]),  # within a deviation; not twice as fast
        (of(80.0, 0.1, 2.0), of(81.0, 1.0, 8.0), [False, True]),
    ],
)
def test_goals_are_its_accuracy_and_twice_its_speed(bench, ours, peer, met):
    script = import_module("continual_avalanche")
    results = {"er": {"200": script.summary({"ours": ours, "avalanche": peer})}}
    assert [goal["met"] for goal in script.goals(results, whole=True)] == met
    assert [goal["met"] for goal in script.goals(results, whole=False)] == [None, None]


def test_an_interpreter_that_is_not_there_is_said(bench, monkeypatch):
    script = import_module("continual_avalanche")
    monkeypatch.setenv("EVERLEARN_BENCH_AVALANCHE", "/nowhere/python")
    with pytest.raises(import_module("runs").Failed, match="/nowhere/python, which is not there"):
        script.python(Namespace(print=print))


@pytest.mark.slow
def test_without_avalanche_ours_is_measured_alone(bench, shared_data):
    shared_data("mnist.npz")
    done = subprocess.run(
        [sys.executable, str(bench / "continual_avalanche.py"), "--quick", "--json"],
        capture_output=True, text=True, check=True,
        env={**os.environ, "EVERLEARN_BENCH_AVALANCHE": "/nowhere/python"},
    )  # fmt: skip
    found = json.loads(done.stdout)
    assert set(found) == KEYS
    assert "/nowhere/python" in found["unavailable"]
    one = found["results"]["er"]["500"]
    assert one["avalanche"] is None
    assert one["ours"]["accuracy"] > 60.0
    assert found["results"]["fine_tuning"]["0"]["ours"]["accuracy"] < 55.0  # the first of two tasks is lost
