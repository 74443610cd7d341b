"""Users: who has an account, in which role, with which models."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from everlearn.access.names import user_name
from everlearn.access.users import User, check_grants
from everlearn.access.words import Role
from everlearn.api.body import JsonRoute
from everlearn.api.doorkeeper import Doorkeeper, TheDoorkeeper
from everlearn.api.pagination import Listing, PageWanted, listing
from everlearn.api.problems import documented
from everlearn.api.times import IsoTime, iso, iso_or_none
from everlearn.errors import NotFoundError

router = APIRouter(prefix="/v1/users", tags=["access"], route_class=JsonRoute, responses=documented(403))

_USER: dict[str, Any] = {
    "name": "ann",
    "role": "viewer",
    "grants": {"shop": "operator"},
    "state": "active",
    "created_at": "2024-05-01T12:00:00.000000Z",
}


class UserAnswer(BaseModel):
    """A user. ``state`` is active, invited (no password yet) or disabled."""

    model_config = ConfigDict(json_schema_extra={"example": _USER})
    name: str
    role: Role | None
    grants: dict[str, Role]
    state: str
    created_at: IsoTime


class InviteAnswer(BaseModel):
    """A user, and the token with which they choose a password: shown this once."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "user": {**_USER, "state": "invited"},
                "invite": "evi_4fQ...",
                "invite_until": "2024-05-04T12:00:00.000000Z",
            }
        }
    )
    user: UserAnswer
    invite: str
    invite_until: IsoTime | None


class UserBody(BaseModel):
    """A new user. Without a role and grants they may do nothing."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"name": "ann", "role": "viewer", "grants": {"shop": "operator"}}},
    )
    name: str
    role: Role | None = None
    grants: dict[str, Role] = Field(default_factory=dict, max_length=1000)


class UserChanges(BaseModel):
    """What of a user can change."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"role": "operator"}})
    role: Role | None = None
    grants: dict[str, Role] = Field(default_factory=dict, max_length=1000)
    disabled: bool = False


def shape(user: User) -> dict[str, Any]:
    """A user as the body of an answer."""
    return {
        "name": user.name,
        "role": user.role,
        "grants": dict(user.grants),
        "state": user.state,
        "created_at": iso(user.created_at),
    }


def found(keeper: Doorkeeper, name: str) -> User:
    """A user; raises NotFoundError."""
    user = keeper.store.users.find(name.lower())
    if user is None:
        raise NotFoundError(f"There is no user {name[:100]!r}: list the users to see their names")
    return user


def invited(keeper: Doorkeeper, name: str) -> dict[str, Any]:
    """Invite a user; the answer holds the token."""
    token, user = keeper.accounts.invite(name)
    keeper.credentials.forget()
    return {"user": shape(user), "invite": token, "invite_until": iso_or_none(user.invite_until)}


@router.get("", response_model=Listing[UserAnswer])
def list_users(keeper: TheDoorkeeper, page: PageWanted) -> dict[str, Any]:
    """The users, in order of their names."""
    return listing(keeper.store.users.list(page.cursor, page.limit), shape)


@router.post("", status_code=201, response_model=InviteAnswer, responses=documented(409))
def add_user(keeper: TheDoorkeeper, body: UserBody) -> dict[str, Any]:
    """Add a user. The answer holds an invitation: with it they choose a password that nobody else knows."""
    check_grants(body.grants)
    user = User(user_name(body.name), body.role, body.grants, created_at=keeper.now())
    keeper.store.users.add(user)
    return invited(keeper, user.name)


@router.get("/{name}", response_model=UserAnswer, responses=documented(404))
def get_user(name: str, keeper: TheDoorkeeper) -> dict[str, Any]:
    """One user."""
    return shape(found(keeper, name))


@router.patch("/{name}", response_model=UserAnswer, responses=documented(404, 409))
def update_user(name: str, keeper: TheDoorkeeper, changes: UserChanges) -> dict[str, Any]:
    """Change role, grants (all of them at once), or disable: at once here, within a second elsewhere."""
    check_grants(changes.grants)
    given = {field: getattr(changes, field) for field in changes.model_fields_set}
    user = keeper.store.users.replace(replace(found(keeper, name), **given))
    if user.disabled:
        keeper.store.sessions.end_all(user.name)
    keeper.credentials.forget()
    return shape(user)


@router.delete("/{name}", status_code=204, response_model=None, responses=documented(404))
def delete_user(name: str, keeper: TheDoorkeeper) -> Response:
    """Remove a user and their sessions. The audit log keeps what they did."""
    keeper.store.users.delete(found(keeper, name).name)
    keeper.credentials.forget()
    return Response(status_code=204)


@router.post("/{name}/invite", response_model=InviteAnswer, responses=documented(404, 409))
def invite_user(name: str, keeper: TheDoorkeeper) -> dict[str, Any]:
    """Invite again: the old password, sessions and invitation end at once."""
    return invited(keeper, found(keeper, name).name)
