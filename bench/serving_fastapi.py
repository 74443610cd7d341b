"""The peer that people write first: FastAPI and scikit-learn. ``uvicorn serving_fastapi:app``."""

from __future__ import annotations

from fastapi import FastAPI
from pydantic import BaseModel

from serving_numbers import predict as ask

app = FastAPI()


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
    return ask([row.x0, row.x1, row.x2, row.x3, row.x4, row.x5, row.x6, row.x7])
