"""Every route × every role × every state of a credential, from the route table itself."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.routing import Mount

from everlearn.access.keys import make_key
from everlearn.access.needs import Need, met
from everlearn.access.users import User
from everlearn.access.words import SCOPES_OF, Principal, Role, Scope
from everlearn.adapters.passwords import Argon2
from everlearn.api.permissions import NEEDS, Permissions, routes_of
from everlearn.api.throttle import Rates
from everlearn.errors import InvalidError

PASSWORD = "correct horse battery"
HASHER = Argon2(memory=64, passes=1)
MODEL = "shop"
WRONG = "evl_000000000000_" + "A" * 43


@pytest.fixture
def app(make_app: Callable[..., FastAPI], place: Any) -> FastAPI:
    return make_app(access=place.store.access, hasher=HASHER, rates=Rates(wrong=1e6, burst=10**6))


@pytest.fixture
def key_for(place: Any) -> Callable[..., str]:
    """Store a key of a role, for all models or some, in some state."""

    def make(role: Role, models: list[str] | None = None, state: str = "active") -> str:
        now = place.clock.now()
        key, record = make_key(f"{role} {state}", SCOPES_OF[role], models, None, by="key", now=now)
        if state == "expired":
            record = replace(record, expires_at=now - 1)
        place.store.access.keys.add(record)
        if state == "revoked":
            place.store.access.keys.revoke(record.id, now)
        return key

    return make


@pytest.fixture
def token_for(place: Any, app: FastAPI) -> Callable[..., str]:
    """The access token of a user in a role, with grants, in some state."""

    def make(role: Role | None, grants: dict[str, Role], state: str = "active") -> str:
        keeper, users = app.state.doorkeeper, place.store.access.users
        name = f"user-{len(users.list().items)}"
        users.add(User(name, role, grants, HASHER.hash(PASSWORD)))
        token = keeper.accounts.login(name, PASSWORD, "").access
        user = users.find(name)
        if state == "disabled":
            users.replace(replace(user, disabled=True))
        elif state == "logged out":
            place.store.access.sessions.end_all(name)
        return str(token)

    return make


def calls(app: FastAPI) -> Iterator[tuple[str, str, Need]]:
    """Every method and path of the app, for the model ``shop``, with what the table says."""
    for method, _, template in routes_of(app):
        path = re.sub(r"\{[^}]*\}", "1", template.replace("{model}", MODEL))
        yield method, path, NEEDS[f"{method} {template}"]


async def refused(client: httpx.AsyncClient, method: str, path: str, token: str | None) -> int:
    """401 or 403 where access was refused, else 0. No model and no id is there, so nothing is done."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    answer = await client.request(method, path, json={"rows": "none"}, headers=headers)
    assert answer.status_code < 500, (method, path, answer.text)
    denied = answer.status_code == 401 or (answer.status_code == 403 and " may not " in answer.text)
    return answer.status_code if denied else 0


@pytest.mark.parametrize("role", Role)
async def test_every_route_lets_a_role_do_what_the_table_says(
    app: FastAPI, connect: Any, key_for: Callable[..., str], token_for: Callable[..., str], role: Role
) -> None:
    who = Principal("p", role, SCOPES_OF[role])
    for credential in (key_for(role), token_for(role, {})):
        async with connect(app, key=None) as client:
            for method, path, need in calls(app):
                if path == "/v1/auth/logout":
                    continue
                model = MODEL if MODEL in path else None
                expected = 0 if met(need, who, model) else 403
                assert await refused(client, method, path, credential) == expected, (method, path)


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("state", ["none", "wrong", "expired", "revoked", "disabled", "logged out"])
async def test_no_route_but_the_open_ones_takes_a_credential_that_is_no_longer_good(
    app: FastAPI,
    connect: Any,
    key_for: Callable[..., str],
    token_for: Callable[..., str],
    role: Role,
    state: str,
) -> None:
    if state in ("disabled", "logged out"):
        credential: str | None = token_for(role, {}, state)
    else:
        good = key_for(role, state=state if state in ("expired", "revoked") else "active")
        credential = {"none": None, "wrong": good[:17] + WRONG[17:]}.get(state, good)
    async with connect(app, key=None) as client:
        for method, path, need in calls(app):
            assert await refused(client, method, path, credential) == (0 if need.open else 401), (
                method,
                path,
            )


@pytest.mark.parametrize("role", [Role.VIEWER, Role.OPERATOR])
async def test_rights_with_another_model_open_nothing_of_this_one(
    app: FastAPI, connect: Any, key_for: Callable[..., str], token_for: Callable[..., str], role: Role
) -> None:
    who = Principal("p", role, models={"other": SCOPES_OF[role]})
    for credential in (key_for(role, models=["other"]), token_for(None, {"other": role})):
        async with connect(app, key=None) as client:
            for method, path, need in calls(app):
                if path == "/v1/auth/logout":
                    continue
                model = MODEL if MODEL in path else None
                expected = 0 if met(need, who, model) else 403
                assert await refused(client, method, path, credential) == expected, (method, path)
                if model:
                    assert expected == 403, (method, path)


@pytest.mark.parametrize(
    ("call", "viewer", "operator", "admin"),
    [
        ("GET /v1/models", True, True, True),
        ("POST /v1/models", False, True, True),
        ("DELETE /v1/models/{model}", False, False, True),
        ("POST /v1/models/{model}/predict", False, True, True),
        ("POST /v1/models/{model}/labels", False, True, True),
        ("GET /v1/models/{model}/decisions", True, True, True),
        ("POST /v1/models/{model}/rollback", False, True, True),
        ("POST /predict", False, True, True),
        ("GET /model-status", True, True, True),
        ("GET /metrics", True, True, True),
        ("GET /v1/keys", False, False, True),
        ("POST /v1/users", False, False, True),
        ("GET /v1/audit", False, False, True),
    ],
)
def test_the_table_says_what_it_should(call: str, viewer: bool, operator: bool, admin: bool) -> None:
    """The policy once more in other words: a slip in the table does not go unnoticed."""
    for role, expected in ((Role.VIEWER, viewer), (Role.OPERATOR, operator), (Role.ADMIN, admin)):
        who = Principal("p", role, SCOPES_OF[role])
        assert met(NEEDS[call], who, MODEL) == expected, role


def test_what_changes_something_is_open_to_no_reader() -> None:
    for call, need in NEEDS.items():
        if not call.startswith("GET ") and "/v1/auth/" not in call:
            assert need.scope not in (None, Scope.READ), call
            assert not need.open, call


def test_only_health_documentation_and_logging_in_are_open() -> None:
    opened = {call.partition(" ")[2] for call, need in NEEDS.items() if need.open}
    assert opened == {
        "/", "/docs", "/docs/oauth2-redirect", "/openapi.json", "/health", "/v1/health/ready",
            "/v2/health/live", "/v2/health/ready", "/ping",
        "/v1/auth/login", "/v1/auth/refresh", "/v1/auth/accept",
    }  # fmt: skip


def test_a_route_without_a_permission_fails_the_start(app: FastAPI) -> None:
    app.add_api_route("/v1/forgotten", lambda: None, methods=["GET", "POST"])
    with pytest.raises(InvalidError, match="POST /v1/forgotten names no permission: add it to NEEDS"):
        Permissions(app)


def test_what_is_no_plain_route_fails_the_start(app: FastAPI) -> None:
    app.router.routes.append(Mount("/files", routes=[]))
    with pytest.raises(InvalidError, match="/files"):
        Permissions(app)


def test_the_table_names_no_route_twice_or_in_vain(app: FastAPI) -> None:
    assert set(NEEDS) == {f"{method} {template}" for method, _, template in routes_of(app)}


@pytest.mark.parametrize(
    ("method", "path", "route", "model"),
    [
        ("GET", "/v1/models/a/predictions/x/y", "/v1/models/{model}/predictions/{prediction_id}", "a"),
        ("HEAD", "/v1/models/a", "/v1/models/{model}", "a"),
        ("POST", "/v1/models/a%2Fb/predict", "/v1/models/{model}/predict", "a%2Fb"),
    ],
)
def test_paths_find_their_route_as_the_router_does(
    app: FastAPI, method: str, path: str, route: str, model: str
) -> None:
    asked = Permissions(app).asked(method, path)
    assert asked is not None
    assert (asked.route, asked.model) == (route, model)


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/v1/models/a/"), ("PUT", "/v1/models"), ("GET", "/V1/models")]
)
def test_other_paths_find_none(app: FastAPI, method: str, path: str) -> None:
    assert Permissions(app).asked(method, path) is None


def test_what_is_remembered_of_paths_is_bounded(app: FastAPI) -> None:
    permissions = Permissions(app)
    for i in range(10_000):
        permissions.asked("GET", f"/v1/models/{i}")
    assert len(permissions._remembered) <= 4096


async def test_a_list_shows_only_what_may_be_read(
    app: FastAPI, connect: Any, key_for: Callable[..., str], spec: dict[str, Any]
) -> None:
    async with connect(app) as client:
        for name in ("shop", "bank", "other"):
            assert (await client.post("/v1/models", json={**spec, "name": name})).status_code == 201
    async with connect(app, key=key_for(Role.VIEWER, models=["shop", "absent"])) as client:
        listed = (await client.get("/v1/models")).json()["items"]
        assert [model["name"] for model in listed] == ["shop"]
        assert (await client.get("/v1/models/shop")).status_code == 200
        same = [(await client.get(f"/v1/models/{name}")).json() for name in ("bank", "nowhere")]
    assert [problem["status"] for problem in same] == [403, 403]  # whether it is there is not told
