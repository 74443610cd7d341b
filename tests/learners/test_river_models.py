"""River's models: which come back exactly, which are refused, and what a spec may name."""

import json
import subprocess
import sys
from functools import partial

import numpy as np
import pytest

from everlearn.errors import IntegrityError, InvalidError
from everlearn.learners import build, river_files
from everlearn.learners.checks import check_learner
from everlearn.learners.river_models import RiverModel
from everlearn.learners.states import same, stored

SCALED = ["preprocessing.StandardScaler", "linear_model.LogisticRegression"]
TARGET = {"preprocessing.TargetStandardScaler": {"regressor": {"linear_model.LinearRegression": {}}}}


def linear(task="classification", **more):
    model = SCALED if task == "classification" else ["preprocessing.StandardScaler", TARGET]
    return RiverModel(task=task, model=model, max_categories=10, **more)


TREE = partial(RiverModel, model={"tree.HoeffdingTreeClassifier": {"max_depth": 3, "grace_period": 50}})


def stream(n=700, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 4))
    X[:, 3] = rng.integers(0, 4, n)
    X[::11, 1] = np.nan
    signal = 2.0 * X[:, 0] + np.where(np.arange(n) > n // 2, 3.0, 0.0) * X[:, 2] + X[:, 3]
    return X, signal


@pytest.mark.slow
@pytest.mark.parametrize(("name", "check"), list(check_learner(linear)))
def test_a_linear_model_keeps_the_contract(name, check):
    check()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "check"), list(check_learner(TREE, tasks=["classification"])))
def test_a_small_tree_keeps_the_contract(name, check):
    check()


CLASSIFIERS = [
    SCALED,
    "linear_model.ALMAClassifier",
    "linear_model.PAClassifier",
    "linear_model.SoftmaxRegression",
    "naive_bayes.GaussianNB",
    {"tree.HoeffdingTreeClassifier": {"grace_period": 40}},
    {"tree.HoeffdingAdaptiveTreeClassifier": {"grace_period": 40}},
    {"forest.ARFClassifier": {"n_models": 3, "grace_period": 40}},
    {"forest.AMFClassifier": {"n_estimators": 3}},
    {"neighbors.KNNClassifier": {"engine": {"neighbors.LazySearch": {"window_size": 100}}}},
    {"ensemble.SRPClassifier": {"n_models": 3}},
    {"ensemble.LeveragingBaggingClassifier": {"model": {"naive_bayes.GaussianNB": {}}, "n_models": 3}},
]
REGRESSORS = [
    ["preprocessing.StandardScaler", TARGET],
    {"tree.HoeffdingTreeRegressor": {"grace_period": 40}},
    {"rules.AMRules": {"n_min": 40}},
    {"forest.ARFRegressor": {"n_models": 3, "grace_period": 40}},
    {"neighbors.KNNRegressor": {"engine": {"neighbors.LazySearch": {"window_size": 100}}}},
]
MODELS = [("classification", model) for model in CLASSIFIERS] + [
    ("regression", model) for model in REGRESSORS
]


@pytest.mark.slow
@pytest.mark.parametrize(("task", "model"), MODELS, ids=[str(model)[:50] for _, model in MODELS])
def test_a_restored_model_learns_on_and_answers_as_the_original(task, model):
    X, signal = stream()
    y = (
        np.array(["low", "mid", "high"])[np.digitize(signal, [0.5, 2.5])]
        if task == "classification"
        else signal
    )
    make = partial(build, "river", task=task, categorical=[3], seed=5, model=model)
    learner, other = make(), make()
    learner.learn(X[:400], y[:400])
    state = learner.state()
    other.restore(stored(state))
    assert same(other.state(), state)
    for start in range(400, 700, 100):
        part = slice(start, start + 100)
        assert same(learner.predict(X[part]), other.predict(X[part]))
        learner.learn(X[part], y[part])
        other.learn(X[part], y[part])
    assert same(learner.state(), other.state())
    again = make()
    again.learn(X, y)
    assert same(again.state(), learner.state())


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_without_parameters_it_learns_by_task(task):
    X, signal = stream(600)
    y = signal > 1.5 if task == "classification" else signal
    learner = build("river", task=task, categorical=[3])
    learner.learn(X[:500], y[:500])
    answer = learner.predict(X[500:])
    if task == "classification":
        assert (answer.argmax(axis=1) == (learner.classes.index(True) == y[500:])).mean() > 0.5
    else:
        assert np.abs(answer - y[500:]).mean() < np.abs(y[500:] - y[:500].mean()).mean()


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("neighbors.KNNClassifier", r"SWINN.*LazySearch"),
        (["compose.FuncTransformer", "naive_bayes.GaussianNB"], "code is not stored"),
        ("os.system", "no River model"),
        ("os.Popen", "only objects of River"),
        ("datasets.Elec2", "only objects of River"),
        ("tree.NoSuchTree", "there is no tree.NoSuchTree"),
        ("tree.HoeffdingTreeRegressor", "does not learn a classification"),
        ("preprocessing.StandardScaler", "does not learn a classification"),
        (["naive_bayes.GaussianNB", "naive_bayes.GaussianNB"], "is no transformer"),
        ({"tree.HoeffdingTreeClassifier": {"depth": 1}}, "'depth' is not a parameter"),
        ([], "an empty list"),
        (3, "no River model"),
    ],
)
def test_what_cannot_be_used_is_refused_when_it_is_built(model, message):
    with pytest.raises(InvalidError, match=message):
        build("river", model=model)


class Odd:
    pass


@pytest.mark.parametrize("thing", [Odd(), len, open, Odd, {"a": [Odd()]}, np.array(["a"]), lambda: 0])
def test_what_is_on_no_list_is_not_stored(thing):
    with pytest.raises(InvalidError, match="model: holds a"):
        river_files.dump([thing])


def test_shared_parts_and_cycles_come_back_as_they_were():
    shared = {"a": (1, float("inf"))}
    thing = [shared, shared, {1, 2}, frozenset("ab"), np.arange(3.0), np.float32(0.1)]
    thing.append(thing)
    back = river_files.load(river_files.dump(thing))
    assert back[0] is back[1]
    assert back[-1] is back
    assert back[:4] == thing[:4]
    assert same(back[4], thing[4])
    assert type(back[5]) is np.float32


@pytest.mark.parametrize(
    "objects",
    [
        [["object", ["subprocess", "Popen"], {}]],
        [["object", ["river.datasets.base", "Dataset"], {}]],
        [["object", ["river.tree.base", "collections"], {}]],
        [["list", [{"g": ["builtins", "eval"]}]]],
        [["partial", {"g": ["os", "system"]}, ["true"], []]],
        [["compiled", ["river._river_rust.stats", "RsNoSuch"], [], ""]],
        [["list", [{"r": 7}]]],
        [["array", "O", [1], ""]],
        [["spell"]],
        [],
    ],
)
def test_forged_bytes_are_refused(objects):
    with pytest.raises(IntegrityError):
        river_files.load(json.dumps({"format": 1, "objects": objects}).encode())


def test_a_state_of_another_model_is_refused():
    X, signal = stream(50)
    learner = build("river", model="naive_bayes.GaussianNB")
    learner.learn(X, signal > 0)
    with pytest.raises(IntegrityError, match="the model is a GaussianNB"):
        build("river").restore(learner.state())


PROGRAM = """
import hashlib, sys
import numpy as np
from everlearn.learners import build
clutter = [object() for _ in range(int(sys.argv[1]))]
X = np.random.default_rng(0).normal(size=(300, 4))
y = np.where(X[:, 0] > 0, "up", "down")
for model in ({"forest.ARFClassifier": {"n_models": 2}}, "naive_bayes.GaussianNB"):
    learner = build("river", model=model)
    learner.learn(X, y)
    print(hashlib.sha256(learner.state()["model.json"]).hexdigest())
"""


@pytest.mark.slow
def test_equal_models_in_two_processes_have_equal_bytes():
    runs = [
        subprocess.run(
            [sys.executable, "-c", PROGRAM, clutter],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": clutter},
        ).stdout.split()
        for clutter in ("1", "99999")
    ]
    assert len(set(runs[0])) == 2
    assert runs[0] == runs[1]
