"""Networks and the image learner as learners of the loop: streamed, and trained when the policy says so."""

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_digits

from everlearn.loop.replay import replay

FAST = {"first_rows": 150, "min_labels": 100, "window": 200, "cooldown": 100}
GATE = {"holdout": 60, "min_rows": 30, "look_every": 20}
IMAGE = {"name": "image", "shape": [1, 8, 8], "scale": 16, "patch": 3, "filters": 16, "first": 100}


@pytest.fixture(scope="module")
def frame():
    """A thousand digits: first 0 to 4, then all."""
    X, y = load_digits(return_X_y=True)
    low = np.flatnonzero(y < 5)[:400]
    rest = np.setdiff1d(np.arange(len(y)), low)[:600]
    order = np.r_[low, rest]
    rows = pd.DataFrame(X[order], columns=[f"p{number:02}" for number in range(64)])
    return rows.assign(digit=[f"d{label}" for label in y[order]])


def played(frame, learner, update, **more):
    features = {name: "numeric" for name in frame.columns if name != "digit"}
    return replay(
        frame, target="digit", learner=learner, update=update, features=features, policy=FAST, gate=GATE,
        label_delay=10, publish_every=100, **more,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("update", ["stream", "triggered"])
def test_a_network_is_trained_and_promoted(frame, update):
    pytest.importorskip("torch", reason="needs the extra torch", exc_type=ImportError)
    report = played(frame, {"name": "er", "size": 300}, update)
    again = played(frame, {"name": "er", "size": 300}, update, baselines=False)
    assert report.to_dict()["updates"] >= 2
    assert report.served["accuracy"] > report.baselines["never_updated"]["accuracy"] + 0.1
    assert again.served["accuracy"] == report.served["accuracy"]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_image_learner_is_trained_and_promoted(frame):
    report = played(frame, IMAGE, "stream")
    assert report.to_dict()["updates"] >= 2
    assert report.served["accuracy"] > report.baselines["never_updated"]["accuracy"] + 0.1
