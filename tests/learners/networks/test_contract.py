"""Every network keeps the learners' contract, and says what mends it where PyTorch is missing."""

import subprocess
import sys
from functools import partial

import pytest

from everlearn.learners import build, names
from everlearn.learners.checks import check_learner

torch = pytest.importorskip("torch", reason="needs the extra torch", exc_type=ImportError)

SMALL = {"network_parameters": {"hidden": [32]}}
MADE = {
    "fine_tuning": SMALL,
    "er": {**SMALL, "size": 50, "replay": 5, "batch": 5},
    "er_ace": {**SMALL, "size": 50},
    "der": {**SMALL, "size": 50},
    "der_pp": {**SMALL, "size": 50},
    "cls_er": {
        **SMALL,
        "size": 50,
        "replay": 5,
        "batch": 5,
        "alpha": 0.1,
        "plastic_fade": 0.8,
        "stable_fade": 0.8,
    },
    "oewc": {**SMALL, "sample": 50},
    "si": SMALL,
    "mas": {**SMALL, "sample": 50},
    "lwf": SMALL,
    "a_gem": {**SMALL, "size": 50},
    "icarl": {**SMALL, "size": 50, "sample": 50},
    "gdumb": {**SMALL, "size": 100, "epochs": 15},
    "joint": {**SMALL, "size": 300},
    "progressive": {"hidden": [32], "columns": 3, "batch": 5},
}
NOT_KEPT = {"icarl": {"classification: probabilities follow the classes"}}
"""The nearest mean says nothing of how frequent classes are, where the columns tell nothing."""


def checks(name):
    made = partial(build, name, **MADE[name])
    found = check_learner(made, tasks=type(made()).tasks)
    return [(title, check) for title, check in found if title not in NOT_KEPT.get(name, ())]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "check"), checks("er"))
def test_replay_keeps_the_contract(name, check):
    check()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("learner", sorted(MADE))
def test_all_keep_the_contract(learner):
    broken = []
    for name, check in checks(learner):
        try:
            check()
        except AssertionError as error:
            broken.append(f"{name}: {error}")
    assert not broken


def test_every_network_is_held_to_it():
    there = {
        name for name in names() if type(build(name)).__module__.startswith("everlearn.learners.networks")
    }
    assert there == set(MADE)


def test_a_missing_pytorch_says_what_mends_it_and_nothing_else_needs_it():
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import numpy as np\n"
        "from everlearn import learners\n"
        "from everlearn.errors import MissingExtraError\n"
        "learners.build('majority'), learners.build('image', projection=8).learn(np.ones((2, 3)), [0, 1])\n"
        "try: learners.build('er')\n"
        "except MissingExtraError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "A network needs an extra: pip install 'everlearn[torch]'\n"


def test_pytorch_is_not_loaded_before_a_network_is_built():
    code = (
        "import sys\nfrom everlearn import learners\n"
        "learners.names(), learners.build('image'), learners.build('linear')\n"
        "print('torch' in sys.modules)\nlearners.build('er')\nprint('torch' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\nTrue\n"
