"""BentoML behind the same model. ``bentoml serve serving_bento:Scores``."""

from __future__ import annotations

import os

import bentoml

from serving_numbers import predict


@bentoml.service(
    workers=int(os.environ.get("WORKERS", "1")),
    traffic={"timeout": 10},
    logging={"access": {"enabled": False}},
)
class Scores:
    """One method."""

    @bentoml.api
    def predict(self, input: list[float]) -> dict:  # noqa: A002 - the name in the body
        """The class and the probabilities."""
        return predict(input)
