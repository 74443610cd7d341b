"""The frames of a model, newest first: what people look through, and what they have not labelled yet.

A page is read backwards from a position of the log, a window at a time, so it takes as long in a log of ten
million events as in one of ten thousand. A request looks at so many events at most: where a filter lets
little through, a page may hold less than was asked for, or nothing, and ``next`` goes on from there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from starlette.concurrency import run_in_threadpool

from everlearn.api.frames import RecordedFrame, image_column, recorded
from everlearn.api.pagination import Listing, PageWanted
from everlearn.api.parts import TheDoor
from everlearn.api.problems import documented
from everlearn.errors import Fault, InvalidError
from everlearn.features.schema import Schema
from everlearn.ports import Log
from everlearn.types import Label, Page, Prediction
from everlearn.vision.boxes import parse

router = APIRouter(prefix="/v1/models/{model}/frames", tags=["frames"])

WINDOW = 500
"""Events that are read at a time."""

WINDOWS = 20
"""Windows that a request looks at."""

Frame = tuple[Prediction, Label | None]
Keep = Callable[[Prediction, Label | None], bool]


@router.get("", response_model=Listing[RecordedFrame], responses=documented(404, 422))
async def list_frames(
    model: str,
    door: TheDoor,
    page: PageWanted,
    truth: Annotated[
        Literal["known", "unknown"] | None,
        Query(description="Only frames whose true boxes were told, or not"),
    ] = None,
    below: Annotated[
        float | None,
        Query(ge=0, le=1, description="Only frames with a box that was answered with a lower score"),
    ] = None,
) -> dict[str, Any]:
    """The recorded frames, newest first. With a filter a page may be short: go on while ``next`` is given."""
    column = image_column(Schema.from_spec(door.parts.models.get(model)))
    before = None if page.cursor is None else _position(page.cursor)

    def keep(asked: Prediction, label: Label | None) -> bool:
        return (truth is None or (label is not None) == (truth == "known")) and (
            below is None or _unsure(asked, below)
        )

    found = await run_in_threadpool(newest, door.parts.log, model, before, page.limit, keep)
    items = [recorded(asked, label, column) for asked, label in found.items]
    return {"items": items, "next": found.next}


def newest(log: Log, model: str, before: int | None, limit: int, keep: Keep) -> Page[Frame]:
    """The newest frames that were logged before a position (``None``: of all), with their labels.

    Raises NotFoundError for an unknown model.
    """
    before = log.head(model).seq + 1 if before is None else before
    found: list[Frame] = []
    span = min(2 * limit, WINDOW)  # without a filter that is enough
    for _ in range(WINDOWS):
        after = max(0, before - 1 - span)
        events = [event for event in log.read(model, after, min(span, WINDOW)) if event.seq < before]
        if len(events) == WINDOW < span:  # more than one window holds: look closer
            span = WINDOW
            continue
        for frame in _joined(log, model, [e for e in events if isinstance(e, Prediction)]):
            if keep(*frame):
                found.append(frame)
                if len(found) == limit:
                    return Page(found, _next(frame[0].seq))
        # Where nothing is, old events may have been dropped.
        before, span = after + 1, min(2 * span, WINDOW) if events else 2 * span
        if before <= 1:
            return Page(found, None)
    return Page(found, str(before))


def _joined(log: Log, model: str, asked: Sequence[Prediction]) -> list[Frame]:
    """Predictions, the newest first, each with its newest label."""
    labels = log.find(model, [one.id for one in asked]) if asked else {}
    return [(one, labels.get(one.id, (None, None))[1] or one.label) for one in reversed(asked)]


def _next(position: int) -> str | None:
    return str(position) if position > 1 else None


def _position(cursor: str) -> int:
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) <= 18):
        raise InvalidError(
            "cursor: is not `next` of a page of frames", [Fault("cursor", "send `next` of the page before")]
        )
    return int(cursor)


def _unsure(asked: Prediction, below: float) -> bool:
    return any(box.score is not None and box.score < below for box in parse(asked.output.value))
