"""The default learner on real streams, with no setting, held to what River and CapyMOA reach on them."""

import numpy as np
import pytest

from everlearn.learners import build


def _accuracy(X, y, delay):
    """In percent, of all rows; with late labels, of those for which any label could be known."""
    learner = build("blend")
    answers = learner.test_then_train(X, y, delay=delay)[delay:]
    picks = np.array(learner.classes)[answers.argmax(axis=1)]
    known = answers.sum(axis=1) > 0
    return 100.0 * float(((picks == np.array(y)[delay:]) & known).mean())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "delay", "bar"),
    [
        ("elec", 0, 91.0),
        ("elec", 48, 79.5),
        ("insects", 0, 81.0),
        ("insects", 250, 76.0),
        ("phishing", 0, 95.0),
        ("phishing", 500, 94.0),
    ],
)
def test_the_default_keeps_its_bar(real_stream, name, delay, bar):
    assert _accuracy(*real_stream(name), delay) >= bar


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "bar"), [("Bananas", 89.0), ("ImageSegments", 95.0), ("Phishing", 90.5)])
def test_the_default_keeps_its_bar_on_small_streams(kind, bar):
    from river import datasets

    pairs = list(getattr(datasets, kind)())
    X = np.array([[float(value) for value in row.values()] for row, _ in pairs])
    assert _accuracy(X, [str(label) for _, label in pairs], 0) >= bar
