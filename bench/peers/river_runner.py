"""Measures one model of River; see ``harness.py`` for the protocol.

Rows are dicts and labels Python values, made before the clock runs. Where a model is binary, it knows
beforehand how many classes there are: one against the rest, if more than two.
"""

from __future__ import annotations

import pickle
from typing import Any

import harness
from river import ensemble, forest, linear_model, multiclass, neighbors, preprocessing, rules, tree


def scaled(model: Any) -> Any:
    return preprocessing.StandardScaler() | model


def each_class(model: Any, classes: int) -> Any:
    return model if classes == 2 else multiclass.OneVsRestClassifier(model)


def classifier(name: str, classes: int, seed: int) -> Any:
    """The peers, with River's own defaults; scaled where a model depends on scale."""
    makers = {
        "logistic": lambda: scaled(each_class(linear_model.LogisticRegression(), classes)),
        "alma": lambda: scaled(each_class(linear_model.ALMAClassifier(), classes)),
        "hat": lambda: tree.HoeffdingAdaptiveTreeClassifier(seed=seed),
        "arf10": lambda: forest.ARFClassifier(n_models=10, seed=seed),
        "srp10": lambda: ensemble.SRPClassifier(n_models=10, seed=seed),
        "amf10": lambda: forest.AMFClassifier(n_estimators=10, seed=seed),
        "knn": lambda: scaled(neighbors.KNNClassifier()),
        "lb10": lambda: ensemble.LeveragingBaggingClassifier(
            model=tree.HoeffdingTreeClassifier(), n_models=10, seed=seed
        ),
    }
    return makers[name]()


def regressor(name: str, seed: int) -> Any:
    """The peers for regression, as they are and (``_scaled``) behind a standard scaler."""
    makers = {
        "linear": linear_model.LinearRegression,
        "arf10": lambda: forest.ARFRegressor(n_models=10, seed=seed),
        "srp10": lambda: ensemble.SRPRegressor(n_models=10, seed=seed),
        "amrules": rules.AMRules,
    }
    plain, _, scale = name.partition("_")
    model = makers[plain]()
    return scaled(model) if scale else model


class River:
    """A model over rows as dicts."""

    def __init__(self, job: dict[str, Any], X: Any, y: Any) -> None:
        self._job = job
        self._rows = [dict(enumerate(row)) for row in X.tolist()]
        self._labels = [bool(label) for label in y] if job["classes"] == 2 else y.tolist()
        self.picks, self.answers = harness.room(job, len(X))

    def begin(self) -> None:  # noqa: D102 - of Session
        job = self._job
        self._classifies = job["task"] == "classification"
        if self._classifies:
            self._model = classifier(job["learner"], job["classes"], job["seed"])
        else:
            self._model = regressor(job["learner"], job["seed"])

    def run(self, start: int, end: int, delay: int) -> None:  # noqa: D102 - of Session
        rows, labels, learn = self._rows, self._labels, self._model.learn_one
        answer = self._classify if self._classifies else self._estimate
        for i in range(start, end):
            answer(i)
            if i >= delay:
                learn(rows[i - delay], labels[i - delay])

    def _classify(self, i: int) -> None:
        answer = self._model.predict_proba_one(self._rows[i])
        if answer:
            self.picks[i] = max(answer, key=answer.get)
            for label, probability in answer.items():
                self.answers[i, int(label)] = probability

    def _estimate(self, i: int) -> None:
        self.picks[i] = self._model.predict_one(self._rows[i]) or 0.0

    def size(self) -> int | None:  # noqa: D102 - of Session
        try:
            return len(pickle.dumps(self._model))
        except Exception:
            return None


if __name__ == "__main__":
    harness.main(River)
