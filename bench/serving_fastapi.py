"""The peer that people write first: FastAPI and scikit-learn. ``uvicorn serving_fastapi:app``.

The file of the model's numbers is named by ``MODEL_FILE``.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
from fastapi import FastAPI
from pydantic import BaseModel
from sklearn.linear_model import LogisticRegression

app = FastAPI()
_told = json.loads(Path(os.environ["MODEL_FILE"]).read_text())
model = LogisticRegression()
model.classes_ = np.array(_told["classes"])
model.coef_, model.intercept_ = np.array([_told["coef"]]), np.array([_told["intercept"]])


class Row(BaseModel):
    """The eight features."""

    x0: float
    x1: float
    x2: float
    x3: float
    x4: float
    x5: float
    x6: float
    x7: float


@app.post("/predict")
def predict(row: Row) -> dict[str, object]:
    """The class and the probabilities."""
    table = np.array([[row.x0, row.x1, row.x2, row.x3, row.x4, row.x5, row.x6, row.x7]])
    chances = model.predict_proba(table)[0]
    value = model.classes_[chances.argmax()]
    return {
        "value": value,
        "probabilities": dict(zip(model.classes_.tolist(), chances.tolist(), strict=True)),
    }
