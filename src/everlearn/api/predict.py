"""Predictions: rows in, answers out, each recorded durably before the caller sees it."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import getrandbits
from typing import Any, Literal

import msgspec
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field, model_validator
from starlette.concurrency import run_in_threadpool

from everlearn.adapters.group_commit import conflict
from everlearn.api.body import JsonRoute
from everlearn.api.idempotency import IdempotencyKey, digest_of, key_of
from everlearn.api.parts import Door, TheDoor
from everlearn.api.predict_many import MANY, record_many
from everlearn.api.problems import documented
from everlearn.api.runtime import Served
from everlearn.api.times import IsoTime, Times, iso
from everlearn.api.values import MAX_ID, Id
from everlearn.errors import NotFoundError
from everlearn.features.schema import Checked
from everlearn.types import EventKind, NewEvent, Output, Prediction, Receipt, Scalar, Status

router = APIRouter(prefix="/v1/models/{model}", tags=["predictions"], route_class=JsonRoute)

MAX_ROWS = 10_000

_ROW: dict[str, Any] = {"length": 412, "sender": "ann@example.org"}
_ONE_OF: dict[str, Any] = {"anyOf": [{"required": ["rows"]}, {"required": ["row"]}]}


class PredictBody(BaseModel):
    """Rows to answer (``rows`` with ``ids`` and ``at``), or one (``row`` with ``id`` and ``at``).

    ``at`` is when the rows happened (default: now). An id that is known with the same features gets
    its recorded answer again.
    """

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"rows": [_ROW], "ids": ["mail-17"]}, {"row": _ROW}], **_ONE_OF},
    )
    rows: list[dict[str, Any]] | None = Field(default=None, min_length=1, max_length=MAX_ROWS)
    ids: list[Id] | None = Field(default=None, max_length=MAX_ROWS)
    row: dict[str, Any] | None = None
    id: Id | None = None
    at: Times | None = None

    @model_validator(mode="after")
    def _fits(self) -> PredictBody:
        if (self.rows is None) == (self.row is None):
            raise ValueError("send either 'rows' (a list) or 'row' (one)")
        if (self.ids is not None and self.rows is None) or (self.id is not None and self.row is None):
            raise ValueError("'ids' goes with 'rows', and 'id' with 'row'")
        count = len(self.all_rows)
        if self.ids is not None and len(self.ids) != count:
            raise ValueError(f"ids: {len(self.ids)} for {count} rows: send one each")
        if isinstance(self.at, list) and len(self.at) != count:
            raise ValueError(f"at: {len(self.at)} times for {count} rows: send one each")
        return self

    @property
    def all_rows(self) -> Sequence[Mapping[str, Any]]:
        """The rows, also of a single one."""
        return self.rows if self.rows is not None else [self.row or {}]

    @property
    def all_ids(self) -> Sequence[str] | None:
        """The ids, also of a single row; ``None`` where the caller gave none."""
        return self.ids if self.id is None else [self.id]

    def times(self, now: float) -> Sequence[float]:
        """A time for each row."""
        if isinstance(self.at, list):
            return self.at
        return [now if self.at is None else self.at] * len(self.all_rows)


class PredictionAnswer(BaseModel):
    """The answer for one row, and the version that gave it. ``value`` is null while nothing is known.

    While the model abstains (see ``abstain`` in its spec) ``abstained`` is true; where it withholds its
    answers, ``value`` is null and ``probabilities`` are left out.
    """

    id: str
    version: int
    value: bool | int | float | str | None
    probabilities: dict[str, float] | None = Field(default=None, description="By class; not for regression")
    abstained: Literal[True] | None = Field(
        default=None, description="True while the model abstains; otherwise left out"
    )


class PredictAnswer(BaseModel):
    """An answer for each row, in order."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "model": "spam",
                "predictions": [
                    {
                        "id": "mail-17",
                        "version": 3,
                        "value": "ham",
                        "probabilities": {"ham": 0.93, "spam": 0.07},
                    }
                ],
                "ignored_columns": {"subject": 1},
            }
        }
    )
    model: str
    predictions: list[PredictionAnswer]
    ignored_columns: dict[str, int] | None = Field(
        default=None, description="Columns that the schema does not name, with how many rows had them"
    )


class RecordedPrediction(BaseModel):
    """A prediction as it was recorded, with its label if that has come."""

    id: str
    row: int
    seq: int
    at: IsoTime
    version: int
    features: dict[str, Any]
    output: dict[str, Any]
    label: dict[str, Any] | None


@router.post("/predict", response_model=PredictAnswer, responses=documented(404, 409, 413, 503))
async def predict(
    model: str, body: PredictBody, door: TheDoor, request: Request, _: IdempotencyKey = None
) -> Response:
    """Answer rows. Each answer is stored before it is sent. Give ids of your own to make repeats harmless:
    where there are ids, they alone decide what is a repeat, and an ``Idempotency-Key`` adds nothing."""
    return await answer(door, request, model, body)


async def answer(door: Door, request: Request, model: str, body: PredictBody) -> Response:
    """Answer a request for predictions, once for each ``Idempotency-Key`` if it names no ids."""
    key = key_of(request) if body.all_ids is None else None
    rows, times = body.all_rows, body.times(door.parts.clock.now())
    if key is None:
        return _sent(await record_predictions(door, model, rows, body.all_ids, times))
    digest = digest_of(request, await request.body())
    before = await door.idempotency.recall(request, key, digest)
    if before is not None:
        return before
    seed = hashlib.sha256(f"{model}\0{key}\0{digest}".encode()).hexdigest()[:32]
    ids = [f"{seed}-{i}" for i in range(len(rows))]
    response = _sent(await record_predictions(door, model, rows, ids, times))
    return await door.idempotency.remember(request, key, digest, response)


async def record_predictions(
    door: Door,
    model: str,
    rows: Sequence[Mapping[str, Any]],
    ids: Sequence[str] | None,
    times: Sequence[float],
) -> dict[str, Any]:
    """Answer rows, store the answers as the model's ``durability`` has it, and return the body of the answer.

    Without ``ids`` each row gets a new one. Raises SchemaError for rows that do not fit, ConflictError for
    ids that are known with other features, NotFoundError, and UnavailableError.
    """
    served = await door.runtime.served(model)
    if len(rows) >= MANY:
        return await record_many(door, served, rows, ids, times)
    keys = ids if ids is not None else [new_id() for _ in rows]
    answered = Answered(served, keys, times, *await door.runtime.answer(served, rows, keys))
    durability = served.spec.durability
    if durability == "async" and ids is None:
        door.writer.post(model, answered.events())
        return answered.told()
    flush = durability == "sync"
    return answered.told(
        await door.writer.append(model, answered.events(), whole=ids is not None, flush=flush)
    )


@dataclass(frozen=True, slots=True)
class Answered:
    """Rows and what was answered to them, in columns (n,): on the way into the log, and to their caller."""

    served: Served
    keys: Sequence[str]
    times: Sequence[float]
    checked: Checked
    outputs: Sequence[Output]
    versions: Sequence[int]

    def events(self) -> list[NewEvent]:
        """The predictions as the log takes them."""
        return [
            NewEvent(EventKind.PREDICTION, at, key, _stored(version, features, output))
            for at, key, version, features, output in zip(
                self.times, self.keys, self.versions, self.checked.rows, self.outputs, strict=True
            )
        ]

    def told(self, receipts: Sequence[Receipt] | None = None) -> dict[str, Any]:
        """The body of the answer, by what the log said of the predictions (``None``: nobody waits for it).

        Raises ConflictError for ids that are known with other features.
        """
        found: Sequence[tuple[int, Output]] = list(zip(self.versions, self.outputs, strict=True))
        if receipts is not None:
            clashes = [(i, self.keys[i]) for i, r in enumerate(receipts) if r.status is Status.CONFLICT]
            if clashes:
                raise conflict(clashes)
            found = [_recorded(r, *own) for r, own in zip(receipts, found, strict=True)]
        answers = [_told(key, *one, self.served) for key, one in zip(self.keys, found, strict=True)]
        told: dict[str, Any] = {"model": self.served.spec.name, "predictions": answers}
        if self.checked.ignored:
            told["ignored_columns"] = dict(self.checked.ignored)
        return told


def new_id() -> str:
    """An id that nobody has used: 12 digits of time, so that an index of them grows at its end, and 80 bits.

    >>> len(new_id()), new_id() != new_id()
    (32, True)
    """
    return f"{time.time_ns() // 1_000_000:012x}{getrandbits(80):020x}"


def _stored(version: int, features: Mapping[str, Scalar], output: Output) -> dict[str, Any]:
    return {
        "features": features,
        "value": output.value,
        "probabilities": output.probabilities,
        "version": version,
    }


def _recorded(receipt: Receipt, version: int, output: Output) -> tuple[int, Output]:
    """What was recorded first for the id: a repeat gets the same answer, also from another version."""
    if receipt.status is Status.DUPLICATE and isinstance(receipt.event, Prediction):
        return receipt.event.version, receipt.event.output
    return version, output


def _told(key: str, version: int, output: Output, served: Served) -> dict[str, Any]:
    """What the caller gets. An answer that is withheld stands in the log, so that it can be scored."""
    if served.withholding:
        return {"id": key, "version": version, "value": None, "abstained": True}
    told: dict[str, Any] = {"id": key, "version": version, "value": output.value}
    if output.probabilities is not None:
        told["probabilities"] = output.probabilities
    if served.abstaining:
        told["abstained"] = True
    return told


def _sent(body: dict[str, Any]) -> Response:
    return Response(msgspec.json.encode(body), media_type="application/json")


@router.get("/predictions/{prediction_id:path}", response_model=RecordedPrediction, responses=documented(404))
async def get_prediction(model: str, prediction_id: str, door: TheDoor) -> dict[str, Any]:
    """One prediction as it was recorded."""
    found = await run_in_threadpool(door.parts.log.find, model, [prediction_id])
    prediction, label = found.get(prediction_id, (None, None))
    if prediction is None:
        raise NotFoundError(f"Model {model!r} has made no prediction with the id {prediction_id[:MAX_ID]!r}")
    label = label or prediction.label
    output = prediction.output
    return {
        "id": prediction_id,
        "row": prediction.row,
        "seq": prediction.seq,
        "at": iso(prediction.at),
        "version": prediction.version,
        "features": dict(prediction.features),
        "output": {"value": output.value, "probabilities": output.probabilities},
        "label": label
        and {"value": label.value, "at": iso(label.at), "seq": label.seq, "correction": label.correction},
    }
