"""The first names of the system, which work on the model called ``default``."""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.concurrency import run_in_threadpool

from everlearn.api import examples, models, synthetic
from everlearn.api.auth import Caller
from everlearn.api.body import JsonRoute
from everlearn.api.commands import PENDING, RetrainBody, Wait, command, told
from everlearn.api.decisions import DecisionAnswer
from everlearn.api.decisions import shape as shape_decision
from everlearn.api.idempotency import IdempotencyKey, IdempotentRoute, key_of
from everlearn.api.parts import Door, TheDoor
from everlearn.api.predict import MAX_ROWS, PredictAnswer, PredictBody, answer
from everlearn.api.problems import documented, invalid
from everlearn.api.standing import standing
from everlearn.api.times import IsoTime, iso
from everlearn.errors import ConflictError, Fault, InvalidError, NotFoundError
from everlearn.spec import ModelSpec

DEFAULT = "default"

plain = APIRouter(tags=["shortcuts"], route_class=JsonRoute)
writes = APIRouter(tags=["shortcuts"], route_class=IdempotentRoute)


class ModelStatus(BaseModel):
    """How the default model does."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "model": DEFAULT,
                "champion": 2,
                "state": "healthy",
                "performance": 0.912,
                "threshold": 0.8,
                "metric": "accuracy",
                "samples": 1000,
                "last_update": "2024-05-01T12:00:00.000000Z",
                "last_decision": None,
            }
        }
    )
    model: str
    champion: int
    state: str
    performance: float | None
    threshold: float | None
    metric: str | None
    samples: int
    last_update: IsoTime | None
    last_decision: DecisionAnswer | None


class GenerateBody(BaseModel):
    """How much to make, how far the concept turns halfway (0 to 1), and the seed."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"rows": 1000, "drift": 0.5, "seed": 1}}
    )
    rows: Annotated[int, Field(ge=1, le=100_000, strict=True)] = 1000
    drift: Annotated[float, Field(ge=0, le=1, strict=True)] = 0.5
    seed: Annotated[int, Field(ge=0, strict=True)] | None = None


class GenerateAnswer(BaseModel):
    """How many examples were stored, and at which of them the concept drifted."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"accepted": 1000, "rows": 1000, "drift_at": 500, "seed": 1}}
    )
    accepted: int
    rows: int
    drift_at: int
    seed: int


class ShortPredictBody(BaseModel):
    """The same as for ``/v1/models/{model}/predict``, or bare ``features`` in the order of the spec."""

    model_config = ConfigDict(extra="allow", json_schema_extra={"example": {"features": [[0.2, -0.7]]}})
    features: list[list[Any]] | None = Field(default=None, min_length=1, max_length=MAX_ROWS)


class RetrainAnswer(BaseModel):
    """Whether the retrain was skipped, and why."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "skipped": True,
                "reason": "skipped: accuracy 0.9120 keeps the threshold 0.8",
                "decision": None,
            }
        }
    )
    skipped: bool
    reason: str
    decision: DecisionAnswer | None


def default_spec(door: Door) -> ModelSpec:
    """The default model's spec; raises NotFoundError that says how to make one."""
    try:
        return door.parts.models.get(DEFAULT)
    except NotFoundError:
        raise NotFoundError(
            f"There is no model {DEFAULT!r} yet: POST /generate makes one with synthetic data, "
            f'or POST /v1/models with "name": "{DEFAULT}"'
        ) from None


@plain.get("/model-status", response_model=ModelStatus, responses=documented(404))
def model_status(door: TheDoor) -> dict[str, Any]:
    """How the default model does."""
    spec = default_spec(door)
    where = standing(door.parts, DEFAULT)
    decisions = door.parts.ledger.decisions(DEFAULT, None, 1).items
    return {
        "model": DEFAULT,
        "champion": where.champion.version,
        "state": where.scores["state"],
        "performance": where.performance,
        "threshold": spec.threshold,
        "metric": spec.metric,
        "samples": where.head.labels + where.head.examples,
        "last_update": iso(where.champion.since) if where.champion.version else None,
        "last_decision": shape_decision(decisions[0]) if decisions else None,
    }


@writes.post("/generate", response_model=GenerateAnswer, responses=documented(409, 503))
def generate(
    door: TheDoor, request: Request, body: GenerateBody | None = None, _: IdempotencyKey = None
) -> Any:
    """Make a synthetic stream with a known drift, and store it as examples of the default model."""
    wanted = body or GenerateBody()
    seed = secrets.randbelow(2**31) if wanted.seed is None else wanted.seed
    rows, targets, drift_at = synthetic.stream(wanted.rows, wanted.drift, seed)
    spec = _made(door)
    if tuple(sorted(spec.features)) != synthetic.FEATURES or spec.target != synthetic.TARGET:
        raise ConflictError(
            f"Model {DEFAULT!r} has other columns than the synthetic stream: delete or rename it"
        )

    def chunks() -> Iterator[examples.Table]:
        for start in range(0, len(rows), examples.CHUNK):
            yield rows[start : start + examples.CHUNK], targets[start : start + examples.CHUNK]

    key = key_of(request) or uuid.uuid4().hex
    count = examples.store(door, spec, examples.Upload(chunks, ""), f"generate:{key}")[0]
    return {"accepted": count, "rows": wanted.rows, "drift_at": drift_at, "seed": seed}


def _made(door: Door) -> ModelSpec:
    try:
        return door.parts.models.get(DEFAULT)
    except NotFoundError:
        pass
    try:
        return models.create(door, synthetic.spec(DEFAULT))
    except ConflictError:  # another request made it meanwhile
        return door.parts.models.get(DEFAULT)


@plain.post("/predict", response_model=PredictAnswer, responses=documented(404, 409, 413, 503))
async def predict(
    body: ShortPredictBody, door: TheDoor, request: Request, _: IdempotencyKey = None
) -> Response:
    """Answer rows with the default model."""
    spec = await run_in_threadpool(default_spec, door)
    return await answer(door, request, DEFAULT, full_body(spec, body))


def full_body(spec: ModelSpec, body: ShortPredictBody) -> PredictBody:
    """The body as ``/v1/models/{model}/predict`` takes it; raises InvalidError."""
    rest = dict(body.__pydantic_extra__ or {})
    if body.features is not None:
        names = list(spec.features)
        faults = [
            Fault(f"features[{i}]", f"has {len(cells)} values: send {len(names)}, for {', '.join(names)}")
            for i, cells in enumerate(body.features)
            if len(cells) != len(names)
        ]
        if faults:
            raise InvalidError(
                "; ".join(f"{fault.field} {fault.message}" for fault in faults[:10]), faults[:100]
            )
        if "rows" in rest or "row" in rest:
            raise InvalidError("Send either features or rows", [Fault("features", "goes without rows")])
        rest["rows"] = [dict(zip(names, cells, strict=True)) for cells in body.features]
    try:
        return PredictBody.model_validate(rest)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        raise invalid([{**item, "loc": ("body", *item["loc"])} for item in found]) from None


@writes.post("/retrain", response_model=RetrainAnswer, responses={**PENDING, **documented(404, 409, 503)})
async def retrain(
    door: TheDoor,
    caller: Caller,
    body: RetrainBody | None = None,
    wait: Wait = 10,
    key: IdempotencyKey = None,
) -> Any:
    """Retrain the default model, unless its performance keeps the threshold."""
    await run_in_threadpool(default_spec, door)
    asked = body or RetrainBody()
    arguments = {"force": asked.force, "why": asked.why}
    result = await told(door, DEFAULT, await command(door, caller, key, DEFAULT, "retrain", arguments), wait)
    if isinstance(result, Response):
        return result
    decision = result["decision"]
    return {"skipped": bool(result.get("skipped")), "reason": decision["reason"], "decision": decision}
