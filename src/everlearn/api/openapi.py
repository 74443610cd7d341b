"""The OpenAPI page: what FastAPI derives, with our errors told as what they are."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from everlearn.api.bulk_docs import add_tables
from everlearn.api.problems import MEDIA_TYPE, documented
from everlearn.spec import ModelSpec

SPEC_SCHEMA = {"$ref": "#/components/schemas/ModelSpec"}
CHANGES_SCHEMA = {"$ref": "#/components/schemas/ModelChanges"}
"""What a model's spec is, and what of it can change later: told in full in the components."""

TAGS = [
    {"name": "models", "description": "What is kept current, and what each model should be."},
    {"name": "predictions", "description": "Rows in, answers out, recorded before they are sent."},
    {"name": "labels", "description": "The truth for predictions: late, repeated, early or corrected."},
    {"name": "examples", "description": "Bulk history to learn from."},
    {"name": "frames", "description": "Images in, boxes out, and what is true of them."},
    {"name": "versions", "description": "What was learned, and what answers."},
    {"name": "decisions", "description": "What the loop decided, why, and on what evidence."},
    {"name": "jobs", "description": "Background work."},
    {"name": "commands", "description": "What an operator may ask of the loop."},
    {"name": "sources", "description": "Who gives the labels, and how they are put aside."},
    {"name": "erasures", "description": "A person's rows removed for good, with a certificate."},
    {"name": "access", "description": "Logins, users, keys, and who did what."},
    {"name": "open inference", "description": "The Open Inference Protocol (V2)."},
    {"name": "mlflow", "description": "MLflow's scoring protocol, on the model called default."},
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
            page["components"]["schemas"].update(_specs())
            add_tables(page)
            for path in page["paths"].values():
                for operation in path.values():
                    _complete(operation)
                    _correct(operation["responses"])
            for unused in ("HTTPValidationError", "ValidationError"):
                page["components"]["schemas"].pop(unused, None)
        return app.openapi_schema or derive()

    app.openapi = openapi  # type: ignore[method-assign]


def _specs() -> dict[str, Any]:
    """The schemas of a spec, of changes to one, and of their parts."""
    spec = ModelSpec.model_json_schema(ref_template="#/components/schemas/{model}")
    parts = spec.pop("$defs", {})
    fixed = ("name", "task", "target", "features")
    open_ = {name: schema for name, schema in spec["properties"].items() if name not in fixed}
    changes = {"title": "ModelChanges", "type": "object", "properties": open_}
    return {**parts, "ModelSpec": spec, "ModelChanges": changes}


def _complete(operation: dict[str, Any]) -> None:
    """What any route behind the key may answer: 429, 503 while the store is down, and more to a body."""
    if "401" not in operation["responses"]:
        return
    of_bodies = (408, 413, 415) if "requestBody" in operation else ()
    for status, told in documented(*of_bodies, 429, 503).items():
        content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
        told_here = {"description": told["description"], "content": content}
        found = operation["responses"].setdefault(str(status), told_here)
        if status == 413:  # of the protocols with errors of their own: a body may be refused before its route
            found["content"] = {**found.get("content", {}), **content}


def _correct(responses: dict[str, Any]) -> None:
    """Errors have the media type of problems; what FastAPI says of 422 is one of ours."""
    problem = {"$ref": "#/components/schemas/Problem"}
    for status, response in responses.items():
        schema = response.get("content", {}).get("application/json", {}).get("schema", {})
        if schema.get("$ref", "").endswith(("/Problem", "/HTTPValidationError")):
            response["content"] = {MEDIA_TYPE: {"schema": problem}}
            if status == "422":
                response["description"] = "The request is not valid; errors names each field"
