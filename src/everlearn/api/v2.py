"""The Open Inference Protocol (V2): health, metadata and inference for the clients of other servers.

https://github.com/kserve/open-inference-protocol. Errors have its form, ``{"error": "..."}``; what refuses
a caller before the route is reached has the form of all other routes.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from http import HTTPStatus
from typing import Any

import msgspec
from fastapi import APIRouter, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from loguru import logger
from pydantic import BaseModel, ConfigDict
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from everlearn import __version__
from everlearn.api import inference
from everlearn.api.idempotency import IdempotencyKey
from everlearn.api.parts import Door, TheDoor
from everlearn.api.protocol_rows import answer_rows, check_knows
from everlearn.api.runtime import Served
from everlearn.api.tensors import BYTES, rows_of
from everlearn.api.values import MAX_ID
from everlearn.errors import EverlearnError, InvalidError, NotFoundError, UnavailableError
from everlearn.types import VersionState

MAX_DIGITS = 15
MOST_VERSIONS = 100
"""How many versions a model's metadata name at most beside those that are served."""


class V2Error(BaseModel):
    """What went wrong, in the protocol's form."""

    model_config = ConfigDict(json_schema_extra={"example": {"error": "inputs.a: has no shape: send [1]"}})
    error: str


class V2Server(BaseModel):
    """The server."""

    name: str
    version: str
    extensions: list[str]


class V2State(BaseModel):
    """Whether something lives, or is ready."""

    live: bool | None = None
    ready: bool | None = None
    name: str | None = None


class V2Tensor(BaseModel):
    """What a tensor looks like; -1 stands for the number of rows."""

    name: str
    datatype: str
    shape: list[int]


class V2Model(BaseModel):
    """A model's inputs and outputs. A request may also send one tensor ``[n, d]`` in the inputs' order."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[V2Tensor]
    outputs: list[V2Tensor]


class V2Answer(BaseModel):
    """The outputs: ``value``, for classification ``probabilities`` and ``classes``, and ``prediction_id``.

    ``model_version`` is left out where several versions answered: ``version`` then tells which, by row.
    """

    model_name: str
    model_version: str | None = None
    id: str | None = None
    outputs: list[dict[str, Any]]


class V2Route(APIRoute):
    """A route whose errors have the protocol's form; what is wrong with a request is 400."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The route's handler, with its errors put in form."""
        handle = super().get_route_handler()

        async def in_form(request: Request) -> Response:
            try:
                return await handle(request)
            except EverlearnError as error:
                if error.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                    logger.error("{}: {}", type(error).__name__, error.detail)
                wrong = error.status == HTTPStatus.UNPROCESSABLE_ENTITY
                return failed(HTTPStatus.BAD_REQUEST if wrong else error.status, error.detail)
            except RequestValidationError as error:
                found = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()[:5])
                return failed(HTTPStatus.BAD_REQUEST, found)
            except HTTPException as error:
                return failed(error.status_code, str(error.detail))

        return in_form


def failed(status: int, detail: str) -> Response:
    """An error in the protocol's form."""
    headers = {"Retry-After": "1"} if status == HTTPStatus.SERVICE_UNAVAILABLE else {}
    body = msgspec.json.encode({"error": detail})
    return Response(body, status, headers, media_type="application/json")


def _errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: {"model": V2Error, "description": HTTPStatus(status).phrase} for status in statuses}


router = APIRouter(prefix="/v2", tags=["open inference"], route_class=V2Route)
open_ = APIRouter(prefix="/v2", tags=["open inference"], route_class=V2Route)
"""Health, which probes ask without a credential."""


@router.get("", response_model=V2Server, responses=_errors(503))
async def server() -> V2Server:
    """The server and the extensions of the protocol that it speaks."""
    return V2Server(name="everlearn", version=__version__, extensions=["binary_tensor_data"])


@open_.get("/health/live", response_model=V2State, response_model_exclude_none=True, responses=_errors(503))
async def live() -> V2State:
    """Does the process answer?"""
    return V2State(live=True)


@open_.get("/health/ready", response_model=V2State, response_model_exclude_none=True, responses=_errors(503))
async def ready(door: TheDoor) -> V2State:
    """Can it serve? 503 while it cannot."""
    if door.runtime.loading:
        raise UnavailableError("The champions are being loaded")
    await run_in_threadpool(door.parts.versions.champions)
    return V2State(ready=True)


@router.get("/models/{model}", response_model=V2Model, responses=_errors(400, 404, 503))
@router.get("/models/{model}/versions/{version}", response_model=V2Model, responses=_errors(400, 404, 503))
async def metadata(model: str, door: TheDoor, version: str | None = None) -> dict[str, Any]:
    """What a model takes and gives. Without a version the champion answers, and while a candidate is on
    trial it answers the share that the spec's route gives it."""
    served = await _served(door, model, version)
    value = "FP64" if served.spec.task == "regression" else BYTES
    outputs = [{"name": "value", "datatype": value, "shape": [-1]}]
    if served.spec.task == "classification":
        outputs += [
            {"name": "probabilities", "datatype": "FP64", "shape": [-1, -1]},
            {"name": "classes", "datatype": BYTES, "shape": [-1]},
        ]
    outputs += [{"name": inference.IDS, "datatype": BYTES, "shape": [-1]}]
    return {
        "name": model,
        "versions": await _versions(door, served) if version is None else [str(served.version)],
        "platform": "everlearn",
        "inputs": inference.inputs_of(served.spec.features),
        "outputs": [*outputs, {"name": "version", "datatype": "INT64", "shape": [-1]}],
    }


_STATE: dict[str, Any] = {
    "response_model": V2State,
    "response_model_exclude_none": True,
    "responses": _errors(400, 404, 503),
}


@router.get("/models/{model}/ready", **_STATE)
@router.get("/models/{model}/versions/{version}/ready", **_STATE)
async def model_ready(model: str, door: TheDoor, version: str | None = None) -> V2State:
    """Can a model answer? 503 while it knows nothing, or withholds its answers."""
    check_knows(await _served(door, model, version))
    return V2State(name=model, ready=True)


_EXAMPLE: Mapping[str, Any] = {
    "inputs": [
        {"name": "length", "datatype": "FP64", "shape": [1], "data": [412]},
        {"name": "sender", "datatype": "BYTES", "shape": [1], "data": ["ann@example.org"]},
    ]
}
_INFER: dict[str, Any] = {
    "response_model": V2Answer,
    "responses": _errors(400, 404, 409, 413, 503),
    "openapi_extra": {
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {
                        "type": "object",
                        "required": ["inputs"],
                        "properties": {
                            "id": {"type": "string"},
                            "parameters": {"type": "object"},
                            "inputs": {"type": "array", "items": {"type": "object"}},
                            "outputs": {"type": "array", "items": {"type": "object"}},
                        },
                        "example": _EXAMPLE,
                    }
                },
                "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
            },
        }
    },
}


@router.post("/models/{model}/infer", **_INFER)
@router.post("/models/{model}/versions/{version}/infer", **_INFER)
async def infer(
    model: str, request: Request, door: TheDoor, version: str | None = None, _: IdempotencyKey = None
) -> Response:
    """Answer tensors: one a column, or one of all columns. Every row is recorded before it is answered;
    `prediction_id` is what its label is sent for, and may be chosen by an input of that name."""
    served = await _served(door, model, version)
    asked, tensors = inference.read(await request.body(), request.headers.get(inference.HEADER_LENGTH))
    inference.check_outputs(asked.outputs)
    features = list(served.spec.features)
    given = [one for one in tensors if one.name == inference.IDS and one.name not in features]
    rows = rows_of([one for one in tensors if one not in given], features)
    short = await answer_rows(door, request, served, rows, _ids(given[0].cells, len(rows)) if given else None)
    body, size = inference.write(short.served, asked, short.answers)
    if size is None:
        return Response(body, media_type="application/json")
    headers = {inference.HEADER_LENGTH: str(size)}
    return Response(body, headers=headers, media_type="application/octet-stream")


def _ids(cells: list[Any], count: int) -> list[str]:
    sound = all(type(key) is str and 0 < len(key) <= MAX_ID and key.isprintable() for key in cells)
    if len(cells) != count or not sound:
        raise InvalidError(f"inputs.{inference.IDS}: send a text of 1 to {MAX_ID} characters for each row")
    return cells


async def _served(door: Door, model: str, version: str | None) -> Served:
    """What answers: a version by its number, or the champion (and a candidate, its share of the rows)."""
    if version is None:
        return await door.runtime.served(model)
    if not (version.isascii() and version.isdecimal() and len(version) <= MAX_DIGITS):
        raise NotFoundError(f"Model {model!r} has no version {version[:20]!r}: versions are numbers")
    return await door.runtime.version(model, int(version))


async def _versions(door: Door, served: Served) -> list[str]:
    """The numbers by which versions may be asked: the served one, the candidate, then the newest others."""
    first = [served.version, *([served.candidate.version] if served.candidate else [])]
    newest = (await run_in_threadpool(door.parts.versions.list, served.spec.name, None, MOST_VERSIONS)).items
    others = [one.number for one in newest if one.state not in (VersionState.REFUSED, VersionState.ERASED)]
    return [str(number) for number in dict.fromkeys([*first, *others])]
