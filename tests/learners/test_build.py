"""Learners by name."""

import subprocess
import sys

import pytest

from everlearn import learners
from everlearn.errors import InvalidError, MissingExtraError
from everlearn.learners import Learner, build, describe, names


def test_the_built_in_learners_come_first_and_the_default_before_all():
    assert names()[:3] == ["blend", "linear", "window"]
    assert {"ridge", "forest", "knn", "additive", "river", "sklearn", "persistence"} <= set(names())


@pytest.mark.parametrize("name", names())
def test_a_learner_says_what_it_is_good_for_and_what_it_cannot(name):
    try:
        told = describe(name)
    except MissingExtraError as error:
        pytest.skip(f"{name}: {error}")
    assert told["summary"].endswith(".")
    assert told["good_for"]
    assert told["cannot"]
    assert "task" in told["parameters"]


@pytest.mark.parametrize("name", ["blend", "linear", "window", "majority", "persistence"])
def test_a_learner_has_the_shape_of_the_contract(name):
    learner = build(name, task="regression", seed=3)
    assert isinstance(learner, Learner)
    assert learner.name == name
    assert learner.wants == (5000 if name == "window" else None)
    assert learner.prefers == ("triggered" if name == "window" else "stream")


def test_an_unknown_learner_is_refused_with_the_known_ones():
    with pytest.raises(InvalidError, match="'forrest' is not a learner: use one of blend, linear, window"):
        build("forrest")


def test_an_unknown_parameter_is_named_beside_the_valid_ones():
    with pytest.raises(InvalidError, match=r"learner\.sise: is not a parameter .* size, estimator") as caught:
        build("window", sise=100, wheels=4)
    assert [fault.field for fault in caught.value.faults] == ["learner.sise", "learner.wheels"]


@pytest.mark.parametrize(
    ("name", "parameters", "field"),
    [
        ("linear", {"task": "clustering"}, "task"),
        ("linear", {"categorical": [-1]}, "categorical"),
        ("linear", {"steps": []}, "steps"),
        ("linear", {"steps": [0.0]}, "steps"),
        ("linear", {"fade": 1.5}, "fade"),
        ("linear", {"clip": float("inf")}, "clip"),
        ("linear", {"max_categories": 0}, "max_categories"),
        ("window", {"size": 1}, "size"),
        ("window", {"size": True}, "size"),
        ("window", {"refit_every": 0}, "refit_every"),
        ("window", {"estimator": "pickle:loads"}, "estimator"),
        ("window", {"estimator": "sklearn.nothing:Here"}, "estimator"),
        ("window", {"estimator": "sklearn.preprocessing:StandardScaler"}, "estimator"),
        ("window", {"estimator": "sklearn.ensemble:VotingClassifier"}, "estimator"),
        ("window", {"estimator": "sklearn.linear_model:Ridge"}, "estimator"),
        ("window", {"estimator": "logistic", "task": "regression"}, "estimator"),
        ("window", {"estimator_parameters": {"depth": 3}}, "estimator_parameters.depth"),
        ("majority", {"max_classes": 1}, "max_classes"),
    ],
)
def test_a_wrong_value_is_refused_by_field(name, parameters, field):
    with pytest.raises(InvalidError) as caught:
        build(name, **parameters)
    assert [fault.field for fault in caught.value.faults] == [field]


def test_describe_lists_parameters_with_defaults():
    parameters = describe("window")["parameters"]
    assert parameters["size"] == 5000
    assert parameters["estimator"] == "gradient_boosting"


def test_other_packages_add_learners_by_entry_point(tmp_path, monkeypatch):
    (tmp_path / "coin.py").write_text(
        "class Coin:\n    def __init__(self, **anything): self.got = anything\n"
    )
    info = tmp_path / "coin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: coin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[everlearn.learners]\ncoin = coin:Coin\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert "coin" in names()
    assert build("coin", sides=2).got == {"sides": 2}


@pytest.mark.parametrize(
    ("name", "absent"),
    [
        ("majority", {"numba", "scipy", "sklearn"}),
        ("blend", {"sklearn", "skops", "pandas", "river", "lightgbm"}),
    ],
)
def test_a_learner_imports_what_it_needs_alone(name, absent):
    code = (
        f"import sys; from everlearn.learners import build; build({name!r});"
        f"print(sorted(set({sorted(absent)!r}) & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_package_says_what_is_public():
    assert set(learners.__all__) == {"Learner", "build", "describe", "names"}
