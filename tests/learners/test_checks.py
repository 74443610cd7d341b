"""Every built-in learner keeps the contract, and the contract's checks catch those that do not."""

from functools import partial

import pytest

from everlearn.learners import build
from everlearn.learners.checks import check_learner

QUICK = {"max_iter": 5, "learning_rate": 0.5}
BUILT_IN = {
    "linear": partial(build, "linear"),
    "rates": partial(build, "rates"),
    "majority": partial(build, "majority"),
    "persistence": partial(build, "persistence"),
    "window": partial(build, "window", size=200, estimator_parameters=QUICK),
    "window of extra trees": partial(
        build, "window", size=200, estimator="extra_trees", estimator_parameters={"n_estimators": 5}
    ),
}
CASES = [
    pytest.param(check, id=f"{learner}-{name}")
    for learner, make in BUILT_IN.items()
    for name, check in check_learner(make)
]
CASES += [
    pytest.param(check, id=f"window with {given}-{name}")
    for task, given in (
        ("classification", {"refit_every": 50, "estimator_parameters": QUICK}),
        ("regression", {"keep_window": False, "estimator_parameters": QUICK}),
        ("classification", {"estimator": "logistic", "adapt": False}),
        ("regression", {"estimator": "ridge"}),
    )
    for name, check in check_learner(partial(build, "window", size=200, **given), tasks=[task])
]


@pytest.mark.parametrize("check", CASES)
def test_built_in_learners_keep_the_contract(check):
    check()
