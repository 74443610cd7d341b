"""What every route needs. A route that is not named here keeps the API from starting.

The table is the whole policy: it is checked against the routes when the app is made, the middleware asks
it before a request's body is read, and the routers' dependency asks again that it was asked.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from starlette.routing import compile_path

from everlearn.access.needs import Need, On
from everlearn.access.words import Scope
from everlearn.errors import Fault, InvalidError

_OPEN = Need(open=True)
_SELF = Need(None)
_PREDICT = Need(Scope.PREDICT)
_LABEL = Need(Scope.LABEL)
_READ = Need(Scope.READ)
_OPERATE = Need(Scope.OPERATE)
_ADMIN = Need(Scope.ADMIN, On.ALL)
_DEFAULT = "default"
_ONE = "/v1/models/{model}"
_TWO = "/v2/models/{model}"

NEEDS: Final[Mapping[str, Need]] = {
    # open to all
    "GET /": _OPEN,
    "GET /docs": _OPEN,
    "GET /docs/oauth2-redirect": _OPEN,
    "GET /openapi.json": _OPEN,
    "GET /health": _OPEN,
    "GET /v1/health/ready": _OPEN,
    "GET /v2/health/live": _OPEN,
    "GET /v2/health/ready": _OPEN,
    "GET /ping": _OPEN,
    "POST /v1/auth/login": _OPEN,
    "POST /v1/auth/refresh": _OPEN,
    "POST /v1/auth/accept": _OPEN,
    # one's own account
    "GET /v1/auth/me": _SELF,
    "POST /v1/auth/logout": _SELF,
    "POST /v1/auth/password": _SELF,
    # models
    "GET /v1/models": Need(Scope.READ, On.SOME),
    "POST /v1/models": Need(Scope.OPERATE, On.ALL),
    f"GET {_ONE}": _READ,
    f"PATCH {_ONE}": _OPERATE,
    f"DELETE {_ONE}": Need(Scope.ADMIN),
    f"POST {_ONE}/predict": _PREDICT,
    f"POST {_ONE}/labels": _LABEL,
    f"POST {_ONE}/examples": _LABEL,
    f"GET {_ONE}/predictions/{{prediction_id}}": _READ,
    f"GET {_ONE}/frames": _READ,
    f"POST {_ONE}/frames": _PREDICT,
    f"POST {_ONE}/frames/{{frame_id}}/boxes": _LABEL,
    f"GET {_ONE}/frames/{{frame_id}}": _READ,
    f"GET {_ONE}/frames/{{frame_id}}/image": _READ,
    f"GET {_ONE}/frames/{{frame_id}}/annotated": _READ,
    f"GET {_ONE}/stream": _PREDICT,
    f"GET {_ONE}/scores": _READ,
    "GET /v1/overview": Need(Scope.READ, On.SOME),
    f"GET {_ONE}/timeline": _READ,
    f"GET {_ONE}/matrix": _READ,
    f"GET {_ONE}/maturity": _READ,
    f"GET {_ONE}/drift": _READ,
    f"GET {_ONE}/trial": _READ,
    f"GET {_ONE}/segments": _READ,
    f"GET {_ONE}/versions": _READ,
    f"GET {_ONE}/versions/{{version}}": _READ,
    f"GET {_ONE}/champion": _READ,
    f"GET {_ONE}/fresh": _READ,
    f"GET {_ONE}/decisions": _READ,
    f"GET {_ONE}/decisions/{{number}}/why": _READ,
    f"POST {_ONE}/decisions/{{number}}/verify": _OPERATE,
    f"GET {_ONE}/verifications/{{verification}}": _READ,
    f"GET {_ONE}/jobs": _READ,
    f"GET {_ONE}/jobs/{{job_id}}": _READ,
    f"POST {_ONE}/jobs/{{job_id}}/cancel": _OPERATE,
    f"POST {_ONE}/jobs/{{job_id}}/retry": _OPERATE,
    f"POST {_ONE}/what-if": _OPERATE,
    f"GET {_ONE}/what-if/{{group}}": _READ,
    f"POST {_ONE}/what-if/{{group}}/cancel": _OPERATE,
    f"POST {_ONE}/backfills": _OPERATE,
    f"GET {_ONE}/backfills/{{group}}": _READ,
    f"GET {_ONE}/backfills/{{group}}/rows": _READ,
    f"POST {_ONE}/backfills/{{group}}/cancel": _OPERATE,
    f"POST {_ONE}/versions/{{version}}/promote": _OPERATE,
    f"POST {_ONE}/rollback": _OPERATE,
    f"POST {_ONE}/freeze": _OPERATE,
    f"POST {_ONE}/unfreeze": _OPERATE,
    f"POST {_ONE}/retrain": _OPERATE,
    f"GET {_ONE}/sources": _READ,
    f"POST {_ONE}/sources/{{source}}/quarantine": _OPERATE,
    f"POST {_ONE}/sources/{{source}}/release": _OPERATE,
    f"POST {_ONE}/sources/{{source}}/unlearn": _OPERATE,
    f"DELETE {_ONE}/subjects/{{subject}}": Need(Scope.ADMIN),
    f"GET {_ONE}/erasures": _READ,
    f"GET {_ONE}/erasures/{{erasure}}": _READ,
    # the first names, which work on the model called default
    "GET /model-status": Need(Scope.READ, _DEFAULT),
    "POST /generate": Need(Scope.OPERATE, _DEFAULT),
    "POST /predict": Need(Scope.PREDICT, _DEFAULT),
    "POST /retrain": Need(Scope.OPERATE, _DEFAULT),
    # the protocols of other servers
    "GET /v2": _SELF,
    f"GET {_TWO}": _PREDICT,
    f"GET {_TWO}/ready": _PREDICT,
    f"POST {_TWO}/infer": _PREDICT,
    f"GET {_TWO}/versions/{{version}}": _PREDICT,
    f"GET {_TWO}/versions/{{version}}/ready": _PREDICT,
    f"POST {_TWO}/versions/{{version}}/infer": _PREDICT,
    "GET /version": _SELF,
    "POST /invocations": Need(Scope.PREDICT, _DEFAULT),
    # the installation
    "GET /metrics": Need(Scope.READ, On.ALL),
    "GET /v1/keys": _ADMIN,
    "POST /v1/keys": _ADMIN,
    "DELETE /v1/keys/{key_id}": _ADMIN,
    "GET /v1/users": _ADMIN,
    "POST /v1/users": _ADMIN,
    "GET /v1/users/{name}": _ADMIN,
    "PATCH /v1/users/{name}": _ADMIN,
    "DELETE /v1/users/{name}": _ADMIN,
    "POST /v1/users/{name}/invite": _ADMIN,
    "GET /v1/audit": _ADMIN,
}

_MOST_REMEMBERED = 4096


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request asks for: the route's template, what it needs, and the model in its path."""

    route: str
    need: Need
    model: str | None


def routes_of(app: FastAPI) -> Iterator[tuple[str, str, str]]:
    """Every method, path and path template of an app; ``HEAD`` comes with its ``GET``.

    Raises InvalidError for what is no plain route (a mount, a web socket): it could not be guarded here.
    """
    for route in iter_route_contexts(app.router.routes):
        methods: set[str] | None = route.methods
        path, template = route.path, route.path_format
        if not methods or path is None or template is None:
            raise InvalidError(f"{path or route.name}: is no plain route, so nothing says who may use it")
        for method in sorted(methods - {"HEAD"}):
            yield method, path, template


class Permissions:
    """The table, compiled for the routes of one app. Raises InvalidError if it lacks one of them."""

    def __init__(self, app: FastAPI, needs: Mapping[str, Need] = NEEDS) -> None:
        found = list(routes_of(app))
        missing = [
            f"{method} {template}" for method, _, template in found if f"{method} {template}" not in needs
        ]
        if missing:
            message = "names no permission: add it to NEEDS in everlearn/api/permissions.py"
            faults = [Fault(name, message) for name in missing]
            raise InvalidError("; ".join(f"{name} {message}" for name in missing), faults)
        self._routes: list[tuple[str, re.Pattern[str], str, Need]] = [
            (method, compile_path(path)[0], template, needs[f"{method} {template}"])
            for method, path, template in found
        ]
        self._remembered: dict[tuple[str, str], Asked | None] = {}

    def asked(self, method: str, path: str) -> Asked | None:
        """What a request asks for, or ``None`` where no route is."""
        place = (method, path)
        if place in self._remembered:
            return self._remembered[place]
        found = self._match("GET" if method == "HEAD" else method, path)
        if len(self._remembered) >= _MOST_REMEMBERED:
            self._remembered.clear()
        self._remembered[place] = found
        return found

    def _match(self, method: str, path: str) -> Asked | None:
        for wanted, pattern, template, need in self._routes:
            if wanted == method and (match := pattern.match(path)):
                groups: dict[str, Any] = match.groupdict()
                return Asked(template, need, groups.get("model"))
        return None
