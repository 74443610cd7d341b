"""How many requests are under way for each model: no more than allowed, so that one cannot take all."""

from __future__ import annotations

import re

from starlette.types import ASGIApp, Receive, Scope, Send

from everlearn.api.problems import problem_of
from everlearn.errors import UnavailableError

_PATH = re.compile(r"/v[12]/models/([^/]+)/")
_SHORTCUTS = ("/predict", "/invocations")


class Busy:
    """Counts the requests of each model; ``most`` is how many there may be (0: any number).

    >>> busy = Busy(most=1)
    >>> busy.enter("m"), busy.enter("m"), busy.enter("other")
    (True, False, True)
    >>> busy.leave("m")
    >>> "m" in busy, "other" in busy
    (False, True)
    """

    def __init__(self, most: int = 0) -> None:
        self.most = most
        self.refused = 0
        self._counts: dict[str, int] = {}

    def enter(self, model: str) -> bool:
        """Count a request; ``False``, and it is not counted, if there are too many."""
        if not self.has_room(model):
            self.refused += 1
            return False
        self._counts[model] = self._counts.get(model, 0) + 1
        return True

    def has_room(self, model: str) -> bool:
        """Whether another request would be let in."""
        return not 0 < self.most <= self._counts.get(model, 0)

    def leave(self, model: str) -> None:
        """It has ended."""
        count = self._counts[model] - 1
        if count:
            self._counts[model] = count
        else:
            del self._counts[model]

    def __contains__(self, model: object) -> bool:
        """Whether a request of a model is under way."""
        return model in self._counts


class ModelLimit:
    """ASGI middleware: a model that has too many requests under way gets no other before one has ended."""

    def __init__(self, app: ASGIApp, busy: Busy) -> None:
        self.app = app
        self._busy = busy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, counted while it lasts."""
        model = model_of(scope["method"], scope["path"]) if scope["type"] == "http" else None
        if model is None:
            await self.app(scope, receive, send)
            return
        if not self._busy.enter(model):
            error = UnavailableError(
                f"Model {model[:100]!r} has {self._busy.most} requests under way: come back in a second"
            )
            await problem_of(scope["state"]["request_id"], error)(scope, receive, send)
            return
        try:
            await self.app(scope, receive, send)
        finally:
            self._busy.leave(model)


def model_of(method: str, path: str) -> str | None:
    """The model that a request is work for; ``None`` for those that ask only how things are.

    >>> model_of("POST", "/v1/models/spam/predict"), model_of("POST", "/predict")
    ('spam', 'default')
    >>> model_of("GET", "/v1/models/spam/scores")
    """
    if method != "POST":
        return None
    if path in _SHORTCUTS:
        return "default"
    named = _PATH.match(path)
    return None if named is None else named[1]
