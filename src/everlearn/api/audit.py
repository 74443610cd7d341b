"""The audit log over HTTP."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict

from everlearn.access.audit import AuditEntry
from everlearn.api.doorkeeper import TheDoorkeeper
from everlearn.api.pagination import Listing, PageWanted, listing
from everlearn.api.problems import documented
from everlearn.api.times import IsoTime, iso

router = APIRouter(prefix="/v1/audit", tags=["access"], responses=documented(403))


class AuditAnswer(BaseModel):
    """Who did what, on what, when, and with which HTTP status it was answered."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "number": 17,
                "at": "2024-05-01T12:00:00.000000Z",
                "who": "user:ann",
                "action": "POST /v1/models/{model}/rollback",
                "target": "/v1/models/shop/rollback",
                "result": 200,
                "address": "10.0.0.7",
                "request_id": "0b8f5a3c1d7e4f0e9a51",
            }
        }
    )
    number: int
    at: IsoTime
    who: str
    action: str
    target: str
    result: int
    address: str
    request_id: str


def shape(entry: AuditEntry) -> dict[str, Any]:
    """An entry as the body of an answer."""
    fields = ("number", "who", "action", "target", "result", "address", "request_id")
    return {"at": iso(entry.at), **{name: getattr(entry, name) for name in fields}}


@router.get("", response_model=Listing[AuditAnswer])
def list_audit(
    keeper: TheDoorkeeper,
    page: PageWanted,
    who: Annotated[str | None, Query(max_length=300, description="Only what this caller did")] = None,
) -> dict[str, Any]:
    """The audit log, newest first."""
    return listing(keeper.store.audit.list(page.cursor, page.limit, who), shape)
