"""Health: is the process alive, and is it ready to answer? Both are open to all and tell nothing more."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict
from starlette.concurrency import run_in_threadpool

from everlearn import __version__
from everlearn.api.parts import Door, TheDoor

router = APIRouter(tags=["health"])


class HealthAnswer(BaseModel):
    """The process answers."""

    model_config = ConfigDict(json_schema_extra={"example": {"status": "ok", "version": "0.1.0"}})
    status: Literal["ok"]
    version: str


class ReadyAnswer(BaseModel):
    """Whether the process can serve, check by check (``ok``, or what is wrong)."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"status": "ready", "checks": {"store": "ok", "champions": "ok"}}}
    )
    status: Literal["ready", "degraded", "unavailable"]
    checks: dict[str, str]


@router.get("/health", response_model=HealthAnswer)
async def health() -> HealthAnswer:
    """Is the process alive?"""
    return HealthAnswer(status="ok", version=__version__)


@router.get("/v1/health/ready", response_model=ReadyAnswer, responses={503: {"model": ReadyAnswer}})
async def ready(door: TheDoor, response: Response) -> ReadyAnswer:
    """Can it serve? 503 while it starts, or when the store does not answer.

    ``degraded``: for some model, an older version answers because the champion does not load.
    """
    store = await run_in_threadpool(_store, door)
    failed = len(door.runtime.failed)
    champions = f"{failed} cannot be loaded: see the log" if failed else "ok"
    status: Literal["ready", "degraded", "unavailable"] = "degraded" if failed else "ready"
    if door.runtime.loading:
        champions, status = "are being loaded", "unavailable"
    if store != "ok":
        status = "unavailable"
    if status == "unavailable":
        response.status_code = 503
    return ReadyAnswer(status=status, checks={"store": store, "champions": champions})


def _store(door: Door) -> str:
    try:
        door.parts.versions.champions()
    except Exception as error:
        return f"does not answer: {type(error).__name__}"
    return "ok"
