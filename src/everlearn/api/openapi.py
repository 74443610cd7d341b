"""The OpenAPI page: what FastAPI derives, with our errors told as what they are."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from everlearn.api.problems import MEDIA_TYPE

TAGS = [
    {"name": "models", "description": "What is kept current, and what each model should be."},
    {"name": "predictions", "description": "Rows in, answers out, recorded before they are sent."},
    {"name": "labels", "description": "The truth for predictions: late, repeated, early or corrected."},
    {"name": "examples", "description": "Bulk history to learn from."},
    {"name": "versions", "description": "What was learned, and what answers."},
    {"name": "decisions", "description": "What the loop decided, why, and on what evidence."},
    {"name": "jobs", "description": "Background work."},
    {"name": "commands", "description": "What an operator may ask of the loop."},
    {"name": "shortcuts", "description": "The first names, on the model called default."},
    {"name": "health", "description": "For orchestrators and Prometheus."},
]


def describe(app: FastAPI) -> None:
    """Put tags and media types in order. The page is made when it is first asked for."""
    app.openapi_tags = TAGS
    derive = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            page = derive()
            for path in page["paths"].values():
                for operation in path.values():
                    _correct(operation["responses"])
            for unused in ("HTTPValidationError", "ValidationError"):
                page["components"]["schemas"].pop(unused, None)
        return app.openapi_schema or derive()

    app.openapi = openapi  # type: ignore[method-assign]


def _correct(responses: dict[str, Any]) -> None:
    """Errors have the media type of problems; what FastAPI says of 422 is one of ours."""
    problem = {"$ref": "#/components/schemas/Problem"}
    for status, response in responses.items():
        schema = response.get("content", {}).get("application/json", {}).get("schema", {})
        if schema.get("$ref", "").endswith(("/Problem", "/HTTPValidationError")):
            response["content"] = {MEDIA_TYPE: {"schema": problem}}
            if status == "422":
                response["description"] = "The request is not valid; errors names each field"
