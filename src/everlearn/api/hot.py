"""The way that most requests take: one function from bytes to bytes, with nothing of the framework between.

A JSON body to ``/predict`` or ``/labels`` is decoded straight into structs and answered here. Whatever is in
any way unusual (another content type, an ``Idempotency-Key``, a body that does not fit) is passed on as it
came to the route of the same path, which does the same and tells every fault. So the OpenAPI page, which is
the route's, is true of both.

This is the innermost middleware: a request comes here with its id, within its limits, and admitted. It goes
no further here unless the middleware before has found that its caller may use the very route.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from everlearn.access.words import Principal
from everlearn.api.labels import MAX_LABELS, record_labels
from everlearn.api.parts import Door
from everlearn.api.predict import MAX_ROWS, record_predictions
from everlearn.api.problems import on_everlearn, on_http
from everlearn.api.times import END, FIRST
from everlearn.api.values import MAX_ID
from everlearn.errors import EverlearnError

JSON: Final = (b"application/json", b"application/json; charset=utf-8")
_SCALARS: Final = (bool, int, float, str, type(None))


class _Predict(msgspec.Struct, forbid_unknown_fields=True):
    rows: list[dict[str, Any]] | None = None
    ids: list[str] | None = None
    row: dict[str, Any] | None = None
    id: str | None = None
    at: float | None = None


class _Label(msgspec.Struct, forbid_unknown_fields=True):
    id: str
    value: Any
    correction: bool = False
    at: float | None = None


class _Labels(msgspec.Struct, forbid_unknown_fields=True):
    labels: list[_Label]


class Unusual(Exception):
    """A request for the framework's route: it may be wrong, and that route says what is."""


@dataclass(frozen=True, slots=True)
class Route:
    """A path as metrics and logs name it."""

    path_format: str


_Told = tuple[dict[str, Any], dict[str, str]]
_Answer = Callable[[Door, str, bytes, Principal], Awaitable[_Told]]
_predict_decoder = msgspec.json.Decoder(_Predict)
_labels_decoder = msgspec.json.Decoder(_Labels)
_encode = msgspec.json.Encoder().encode


def read_rows(body: bytes) -> tuple[list[dict[str, Any]], list[str] | None, float | None]:
    """Rows, their ids and their time, of a body that is usual; raises Unusual or DecodeError."""
    given = _predict_decoder.decode(body)
    if given.row is not None:
        rows, ids = [given.row], None if given.id is None else [given.id]
        _usual(given.rows is None and given.ids is None)
    else:
        rows, ids = given.rows or [], given.ids
        _usual(given.id is None and 0 < len(rows) <= MAX_ROWS and (ids is None or len(ids) == len(rows)))
    _usual(ids is None or all(map(_plain, ids)))
    _usual(given.at is None or FIRST <= given.at < END)
    return rows, ids, given.at


def read_labels(body: bytes) -> Sequence[_Label]:
    """Labels of a body that is usual; raises Unusual or DecodeError."""
    given: Sequence[_Label] = _labels_decoder.decode(body).labels
    _usual(0 < len(given) <= MAX_LABELS)
    for label in given:
        _usual(_plain(label.id) and isinstance(label.value, _SCALARS))
        _usual(label.at is None or FIRST <= label.at < END)
    return given


async def _predict(door: Door, model: str, body: bytes, _: Principal) -> _Told:
    rows, ids, at = read_rows(body)
    times = [door.parts.clock.now() if at is None else at] * len(rows)
    return await record_predictions(door, model, rows, ids, times), {}


async def _labels(door: Door, model: str, body: bytes, caller: Principal) -> _Told:
    given = read_labels(body)
    now = door.parts.clock.now()
    ids, values = [label.id for label in given], [label.value for label in given]
    times = [now if label.at is None else label.at for label in given]
    corrections = [label.correction for label in given]
    return await record_labels(door, model, ids, values, corrections, times, caller)


def _usual(condition: bool) -> None:
    if not condition:
        raise Unusual


def _plain(key: str) -> bool:
    return 0 < len(key) <= MAX_ID and key.isprintable()


class HotPath:
    """ASGI middleware that answers predictions and labels itself, and passes on all else."""

    def __init__(self, app: ASGIApp, door: Door) -> None:
        self.app = app
        self._door = door
        one = "/v1/models/{model}"
        self._routes: dict[str, tuple[Route, _Answer]] = {
            f"{one}/predict": (Route(f"{one}/predict"), _predict),
            f"{one}/labels": (Route(f"{one}/labels"), _labels),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass on."""
        state = scope.get("state") or {}
        found = self._routes.get(state.get("permitted") or "")
        if found is None or state.get("principal") is None or not _is_usual(scope):
            await self.app(scope, receive, send)
            return
        route, answer = found
        scope["route"] = route
        try:
            body = await _read(receive)
            if body is None:
                return  # the caller is gone
            try:
                told, more = await answer(self._door, scope["path"].split("/")[3], body, state["principal"])
            except (Unusual, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                del scope["route"]
                await self.app(scope, _again(body, receive), send)
                return
        except EverlearnError as error:
            await (await on_everlearn(Request(scope), error))(scope, receive, send)
        except HTTPException as error:
            await (await on_http(Request(scope), error))(scope, receive, send)
        else:
            state["quiet"] = True
            await _send(send, _encode(told), more)


def _is_usual(scope: Scope) -> bool:
    """Whether a request is JSON with nothing asked of it but the answer."""
    if scope["method"] != "POST" or scope.get("query_string"):
        return False
    usual = False
    for name, value in scope["headers"]:
        if name == b"content-type":
            usual = value in JSON
        elif name in (b"idempotency-key", b"content-encoding"):
            return False
    return usual


async def _read(receive: Receive) -> bytes | None:
    """The body of a request; ``None`` where its caller is gone before its end."""
    message = await receive()
    if message["type"] != "http.request":
        return None
    body: bytes = message.get("body", b"")
    if not message.get("more_body", False):
        return body
    parts = [body]
    while message.get("more_body", False):
        message = await receive()
        if message["type"] != "http.request":
            return None
        parts.append(message.get("body", b""))
    return b"".join(parts)


def _again(body: bytes, receive: Receive) -> Receive:
    """The body once more, then whatever comes after it."""
    first: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again() -> Message:
        return first.pop() if first else await receive()

    return receive_again


async def _send(send: Send, body: bytes, more: dict[str, str]) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    headers += [(name.lower().encode(), value.encode()) for name, value in more.items()]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
