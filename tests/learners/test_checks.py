"""Every built-in learner keeps the contract, and the contract's checks catch those that do not."""

from functools import partial

import pytest

from everlearn.learners import build
from everlearn.learners.checks import check_learner

BUILT_IN = {
    "linear": partial(build, "linear"),
    "majority": partial(build, "majority"),
    "persistence": partial(build, "persistence"),
    "window": partial(build, "window", size=200, estimator_parameters={"max_iter": 20}),
    "window refitted every 50 rows": partial(
        build, "window", size=200, refit_every=50, estimator_parameters={"max_iter": 5}
    ),
    "window that is not kept": partial(
        build, "window", size=200, keep_window=False, estimator_parameters={"max_iter": 5}
    ),
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
    pytest.param(check, id=f"window of {estimator}-{name}")
    for estimator, task in (("logistic", "classification"), ("ridge", "regression"))
    for name, check in check_learner(partial(build, "window", size=200, estimator=estimator), tasks=[task])
]


@pytest.mark.parametrize("check", CASES)
def test_built_in_learners_keep_the_contract(check):
    check()
