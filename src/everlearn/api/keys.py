"""API keys: made, listed, revoked."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from everlearn.access.keys import KeyRecord, make_key
from everlearn.access.words import Scope
from everlearn.api.auth import Caller
from everlearn.api.body import JsonRoute
from everlearn.api.doorkeeper import TheDoorkeeper
from everlearn.api.pagination import Listing, PageWanted, listing
from everlearn.api.problems import documented
from everlearn.api.times import IsoTime, Time, iso, iso_or_none

router = APIRouter(prefix="/v1/keys", tags=["access"], route_class=JsonRoute, responses=documented(403))

_KEY: dict[str, Any] = {
    "id": "3f9a1c2b4d5e",
    "name": "the shop's checkout",
    "scopes": ["label", "predict"],
    "models": ["shop"],
    "state": "active",
    "created_at": "2024-05-01T12:00:00.000000Z",
    "created_by": "user:ann",
    "expires_at": "2025-05-01T12:00:00.000000Z",
    "used_at": None,
    "revoked_at": None,
    "labels_per_day": 10_000,
}


class KeyAnswer(BaseModel):
    """A key, without its secret. ``models`` is null for all; ``used_at`` is behind by up to a minute;
    ``labels_per_day`` is null where the installation's own number holds."""

    model_config = ConfigDict(json_schema_extra={"example": _KEY})
    id: str
    name: str
    scopes: list[Scope]
    models: list[str] | None
    state: str
    created_at: IsoTime
    created_by: str
    expires_at: IsoTime | None
    used_at: IsoTime | None
    revoked_at: IsoTime | None
    labels_per_day: int | None


class NewKeyAnswer(KeyAnswer):
    """A new key. ``key`` is shown this once and stored nowhere."""

    model_config = ConfigDict(json_schema_extra={"example": {**_KEY, "key": "evl_3f9a1c2b4d5e_..."}})
    key: str


class KeyBody(BaseModel):
    """A key to make: what it is for, what it may do, with which models (all when left out), until when."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {
                "name": "the shop's checkout",
                "scopes": ["predict", "label"],
                "models": ["shop"],
                "expires_at": "2025-05-01T12:00:00Z",
            }
        },
    )
    name: str
    scopes: list[Scope] = Field(max_length=10)
    models: list[str] | None = Field(default=None, max_length=1000)
    expires_at: Time | None = None
    labels_per_day: int | None = Field(default=None, description="Labels and examples that it may give a day")


def shape(record: KeyRecord, now: float) -> dict[str, Any]:
    """A key's record as the body of an answer."""
    return {
        "id": record.id,
        "name": record.name,
        "scopes": sorted(record.scopes),
        "models": None if record.models is None else list(record.models),
        "state": record.state(now),
        "created_at": iso(record.created_at),
        "created_by": record.created_by,
        "expires_at": iso_or_none(record.expires_at),
        "used_at": iso_or_none(record.used_at),
        "revoked_at": iso_or_none(record.revoked_at),
        "labels_per_day": record.labels_per_day,
    }


@router.get("", response_model=Listing[KeyAnswer])
def list_keys(keeper: TheDoorkeeper, page: PageWanted) -> dict[str, Any]:
    """The keys, revoked ones too; never their secrets."""
    now = keeper.now()
    return listing(keeper.store.keys.list(page.cursor, page.limit), lambda record: shape(record, now))


@router.post("", status_code=201, response_model=NewKeyAnswer)
def create_key(keeper: TheDoorkeeper, caller: Caller, body: KeyBody) -> dict[str, Any]:
    """Make a key. It is shown in the answer, once."""
    now = keeper.now()
    key, record = make_key(
        body.name,
        body.scopes,
        body.models,
        body.expires_at,
        by=caller.name,
        now=now,
        labels_per_day=body.labels_per_day,
    )
    keeper.store.keys.add(record)
    return {**shape(record, now), "key": key}


@router.delete("/{key_id}", response_model=KeyAnswer, responses=documented(404))
def revoke_key(key_id: str, keeper: TheDoorkeeper) -> dict[str, Any]:
    """Revoke a key: at once in this process, within a second in others. Its record stays."""
    record = keeper.store.keys.revoke(key_id, keeper.now())
    keeper.credentials.forget()
    return shape(record, keeper.now())
