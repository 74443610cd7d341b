from __future__ import annotations

import numpy as np

from everlearn import learners
from everlearn.learners.sizing import FEWEST, rows_to_learn


def turned(rows: int, turn: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Rows whose concept turns over at row ``turn``."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(rows, 2))
    y = (X.sum(axis=1) > 0) != (np.arange(rows) >= turn)
    return X, y.astype(int)


def test_the_share_with_the_least_loss_wins_and_the_longer_one_among_equals() -> None:
    def losses(learned: slice, asked: slice) -> np.ndarray:
        return np.full(asked.stop - asked.start, 0.1 if learned.stop - learned.start <= 500 else 0.4)

    assert rows_to_learn(2250, losses) == 500 + 250
    assert rows_to_learn(2250, lambda learned, asked: np.zeros(asked.stop - asked.start)) == 2250


def test_too_few_rows_to_tell_are_all_learned() -> None:
    def never(learned: slice, asked: slice) -> np.ndarray:
        raise AssertionError("nothing should be fitted")

    assert rows_to_learn(FEWEST, never) == FEWEST


def test_after_a_turn_of_the_concept_the_window_learns_from_the_newest_rows_only() -> None:
    X, y = turned(4000, 3300)
    late, _ = turned(500, 0, seed=1)
    truth = (late.sum(axis=1) <= 0).astype(int)
    accuracy = {}
    for adapt in (True, False):
        learner = learners.build("window", adapt=adapt, estimator="logistic")
        learner.learn(X, y)
        answers = np.array(learner.classes)[learner.predict(late).argmax(axis=1)]
        accuracy[adapt] = (answers == truth).mean()
    assert accuracy[True] > 0.9
    assert accuracy[False] < 0.5


def test_a_stable_concept_is_learned_from_the_whole_window() -> None:
    X, y = turned(4000, 4000)
    noisy = np.where(np.random.default_rng(2).random(4000) < 0.3, 1 - y, y)
    adaptive, whole = (learners.build("window", adapt=adapt, estimator="logistic") for adapt in (True, False))
    for learner in (adaptive, whole):
        learner.learn(X, noisy)
    late, truth = turned(2000, 2000, seed=3)
    scores = [
        (np.array(learner.classes)[learner.predict(late).argmax(axis=1)] == truth).mean()
        for learner in (adaptive, whole)
    ]
    assert scores[0] > scores[1] - 0.05
