"""The checks of the contract catch learners that are broken on purpose, each by the check that should."""

import numpy as np
import pytest

from everlearn.learners.checks import check_learner
from everlearn.learners.linear import Linear
from everlearn.learners.majority import Majority
from everlearn.learners.states import stored
from everlearn.learners.window import Window


class PredictLearns(Majority):
    def predict(self, X):
        if self._rows:
            self._counts[0] += len(X)
            self._rows += len(X)
        return super().predict(X)


class BatchIsOneRow(Majority):
    def learn(self, X, y):
        super().learn(X[-1:], y[-1:])


class SortsItsClasses(Linear):
    @property
    def classes(self):
        return sorted(super().classes, key=str)


class ForgetsTheSlots(Linear):
    def state(self):
        state = super().state()
        if "sums" in state:
            state["sums"] = np.zeros_like(state["sums"])
        return state


class StateSharesArrays(Linear):
    def state(self):
        return super().state() | ({"weights": self._weights} if self._width else {})


class KeepsEveryRow(Majority):
    def __init__(self, **parameters):
        super().__init__(**parameters)
        self.history = []

    def learn(self, X, y):
        super().learn(X, y)
        self.history += [float(np.nan_to_num(row, posinf=0, neginf=0).sum()) for row in X]

    def state(self):
        return super().state() | {"history": list(self.history)}

    def restore(self, state):
        super().restore(state)
        self.history = list(state["history"])


class MakesLabelsText(Majority):
    @property
    def classes(self):
        return [str(value) for value in super().classes]


class Unnormalised(Majority):
    def predict(self, X):
        return super().predict(X) * 0.9


class DrawsFromTheGlobalGenerator(Majority):
    def learn(self, X, y):
        np.random.random()
        super().learn(X, y)


class NaNBecomesNaN(Linear):
    def predict(self, X):
        answer = super().predict(X)
        answer[np.isnan(np.asarray(X)).any(axis=1)] = np.nan
        return answer


class ScrubsItsInput(Linear):
    def learn(self, X, y):
        if isinstance(X, np.ndarray):
            np.nan_to_num(X, copy=False)
        super().learn(X, y)


class HoldsOnToX(Majority):
    def learn(self, X, y):
        super().learn(X, y)
        self.last = X

    def state(self):
        return super().state() | ({"last": self.last[-1].copy()} if self._rows else {})

    def restore(self, state):
        super().restore(state)
        self.last = np.array([state["last"]]) if self._rows else None


class LearnsTheGoodHalf(Majority):
    def learn(self, X, y):
        for i in range(len(y)):
            super().learn(X[i : i + 1], y[i : i + 1])


class UnseededWindow(Window):
    def __init__(self, *, seed=0, **parameters):
        super().__init__(**parameters, estimator="extra_trees", size=200, seed=np.random.randint(1 << 30))


FAULTS = [
    (PredictLearns, "predict changes nothing"),
    (BatchIsOneRow, "learns a batch as its rows"),
    (SortsItsClasses, "classes in order of appearance"),
    (SortsItsClasses, "probabilities follow the classes"),
    (ForgetsTheSlots, "learns on after storage"),
    (StateSharesArrays, "keeps nothing of others"),
    (KeepsEveryRow, "memory is bounded"),
    (MakesLabelsText, "keeps the labels type"),
    (Unnormalised, "takes one class"),
    (DrawsFromTheGlobalGenerator, "same seed same learner"),
    (NaNBecomesNaN, "takes missing values"),
    (ScrubsItsInput, "keeps nothing of others"),
    (HoldsOnToX, "keeps nothing of others"),
    (LearnsTheGoodHalf, "refuses wrong input whole"),
    (UnseededWindow, "same seed same learner"),
]


@pytest.mark.parametrize(("broken", "name"), FAULTS)
def test_a_planted_fault_is_caught(broken, name):
    checks = dict(check_learner(broken, tasks=["classification"]))
    with pytest.raises(AssertionError, match=r"\w+ \w+"):
        checks[f"classification: {name}"]()


@pytest.mark.parametrize(
    ("state", "what"),
    [
        ({"a": np.float64(1.0)}, "state.a is a float64"),
        ({"a": (1, 2)}, "state.a is a tuple"),
        ({1: "a"}, "no text"),
        ({"a": [float("nan")]}, r"state.a\[0\] is nan"),
        ({"model": b"x"}, "file format"),
        ({"a": np.array(["x"])}, "array of <U1"),
        ({"a": object()}, "is a object"),
    ],
)
def test_storage_refuses_what_no_artifact_can_hold(state, what):
    with pytest.raises(AssertionError, match=what):
        stored(state)
