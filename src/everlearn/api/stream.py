"""Frames of a camera over a WebSocket: each is answered when it is its turn, and the newest goes first.

A client sends images as binary messages, as fast as it likes, and gets a JSON text for each that was
answered. While one is being answered only the newest of those that come is kept: the others are dropped,
and counted. A text message says what is known of the frames that follow: whose they are, and other features.
Who may connect follows from the same table as any route, and is asked again for every frame.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, NamedTuple

import msgspec
from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from everlearn.access.needs import met
from everlearn.access.words import Principal
from everlearn.api.auth import address_of, bearer
from everlearn.api.doorkeeper import Doorkeeper
from everlearn.api.frames import detect, with_subject
from everlearn.api.parts import Door
from everlearn.api.permissions import Permissions
from everlearn.api.predict import new_id
from everlearn.api.problems import documented
from everlearn.errors import EverlearnError, Fault, InvalidError

router = APIRouter(prefix="/v1/models/{model}", tags=["frames"])

STREAM = "/v1/models/{model}/stream"
REFUSED = 1008
"""The close code of a connection that may not be, or not any more (RFC 6455: policy violation)."""


@router.get("/stream", status_code=101, responses=documented(426))
async def stream(model: str) -> None:  # noqa: ARG001 (a part of the path)
    """Open a WebSocket here: send a JPEG or PNG as a binary message, and get its boxes as JSON.

    Each answer is that of ``POST …/frames``, with ``dropped``: how many frames that came before it were
    passed over. A frame at fault is answered with ``error``, a problem as everywhere. A text message
    ``{"subject"?, "features"?}`` says what is known of the frames after it, up to the next one.
    """
    raise HTTPException(426, "This is a WebSocket: ask with 'Upgrade: websocket'", {"Upgrade": "websocket"})


class About(BaseModel):
    """What a text message says of the frames that follow."""

    model_config = ConfigDict(extra="forbid")
    subject: str | None = None
    features: dict[str, Any] = {}


class Shot(NamedTuple):
    """A frame as it came, with what was known of it then; ``None`` where that was not to be understood."""

    image: bytes
    about: About | None = About()


class Newest:
    """A place for one frame: a newer one takes it, and the one that was there is dropped."""

    def __init__(self) -> None:
        self._frame: Shot | None = None
        self._there = asyncio.Event()
        self._dropped = 0
        self._over = False

    def put(self, frame: Shot) -> None:
        """Keep a frame instead of what waits."""
        self._dropped += self._frame is not None
        self._frame = frame
        self._there.set()

    def end(self) -> None:
        """Nothing more will come."""
        self._over = True
        self._there.set()

    async def take(self) -> tuple[Shot, int] | None:
        """The newest frame, and how many were dropped since the last one; ``None`` at the end."""
        await self._there.wait()
        if self._frame is None or self._over:
            return None
        frame, dropped = self._frame, self._dropped
        self._frame, self._dropped = None, 0
        self._there.clear()
        return frame, dropped


class Streams:
    """The ASGI app of WebSockets: refuses all but streams of models that the caller may ask."""

    def __init__(self, door: Door, doorkeeper: Doorkeeper, permissions: Permissions) -> None:
        self._door, self._keeper, self._permissions = door, doorkeeper, permissions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection until it ends."""
        await receive()  # that it wants to connect
        asked = self._permissions.asked("GET", scope["path"])
        model = None if asked is None or asked.route != STREAM else asked.model
        if model is None or await self._caller(scope, model) is None:
            await send({"type": "websocket.close", "code": REFUSED})  # before it is accepted: HTTP 403
            return
        await send({"type": "websocket.accept"})
        newest = Newest()
        answering = asyncio.create_task(self._answer_all(scope, send, model, newest))
        reading = asyncio.create_task(_read_all(receive, newest))
        done, rest = await asyncio.wait((answering, reading), return_when=asyncio.FIRST_COMPLETED)
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
        for task in done:
            task.result()

    async def _caller(self, scope: Scope, model: str) -> Principal | None:
        """Who asks, if they may stream to this model now."""
        token, keeper = bearer(scope), self._keeper
        if token is None:
            return None
        principal = keeper.credentials.fresh(token)
        if principal is None:
            address = address_of(scope)
            if not keeper.credentials.knows(token) and keeper.throttle.blocked(address, keeper.now()):
                return None
            principal = await keeper.credentials.check(token)
            if principal is None:
                keeper.throttle.wrong(address, keeper.now())
                return None
        asked = self._permissions.asked("GET", scope["path"])
        return principal if asked is not None and met(asked.need, principal, model) else None

    async def _answer_all(self, scope: Scope, send: Send, model: str, newest: Newest) -> None:
        """Answer the newest frame, again and again."""
        while (taken := await newest.take()) is not None:
            caller = await self._caller(scope, model)
            if caller is None:
                await send({"type": "websocket.close", "code": REFUSED})
                return
            standing = self._keeper.throttle.of_caller(caller.name, self._keeper.now())
            if standing is not None and standing.wait:
                await asyncio.sleep(standing.wait)
            told = await self._answer(model, *taken)
            with suppress(OSError, RuntimeError):  # gone meanwhile: its frame is recorded
                await send({"type": "websocket.send", "text": msgspec.json.encode(told).decode()})

    async def _answer(self, model: str, frame: Shot, dropped: int) -> dict[str, Any]:
        try:
            about = _understood(frame)
            spec = (await self._door.runtime.served(model)).spec
            row = with_subject(about.features, about.subject, spec)
            told = await detect(self._door, model, frame.image, new_id(), self._door.parts.clock.now(), row)
        except EverlearnError as error:
            problem = {"type": error.type, "title": error.title, "status": error.status}
            return {"error": {**problem, "detail": error.detail}, "dropped": dropped}
        return {**told, "dropped": dropped}


async def _read_all(receive: Receive, newest: Newest) -> None:
    """Take what comes until the connection ends."""
    about: About | None = About()
    while True:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            newest.end()
            return
        if (text := message.get("text")) is not None:
            about = _read(text)
            if about is not None:
                continue
        newest.put(Shot(message.get("bytes") or b"", about))


def _read(text: str) -> About | None:
    try:
        return About.model_validate_json(text)
    except ValidationError:
        return None


def _understood(frame: Shot) -> About:
    """What is known of a frame; raises InvalidError. What was not to be understood might say whose it is."""
    if frame.about is None:
        message = 'is no JSON of {"subject", "features"}: say so of the frames that follow, or send an image'
        raise InvalidError(f"text: {message}", [Fault("text", message)])
    if not frame.image:
        message = "is no binary message: send a JPEG or PNG as one"
        raise InvalidError(f"image: {message}", [Fault("image", message)])
    return frame.about
