"""Models: what is kept current, and what each should be."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema
from starlette.concurrency import run_in_threadpool

from everlearn.access.words import Scope
from everlearn.api.auth import Caller
from everlearn.api.idempotency import IdempotencyKey, IdempotentRoute
from everlearn.api.openapi import CHANGES_SCHEMA, SPEC_SCHEMA
from everlearn.api.pagination import Listing, PageWanted, listing
from everlearn.api.parts import Door, TheDoor
from everlearn.api.problems import documented
from everlearn.api.standing import standing
from everlearn.api.times import IsoTime, iso
from everlearn.errors import Fault, SpecError
from everlearn.spec import ModelSpec, parse_spec
from everlearn.types import Page

router = APIRouter(prefix="/v1/models", tags=["models"], route_class=IdempotentRoute)

FIXED = ("name", "task", "target", "features")
"""What a model is: another one of these is another model."""

_SPEC: dict[str, Any] = {
    "name": "spam",
    "target": "label",
    "features": {"length": "numeric", "sender": "categorical"},
    "learner": {"name": "blend"},
    "threshold": 0.9,
    "label_horizon": "2h",
}


class LogCounts(BaseModel):
    """What the log of a model holds."""

    seq: int
    rows: int
    labels: int
    parked: int
    examples: int


class ModelAnswer(BaseModel):
    """A model: what it should be, what answers for it, and how well."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "name": "spam",
                "task": "classification",
                "target": "label",
                "champion": 3,
                "serving": 3,
                "champion_since": "2024-05-01T12:00:00.000000Z",
                "state": "healthy",
                "metric": "accuracy",
                "threshold": 0.9,
                "scores": {"state": "healthy", "rows": 9200, "matured": 8700},
                "learner": {"name": "blend"},
                "log": {"seq": 18211, "rows": 9200, "labels": 8993, "parked": 2, "examples": 0},
                "cursor": 18211,
                "spec": _SPEC,
            }
        }
    )
    name: str
    task: str
    target: str
    champion: int
    serving: int | None = Field(
        description="The version that this process answers with: the champion, but for the moment of a swap; "
        "null while the model is not in its memory"
    )
    champion_since: IsoTime
    state: str
    metric: str | None
    threshold: float | None
    scores: dict[str, Any]
    learner: dict[str, Any]
    log: LogCounts
    cursor: int
    spec: dict[str, Any]


def shape(door: Door, spec: ModelSpec) -> dict[str, Any]:
    """A model as the body of an answer. Asks the store."""
    where = standing(door.parts, spec.name)
    head = where.head
    return {
        "name": spec.name,
        "task": spec.task,
        "target": spec.target,
        "champion": where.champion.version,
        "serving": door.runtime.serving(spec.name),
        "champion_since": iso(where.champion.since),
        "state": where.scores["state"],
        "metric": spec.metric,
        "threshold": spec.threshold,
        "scores": dict(where.scores),
        "learner": spec.learner.model_dump(mode="json"),
        "log": {
            "seq": head.seq,
            "rows": head.rows,
            "labels": head.labels,
            "parked": head.parked,
            "examples": head.examples,
        },
        "cursor": where.cursor,
        "spec": spec.to_dict(),
    }


@router.post("", status_code=201, response_model=ModelAnswer, responses=documented(409, 501))
def create_model(
    door: TheDoor,
    spec: Annotated[dict[str, Any], WithJsonSchema({**SPEC_SCHEMA, "examples": [_SPEC]})],
    response: Response,
    _: IdempotencyKey = None,
) -> dict[str, Any]:
    """Make a model. It answers at once, with version 0: the most frequent label so far."""
    settled = create(door, spec)
    response.headers["Location"] = f"/v1/models/{settled.name}"
    return shape(door, settled)


def create(door: Door, spec: Mapping[str, Any]) -> ModelSpec:
    """Make a model from a spec as it was sent; returns the spec in force."""
    from everlearn.loop.defaults import with_defaults

    settled = with_defaults(parse_spec(finite(spec)), door.threshold)
    door.parts.models.create(settled, door.parts.clock.now())
    door.runtime.refresh(settled.name)
    return settled


@router.get("", response_model=Listing[ModelAnswer])
def list_models(door: TheDoor, page: PageWanted, caller: Caller) -> dict[str, Any]:
    """The models that the caller may read, in order of their names."""
    found = door.parts.models.list(page.cursor, page.limit)
    seen = [spec for spec in found.items if caller.allows(Scope.READ, spec.name)]
    return listing(Page(seen, found.next), lambda spec: shape(door, spec))


@router.get("/{model}", response_model=ModelAnswer, responses=documented(404))
def get_model(model: str, door: TheDoor) -> dict[str, Any]:
    """One model."""
    return shape(door, door.parts.models.get(model))


@router.patch("/{model}", response_model=ModelAnswer, responses=documented(404, 501))
def update_model(
    model: str,
    door: TheDoor,
    changes: Annotated[
        dict[str, Any],
        WithJsonSchema({**CHANGES_SCHEMA, "examples": [{"threshold": 0.85, "policy": {"cooldown": 500}}]}),
    ],
    _: IdempotencyKey = None,
) -> dict[str, Any]:
    """Change some of the spec. ``policy`` and ``gate`` are merged; name, task, target and features stay."""
    from everlearn.loop.defaults import with_defaults

    old = door.parts.models.get(model)
    spec = with_defaults(parse_spec(merged(old, finite(changes))), door.threshold)
    door.parts.models.update(spec, door.parts.clock.now())
    door.runtime.refresh(model)
    return shape(door, spec)


def finite(spec: Mapping[str, Any]) -> Mapping[str, Any]:
    """The spec as it is; raises SpecError where it holds what no JSON can: NaN or an infinite number."""
    faults = [Fault(field, "is not a finite number: send one") for field in _endless(spec)]
    if faults:
        raise SpecError("; ".join(f"{fault.field} {fault.message}" for fault in faults[:10]), faults[:100])
    return spec


def _endless(value: Any, field: str = "") -> Iterator[str]:
    if isinstance(value, float) and not math.isfinite(value):
        yield field
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from _endless(item, f"{field}.{name}" if field else str(name))
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from _endless(item, f"{field}[{i}]")


def merged(old: ModelSpec, changes: Mapping[str, Any]) -> dict[str, Any]:
    """A spec with changes; raises SpecError for a change of what cannot change."""
    before = old.to_dict()
    faults = [
        Fault(name, f"cannot change from {before[name]!r}: create another model")
        for name in FIXED
        if name in changes and changes[name] != before[name]
    ]
    if faults:
        raise SpecError("; ".join(f"{fault.field}: {fault.message}" for fault in faults), faults)
    after = {**before, **changes}
    for name in ("policy", "gate"):
        if isinstance(changes.get(name), Mapping):
            after[name] = {**before[name], **changes[name]}
    if "learner" in changes and "update" not in changes:
        after["update"] = None  # another learner may prefer the other way to update
    return after


@router.delete("/{model}", status_code=204, response_model=None, responses=documented(404))
async def delete_model(model: str, door: TheDoor, _: IdempotencyKey = None) -> Response:
    """Remove a model with all that it recorded and learned. There is no way back."""
    await run_in_threadpool(door.parts.models.delete, model)
    door.runtime.forget(model)
    return Response(status_code=204)


@router.get("/{model}/scores", response_model=dict[str, Any], responses=documented(404), tags=["models"])
def get_scores(model: str, door: TheDoor) -> dict[str, Any]:
    """How well the model does: what was served, the baselines on the same rows, and the champion's bounds."""
    return dict(standing(door.parts, model).scores)
