"""Lists over HTTP: ``{"items": [...], "next": cursor|null}``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeVar

from fastapi import Depends, Query
from pydantic import BaseModel

from everlearn.types import Page

T = TypeVar("T")
S = TypeVar("S")


class Listing(BaseModel, Generic[T]):
    """One page of a list. ``next`` is the ``cursor`` of the following page, or null at the end."""

    items: list[T]
    next: str | None = None


@dataclass(frozen=True, slots=True)
class Window:
    """Which page was asked for."""

    cursor: str | None
    limit: int


async def _window(
    cursor: Annotated[str | None, Query(max_length=200, description="`next` of the page before")] = None,
    limit: Annotated[int, Query(ge=1, le=1000, description="How many items at most")] = 100,
) -> Window:
    return Window(cursor, limit)


PageWanted = Annotated[Window, Depends(_window)]


def listing(page: Page[S], shape: Callable[[S], Any]) -> dict[str, Any]:
    """A page of the store as the body of an answer."""
    return {"items": [shape(item) for item in page.items], "next": page.next}
