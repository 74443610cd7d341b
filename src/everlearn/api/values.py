"""Types that several requests share: ids, and the values that targets may have."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

MAX_ID = 200
"""Characters of an id."""


def _plain(key: str) -> str:
    if not 0 < len(key) <= MAX_ID or not key.isprintable():
        raise ValueError(f"an id has 1 to {MAX_ID} printable characters")
    return key


def _scalar(value: Any) -> Any:
    if value is not None and not isinstance(value, bool | int | float | str):
        raise ValueError("send text, a number or a boolean")
    return value


Id = Annotated[str, AfterValidator(_plain), Field(json_schema_extra={"minLength": 1, "maxLength": MAX_ID})]
"""The id of a prediction, chosen by the caller."""

Value = Annotated[bool | int | float | str | None, BeforeValidator(_scalar)]
"""A class or a number, as it was sent."""
