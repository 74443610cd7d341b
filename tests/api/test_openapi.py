"""The OpenAPI page says what the door does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi import FastAPI

from everlearn.api.auth import OPEN


@pytest.fixture
def page(make_app: Callable[..., FastAPI]) -> dict[str, Any]:
    return make_app().openapi()


def operations(page: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in page["paths"].items():
        for method, operation in methods.items():
            yield method, path, operation


def resolved(page: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    for option in schema.get("anyOf", ()):
        if "$ref" in option:
            return resolved(page, option)
    if "$ref" in schema:
        return dict(page["components"]["schemas"][schema["$ref"].rpartition("/")[2]])
    return schema


def test_every_operation_has_a_tag_and_a_description(page: dict[str, Any]) -> None:
    tags = {tag["name"] for tag in page["tags"]}
    for method, path, operation in operations(page):
        assert set(operation["tags"]) <= tags, (method, path)
        assert operation["tags"], (method, path)
        assert operation["description"], (method, path)


def test_every_operation_but_the_open_ones_asks_for_the_key(page: dict[str, Any]) -> None:
    for method, path, operation in operations(page):
        assert ("security" in operation) == (path not in OPEN), (method, path)
        assert ("401" in operation["responses"]) == (path not in OPEN or "/auth/" in path), (method, path)


NOT_FRESH = ("/v1/models/{model}/fresh", "503")
"""An answer, and no error: 503 is for whoever looks at the status alone."""


def test_every_error_is_a_problem(page: dict[str, Any]) -> None:
    for method, path, operation in operations(page):
        for status, response in operation["responses"].items():
            if int(status) >= 400 and path not in OPEN and (path, status) != NOT_FRESH:
                # The protocol has a form of its own, but for what is refused before it is asked.
                own = path.startswith("/v2") and status not in ("401", "403", "408", "415", "429")
                kinds = ["application/json" if own else "application/problem+json"]
                if own and status == "413":
                    kinds.append("application/problem+json")
                assert list(response["content"]) == kinds, (method, path, status)
    assert "HTTPValidationError" not in str(page)


def test_every_body_has_an_example(page: dict[str, Any]) -> None:
    for method, path, operation in operations(page):
        if "requestBody" not in operation:
            continue
        kinds = operation["requestBody"]["content"]
        if "image/jpeg" in kinds:
            continue
        content = kinds["application/json"]
        schema = resolved(page, content["schema"])
        assert {"example", "examples"} & {*schema, *content, *content["schema"]}, (method, path)


def test_writes_take_an_idempotency_key(page: dict[str, Any]) -> None:
    for method, path, operation in operations(page):
        names = {parameter["name"] for parameter in operation.get("parameters", ())}
        # What answers with a secret is not kept for a repetition, and what only sets a state needs none.
        wanted = method != "get" and "access" not in operation["tags"]
        assert ("Idempotency-Key" in names) == wanted, (method, path)


def test_the_page_is_the_same_when_asked_again(make_app: Callable[..., FastAPI]) -> None:
    app = make_app()
    assert app.openapi() == app.openapi() == make_app().openapi()


def test_a_spec_is_told_in_full(page: dict[str, Any]) -> None:
    for method, path, name in (
        ("post", "/v1/models", "ModelSpec"),
        ("patch", "/v1/models/{model}", "ModelChanges"),
    ):
        body = page["paths"][path][method]["requestBody"]["content"]["application/json"]["schema"]
        spec = resolved(page, {"$ref": body["$ref"]})
        assert body["$ref"].endswith(name)
        assert {"threshold", "policy", "gate", "label_horizon"} <= spec["properties"].keys()
    assert "$defs" not in str(page)


def test_every_route_behind_the_key_tells_what_else_may_happen(page: dict[str, Any]) -> None:
    for method, path, operation in operations(page):
        if path not in OPEN:
            assert "503" in operation["responses"], (method, path)
            assert ("413" in operation["responses"]) == ("requestBody" in operation), (method, path)
