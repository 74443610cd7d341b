"""The window learner: forgetting, lazy and periodic fits, any estimator, and its stored form."""

import io
import json
import re
import subprocess
import sys
import zipfile
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from everlearn.errors import IntegrityError, InvalidError
from everlearn.learners import build, skops_files
from everlearn.learners.checks import check_learner
from everlearn.learners.recent import Recent
from everlearn.learners.states import same, stored

QUICK = {"max_iter": 5}
LIGHT = {
    "size": 200,
    "estimator": "lightgbm",
    "adapt": False,
    "estimator_parameters": {"num_iterations": 40, "min_data_in_leaf": 5},
}
WARM = {**LIGHT, "warm": 2, "refit_every": 20, "half_life": 100}


def stream(n=300, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 3))
    X[:, 2] = rng.integers(0, 4, n)
    return X, np.where(X[:, 0] + X[:, 2] > 1.5, "yes", "no")


def test_it_forgets_what_left_the_window():
    X, y = stream(600)
    flipped = np.where(y == "yes", "no", "yes")
    learner = build("window", size=200)
    learner.learn(X[:400], flipped[:400])
    learner.learn(X[400:], y[400:])
    fresh = build("window", size=200)
    fresh.learn(X[400:], y[400:])
    assert np.allclose(
        learner.predict(X)[:, learner.classes.index("yes")], fresh.predict(X)[:, fresh.classes.index("yes")]
    )


def test_classes_outside_the_window_have_no_probability():
    X, y = stream(120)
    learner = build("window", size=60)
    learner.learn(X, np.concatenate([np.full(60, "gone"), y[60:]]))
    answer = learner.predict(X)
    assert learner.classes[0] == "gone"
    assert (answer[:, 0] == 0).all()


def test_a_window_of_one_class_answers_it():
    X, y = stream(120)
    learner = build("window", size=20)
    learner.learn(X, [*y[:100], *["late"] * 20])
    assert learner.predict(X[:1]).tolist() == [[0.0, 0.0, 1.0]]


def test_it_is_fitted_when_due_and_no_more():
    X, y = stream(250)
    learner = build("window", size=100, refit_every=50, estimator_parameters=QUICK)
    due = []
    for i in range(len(X)):
        learner.learn(X[i : i + 1], y[i : i + 1])
        if i in (0, 2, 10, 48, 49, 98, 99, 249):
            due.append(learner.state()["fitted"])
    assert due == [1, 2, 8, 32, 50, 50, 100, 250]
    file = learner.state()["estimator.skops"]
    learner.learn(X[:49], y[:49])
    assert learner.state()["estimator.skops"] == file


@pytest.mark.parametrize(
    ("task", "estimator"),
    [
        ("classification", "gradient_boosting"),
        ("classification", "random_forest"),
        ("classification", "extra_trees"),
        ("classification", "logistic"),
        ("classification", "sklearn.naive_bayes:GaussianNB"),
        ("classification", "sklearn.neighbors:KNeighborsClassifier"),
        ("classification", "sklearn.svm:LinearSVC"),
        ("classification", "sklearn.tree:DecisionTreeClassifier"),
        ("regression", "gradient_boosting"),
        ("regression", "random_forest"),
        ("regression", "extra_trees"),
        ("regression", "ridge"),
        ("regression", "sklearn.linear_model:HuberRegressor"),
    ],
)
def test_any_estimator_learns_takes_gaps_and_comes_back(task, estimator):
    X, labels = stream(500)
    y = labels if task == "classification" else (labels == "yes") * 10.0
    X[::9, 0] = np.nan
    learner = build("window", task=task, estimator=estimator, categorical=[2], size=400)
    learner.learn(X[:400], y[:400])
    answer = learner.predict(X[400:])
    if task == "classification":
        accuracy = (np.array(learner.classes)[answer.argmax(axis=1)] == y[400:]).mean()
    else:
        accuracy = ((answer > 5.0) == (y[400:] > 5.0)).mean()
    assert accuracy > 0.8
    other = build("window", task=task, estimator=estimator, categorical=[2], size=400)
    other.restore(stored(learner.state()))
    assert same(other.predict(X), learner.predict(X))


def test_columns_of_very_many_codes_are_split_as_numbers():
    codes = np.arange(600.0)[:, None]
    learner = build("window", categorical=[0], estimator_parameters={"max_iter": 60})
    learner.learn(codes, (codes[:, 0] < 300).tolist())
    assert learner.predict(np.array([[5.0], [595.0]])).argmax(axis=1).tolist() == [0, 1]


def test_a_state_without_its_window_answers_but_does_not_learn():
    X, y = stream()
    make = {"size": 200, "keep_window": False, "estimator_parameters": QUICK}
    learner = build("window", **make)
    learner.learn(X, y)
    state = learner.state()
    assert len(state["window"]["X"]) == 0
    other = build("window", **make)
    other.restore(state)
    assert same(other.predict(X), learner.predict(X))
    with pytest.raises(InvalidError, match="keep_window: is false"):
        other.learn(X, y)


def test_parameters_reach_the_estimator():
    X, y = stream()
    few = build("window", estimator="random_forest", estimator_parameters={"n_estimators": 2})
    few.learn(X, y)
    many = build("window", estimator="random_forest", estimator_parameters={"n_estimators": 20})
    many.learn(X, y)
    assert len(few.state()["estimator.skops"]) < len(many.state()["estimator.skops"]) / 2


def test_a_value_that_the_estimator_refuses_is_an_invalid_input():
    X, y = stream()
    learner = build("window", estimator_parameters={"max_iter": -3})
    learner.learn(X, y)
    with pytest.raises(InvalidError, match="max_iter"):
        learner.predict(X)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "check"), list(check_learner(partial(build, "window", **LIGHT))))
def test_with_lightgbm_it_keeps_the_contract(name, check):
    pytest.importorskip("lightgbm")
    check()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "check"), list(check_learner(partial(build, "window", **WARM))))
def test_warm_with_fading_weights_it_keeps_the_contract(name, check):
    pytest.importorskip("lightgbm")
    check()


def test_without_lightgbm_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    with pytest.raises(InvalidError, match=r"pip install 'everlearn\[lightgbm\]'"):
        build("window", estimator="lightgbm")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"estimator_parameters": {"output_model": "x"}}, "output_model: is not for LightGBM"),
        ({"estimator_parameters": {"objective": "binary"}}, "objective: is 'binary': use"),
        ({"warm": -1}, "warm: -1 is not a whole number"),
        ({"half_life": 0}, "half_life: 0 is not a finite number above 0"),
    ],
)
def test_lightgbm_refuses_what_cannot_be_set(more, message):
    pytest.importorskip("lightgbm")
    with pytest.raises(InvalidError, match=message):
        build("window", **{**LIGHT, **more})


def test_a_value_that_lightgbm_refuses_is_an_invalid_input():
    pytest.importorskip("lightgbm")
    X, y = stream()
    learner = build("window", estimator="lightgbm", estimator_parameters={"num_leaves": -3})
    learner.learn(X, y)
    with pytest.raises(InvalidError, match="num_leaves"):
        learner.predict(X)


DAMAGED = {
    "empty": lambda text: b"",
    "cut": lambda text: text[: len(text) // 2],
    "cut at the end": lambda text: text[:-30],
    "not text": lambda text: b"\xff" + text,
    "other width": lambda text: text.replace(b"max_feature_idx=2", b"max_feature_idx=9"),
    "other classes": lambda text: text.replace(b"num_class=1", b"num_class=3"),
    "a leaf more": lambda text: text.replace(b"num_leaves=", b"num_leaves=1", 1),
    "no such column": lambda text: text.replace(b"split_feature=", b"split_feature=7", 1),
    "no such child": lambda text: text.replace(b"left_child=", b"left_child=7", 1),
    "a loop": lambda text: resized(text, rb"right_child=\S+", b"right_child=0"),
    "no such categories": lambda text: resized(text, rb"decision_type=\d+", b"decision_type=1"),
    "not finite": lambda text: resized(text, rb"leaf_value=\S+", b"leaf_value=nan"),
    "something more": lambda text: text + b"pandas_categorical:null\n",
}


def resized(text, pattern, value):
    """The text with the first match in the first tree changed, and the header saying how long that is now."""
    start = text.index(b"Tree=0")
    match, size = re.search(pattern, text[start:]), re.search(rb"tree_sizes=(\d+)", text)
    changed = text[: start + match.start()] + value + text[start + match.end() :]
    longer = int(size[1]) + len(value) - len(match[0])
    return changed[: size.start()] + b"tree_sizes=%d" % longer + changed[size.end() :]


@pytest.mark.parametrize("what", DAMAGED)
def test_damaged_lightgbm_trees_are_refused(what):
    pytest.importorskip("lightgbm")
    X, y = stream()
    learner = build("window", **LIGHT)
    learner.learn(X, y)
    state = learner.state()
    whole = state["estimator.lightgbm"]
    damaged = DAMAGED[what](whole)
    assert damaged != whole
    with pytest.raises(IntegrityError):
        build("window", **LIGHT).restore({**state, "estimator.lightgbm": damaged})


def test_lightgbm_tells_many_classes_apart_and_takes_a_new_one():
    pytest.importorskip("lightgbm")
    rng = np.random.default_rng(0)
    X = rng.normal(size=(600, 2))
    y = np.floor(np.clip(2 * X[:, 0] + 3, 0, 5.9)).astype(int)
    y[:400] = np.minimum(y[:400], 4)
    learner = build("window", **{**LIGHT, "warm": 5, "refit_every": 50, "size": 400})
    learner.learn(X[:400], y[:400])
    learner.predict(X)
    learner.learn(X[400:], y[400:])
    said = np.array(learner.classes)[learner.predict(X[400:]).argmax(axis=1)]
    assert (said == y[400:]).mean() > 0.9


def test_newer_rows_weigh_more_by_half_lives():
    X = np.zeros((100, 1))
    learner = build("window", half_life=10, estimator="logistic")
    learner.learn(X, ["old"] * 90 + ["new"] * 10)
    weights = 0.5 ** (np.arange(99, -1, -1) / 10)
    expected = weights[:90].sum() / weights.sum()
    # A column that tells nothing leaves the intercept, which is not regularised: the weighted share.
    assert learner.predict(X[:1])[0, 0] == pytest.approx(expected, abs=1e-4)
    plain = build("window", estimator="logistic", adapt=False)
    plain.learn(X, ["old"] * 90 + ["new"] * 10)
    assert plain.predict(X[:1])[0, 0] == pytest.approx(0.9, abs=1e-4)


@pytest.mark.parametrize(
    ("estimator", "parameters"),
    [
        ("lightgbm", {"num_iterations": 20}),
        ("random_forest", {"n_estimators": 20}),
        ("gradient_boosting", {"max_iter": 10}),
        ("sklearn.naive_bayes:GaussianNB", {}),
        ("logistic", {}),
    ],
)
def test_with_a_half_life_it_follows_a_turn_sooner(estimator, parameters):
    if estimator == "lightgbm":
        pytest.importorskip("lightgbm")
    rng = np.random.default_rng(1)
    X = rng.normal(size=(600, 2))
    y = (X[:, 0] > 0) != (np.arange(600) >= 400)
    late = rng.normal(size=(200, 2))
    right = {}
    for half_life in (None, 30):
        learner = build(
            "window", estimator=estimator, adapt=False, half_life=half_life, estimator_parameters=parameters
        )
        learner.learn(X, y)
        right[half_life] = np.mean(
            learner.predict(late).argmax(axis=1) == (learner.classes.index(True) ^ (late[:, 0] > 0))
        )
    assert right[30] > 0.9 > right[None]


def test_an_estimator_that_cannot_weigh_rows_has_no_half_life():
    with pytest.raises(InvalidError, match="half_life"):
        build("window", estimator="sklearn.neighbors:KNeighborsClassifier", half_life=100)


def test_boosting_of_scikit_learn_cannot_go_on_from_a_fit():
    with pytest.raises(InvalidError, match="warm: gradient_boosting cannot go on"):
        build("window", warm=3)


@pytest.mark.parametrize(
    ("estimator", "many"), [("lightgbm", "num_iterations"), ("random_forest", "n_estimators")]
)
def test_a_warm_fit_adds_ten_trees_up_to_the_next_from_scratch(estimator, many):
    if estimator == "lightgbm":
        pytest.importorskip("lightgbm")
    X, y = stream(600)
    learner = build(
        "window",
        estimator=estimator,
        size=200,
        adapt=False,
        refit_every=100,
        warm=2,
        estimator_parameters={many: 15},
    )
    counts = []
    for start in range(0, 600, 100):
        learner.learn(X[start : start + 100], y[start : start + 100])
        learner.predict(X[:1])
        fitted = learner._fit.estimator
        counts.append(fitted.trees.num_trees() if estimator == "lightgbm" else len(fitted.estimators_))
    assert counts == [15, 25, 35, 15, 25, 35]


def test_a_warm_forest_that_was_not_asked_in_between_is_the_same():
    X, y = stream(500)
    make = {"estimator": "random_forest", "size": 200, "refit_every": 50, "warm": 3}
    make["estimator_parameters"] = {"n_estimators": 5}
    asked, quiet = build("window", **make), build("window", **make)
    for start in range(0, 500, 25):
        asked.learn(X[start : start + 25], y[start : start + 25])
        asked.predict(X[:5])
    quiet.learn(X, y)
    assert same(asked.state(), quiet.state())


PROGRAM = """
import hashlib, sys
import numpy as np
from everlearn.learners import build
clutter = [object() for _ in range(int(sys.argv[1]))]
rng = np.random.default_rng(0)
X = rng.normal(size=(300, 4)); X[:, 3] = rng.integers(0, 5, 300); X[::5, 1] = np.nan
for estimator in ("gradient_boosting", "extra_trees", "logistic"):
    learner = build("window", categorical=[3], estimator=estimator)
    learner.learn(X, (X[:, 0] > 0).tolist())
    state = learner.state()
    file = state["estimator.skops"] if estimator != "logistic" else repr(state["linear"]).encode()
    print(hashlib.sha256(file).hexdigest())
"""


@pytest.mark.slow
def test_equal_fits_in_two_processes_have_equal_bytes():
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
    assert len(set(runs[0])) == 3
    assert runs[0] == runs[1]


def a_file():
    X, y = stream()
    learner = build("window", categorical=[2], estimator_parameters=QUICK)
    learner.learn(X, y)
    return learner.state()["estimator.skops"]


def forged(data, change):
    """The file with its schema changed."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(out, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name == "schema.json":
                schema = json.loads(content)
                change(schema)
                content = json.dumps(schema).encode()
            target.writestr(name, content)
    return out.getvalue()


def nodes(schema, loader):
    return [node for node in skops_files._nodes(schema) if node.get("__loader__") == loader]


def test_canonical_bytes_are_their_own_canon():
    data = a_file()
    assert skops_files.canonical(data) == data


def test_a_type_that_is_not_on_the_list_is_refused():
    def change(schema):
        schema["__module__"], schema["__class__"] = "subprocess", "Popen"

    with pytest.raises(IntegrityError, match=r"not allowed: subprocess\.Popen"):
        skops_files.load(forged(a_file(), change))


def test_a_partial_of_anything_but_check_array_is_refused():
    def change(schema):
        for node in nodes(schema, "PartialNode"):
            node["content"]["func"] |= {"__module__": "numpy", "__class__": "save", "__id__": -5}

    with pytest.raises(IntegrityError, match=r"partial of numpy\.save"):
        skops_files.load(forged(a_file(), change))


def test_a_part_that_poses_as_another_is_refused():
    def change(schema):
        earlier = nodes(schema, "TypeNode")[0]["__id__"]
        nodes(schema, "PartialNode")[0]["content"]["func"]["__id__"] = earlier

    with pytest.raises(IntegrityError, match="in the place of another type"):
        skops_files.load(forged(a_file(), change))


@pytest.mark.parametrize("data", [b"", b"PK", b"not a zip at all" * 9])
def test_rubbish_is_refused(data):
    with pytest.raises(IntegrityError, match="cannot be read"):
        skops_files.load(data)


def test_an_estimator_with_types_of_others_is_not_stored():
    class Odd:
        pass

    with pytest.raises(InvalidError):
        skops_files.dump(Odd())


@settings(max_examples=40)
@given(st.integers(1, 200), st.lists(st.integers(0, 90), max_size=12))
def test_recent_keeps_exactly_the_newest_rows(limit, sizes):
    recent, everything = Recent(1, limit), np.empty(0)
    for size in sizes:
        new = np.arange(len(everything), len(everything) + size, dtype=float)
        everything = np.concatenate([everything, new])
        recent.append(new[:, None], new)
    assert recent.learned == len(everything)
    rows, targets = recent.newest(limit)
    assert targets.tolist() == everything[-limit:].tolist() == rows[:, 0].tolist()


@pytest.mark.slow
def test_refitted_on_the_newest_rows_it_beats_a_model_that_is_not(real_stream):
    X, y = real_stream("elec")
    X, y = X[:, 1:], y
    learner, first, right, stale = build("window"), build("window"), 0, 0
    first.learn(X[:500], y[:500])
    for start in range(500, 20_000, 500):
        part = slice(start, start + 500)
        learner.learn(X[start - 500 : start], y[start - 500 : start])
        for model, hits in ((learner, "right"), (first, "stale")):
            answers = [model.classes[i] for i in model.predict(X[part]).argmax(axis=1)]
            good = sum(a == b for a, b in zip(answers, y[part], strict=True))
            if hits == "right":
                right += good
            else:
                stale += good
    assert right / 19_500 > 0.78
    assert right > stale + 1000
