"""The benchmark of what is remembered: its streams, its methods, its cache, and a quick run."""

import json
import subprocess
import sys
from importlib import import_module

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra torch", exc_type=ImportError)

KEYS = {"machine", "commit", "seed", "seeds", "quick", "results", "goals", "seconds"}


def test_every_method_is_built_with_its_parameters(bench):
    from everlearn.learners import build

    settings = import_module("continual_mnist").METHODS
    for methods in settings.values():
        for method, buffers in methods.items():
            for buffer, parameters in buffers.items():
                made = build(method, **parameters, **({} if buffer == "0" else {"size": int(buffer)}))
                assert made.name == method


def test_streams_are_those_of_the_table(bench, shared_data):
    Mnist = import_module("continual_mnist").Mnist
    path = shared_data("mnist.npz")
    split, permuted = Mnist("split_mnist", 0, path), Mnist("permuted_mnist", 0, path, rows=100, tasks=2)
    assert [set(split.test(task)[1].tolist()) for task in range(len(split))] == [
        {2 * t, 2 * t + 1} for t in range(5)
    ]
    assert sum(len(y) for task in range(5) for _, y in split.train(task)) == 60_000
    (one, _), (other, _) = permuted.test(0), permuted.test(1)
    assert not np.array_equal(one, other)
    assert np.array_equal(np.sort(one[:5], axis=1), np.sort(other[:5], axis=1))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_quick_run_gives_the_promised_keys(bench, shared_data):
    shared_data("mnist.npz")
    done = subprocess.run(
        [sys.executable, str(bench / "continual.py"), "--quick", "--json", "--fresh"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = json.loads(done.stdout)
    assert set(found) == KEYS
    assert set(found["results"]) == {"split_mnist", "permuted_mnist"}
    assert {"accuracy", "std", "seconds"} <= set(found["results"]["split_mnist"]["er"]["500"])
    assert found["results"]["split_mnist"]["image"]["0"]["accuracy"] > 90.0
