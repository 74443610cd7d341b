"""Erasures: the rows of one person are removed for good, and a certificate says what and how it is proven."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, ConfigDict
from starlette.concurrency import run_in_threadpool

from everlearn.api.auth import Caller
from everlearn.api.idempotency import IdempotencyKey, IdempotentRoute
from everlearn.api.parts import Door, TheDoor
from everlearn.api.problems import documented
from everlearn.api.times import IsoTime, iso, iso_or_none
from everlearn.errors import ConflictError, Fault, InvalidError, NotFoundError
from everlearn.spec import parse_duration
from everlearn.types import Erasure

router = APIRouter(
    prefix="/v1/models/{model}", tags=["erasures"], route_class=IdempotentRoute, responses=documented(404)
)

DEADLINE = "24h"
"""How long a champion that learned the rows may stay, where nothing else is asked for."""

_EXAMPLE: dict[str, Any] = {
    "id": "erasure-8c1f0a9d3b7e4f26",
    "model": "shop",
    "subject": "b3f1…",
    "state": "logged",
    "position": 10413,
    "asked_at": "2024-05-01T12:00:00.000000Z",
    "deadline": "2024-05-02T12:00:00.000000Z",
    "by": "user:ann",
    "removed": {"events": 38},
    "done_at": None,
    "certificate": None,
}

Subject = Annotated[str, Path(min_length=1, max_length=1000, description="Their id, as the rows have it")]
Deadline = Annotated[
    str,
    Query(
        max_length=20,
        description="How long a champion that learned the rows may answer while a clean one is made, "
        "such as `24h` or `7d`",
    ),
]
Force = Annotated[
    bool, Query(description="A champion that learned the rows goes at once, whatever comes in its place")
]


class ErasureAnswer(BaseModel):
    """How far an erasure is.

    ``logged``: the log holds none of the rows, and the loop is to read that. ``forgotten``: the loop
    remembers none of them, and versions that may have learned them are being replaced. ``done``: nothing is
    left, and the ``certificate`` is signed. ``subject`` is a salted digest of their id, ``position`` that of
    the command in the log; ``removed`` counts what was removed, by where it lay.
    """

    model_config = ConfigDict(json_schema_extra={"example": _EXAMPLE})
    id: str
    model: str
    subject: str
    state: str
    position: int
    asked_at: IsoTime
    deadline: IsoTime
    by: str
    removed: dict[str, int]
    done_at: IsoTime | None
    certificate: dict[str, Any] | None


class ErasuresAnswer(BaseModel):
    """The erasures of a model, the newest first."""

    items: list[ErasureAnswer]


def shape(erasure: Erasure) -> dict[str, Any]:
    """An erasure as the body of an answer: nothing in it tells whose rows they were."""
    return {
        "id": erasure.id,
        "model": erasure.model,
        "subject": erasure.subject,
        "state": erasure.state.value,
        "position": erasure.seq,
        "asked_at": iso(erasure.at),
        "deadline": iso(erasure.deadline),
        "by": erasure.by,
        "removed": dict(erasure.removed),
        "done_at": iso_or_none(erasure.done_at),
        "certificate": None if erasure.certificate is None else dict(erasure.certificate),
    }


@router.delete(
    "/subjects/{subject:path}",
    status_code=202,
    response_model=ErasureAnswer,
    responses=documented(409, 503),
)
async def erase_subject(
    model: str,
    subject: Subject,
    door: TheDoor,
    caller: Caller,
    deadline: Deadline = DEADLINE,
    force: Force = False,
    _: IdempotencyKey = None,
) -> dict[str, Any]:
    """Remove all rows of a subject. When this is answered the log holds none of them; the rest follows.

    Asked again, it tells of the same erasure; rows that came since are erased by a new one."""
    return shape(await run_in_threadpool(_begin, door, model, subject, caller.name, deadline, force))


def _begin(door: Door, model: str, subject: str, by: str, deadline: str, force: bool) -> Erasure:
    column = door.parts.models.get(model).subject
    if column is None:
        raise ConflictError(
            f"Model {model!r} does not say whose its rows are: name the column as 'subject' in its spec"
        )
    try:
        seconds = 0.0 if force else parse_duration(deadline)
    except ValueError as error:
        raise InvalidError(f"deadline: {error}", [Fault("deadline", str(error))]) from None
    now = door.parts.clock.now()
    return door.parts.erasures.begin(model, column, subject, by, now, now + seconds)


@router.get("/erasures", response_model=ErasuresAnswer)
def list_erasures(model: str, door: TheDoor) -> dict[str, Any]:
    """The erasures of a model, the newest first."""
    return {"items": [shape(one) for one in door.parts.erasures.list(model)]}


@router.get("/erasures/{erasure}", response_model=ErasureAnswer)
def get_erasure(model: str, erasure: str, door: TheDoor) -> dict[str, Any]:
    """One erasure, with its certificate once it is done."""
    found = door.parts.erasures.get(erasure)
    if found.model != model:
        raise NotFoundError(f"Model {model!r} has no erasure {erasure[:60]!r}")
    return shape(found)
