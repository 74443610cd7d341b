"""Errors over HTTP: ``application/problem+json`` (RFC 9457), one handler for each source of errors."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException
from starlette.routing import compile_path

from everlearn.api.wording import fault_of
from everlearn.errors import EverlearnError, Fault, InvalidError, QuotaError

MEDIA_TYPE = "application/problem+json"

MAX_DETAIL, MAX_FIELD, MAX_MESSAGE = 4000, 300, 1000
"""Characters of an error's texts."""


class ProblemFault(BaseModel):
    """One field at fault and what to do about it."""

    field: str
    message: str


class Problem(BaseModel):
    """What went wrong (RFC 9457)."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "type": "/errors/schema",
                "title": "Row does not fit the schema",
                "status": 422,
                "detail": "rows[0].age: 'old' is text: send a number",
                "errors": [{"field": "rows[0].age", "message": "'old' is text: send a number"}],
                "request_id": "0b8f5a3c1d7e4f0e9a51",
            }
        }
    )
    type: str
    title: str
    status: int
    detail: str
    errors: list[ProblemFault] | None = None
    request_id: str


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The ``responses`` of a route for the OpenAPI page: problems of these statuses."""
    return {status: {"model": Problem, "description": HTTPStatus(status).phrase} for status in statuses}


def problem(
    request_id: str,
    status: int,
    title: str,
    detail: str,
    *,
    type_: str = "about:blank",
    faults: Sequence[Fault] = (),
    headers: dict[str, str] | None = None,
) -> Response:
    """A problem as a response. 503 asks to come back in a second, 401 names the scheme.

    Texts are cut: they may quote what a caller sent, of any length.
    """
    body: dict[str, Any] = {
        "type": type_,
        "title": title,
        "status": status,
        "detail": _cut(detail, MAX_DETAIL),
    }
    if faults:
        body["errors"] = [
            {"field": _cut(fault.field, MAX_FIELD), "message": _cut(fault.message, MAX_MESSAGE)}
            for fault in faults
        ]
    body["request_id"] = request_id
    sent = dict(headers or {})
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        sent.setdefault("Retry-After", "1")
    if status == HTTPStatus.UNAUTHORIZED:
        sent.setdefault("WWW-Authenticate", "Bearer")
    return Response(msgspec.json.encode(body), status_code=status, headers=sent, media_type=MEDIA_TYPE)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def problem_of(request_id: str, error: EverlearnError, headers: dict[str, str] | None = None) -> Response:
    """An error of ours as a response. Of a broken artifact (500) only the kind is told."""
    detail = error.detail
    if error.status == HTTPStatus.INTERNAL_SERVER_ERROR:
        detail = "The server could not do this. Its log says why, under this request id."
    return problem(
        request_id, error.status, error.title, detail, type_=error.type, faults=error.faults, headers=headers
    )


def unexpected(request_id: str) -> Response:
    """The answer to a fault of ours: it tells nothing but where to look."""
    detail = "The server failed. Its log says why, under this request id."
    return problem(request_id, 500, "Internal server error", detail, type_="/errors/internal")


def request_id_of(request: Request) -> str:
    """The id that the middleware gave to a request."""
    return str(request.scope.get("state", {}).get("request_id", ""))


def invalid(errors: Sequence[Any]) -> InvalidError:
    """Pydantic's findings as one error with a fault a field; never with the values sent."""
    faults = [fault_of(item) for item in errors[:100]]
    more = f"; and {len(errors) - 100} more" if len(errors) > 100 else ""
    listed = "; ".join(f"{fault.field}: {fault.message}" for fault in faults[:10])
    return InvalidError((listed or "The request is not valid") + more, faults)


async def on_everlearn(request: Request, error: Exception) -> Response:
    """Every error that everlearn raises on purpose."""
    assert isinstance(error, EverlearnError)
    if error.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        from loguru import logger

        logger.error("{}: {}", type(error).__name__, error.detail)
    headers = error.headers if isinstance(error, QuotaError) else None
    return problem_of(request_id_of(request), error, headers)


async def on_invalid(request: Request, error: Exception) -> Response:
    """What FastAPI finds wrong with a request."""
    assert isinstance(error, RequestValidationError)
    found = error.errors()
    kind = request.headers.get("content-type", "")
    if found and tuple(found[0]["loc"]) == ("body",) and "json" not in kind:
        found = [{"loc": ("body",), "msg": "send JSON, with the header Content-Type: application/json"}]
    return problem_of(request_id_of(request), invalid(found))


async def on_http(request: Request, error: Exception) -> Response:
    """What the framework refuses: unknown paths, wrong methods, bodies too large."""
    assert isinstance(error, HTTPException)
    status, detail = error.status_code, str(error.detail)
    if status == HTTPStatus.BAD_REQUEST:  # a body that the framework could not even take apart
        fault = Fault("body", f"cannot be read: {detail}")
        return problem_of(request_id_of(request), InvalidError(f"body: {fault.message}", [fault]))
    headers = dict(error.headers or {})
    title = HTTPStatus(status).phrase
    if detail == title and status == HTTPStatus.NOT_FOUND:
        detail = f"There is nothing at {request.url.path[:200]}: see /docs for what there is"
    elif detail == title and status == HTTPStatus.METHOD_NOT_ALLOWED:
        headers = {"Allow": ", ".join(_methods(request)) or headers.get("Allow", "")}
        detail = f"{request.method} is not for {request.url.path[:200]}: use {headers['Allow']}"
    return problem(request_id_of(request), status, title, detail, headers=headers)


def _methods(request: Request) -> list[str]:
    """Every method that some route has for the path: a path's methods may stand on several routes."""
    paths = request.app.openapi()["paths"].items()
    found = {
        method.upper()
        for template, operations in paths
        if compile_path(template)[0].fullmatch(request.url.path)
        for method in operations
    }
    return sorted(found)


def install(app: FastAPI) -> None:
    """Put the handlers in place. Unexpected errors are the outermost middleware's."""
    app.add_exception_handler(EverlearnError, on_everlearn)
    app.add_exception_handler(RequestValidationError, on_invalid)
    app.add_exception_handler(HTTPException, on_http)
