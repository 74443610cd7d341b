"""The client's verbs about who calls, and how models do, against the API itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from everlearn.adapters.memory import ManualClock, MemoryStore
from everlearn.api.app import create_app
from everlearn.api.auth import ApiKey
from everlearn.client import AsyncClient, Client, Retries
from everlearn.errors import (
    ConflictError,
    EverlearnError,
    ForbiddenError,
    NotFoundError,
    UnauthorizedError,
    UnavailableError,
)

KEY = "k" * 32
PASSWORD = "wander-copper-lantern-42"
SPEC = {"name": "shop", "target": "y", "features": {"age": "numeric"}}

Connect = Callable[[str | None], AsyncClient]


@pytest.fixture
async def connect() -> Any:
    class Parts(MemoryStore):
        clock = ManualClock(1_700_000_000.0)

    app = create_app(Parts(), authenticator=ApiKey(KEY))
    opened: list[AsyncClient] = []

    def client(key: str | None) -> AsyncClient:
        transport = httpx.ASGITransport(app)
        opened.append(AsyncClient("http://test", key=key, transport=transport, retries=Retries(attempts=3)))
        return opened[-1]

    async with app.router.lifespan_context(app):
        yield client
        for one in opened:
            await one.aclose()


async def test_a_user_is_invited_logs_in_and_out(connect: Connect) -> None:
    admin = connect(KEY)
    added = await admin.add_user("ann", "viewer", {"shop": "operator"})
    assert added["user"]["state"] == "invited"
    tokens = await connect("none").accept_invite("ann", added["invite"], PASSWORD)
    assert set(tokens) == {"access_token", "token_type", "expires_in", "refresh_token"}
    with pytest.raises(UnauthorizedError):
        await connect("none").login("ann", "not-her-password-at-all")
    tokens = await connect("none").login("ann", PASSWORD)
    ann = connect(tokens["access_token"])
    me = await ann.me()
    assert (me["name"], me["role"], me["everywhere"]) == ("user:ann", "viewer", ["read"])
    newer = await connect("none").refresh(tokens["refresh_token"])
    with pytest.raises(UnauthorizedError):  # it works once: used again, the session ends
        await connect("none").refresh(tokens["refresh_token"])
    with pytest.raises(UnauthorizedError):
        await connect(newer["access_token"]).me()
    changed = await connect((await connect("none").login("ann", PASSWORD))["access_token"]).change_password(
        PASSWORD, "four-other-random-words"
    )
    ann = connect(changed["access_token"])
    await ann.logout()
    with pytest.raises(UnauthorizedError):
        await ann.me()


async def test_users_and_keys_are_looked_after(connect: Connect) -> None:
    admin = connect(KEY)
    await admin.create_model(SPEC)
    await admin.add_user("ann", "viewer")
    with pytest.raises(ConflictError):
        await admin.add_user("ann")
    assert [user["name"] async for user in admin.users()] == ["ann"]
    assert (await admin.update_user("ann", {"role": "operator"}))["role"] == "operator"
    assert (await admin.user("ann"))["role"] == "operator"
    assert (await admin.invite_user("ann"))["invite"].startswith("evi_")
    await admin.delete_user("ann")
    with pytest.raises(NotFoundError):
        await admin.user("ann")
    made = await admin.create_key("checkout", ["predict"], models=["shop"], labels_per_day=10)
    caller = connect(made["key"])
    assert (await caller.predict_one("shop", {"age": 3})).version == 0
    with pytest.raises(ForbiddenError):
        [key async for key in caller.keys()]  # noqa: SIM118 - a verb, and no dict
    assert (await admin.revoke_key(made["id"]))["state"] == "revoked"
    assert [key["id"] async for key in admin.keys()] == [made["id"]]  # noqa: SIM118
    page = await admin.audit_page(limit=1)
    assert (len(page["items"]), page["next"] is not None) == (1, True)
    acts = [entry["action"] async for entry in admin.audit()]
    assert "POST /v1/keys" in acts


async def test_callers_see_only_their_models(connect: Connect) -> None:
    admin = connect(KEY)
    for name in ("shop", "secret"):
        await admin.create_model({**SPEC, "name": name})
    key = (await admin.create_key("mine", ["read"], models=["shop"]))["key"]
    mine = connect(key)
    page = await mine.overview()
    assert ([card["name"] for card in page["items"]], page["total"]) == (["shop"], 1)
    for ask in ("timeline", "matrix", "maturity", "drift", "trial", "segments", "decisions_page"):
        assert isinstance(await getattr(mine, ask)("shop"), dict)
        with pytest.raises(ForbiddenError):
            await getattr(mine, ask)("secret")
        with pytest.raises(NotFoundError):
            await getattr(admin, ask)("no-such-model")
    with pytest.raises(ForbiddenError):  # to ask for work takes more than to read
        await mine.verify("shop", 1)


async def test_pages_and_filters(connect: Connect) -> None:
    admin = connect(KEY)
    await admin.create_model(SPEC)
    for ask in (admin.versions_page, admin.jobs_page, admin.decisions_page):
        page = await ask("shop", limit=1)
        assert set(page) == {"items", "next"}
    assert (await admin.decisions_page("shop", ["promote", "warn"], since=1.0, until=2.0))["items"] == []
    assert [d async for d in admin.decisions("shop", "promote")] == []


def test_what_must_not_be_done_twice_is_not_sent_twice() -> None:
    sent: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request.url.path)
        return httpx.Response(503, headers={"Retry-After": "0"})

    with Client("http://test", key=KEY, transport=httpx.MockTransport(answer)) as client:
        for act in (
            lambda: client.login("ann", PASSWORD),
            lambda: client.refresh("evr_x"),
            lambda: client.create_key("k", ["read"]),
            lambda: client.add_user("ann"),
        ):
            with pytest.raises(UnavailableError):
                act()
        assert len(sent) == 4
        with pytest.raises(EverlearnError):
            client.me()
        assert len(sent) > 5
