"""Who calls: the seam where users, roles and scopes will come in.

Nothing is open by default. The middleware refuses a request before its body is read, unless its path
is one of :data:`OPEN`; the routers' dependency refuses again, should a path ever slip past the
middleware, and tells OpenAPI about the key.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from typing import Annotated, Any, Protocol

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.types import ASGIApp, Receive, Scope, Send

from everlearn.api.problems import problem_of
from everlearn.errors import InvalidError, UnauthorizedError

OPEN = frozenset({"/", "/health", "/v1/health/ready", "/docs", "/docs/oauth2-redirect", "/openapi.json"})
"""The paths that need no key."""

_HINT = "Send the header 'Authorization: Bearer KEY'; `everlearn up` printed the key and keeps it in DIR/key"


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls, and what they may do. So far there is one role: ``admin``."""

    name: str
    role: str


class Authenticator(Protocol):
    """Turns a bearer token into a principal."""

    def authenticate(self, token: str) -> Principal | None:
        """The caller that a token belongs to, or ``None``. Takes the same time for any wrong token."""
        ...


class ApiKey:
    """One key for all: compared by digest in constant time, and kept only as its digest."""

    def __init__(self, key: str) -> None:
        if not key.strip():
            raise InvalidError("The API key is empty: set EVERLEARN_API_KEY, or remove it to have one made")
        self._digest = hashlib.sha256(key.encode()).digest()

    def authenticate(self, token: str) -> Principal | None:
        """The administrator, if the token is the key."""
        same = hmac.compare_digest(hashlib.sha256(token.encode()).digest(), self._digest)
        return Principal("key", "admin") if same else None


def bearer(scope: Scope) -> str | None:
    """The token of an ``Authorization: Bearer`` header, or ``None``."""
    for name, value in scope["headers"]:
        if name == b"authorization":
            scheme, _, token = value.decode("latin-1").partition(" ")
            return token.strip() if scheme.lower() == "bearer" and token.strip() else None
    return None


class Authentication:
    """ASGI middleware: every path but the open ones needs a principal, found or not found."""

    def __init__(self, app: ASGIApp, authenticator: Authenticator) -> None:
        self.app = app
        self._authenticator = authenticator

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, or pass on with ``state.principal``."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        token = bearer(scope)
        principal = self._authenticator.authenticate(token) if token is not None else None
        state: dict[str, Any] = scope.setdefault("state", {})
        state["principal"] = principal
        if principal is None and scope["path"] not in OPEN:
            what = "The API key is missing" if token is None else "The API key is wrong"
            error = UnauthorizedError(f"{what}. {_HINT}")
            await problem_of(str(state.get("request_id", "")), error)(scope, receive, send)
            return
        await self.app(scope, receive, send)


_scheme = HTTPBearer(auto_error=False, scheme_name="key", description="The key that `everlearn up` printed.")


async def caller(
    request: Request, _: Annotated[HTTPAuthorizationCredentials | None, Depends(_scheme)]
) -> Principal:
    """The principal of a request; raises UnauthorizedError when there is none."""
    principal = request.scope.get("state", {}).get("principal")
    if not isinstance(principal, Principal):
        raise UnauthorizedError(f"The API key is missing or wrong. {_HINT}")
    return principal


Caller = Annotated[Principal, Depends(caller)]
