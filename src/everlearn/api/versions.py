"""Versions: what was learned, and which one answers (or answered at a time)."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, ConfigDict

from everlearn.api.pagination import Listing, PageWanted, listing
from everlearn.api.parts import TheDoor
from everlearn.api.problems import documented
from everlearn.api.times import IsoTime, Time, iso
from everlearn.types import Version

router = APIRouter(prefix="/v1/models/{model}", tags=["versions"], responses=documented(404))

Number = Annotated[int, Path(ge=0, le=2**53)]


class VersionAnswer(BaseModel):
    """One immutable learned state, and what it learned from (positions in the log)."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "number": 3,
                "parent": 2,
                "learner": "blend",
                "parameters": {"size": 5000},
                "learned_from": 1201,
                "learned_through": 9950,
                "learned_upto": 10412,
                "rows": 4100,
                "digest": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
                "metrics": {"seconds": 1.2},
                "created_at": "2024-05-01T12:00:00.000000Z",
                "state": "champion",
            }
        }
    )
    number: int
    parent: int | None
    learner: str
    parameters: dict[str, Any]
    learned_from: int
    learned_through: int
    learned_upto: int
    rows: int
    digest: str | None
    metrics: dict[str, Any]
    created_at: IsoTime
    state: str


class ChampionAnswer(BaseModel):
    """The version that answers. ``term`` counts the promotions before it."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "version": 3,
                "term": 2,
                "digest": "9f86d081…",
                "since": "2024-05-01T12:00:00.000000Z",
            }
        }
    )
    version: int
    term: int
    digest: str | None
    since: IsoTime


def shape(version: Version) -> dict[str, Any]:
    """A version as the body of an answer."""
    names = [name for name in VersionAnswer.model_fields if name not in ("created_at", "state")]
    told = {name: getattr(version, name) for name in names}
    return {**told, "created_at": iso(version.created_at), "state": version.state.value}


@router.get("/versions", response_model=Listing[VersionAnswer])
def list_versions(model: str, door: TheDoor, page: PageWanted) -> dict[str, Any]:
    """The versions of a model, newest first."""
    return listing(door.parts.versions.list(model, page.cursor, page.limit), shape)


@router.get("/versions/{version}", response_model=VersionAnswer)
def get_version(model: str, version: Number, door: TheDoor) -> dict[str, Any]:
    """One version."""
    return shape(door.parts.versions.get(model, version))


@router.get("/champion", response_model=ChampionAnswer)
def get_champion(
    model: str,
    door: TheDoor,
    at: Annotated[Time | None, Query(description="A time (default: now); promotions before it count")] = None,
) -> dict[str, Any]:
    """The version that answers now, or that answered at a time."""
    champion = door.parts.versions.champion(model, at)
    return {
        "version": champion.version,
        "term": champion.term,
        "digest": champion.digest,
        "since": iso(champion.since),
    }
