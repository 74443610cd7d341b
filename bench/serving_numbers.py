"""The model of the serving benchmark in scikit-learn, from the numbers in the file ``MODEL_FILE``."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression

_told = json.loads(Path(os.environ["MODEL_FILE"]).read_text())
model = LogisticRegression()
model.classes_ = np.array(_told["classes"])
model.coef_, model.intercept_ = np.array([_told["coef"]]), np.array([_told["intercept"]])
model.n_features_in_ = model.coef_.shape[1]


def predict(row: list[float]) -> dict[str, object]:
    """The class and the probabilities of one row."""
    chances = model.predict_proba(np.array([row]))[0]
    classes = model.classes_.tolist()
    return {
        "value": classes[chances.argmax()],
        "probabilities": dict(zip(classes, chances.tolist(), strict=True)),
    }
