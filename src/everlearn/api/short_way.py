"""The shortest way of a request: from its bytes to the bytes of its answer without a coroutine.

Most requests are alike: one caller after another with a good key sends a small JSON body to ``/predict`` or
``/labels``, and the model that answers is in memory. Such a request is answered by plain calls: one when its
last byte has come, and one when its events are stored. Both ways, this one and that of
:mod:`everlearn.api.hot`, read, answer, record and tell by the same functions.

Whatever is in any way unusual is not begun here. It takes the usual way from its beginning, which refuses
what must be refused; so nothing is refused here, and no check of that way is left out: who calls, what they
may do, how much they send, what of it is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from random import getrandbits
from time import perf_counter
from typing import Any, Final, NamedTuple, Protocol

import msgspec
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from everlearn.access.needs import met
from everlearn.access.words import Principal
from everlearn.api.auth import bearer
from everlearn.api.busy import Busy
from everlearn.api.doorkeeper import Doorkeeper
from everlearn.api.hot import JSON, Route, read_labels, read_rows
from everlearn.api.labels import check, label_events, tell
from everlearn.api.middleware import SAFE_ID, SECURITY_HEADERS, Context, header
from everlearn.api.parts import Door
from everlearn.api.permissions import Asked, Permissions
from everlearn.api.predict import Answered, new_id
from everlearn.api.predict_many import MANY
from everlearn.api.problems import on_everlearn
from everlearn.errors import EverlearnError
from everlearn.types import NewEvent, Receipt

MAX_BODY: Final = 32 * 1024
"""Bytes of a body up to which a request may go this way."""

_UNUSUAL: Final = frozenset({b"idempotency-key", b"content-encoding", b"transfer-encoding", b"expect"})
_encode = msgspec.json.Encoder().encode
_HEAD: Final = b"content-type: application/json\r\n" + b"".join(
    name + b": " + value + b"\r\n" for name, value in SECURITY_HEADERS
)


class Reply(Protocol):
    """Where an answer goes: the server's side of one request."""

    def whole(self, head: bytes, body: bytes) -> None:
        """Send an answer with status 200; ``head`` is its header lines, without the length of the body."""
        ...

    def by(self, app: ASGIApp) -> None:
        """Let an app answer the request."""
        ...


_Told = Callable[[Sequence[Receipt]], dict[str, Any]]


def _refusing(error: Exception) -> ASGIApp:
    """An app that answers by what went wrong while events were to be stored."""

    async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
        if not isinstance(error, EverlearnError):
            raise error
        await (await on_everlearn(Request(scope), error))(scope, receive, send)

    return refuse


class NotHere(Exception):
    """A request that takes the usual way."""


class _Work(NamedTuple):
    """What is to be stored for a request, and what its caller is told then."""

    events: list[NewEvent]
    told: _Told
    whole: bool = False
    flush: bool = False
    waits: bool = True


class _Begun(NamedTuple):
    """A request whose events are on their way into the log."""

    scope: Scope
    route: str
    model: str
    told: _Told
    started: float
    reply: Reply


class ShortWay:
    """Answers usual requests to the hot routes. All of it runs on the event loop's thread."""

    def __init__(
        self, door: Door, doorkeeper: Doorkeeper, permissions: Permissions, busy: Busy, limit: int
    ) -> None:
        self._door = door
        self._busy = busy
        self._doorkeeper = doorkeeper
        self._permissions = permissions
        self._limit = min(limit, MAX_BODY)
        one = "/v1/models/{model}"
        self._routes: dict[str, Callable[[str, bytes, Principal], _Work]] = {
            f"{one}/predict": self._predict,
            f"{one}/labels": self._labels,
        }

    def expects(self, scope: Scope) -> bool:
        """Whether a request may go this way, by its head alone; its body is waited for then."""
        if scope["method"] != "POST" or scope.get("query_string"):
            return False
        usual = short = False
        for name, value in scope["headers"]:
            if name == b"content-type":
                usual = value in JSON
            elif name == b"content-length":
                short = len(value) <= len(str(MAX_BODY)) and value.isdigit() and int(value) <= self._limit
            elif name in _UNUSUAL:
                return False
        return usual and short and self._asked(scope) is not None

    def begin(self, scope: Scope, body: bytes, reply: Reply) -> bool:
        """Answer a request that :meth:`expects` let in; ``False``, with nothing done, if it is unusual."""
        started = perf_counter()
        asked = self._asked(scope)
        principal = self._caller(scope)
        if asked is None or principal is None or not met(asked.need, principal, asked.model):
            return False
        model = asked.model or ""
        if len(body) > self._limit or not self._busy.has_room(model):
            return False
        self._busy.enter(model)
        try:
            work = self._routes[asked.route](model, body, principal)
            then = partial(self._end, _Begun(scope, asked.route, model, work.told, started, reply))
            if work.waits:
                self._door.writer.append_then(model, work.events, then, whole=work.whole, flush=work.flush)
            else:
                self._door.writer.post(model, work.events)
        except Exception:  # nothing is stored or answered yet: the usual way meets the same, and says it
            self._busy.leave(model)
            return False
        if not work.waits:
            then(())
        return True

    def _end(self, begun: _Begun, found: Sequence[Receipt] | Exception) -> None:
        """The events are stored, or are not: tell the caller."""
        self._busy.leave(begun.model)
        try:
            if isinstance(found, Exception):
                raise found
            text = _encode(begun.told(found))
        except Exception as error:
            begun.scope["route"] = Route(begun.route)
            begun.reply.by(Context(_refusing(error), self._door.instruments))
            return
        given = header(begun.scope, b"x-request-id")
        request_id = given if SAFE_ID.fullmatch(given) else f"{getrandbits(128):032x}"
        begun.reply.whole(b"%bx-request-id: %b\r\n" % (_HEAD, request_id.encode()), text)
        instruments, seconds = self._door.instruments, perf_counter() - begun.started
        trace_id = ""
        if instruments.tracer.on:
            facts = {"model": begun.model, "request_id": request_id, "method": "POST", "route": begun.route}
            caller = header(begun.scope, b"traceparent")
            name = f"POST {begun.route}"
            trace_id = instruments.tracer.record(name, caller, seconds, **facts, status=200)
        instruments.request("POST", begun.route, 200, seconds, trace_id)

    def _caller(self, scope: Scope) -> Principal | None:
        """Who calls, if they are known and their requests are not counted."""
        token = None if self._doorkeeper.throttle.counts else bearer(scope)
        return None if token is None else self._doorkeeper.credentials.fresh(token)

    def _asked(self, scope: Scope) -> Asked | None:
        asked = self._permissions.asked("POST", scope["path"])
        return asked if asked is not None and asked.route in self._routes else None

    def _predict(self, model: str, body: bytes, _: Principal) -> _Work:
        rows, ids, at = read_rows(body)
        served = self._door.runtime.at_hand(model)
        if served is None or len(rows) >= MANY:
            raise NotHere
        keys = ids if ids is not None else [new_id() for _ in rows]
        result = self._door.runtime.answer_now(served, rows, keys)
        if result is None:
            raise NotHere
        times = [self._door.parts.clock.now() if at is None else at] * len(rows)
        answered = Answered(served, keys, times, *result)
        durability = served.spec.durability
        if durability == "async" and ids is None:
            return _Work(answered.events(), lambda _: answered.told(), waits=False)
        whole, flush = ids is not None, durability == "sync"
        return _Work(answered.events(), answered.told, whole=whole, flush=flush)

    def _labels(self, model: str, body: bytes, caller: Principal) -> _Work:
        given = read_labels(body)
        served = self._door.runtime.at_hand(model)
        if served is None or self._door.quotas.counts(caller):
            raise NotHere
        now = self._door.parts.clock.now()
        ids = [label.id for label in given]
        values = check(served.schema, [label.value for label in given])
        times = [now if label.at is None else label.at for label in given]
        corrections = [label.correction for label in given]

        def told(receipts: Sequence[Receipt]) -> dict[str, Any]:
            self._door.instruments.labelled(receipts)
            return tell(ids, receipts)

        events = label_events(ids, values, corrections, times, caller.name)
        return _Work(events, told, flush=served.spec.durability == "sync")
