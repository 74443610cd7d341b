"""Bodies that hold secrets: small, read by hand, never kept for a repetition and never told in an error."""

from __future__ import annotations

import asyncio
from typing import Any, Final, TypeVar
from urllib.parse import parse_qsl

from fastapi import Request
from pydantic import BaseModel, ValidationError
from pydantic_core import from_json
from starlette.exceptions import HTTPException

from everlearn.access.names import fault
from everlearn.api.problems import invalid

MOST: Final = 16_384
PATIENCE: Final = 10.0
"""Seconds that such a body may take: whoever sends it is not known yet."""
FORM: Final = "application/x-www-form-urlencoded"
B = TypeVar("B", bound=BaseModel)


async def read_small(request: Request, shape: type[B]) -> B:
    """The body as this shape, from JSON or a form.

    Raises InvalidError, or HTTPException: 413 when it is over 16 KiB, 408 when it takes too long.
    """
    body = await _received(request)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    try:
        return shape.model_validate(_form(body) if kind == FORM else _json(body))
    except ValidationError as error:
        found = [{**item, "loc": ("body", *item["loc"])} for item in error.errors(include_input=False)]
        raise invalid(found) from None


async def _received(request: Request) -> bytes:
    body = bytearray()
    try:
        async with asyncio.timeout(PATIENCE):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MOST:
                    raise HTTPException(413, f"The body is over {MOST} bytes: nothing here needs as much")
    except TimeoutError:
        raise HTTPException(408, f"The body did not come within {PATIENCE:.0f} seconds") from None
    return bytes(body)


def _form(body: bytes) -> dict[str, str]:
    try:
        return dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=20, errors="strict"))
    except ValueError:
        raise fault("body", "is no form in UTF-8") from None


def _json(body: bytes) -> Any:
    try:
        return from_json(body)
    except ValueError:
        raise fault("body", "is no JSON: send it with Content-Type: application/json") from None


def body_of(shape: type[BaseModel], example: dict[str, Any], *, form: bool = False) -> dict[str, Any]:
    """What OpenAPI shall say of such a body."""
    content = {"schema": shape.model_json_schema(), "example": example}
    kinds = ["application/json", *([FORM] if form else [])]
    return {"requestBody": {"required": True, "content": dict.fromkeys(kinds, content)}}
