"""One's own account: log in and out, refresh, accept an invitation, change the password, who am I."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from everlearn.access.accounts import LockedOutError, ReusedError
from everlearn.access.audit import entry
from everlearn.access.sessions import Tokens
from everlearn.access.words import Scope
from everlearn.api.auth import Caller, address_of
from everlearn.api.doorkeeper import Doorkeeper, TheDoorkeeper
from everlearn.api.problems import documented, request_id_of
from everlearn.api.secret_bodies import body_of, read_small
from everlearn.api.throttle import too_many
from everlearn.api.times import IsoTime, iso_or_none
from everlearn.errors import EverlearnError, ForbiddenError, UnauthorizedError

open_ = APIRouter(prefix="/v1/auth", tags=["access"], responses=documented(401, 408, 413, 415, 422, 429, 503))
own = APIRouter(prefix="/v1/auth", tags=["access"])

_TOO_MANY_WRONG = "Too many wrong credentials from this address"

Text = Annotated[str, Field(min_length=1, max_length=1024)]


class LoginBody(BaseModel):
    """The password grant of OAuth 2.0."""

    grant_type: Literal["password"] = "password"
    username: Text
    password: Text


class RefreshBody(BaseModel):
    """The newest refresh token."""

    grant_type: Literal["refresh_token"] = "refresh_token"
    refresh_token: Text


class AcceptBody(BaseModel):
    """An invitation, and the password that the user chose."""

    model_config = ConfigDict(extra="forbid")
    name: Text
    invite: Text
    password: Text


class PasswordBody(BaseModel):
    """The old password and the new one."""

    model_config = ConfigDict(extra="forbid")
    old: Text
    new: Text


class TokenAnswer(BaseModel):
    """What a login gives. Send ``access_token`` as the bearer token; trade ``refresh_token`` for the next."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "access_token": "eyJhbGciOiJIUzI1NiIs...",
                "token_type": "bearer",
                "expires_in": 900,
                "refresh_token": "evr_...",
            }
        }
    )
    access_token: str
    token_type: Literal["bearer"]
    expires_in: int
    refresh_token: str


class MeAnswer(BaseModel):
    """Who calls, and what they may do: everywhere, and with single models."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "name": "user:ann",
                "role": "viewer",
                "everywhere": ["read"],
                "models": {"shop": ["label", "operate", "predict", "read"]},
                "expires_at": "2024-05-01T12:00:00.000000Z",
            }
        }
    )
    name: str
    role: str
    everywhere: list[Scope]
    models: dict[str, list[Scope]]
    expires_at: IsoTime | None


def _answer(tokens: Tokens) -> TokenAnswer:
    return TokenAnswer(
        access_token=tokens.access,
        token_type="bearer",  # noqa: S106 - the kind of token
        expires_in=int(tokens.expires_in),
        refresh_token=tokens.refresh,
    )


@open_.post(
    "/login",
    response_model=TokenAnswer,
    openapi_extra=body_of(LoginBody, {"username": "ann", "password": "correct horse battery"}, form=True),
)
async def login(request: Request, keeper: TheDoorkeeper) -> Any:
    """Log in with name and password (OAuth 2.0 password flow; a form or JSON)."""
    body = await read_small(request, LoginBody)
    accounts, address = keeper.accounts, address_of(request.scope)
    attempt = partial(accounts.login, body.username, body.password, address)
    return await _tried(request, keeper, "login", body.username, attempt)


@open_.post(
    "/refresh",
    response_model=TokenAnswer,
    openapi_extra=body_of(RefreshBody, {"refresh_token": "evr_..."}, form=True),
)
async def refresh(request: Request, keeper: TheDoorkeeper) -> Any:
    """Trade a refresh token for new tokens. It works once: used again, the whole session ends."""
    body = await read_small(request, RefreshBody)
    address = address_of(request.scope)
    if wait := keeper.throttle.blocked(address, keeper.now()):
        return too_many(request_id_of(request), wait, _TOO_MANY_WRONG)
    try:
        _, tokens = await run_in_threadpool(keeper.accounts.refresh, body.refresh_token)
    except ReusedError as error:
        keeper.credentials.forget()
        await note(
            request, keeper, f"user:{error.user}", "reused refresh token", "session ended", error.status
        )
        raise
    except UnauthorizedError:
        keeper.throttle.wrong(address, keeper.now())
        raise
    return _answer(tokens)


@open_.post(
    "/accept",
    response_model=TokenAnswer,
    openapi_extra=body_of(
        AcceptBody, {"name": "ann", "invite": "evi_4fQ...", "password": "correct horse battery"}
    ),
)
async def accept(request: Request, keeper: TheDoorkeeper) -> Any:
    """Choose a password by an invitation, and log in. An invitation works once."""
    body = await read_small(request, AcceptBody)
    attempt = partial(keeper.accounts.accept, body.name, body.invite, body.password)
    return await _tried(request, keeper, "accept invitation", body.name, attempt)


@own.post("/logout", status_code=204, response_model=None, responses=documented(403))
async def logout(request: Request, caller: Caller, keeper: TheDoorkeeper) -> Response:
    """End this login: its access and refresh tokens are worth nothing from now on."""
    if caller.session is None:
        raise ForbiddenError("This is an API key, not a login: DELETE /v1/keys/{id} revokes it")
    await run_in_threadpool(keeper.accounts.logout, caller.session)
    keeper.credentials.forget()
    await note(request, keeper, caller.name, "logout", "own session", 204)
    return Response(status_code=204)


@own.post(
    "/password",
    response_model=TokenAnswer,
    responses=documented(403, 408, 422),
    openapi_extra=body_of(PasswordBody, {"old": "correct horse battery", "new": "four other random words"}),
)
async def change_password(request: Request, caller: Caller, keeper: TheDoorkeeper) -> Any:
    """Change one's password. All sessions end; the answer begins a new one."""
    body = await read_small(request, PasswordBody)
    if caller.session is None:
        raise ForbiddenError("This is an API key and has no password: log in to change yours")
    name = caller.name.removeprefix("user:")
    attempt = partial(keeper.accounts.change_password, name, body.old, body.new)
    answer = await _tried(request, keeper, "change password", name, attempt)
    keeper.credentials.forget()
    return answer


@own.get("/me", response_model=MeAnswer)
async def me(caller: Caller) -> MeAnswer:
    """Who the caller is, and what they may do."""
    return MeAnswer(
        name=caller.name,
        role=caller.role,
        everywhere=sorted(caller.everywhere),
        models={model: sorted(scopes) for model, scopes in caller.models.items()},
        expires_at=iso_or_none(caller.expires),
    )


async def _tried(
    request: Request, keeper: Doorkeeper, action: str, name: str, attempt: Callable[[], Tokens]
) -> TokenAnswer | Response:
    """The tokens of an attempt; whatever comes of it stands in the audit log."""
    address = address_of(request.scope)
    if wait := keeper.throttle.blocked(address, keeper.now()):
        return too_many(request_id_of(request), wait, _TOO_MANY_WRONG)
    try:
        tokens = await keeper.turns.take(attempt)
    except EverlearnError as error:
        if isinstance(error, UnauthorizedError):
            keeper.throttle.wrong(address, keeper.now())
        if keeper.may_note(f"address {address}"):
            await note(request, keeper, f"user:{name}", action, "own account", error.status)
        if isinstance(error, LockedOutError):
            return too_many(request_id_of(request), error.wait, "Too many failed logins")
        raise
    await note(request, keeper, f"user:{name.lower()}", action, "own account", 200)
    return _answer(tokens)


async def note(request: Request, keeper: Doorkeeper, who: str, action: str, target: str, result: int) -> None:
    """Write an act into the audit log."""
    where = address_of(request.scope)
    act = entry(keeper.now(), who, action, target, result, where, request_id_of(request))
    await run_in_threadpool(keeper.audit.add, act)
