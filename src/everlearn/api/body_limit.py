"""What bodies are taken at all: of a limited size, and not compressed as a whole."""

from __future__ import annotations

from typing import Any

from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from everlearn.api.formats import UnsupportedError
from everlearn.api.middleware import header
from everlearn.api.problems import problem, problem_of
from everlearn.errors import Fault


class BodyLimit:
    """Refuses bodies over ``limit`` bytes: at once by their stated length, else while they stream in.

    A body that is compressed as a whole is refused too: nothing here says how large it would become.
    """

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self.app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on with its body counted."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        await self.app(scope, self._counted(receive), send)

    def _refusal(self, scope: Scope) -> Response | None:
        """The answer to a body that is wrong by its headers."""
        request_id = scope["state"]["request_id"]
        stated = header(scope, b"content-length")
        if stated.isdecimal() and int(stated) > self._limit:
            return problem(request_id, 413, "Content Too Large", self._detail)
        if header(scope, b"content-encoding").strip().lower() in ("", "identity"):
            return None
        detail = "A body with a Content-Encoding is not read here: send it as it is"
        error = UnsupportedError(detail, [Fault("Content-Encoding", "must be left out")])
        return problem_of(request_id, error, headers={"Accept-Encoding": "identity"})

    @property
    def _detail(self) -> str:
        return f"The body is over {self._limit} bytes: send it in parts"

    def _counted(self, receive: Receive) -> Receive:
        size = 0

        async def counted() -> Message:
            nonlocal size
            message: dict[str, Any] = dict(await receive())
            size += len(message.get("body", b""))
            if size > self._limit:
                raise HTTPException(413, self._detail)
            return message

        return counted
