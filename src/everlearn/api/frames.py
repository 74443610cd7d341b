"""Frames: an image in, boxes out, and what people say of them.

A frame is a prediction like any other: it stands in the log with what was measured of it and what was
answered, and its true boxes are its label. Its image is stored once, by its digest.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field, StrictBool, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile

from everlearn.api.auth import Caller
from everlearn.api.formats import JSON, content_type
from everlearn.api.idempotency import IdempotencyKey, IdempotentRoute
from everlearn.api.image_fetching import of_url
from everlearn.api.labels import LabelsAnswer, record_labels
from everlearn.api.parts import Door, TheDoor
from everlearn.api.predict import new_id, record_predictions
from everlearn.api.problems import documented, invalid
from everlearn.api.times import IsoTime, Time, iso
from everlearn.api.values import Id
from everlearn.errors import Fault, InvalidError, NotFoundError
from everlearn.features.schema import Schema
from everlearn.spec import ModelSpec
from everlearn.types import Label, Prediction, Row
from everlearn.vision.boxes import Box, parse, to_text
from everlearn.vision.drawing import drawn
from everlearn.vision.frames import Image, StoredImages
from everlearn.vision.images import encode, media_type
from everlearn.vision.measures import measured

router = APIRouter(prefix="/v1/models/{model}/frames", tags=["frames"], route_class=IdempotentRoute)

QUALITY = 90
NOTHING = "0" * 64
"""Stands for an image that is not stored yet."""


class UrlBody(BaseModel):
    """Where the image of a frame is fetched from: a host that ``EVERLEARN_IMAGE_HOSTS`` lists. ``subject``
    says whose it is."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"url": "https://images.example.org/gate/17.jpg"}}
    )
    url: str = Field(min_length=1, max_length=2000)
    subject: str | None = None


class Sent(NamedTuple):
    """What the body of a request holds: an image or a URL of one, and whose it is, if that is said."""

    image: bytes
    url: str | None = None
    subject: str | None = None


_IMAGE = {"schema": {"type": "string", "format": "binary"}}
_FORM = {
    "schema": {
        "type": "object",
        "required": ["image"],
        "properties": {"image": _IMAGE["schema"], "subject": {"type": "string"}},
    },
}
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "image/jpeg": _IMAGE,
            "image/png": _IMAGE,
            "multipart/form-data": _FORM,
            "application/json": {"schema": UrlBody.model_json_schema()},
        },
    }
}
_PICTURE: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/jpeg": _IMAGE, "image/png": _IMAGE}, "description": "The image"}
}


class BoxBody(BaseModel):
    """An object in a frame: its class, and its corners in pixels of the image as it was sent."""

    model_config = ConfigDict(populate_by_name=True, extra="forbid")
    name: str = Field(alias="class", min_length=1, max_length=100)
    x1: float
    y1: float
    x2: float
    y2: float


class AnsweredBox(BoxBody):
    """A box that was answered, and how sure its version is of it."""

    score: float | None = None


class FrameAnswer(BaseModel):
    """The boxes of a frame, the surest first, and the version that found them.

    ``boxes`` is null while nothing is known, and while the model withholds its answers.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "model": "gate",
                "id": "frame-17",
                "version": 3,
                "width": 1280,
                "height": 720,
                "boxes": [{"class": "car", "x1": 12.0, "y1": 30.5, "x2": 220.0, "y2": 140.0, "score": 0.91}],
            }
        }
    )
    model: str
    id: str
    version: int
    width: int
    height: int
    boxes: list[AnsweredBox] | None
    abstained: Literal[True] | None = Field(
        default=None, description="True while the model abstains; otherwise left out"
    )


class RecordedFrame(BaseModel):
    """A frame as it was recorded: what was measured of it, what was answered, and what is true."""

    id: str
    row: int
    at: IsoTime
    version: int
    image: str = Field(description="The digest under which the image is stored")
    features: dict[str, Any]
    boxes: list[AnsweredBox] | None
    truth: list[BoxBody] | None


class BoxesBody(BaseModel):
    """The true boxes of a frame, all of them. ``correction`` replaces those that were wrong."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {"boxes": [{"class": "car", "x1": 12, "y1": 30, "x2": 220, "y2": 140}]}
        },
    )
    boxes: Annotated[list[BoxBody], Field(max_length=1000)]
    correction: StrictBool = False
    at: Time | None = Field(default=None, description="When it became known (default: now)")


@router.post(
    "", response_model=FrameAnswer, openapi_extra=_BODY, responses=documented(404, 409, 413, 422, 501, 503)
)
async def send_frame(
    model: str,
    request: Request,
    door: TheDoor,
    id: Annotated[Id | None, Query(description="An id of yours, which makes repeats harmless")] = None,  # noqa: A002
    at: Annotated[Time | None, Query(description="When the frame was taken (default: now)")] = None,
    features: Annotated[
        str | None, Query(description='Other features as JSON, such as {"camera": "gate 3"}')
    ] = None,
    subject: Annotated[
        str | None,
        Query(
            description="Whose frame it is, where the spec names a `subject`. In a form or in JSON it is a "
            "field of the body, and stands in no URL"
        ),
    ] = None,
    _: IdempotencyKey = None,
) -> Response:
    """Find the objects in a JPEG or PNG: the body itself, the field ``image`` of a form, or what is at a
    ``url``, which the server fetches from hosts that it was told to.

    The image is stored, and the answer with it, before it is sent.
    """
    row: Mapping[str, Any] = _features(features)
    if id is not None and "/" in id:
        raise _fault("id", "must hold no slash: it is a part of the frame's address")
    spec = (await door.runtime.served(model)).spec
    image_column(Schema.from_spec(spec))
    moment = door.parts.clock.now() if at is None else at
    sent = await _sent(request)
    row = with_subject(with_subject(row, subject, spec), sent.subject, spec)
    data = sent.image if sent.url is None else await door.fetcher.fetch(sent.url)
    try:
        answer = await detect(door, model, data, id or new_id(), moment, row)
    except InvalidError as error:
        raise error if sent.url is None else of_url(error) from None
    return Response(msgspec.json.encode(answer), media_type="application/json")


def with_subject(row: Mapping[str, Any], subject: str | None, spec: ModelSpec) -> Mapping[str, Any]:
    """A row with whose it is, in the column that the spec names; raises InvalidError, which names
    ``subject``, where it names none, or another is named already."""
    if subject is None:
        return row
    if spec.subject is None:
        raise _fault("subject", "is nowhere to be kept: name a column as 'subject' in the model's spec")
    if not subject:
        raise _fault("subject", "is empty: leave it out where a frame is nobody's")
    if str(row.get(spec.subject, subject)) != subject:
        raise _fault("subject", "is given twice, and not the same: give it once")
    return {**row, spec.subject: subject}


async def detect(
    door: Door, model: str, data: bytes, key: str, at: float, features: Mapping[str, Any]
) -> dict[str, Any]:
    """Store an image, answer it, and return the body of the answer.

    Raises InvalidError for what is no image, and whatever
    :func:`~everlearn.api.predict.record_predictions` raises. What is wrong with the features is found before
    the image is stored: one that no row shows would be nobody's.
    """
    served, images = await door.runtime.served(model), door.runtime.images
    column, named = image_column(served.schema), served.schema.features
    served.schema.check([{**features, column: NOTHING}])
    digest, image, found = await run_in_threadpool(_stored, images, data)
    row = {**{name: value for name, value in found.items() if name in named}, **features, column: digest}
    with images.at_hand(digest, image):
        return _answer(await record_predictions(door, model, [row], [key], [at]), image)


def _stored(images: StoredImages, data: bytes) -> tuple[str, Image, dict[str, float]]:
    digest, image = images.put(data)
    return digest, image, measured(image)


def _answer(told: Mapping[str, Any], image: Image) -> dict[str, Any]:
    (given,) = told["predictions"]
    answer = {
        "model": told["model"],
        "id": given["id"],
        "version": given["version"],
        "width": image.shape[1],
        "height": image.shape[0],
        "boxes": shown(given["value"]),
    }
    return {**answer, "abstained": True} if given.get("abstained") else answer


async def _sent(request: Request) -> Sent:
    """What a request holds: JSON, a form, or the image itself. Raises InvalidError."""
    if content_type(request.scope) == JSON:
        return _by_url(await request.body())
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        return Sent(await request.body())
    async with request.form(max_files=1, max_fields=1) as form:
        file, subject = form.get("image"), form.get("subject")
        if not isinstance(file, UploadFile):
            raise _fault("image", "is no file of the form: send the JPEG or PNG in this field")
        return Sent(await file.read(), subject=subject if isinstance(subject, str) else None)


def _by_url(body: bytes) -> Sent:
    try:
        named = UrlBody.model_validate_json(body)
    except ValidationError as error:
        raise invalid(error.errors(include_url=False, include_input=False)) from None
    return Sent(b"", named.url, named.subject)


def _features(text: str | None) -> dict[str, Any]:
    try:
        found = {} if text is None else json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise _fault("features", 'is no JSON object: send such as {"camera": "gate 3"}')
    return found


def image_column(schema: Schema) -> str:
    """The feature that holds a model's image; raises InvalidError for a model that has none."""
    for name, kind in schema.features.items():
        if kind == "image":
            return name
    raise _fault("model", "is no detector: make one with task 'detection' and a feature of kind 'image'")


def shown(text: Any) -> list[dict[str, Any]] | None:
    """Boxes as they are told."""
    return None if text is None else [_shown_box(box) for box in parse(text)]


def _shown_box(box: Box) -> dict[str, Any]:
    name, *numbers, score = box
    told = {"class": name, **dict(zip(("x1", "y1", "x2", "y2"), numbers, strict=True))}
    return told if score is None else {**told, "score": score}


@router.post("/{frame_id}/boxes", response_model=LabelsAnswer, responses=documented(404, 422, 503))
async def label_frame(
    model: str, frame_id: str, body: BoxesBody, door: TheDoor, caller: Caller, _: IdempotencyKey = None
) -> Response:
    """Tell the true boxes of a frame, all of them; an empty list says that there is nothing in it."""
    served = await door.runtime.served(model)
    image_column(served.schema)
    truth = to_text(Box(box.name, box.x1, box.y1, box.x2, box.y2) for box in body.boxes)
    moment = door.parts.clock.now() if body.at is None else body.at
    told, headers = await record_labels(door, model, [frame_id], [truth], [body.correction], [moment], caller)
    return Response(msgspec.json.encode(told), media_type="application/json", headers=headers)


@router.get("/{frame_id}", response_model=RecordedFrame, responses=documented(404))
async def get_frame(model: str, frame_id: str, door: TheDoor) -> dict[str, Any]:
    """One frame as it was recorded."""
    return recorded(*await run_in_threadpool(_find, door, model, frame_id))


def recorded(asked: Prediction, label: Label | None, column: str) -> dict[str, Any]:
    """A frame as it is told: ``column`` holds its image."""
    features = dict(asked.features)
    return {
        "id": asked.id,
        "row": asked.row,
        "at": iso(asked.at),
        "version": asked.version,
        "image": str(features.pop(column, "")),
        "features": features,
        "boxes": shown(asked.output.value),
        "truth": None if label is None else shown(label.value),
    }


@router.get("/{frame_id}/image", response_class=Response, responses={**documented(404), **_PICTURE})
async def get_image(model: str, frame_id: str, door: TheDoor) -> Response:
    """The image of a frame, as it was sent."""
    asked, _, column = await run_in_threadpool(_find, door, model, frame_id)
    data = await run_in_threadpool(door.runtime.images.raw, _digest(asked.features, column))
    return Response(data, media_type=media_type(data))


@router.get("/{frame_id}/annotated", response_class=Response, responses={**documented(404, 501), **_PICTURE})
async def get_annotated(
    model: str,
    frame_id: str,
    door: TheDoor,
    show: Annotated[Literal["answer", "truth"], Query(description="Whose boxes")] = "answer",
) -> Response:
    """The image of a frame as JPEG, with the boxes that were answered, or the true ones, drawn on it."""
    asked, label, column = await run_in_threadpool(_find, door, model, frame_id)
    text = asked.output.value if show == "answer" else label and label.value
    digest = _digest(asked.features, column)
    data = await run_in_threadpool(_annotated, door.runtime.images, digest, parse(text))
    return Response(data, media_type="image/jpeg")


def _annotated(images: StoredImages, digest: str, boxes: Sequence[Box]) -> bytes:
    return encode(drawn(images(digest), boxes), quality=QUALITY)


def _find(door: Door, model: str, frame_id: str) -> tuple[Prediction, Label | None, str]:
    """A recorded frame, its label, and the column of its image; raises NotFoundError."""
    column = image_column(Schema.from_spec(door.parts.models.get(model)))
    asked, label = door.parts.log.find(model, [frame_id]).get(frame_id, (None, None))
    if asked is None:
        raise NotFoundError(f"Model {model!r} was sent no frame with the id {frame_id[:200]!r}")
    return asked, label or asked.label, column


def _digest(row: Row, column: str) -> str:
    return str(row.get(column))


def _fault(name: str, message: str) -> InvalidError:
    return InvalidError(f"{name}: {message}", [Fault(name, message)])
