"""The peers of the bulk benchmark that people write first: ``uvicorn bulk_fastapi:app``.

FastAPI and scikit-learn in two forms: rows as objects checked by a pydantic model, and rows as lists of
numbers. The file of the model's numbers is named by ``MODEL_FILE``.
"""

from __future__ import annotations

import numpy as np
from fastapi import FastAPI
from pydantic import BaseModel

from serving_fastapi import Row
from serving_numbers import model

app = FastAPI()
NAMES = model.classes_.tolist()


class Named(BaseModel):
    """Rows as objects."""

    rows: list[Row]


class Matrix(BaseModel):
    """Rows as lists."""

    rows: list[list[float]]


class Answer(BaseModel):
    """A class and the probabilities."""

    value: str
    probabilities: dict[str, float]


class Answers(BaseModel):
    """An answer for each row."""

    predictions: list[Answer]


@app.post("/named")
def named(body: Named) -> Answers:
    """Rows as objects."""
    return answered(np.array([[r.x0, r.x1, r.x2, r.x3, r.x4, r.x5, r.x6, r.x7] for r in body.rows]))


@app.post("/matrix")
def matrix(body: Matrix) -> Answers:
    """Rows as lists."""
    return answered(np.array(body.rows))


def answered(table: np.ndarray) -> Answers:
    """The answers to an array (n, 8)."""
    chances = model.predict_proba(table)
    picked = model.classes_[chances.argmax(axis=1)].tolist()
    pairs = zip(picked, chances.tolist(), strict=True)
    return Answers(
        predictions=[
            Answer.model_construct(value=value, probabilities=dict(zip(NAMES, row, strict=True)))
            for value, row in pairs
        ]
    )
