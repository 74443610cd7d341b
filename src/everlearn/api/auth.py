"""Who calls, and whether they may: asked before a request's body is read.

Nothing is open by default. The middleware refuses a request unless its route is open or its caller meets
what :data:`everlearn.api.permissions.NEEDS` says of it; the routers' dependency refuses again, should a
request ever reach a route by another way, and tells OpenAPI about the key.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from loguru import logger
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from everlearn.access.audit import entry
from everlearn.access.needs import denied, met, permit
from everlearn.access.words import Principal, administrator
from everlearn.access.words import Scope as Permission
from everlearn.api.credentials import Authenticator
from everlearn.api.doorkeeper import Doorkeeper
from everlearn.api.middleware import template_of
from everlearn.api.permissions import NEEDS, Asked, Permissions
from everlearn.api.problems import problem_of
from everlearn.api.throttle import too_many
from everlearn.errors import EverlearnError, ForbiddenError, InvalidError, UnauthorizedError

__all__ = ["OPEN", "ApiKey", "Authentication", "Authenticator", "Caller", "Principal", "allow", "caller"]

OPEN = frozenset(name.partition(" ")[2] for name, need in NEEDS.items() if need.open)
"""The paths that need no credential."""

_HINT = "Send the header 'Authorization: Bearer KEY'; `everlearn up` printed the key and keeps it in DIR/key"


class ApiKey:
    """The installation's own key: an administrator. Compared in constant time, kept only as its digest."""

    def __init__(self, key: str) -> None:
        if not key.strip():
            raise InvalidError("The API key is empty: set EVERLEARN_API_KEY, or remove it to have one made")
        self._digest = hashlib.sha256(key.encode()).digest()

    def authenticate(self, token: str) -> Principal | None:
        """The administrator, if the token is the key."""
        same = hmac.compare_digest(hashlib.sha256(token.encode()).digest(), self._digest)
        return administrator("key") if same else None


def bearer(scope: Scope) -> str | None:
    """The token of the one ``Authorization: Bearer`` header; of two, a proxy may read the other."""
    found = [value for name, value in scope["headers"] if name == b"authorization"]
    if len(found) != 1:
        return None
    scheme, _, token = found[0].decode("latin-1").partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token.strip() else None


def address_of(scope: Scope) -> str:
    """Where a request comes from, as far as the server knows."""
    client = scope.get("client")
    return str(client[0]) if client else ""


class Authentication:
    """ASGI middleware: every path but the open ones needs a principal who may use it, found or not found."""

    def __init__(self, app: ASGIApp, doorkeeper: Doorkeeper, permissions: Permissions) -> None:
        self.app = app
        self._doorkeeper = doorkeeper
        self._permissions = permissions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, or pass on with ``state.principal`` and ``state.permitted``."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        state: dict[str, Any] = scope.setdefault("state", {})
        state["principal"] = state["permitted"] = None
        asked = self._permissions.asked(scope["method"], scope["path"])
        state["asked"] = None if asked is None else asked.route
        if asked is not None and asked.need.open:
            state["permitted"] = asked.route
            await self.app(scope, receive, send)
            return
        token = bearer(scope)
        principal = self._doorkeeper.credentials.fresh(token) if token is not None else None
        if principal is None:
            refusal, principal = await self._identify(
                token, address_of(scope), str(state.get("request_id", ""))
            )
            if refusal is not None:
                await refusal(scope, receive, send)
                return
        assert principal is not None
        state["principal"] = principal
        await self._admit(asked, principal, scope, receive, send)

    async def _identify(
        self, token: str | None, address: str, request_id: str
    ) -> tuple[Response | None, Principal | None]:
        """The caller by a token that was not seen lately, or the answer that refuses it."""
        keeper = self._doorkeeper
        if token is None:
            return problem_of(request_id, UnauthorizedError(f"The API key is missing. {_HINT}")), None
        wait = 0.0 if keeper.credentials.knows(token) else keeper.throttle.blocked(address, keeper.now())
        if wait:
            return too_many(request_id, wait, "Too many wrong credentials from this address"), None
        try:
            principal = await keeper.credentials.check(token)
        except EverlearnError as error:
            return problem_of(request_id, error), None
        if principal is None:
            keeper.throttle.wrong(address, keeper.now())
            what = "access token" if token.count(".") == 2 else "API key"
            wrong = UnauthorizedError(f"The {what} is wrong, has expired or was revoked. {_HINT}")
            return problem_of(request_id, wrong), None
        return None, principal

    async def _admit(
        self, asked: Asked | None, principal: Principal, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Pass on what a known caller asks for, if they may and do not ask too often."""
        state = scope["state"]
        keeper = self._doorkeeper
        standing = keeper.throttle.of_caller(principal.name, keeper.now())
        if standing is not None:
            send = _with_headers(send, keeper.throttle.headers(standing))
            if standing.wait:
                answer = too_many(
                    state["request_id"], standing.wait, "Too many requests with this credential"
                )
                await answer(scope, receive, send)
                return
        if asked is not None:
            if asked.need.privileged and scope["method"] not in ("GET", "HEAD"):
                send = self._audited(asked, principal, scope, send)
            if not met(asked.need, principal, asked.model):
                assert asked.need.scope is not None
                model = asked.need.on if isinstance(asked.need.on, str) else asked.model
                error = denied(principal, asked.need.scope, model)
                await problem_of(state["request_id"], error)(scope, receive, send)
                return
            state["permitted"] = asked.route
        await self.app(scope, receive, send)

    def _audited(self, asked: Asked, principal: Principal, scope: Scope, send: Send) -> Send:
        """Write the act into the audit log before its answer is sent."""
        keeper = self._doorkeeper

        async def audited(message: Message) -> None:
            if message["type"] == "http.response.start":
                status, action = int(message["status"]), f"{scope['method']} {asked.route}"
                where, request_id = address_of(scope), scope["state"]["request_id"]
                act = entry(keeper.now(), principal.name, action, scope["path"], status, where, request_id)
                # Refusals are written only so often: a caller without rights must not fill the disk.
                if status != ForbiddenError.status or keeper.may_note(principal.name):
                    try:
                        await run_in_threadpool(keeper.audit.add, act)
                    except EverlearnError as error:
                        logger.error("The audit log cannot be written: {}. Lost: {}", error.detail, act)
            await send(message)

        return audited


def _with_headers(send: Send, more: list[tuple[bytes, bytes]]) -> Send:
    async def told(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), *more]
        await send(message)

    return told


_scheme = HTTPBearer(
    auto_error=False,
    scheme_name="key",
    description="An API key (`everlearn up` printed one), or the access token of a login.",
)


async def caller(
    request: Request, _: Annotated[HTTPAuthorizationCredentials | None, Depends(_scheme)]
) -> Principal:
    """The principal of a request who may use its route.

    Raises UnauthorizedError when there is none, ForbiddenError when nobody asked whether they may.
    """
    state = request.scope.get("state", {})
    principal = state.get("principal")
    if not isinstance(principal, Principal):
        raise UnauthorizedError(f"The API key is missing or wrong. {_HINT}")
    if state.get("permitted") != template_of(request.scope):
        raise ForbiddenError("Nothing says who may use this route, so nobody may")
    return principal


Caller = Annotated[Principal, Depends(caller)]


def allow(request: Request, permission: Permission, model: str | None) -> None:
    """Raise ForbiddenError unless the caller may do this with a model that the body or query names."""
    principal = request.scope.get("state", {}).get("principal")
    if not isinstance(principal, Principal):
        raise UnauthorizedError(f"The API key is missing or wrong. {_HINT}")
    permit(principal, permission, model)
