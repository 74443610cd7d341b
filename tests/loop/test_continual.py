"""One description of a stream for all settings, and the published measures of what is remembered."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from everlearn.errors import InvalidError
from everlearn.learners import build
from everlearn.loop.continual import Scenario, among, run


@pytest.fixture(scope="module")
def digits():
    return load_digits(return_X_y=True)


@pytest.mark.parametrize("setting", ["class", "task", "online"])
def test_each_task_brings_classes_of_its_own(digits, setting):
    stream = Scenario(setting=setting, tasks=5, seed=3).stream(*digits)
    brought = [set(y.tolist()) for _, y in stream.train]
    assert [len(classes) for classes in brought] == [2] * 5
    assert set.union(*brought) == set(range(10))
    assert brought == [set(y.tolist()) for _, y in stream.test]
    assert sum(len(y) for _, y in (*stream.train, *stream.test)) == len(digits[1])
    assert (stream.told, stream.masked) == (setting != "online", setting == "task")


def test_every_task_of_a_domain_has_all_classes_and_its_own_columns(digits):
    stream = Scenario(setting="domain", tasks=3, seed=3).stream(*digits)
    assert all(set(y.tolist()) == set(range(10)) for _, y in stream.train)
    (first, _), (second, _), _ = stream.train
    assert not np.array_equal(first, second)
    assert np.array_equal(np.sort(first, axis=1), np.sort(second, axis=1))


def test_the_seed_decides_all(digits):
    once, again, other = (Scenario(seed=seed).stream(*digits) for seed in (1, 1, 2))
    assert all(np.array_equal(a[0], b[0]) for a, b in zip(once.train, again.train, strict=True))
    assert once.train[0][1].tolist() != other.train[0][1].tolist()


@pytest.mark.parametrize(
    ("given", "field"), [({"setting": "many"}, "setting"), ({"tasks": 11}, "tasks"), ({"tasks": 0}, "tasks")]
)
def test_what_does_not_fit_is_refused_by_field(digits, given, field):
    with pytest.raises(InvalidError) as caught:
        Scenario(**given).stream(*digits)
    assert [fault.field for fault in caught.value.faults] == [field]


def test_the_matrix_and_its_measures(digits):
    report = run(build("ridge"), Scenario(tasks=5).stream(*digits), every=100)
    ends = np.flatnonzero(np.r_[report.task[1:] != report.task[:-1], True])
    assert report.R.shape == (len(report.rows), 5)
    assert report.rows[-1] == sum(len(y) for _, y in Scenario(tasks=5).stream(*digits).train)
    found = report.measures
    assert found["average_accuracy"] == pytest.approx(report.R[-1].mean())
    assert found["average_accuracy"] > 0.9
    best, newest = report.R[:-1, :4].max(axis=0), report.R[-1, :4]
    assert found["forgetting"] == pytest.approx((best - newest).mean())
    after = np.array([report.R[ends[task], task] for task in range(4)])
    assert found["backward_transfer"] == pytest.approx((newest - after).mean())
    lowest = [report.R[ends[task] + 1 :, task].min() for task in range(4)]
    assert found["min_accuracy"] == pytest.approx(np.mean(lowest))
    assert report.to_dict()["examples"] == report.rows[-1]


def test_a_task_that_is_known_leaves_its_classes_alone(digits):
    known, any_ = (
        run(build("ridge", size=8), Scenario(setting=setting).stream(*digits)).measures["average_accuracy"]
        for setting in ("task", "class")
    )
    assert known > any_
    assert among(np.array([[0.0, 1.0]]), [1, 2], [1]).tolist() == [[1.0, 0.0]]


@pytest.mark.slow
def test_replay_remembers_what_fine_tuning_forgets(digits):
    pytest.importorskip("torch", reason="needs the extra torch", exc_type=ImportError)
    found = {
        name: run(build(name, **more), Scenario(tasks=5, seed=1).stream(*digits), every=100)
        for name, more in {"fine_tuning": {}, "er": {"size": 300}, "oewc": {}}.items()
    }
    accuracy = {name: report.measures["average_accuracy"] for name, report in found.items()}
    assert accuracy["fine_tuning"] < 0.3
    assert accuracy["er"] > 0.75
    assert found["er"].measures["min_accuracy"] > found["fine_tuning"].measures["min_accuracy"] + 0.2
    assert found["er"].buffer_bytes > 0 == found["fine_tuning"].buffer_bytes
