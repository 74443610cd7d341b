"""MLflow's scoring protocol for the default model: what speaks to ``mlflow models serve`` speaks to this.

``/invocations`` takes CSV, or JSON with exactly one of ``dataframe_split``, ``dataframe_records``,
``instances`` and ``inputs``. Lists without column names are taken in the order of the spec's features.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import from_json
from starlette.concurrency import run_in_threadpool

from everlearn import __version__
from everlearn.api.formats import CSV, JSON, UnsupportedError, content_type
from everlearn.api.idempotency import IdempotencyKey
from everlearn.api.parts import TheDoor
from everlearn.api.problems import documented
from everlearn.api.protocol_rows import MAX_ROWS, answer_rows
from everlearn.api.shortcuts import DEFAULT, default_spec
from everlearn.api.table_text import read_csv_text
from everlearn.errors import Fault, InvalidError
from everlearn.features.columns import rows_of

router = APIRouter(tags=["mlflow"])
open_ = APIRouter(tags=["mlflow"])
"""Health, which probes ask without a credential."""

FORMS = ("dataframe_split", "dataframe_records", "instances", "inputs")

_TEXT: dict[int | str, dict[str, Any]] = {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}}


class Predictions(BaseModel):
    """A value for each row, with the ids that labels are sent for and the version that answered."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"predictions": ["ham"], "ids": ["a1"], "versions": [3]}}
    )
    predictions: list[bool | int | float | str | None]
    ids: list[str] = Field(description="Of the predictions, as they were recorded")
    versions: list[int]


@open_.get("/ping", response_model=None, responses=_TEXT)
async def ping() -> PlainTextResponse:
    """Does the process answer?"""
    return PlainTextResponse("\n")


@router.get("/version", response_model=None, responses=_TEXT)
async def version() -> PlainTextResponse:
    """The version of everlearn."""
    return PlainTextResponse(__version__)


_EXAMPLE = {"dataframe_split": {"columns": ["length", "sender"], "data": [[412, "ann@example.org"]]}}
_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            JSON: {"schema": {"type": "object", "example": _EXAMPLE}},
            CSV: {"schema": {"type": "string"}, "example": "length,sender\n412,ann@example.org\n"},
        },
    }
}


@router.post(
    "/invocations",
    response_model=Predictions,
    responses=documented(404, 409, 413, 415, 503),
    openapi_extra=_BODY,
)
async def invocations(request: Request, door: TheDoor, _: IdempotencyKey = None) -> Response:
    """Answer rows with the default model, in the forms of MLflow. Every row is recorded first."""
    spec = await run_in_threadpool(default_spec, door)
    kind, body = content_type(request.scope), await request.body()
    if kind == CSV:
        parts = read_csv_text(io.BytesIO(body), spec.columns, MAX_ROWS)
        rows = [row for part in parts for row in rows_of(part.columns, part.size)]
    elif kind == JSON:
        rows = parsed(body, list(spec.features))
    else:
        raise UnsupportedError(f"Content-Type {kind or '(none)'!r} is not read here: send {JSON} or {CSV}")
    answers = (await answer_rows(door, request, await door.runtime.served(DEFAULT), rows)).answers
    told = {"predictions": answers.values, "ids": answers.ids, "versions": answers.versions}
    return Response(msgspec.json.encode(told), media_type=JSON)


def parsed(body: bytes, features: Sequence[str]) -> list[dict[str, Any]]:
    """The rows of a JSON body in any of MLflow's forms.

    >>> parsed(b'{"inputs": {"a": [1, 2], "b": [3, 4]}}', ["a", "b"])
    [{'a': 1, 'b': 3}, {'a': 2, 'b': 4}]

    Raises InvalidError that names the form.
    """
    try:
        asked = from_json(body)
    except ValueError as error:
        raise _wrong("body", f"is no JSON: {error}") from None
    named = [form for form in FORMS if isinstance(asked, dict) and form in asked]
    if len(named) != 1:
        raise _wrong("body", f"must be an object with exactly one of {', '.join(FORMS)}")
    form = named[0]
    given = asked[form]
    if form == "dataframe_split":
        return _split(given, features)
    if form == "inputs" and isinstance(given, dict):
        return _columns(given)
    return _records(form, given, features)


def _split(given: Any, features: Sequence[str]) -> list[dict[str, Any]]:
    form = FORMS[0]
    if not isinstance(given, dict) or not isinstance(given.get("data"), list):
        raise _wrong(form, 'is an object with "columns" and "data"')
    columns = given.get("columns", features)
    if not isinstance(columns, list) or len(set(map(str, columns))) < len(columns):
        raise _wrong(f"{form}.columns", "is a list of names, each once")
    return _positional(f"{form}.data", given["data"], [str(name) for name in columns])


def _columns(given: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Columns by name; a column of one-cell lists is a column of cells."""
    cells = {}
    for name, column in given.items():
        if not isinstance(column, list):
            raise _wrong(f"inputs.{name[:60]}", "is a list, with a value for each row")
        cells[name] = [cell[0] if isinstance(cell, list) and len(cell) == 1 else cell for cell in column]
    if len({len(column) for column in cells.values()}) > 1:
        raise _wrong("inputs", "has columns of different lengths")
    return rows_of(cells, 0)


def _records(form: str, given: Any, features: Sequence[str]) -> list[dict[str, Any]]:
    if not isinstance(given, list):
        raise _wrong(form, "is a list of rows")
    if all(isinstance(row, dict) for row in given):
        return given
    if form == "dataframe_records":
        raise _wrong(form, "is a list of objects")
    if not any(isinstance(row, list | dict) for row in given):  # one feature, or one row
        given = [[cell] for cell in given] if len(features) == 1 else [given]
    return _positional(form, given, features)


def _positional(form: str, rows: Sequence[Any], names: Sequence[str]) -> list[dict[str, Any]]:
    for i, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != len(names):
            raise _wrong(f"{form}[{i}]", f"is a list of {len(names)} values, for {', '.join(names[:10])}")
    return [dict(zip(names, row, strict=True)) for row in rows]


def _wrong(field: str, message: str) -> InvalidError:
    return InvalidError(f"{field} {message}", [Fault(field, message)])
