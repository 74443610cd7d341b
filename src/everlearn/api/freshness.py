"""Is a model fresh? For whoever looks from outside: one status code says whether it is kept current."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Lock
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from everlearn.api.parts import Door, TheDoor
from everlearn.api.problems import documented
from everlearn.spec import parse_duration
from everlearn.types import Champion

router = APIRouter(prefix="/v1/models", tags=["models"])

STALLED = 300.0
"""Seconds that a loop that is behind may stand at one place, where a caller does not say."""

Duration = Annotated[
    float, BeforeValidator(parse_duration), WithJsonSchema({"type": "string", "examples": ["5m", "30d"]})
]


class FreshAnswer(BaseModel):
    """Whether a model is fresh, and if not, why."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "model": "spam",
                "fresh": True,
                "champion": 3,
                "serving": 3,
                "behind": 0,
                "reasons": [],
            }
        }
    )
    model: str
    fresh: bool
    champion: int
    serving: int | None = Field(description="What this process answers with; null while it is not in memory")
    behind: int = Field(description="Events that the loop has not read yet")
    reasons: list[str]


class Stalls:
    """Remembers since when each loop has stood where it stands, as far as this process has looked."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[int, float]] = {}
        self._lock = Lock()

    def seconds(self, model: str, cursor: int, behind: int, now: float) -> float:
        """For how long the loop of a model, which is behind, has been seen at this cursor.

        >>> stalls = Stalls()
        >>> [stalls.seconds("m", cursor, 3, at) for cursor, at in ((7, 100.0), (7, 160.0), (8, 170.0))]
        [0.0, 60.0, 0.0]
        """
        with self._lock:
            cursor_before, since = self._seen.get(model, (-1, now))
            if not behind or cursor != cursor_before:
                since = now
            self._seen[model] = (cursor, since)
            return max(0.0, now - since)


@router.get(
    "/{model}/fresh",
    response_model=FreshAnswer,
    responses={**documented(404), 503: {"model": FreshAnswer, "description": "It is not fresh"}},
)
def fresh(
    model: str,
    door: TheDoor,
    request: Request,
    response: Response,
    stalled: Annotated[
        Duration, Query(description="How long a loop that is behind may stand still")
    ] = STALLED,
    max_age: Annotated[
        Duration | None, Query(description="How old the champion may be; default: any age")
    ] = None,
) -> FreshAnswer:
    """Is the model kept current? 503 where its champion does not load, its loop stands still, or is too old.

    A loop that is behind and moves is fresh. That it stands still is seen by asking again and again.
    """
    head, cursor = door.parts.log.head(model), door.parts.ledger.checkpoint(model).cursor
    champion, behind = door.parts.versions.champion(model), max(0, head.seq - cursor)
    stalls: Stalls = request.app.state.stalls
    stood = stalls.seconds(model, cursor, behind, door.parts.clock.now())
    reasons = list(_reasons(door, model, champion, max_age))
    if stood > stalled:
        reasons.append(f"its loop is {behind} events behind, and has not moved for {stood:.0f} s")
    if reasons:
        response.status_code = 503
    return FreshAnswer(
        model=model,
        fresh=not reasons,
        champion=champion.version,
        serving=door.runtime.serving(model),
        behind=behind,
        reasons=reasons,
    )


def _reasons(door: Door, model: str, champion: Champion, max_age: float | None) -> Iterator[str]:
    failed = door.runtime.failed.get(model)
    if failed is not None:
        yield f"version {champion.version} does not load: {failed.reason}"
    age = door.parts.clock.now() - champion.since
    if max_age is not None and age > max_age:
        yield f"version {champion.version} is {age / 86_400:.1f} days old: more than it may be"
