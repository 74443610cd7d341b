"""JSON bodies, read strictly: what the log could not hold is refused here, with the reason."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic_core import from_json


class JsonRequest(Request):
    """A request whose JSON is read by a parser that refuses half characters (lone surrogates)."""

    async def json(self) -> Any:
        """The body as JSON values; raises ``JSONDecodeError``."""
        if not hasattr(self, "_json"):
            try:
                self._json = from_json(await self.body())
            except ValueError as error:
                raise json.JSONDecodeError(str(error), "", 0) from None
        return self._json


class JsonRoute(APIRoute):
    """A route that reads its body so."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The route's handler, called with a :class:`JsonRequest`."""
        handle = super().get_route_handler()

        async def strictly(request: Request) -> Response:
            if not isinstance(request, JsonRequest):  # one that is has read its body, perhaps
                request = JsonRequest(request.scope, request.receive)
            return await handle(request)

        return strictly
