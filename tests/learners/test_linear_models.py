"""A linear model as its numbers says what scikit-learn says, for whatever rows there are."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from everlearn.adapters.artifacts import FolderArtifacts
from everlearn.errors import IntegrityError
from everlearn.learners.linear_models import read_out
from everlearn.learners.window import Window
from everlearn.predictor import Predictor
from everlearn.spec import parse_spec

FEATURES = {"a": "numeric", "b": "numeric", "c": "categorical", "d": "boolean"}
COLOURS = ("red", "green", "blue", None)


def taught(task: str, estimator: str, classes: int = 2, features: dict[str, str] = FEATURES) -> Predictor:
    """A predictor that has learned 300 rows."""
    draw = np.random.default_rng(0)
    rows: list[dict[str, Any]] = [
        {
            "a": draw.normal(),
            "b": draw.normal() * 100,
            "c": COLOURS[draw.integers(4)],
            "d": bool(draw.integers(2)),
        }
        for _ in range(300)
    ]
    rows = [{name: row[name] for name in features} for row in rows]
    score = [row["a"] + (row.get("c") == "red") for row in rows]
    targets: list[Any] = score if task == "regression" else [f"k{int(abs(s) * 2) % classes}" for s in score]
    learner = {"name": "window", "estimator": estimator, "adapt": False}
    spec = {"name": "m", "target": "y", "task": task, "features": features, "learner": learner}
    predictor = Predictor.new(parse_spec(spec))
    predictor.learn(rows, targets)
    return predictor


KINDS = {
    "two classes": ("classification", "logistic", 2),
    "three classes": ("classification", "logistic", 3),
    "regression": ("regression", "ridge", 0),
}
number = st.one_of(st.none(), st.floats(-1e6, 1e6), st.sampled_from([0, 7, 1e300, -1e300]))
row = st.fixed_dictionaries(
    {},
    optional={"a": number, "b": number, "c": st.sampled_from([*COLOURS, "new"]), "d": st.booleans()},
)


@pytest.fixture(scope="module", params=KINDS)
def predictor(request: pytest.FixtureRequest) -> Predictor:
    return taught(*KINDS[request.param])


def scikit_learn(predictor: Predictor) -> Predictor:
    """The same predictor with the estimator itself, fitted on the same rows."""
    copy = predictor.copy()
    learner: Any = copy.learner
    learner.predict(np.zeros((1, learner._width)))
    X, y = learner._recent.window(learner._fit.at, learner.size)
    targets = y if learner.task == "regression" else y.astype(np.int64)
    pipeline = learner._recipe.fit(X, targets, learner.categorical)
    learner._fit = replace(learner._fit, estimator=pipeline)
    return copy


@pytest.fixture(scope="module")
def estimator(predictor: Predictor) -> Predictor:
    return scikit_learn(predictor)


@settings(max_examples=150, deadline=None)
@given(row)
def test_it_says_what_scikit_learn_says(
    predictor: Predictor, estimator: Predictor, row: dict[str, Any]
) -> None:
    single = predictor.single()
    assert single is not None
    assert estimator.single() is None
    one, (other,) = single(row), estimator.predict([row])
    if predictor.spec.task == "regression":
        assert one.value == pytest.approx(other.value, rel=1e-9, abs=1e-9)
        return
    assert one.probabilities == pytest.approx(other.probabilities, abs=1e-10)
    assert sum((one.probabilities or {}).values()) == pytest.approx(1.0)
    ranked = sorted((other.probabilities or {}).values())
    if ranked[-1] - ranked[-2] > 1e-9:
        assert one.value == other.value


@settings(max_examples=50, deadline=None)
@given(st.lists(row, min_size=1, max_size=8))
def test_an_answer_does_not_depend_on_what_is_asked_with_it(
    predictor: Predictor, rows: list[dict[str, Any]]
) -> None:
    assert predictor.predict(rows) == [predictor.predict([row])[0] for row in rows]


LOADED = """
import sys
from pathlib import Path
from everlearn.adapters.artifacts import FolderArtifacts
from everlearn.predictor import Predictor

predictor = Predictor.from_bundle(FolderArtifacts(Path(sys.argv[1])).get(sys.argv[2]))
predictor.self_test()
assert predictor.single() is not None
print([name for name in ("sklearn", "skops", "pandas", "scipy", "numba") if name in sys.modules])
"""


def test_it_is_stored_and_loaded_without_scikit_learn(predictor: Predictor, tmp_path: Path) -> None:
    rows = [{"a": 0.5, "b": -3.0, "c": "red", "d": True}, {"a": None, "c": "new"}]
    bundle = predictor.bundle(rows)
    assert not bundle.files
    same = Predictor.from_bundle(bundle)
    assert same.predict(rows) == predictor.predict(rows)
    digest = FolderArtifacts(tmp_path).put(bundle)
    assert FolderArtifacts(tmp_path).put(same.bundle(rows)) == digest
    done = subprocess.run(
        [sys.executable, "-c", LOADED, str(tmp_path), digest], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "damage",
    [
        lambda state: state["numbers"].update(column=np.array([0, 9])),
        lambda state: state.update(start=np.empty(0)),
        lambda state: state.update(start=np.zeros(3)),
        lambda state: state.update(classes=None),
        lambda state: state.update(classes=np.array([0, 7])),
        lambda state: state["numbers"].pop("scale"),
        lambda state: state.pop("codes"),
    ],
)
def test_numbers_that_do_not_fit_are_not_loaded(damage: Any) -> None:
    learner = Window(size=100, estimator="logistic", adapt=False)
    learner.learn(np.random.default_rng(0).normal(size=(100, 2)), ["a", "b"] * 50)
    state = learner.state()
    damage(state["linear"])
    with pytest.raises(IntegrityError):
        Window(size=100, estimator="logistic", adapt=False).restore(state)


def test_numbers_alone_take_the_short_way() -> None:
    predictor = taught("classification", "logistic", 2, {"a": "numeric", "b": "numeric"})
    single = predictor.single()
    assert single is not None
    for row in ({"a": 0.3, "b": -2}, {"a": None, "b": 1e200}, {"b": 0.0}):
        (asked,) = predictor.predict([row])
        assert single(row).probabilities == pytest.approx(asked.probabilities, abs=1e-12)


@pytest.mark.parametrize("estimator", ["extra_trees", "gradient_boosting", "sklearn.svm:SVC"])
def test_what_is_not_linear_is_not_compiled(estimator: str) -> None:
    assert taught("classification", estimator).single() is None


def test_a_class_that_left_the_window_is_not_forgotten() -> None:
    learner = Window(size=50, estimator="logistic", adapt=False)
    rows = np.random.default_rng(0).normal(size=(120, 2))
    learner.learn(rows, ["gone"] * 20 + ["a", "b"] * 50)
    assert learner.single() is None  # the estimator knows two classes of three
    assert learner.predict(rows[:1]).shape == (1, 3)


def test_a_function_that_disagrees_is_not_used() -> None:
    learner = Window(size=100, estimator="logistic", adapt=False)
    learner.learn(np.random.default_rng(0).normal(size=(100, 2)), ["a", "b"] * 50)
    assert learner.single() is not None
    X, y = learner._recent.window(100, 100)  # type: ignore[union-attr]
    pipeline: Any = learner._recipe.fit(X, y.astype(np.int64), ())
    assert read_out(pipeline, 2) is not None
    pipeline.steps[-1][1].predict_proba = lambda rows: np.full((len(rows), 2), 0.5)
    assert read_out(pipeline, 2) is None


def test_timestamps_and_calibrated_answers_are_left_to_the_table() -> None:
    predictor = taught("classification", "logistic")
    rows = [{"a": math.sin(i), "b": float(i), "c": "red", "d": True} for i in range(200)]
    calibrated = predictor.recalibrated(rows, ["k0" if i % 3 else "k1" for i in range(200)])
    assert calibrated.calibrator is not None
    assert calibrated.single() is None
    spec = {"name": "m", "target": "y", "features": {"t": "timestamp"}, "learner": "window"}
    assert Predictor.new(parse_spec(spec)).encoder.single() is None
