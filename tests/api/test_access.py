"""Keys, users, logins, limits and the audit log over HTTP."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from everlearn.adapters.passwords import Argon2
from everlearn.adapters.tokens import Hs256
from everlearn.api.doorkeeper import Turns
from everlearn.api.throttle import Rates
from everlearn.errors import UnavailableError

PASSWORD = "correct horse battery"
SECRET = "a-signing-secret-of-the-tests-0123456789"


@pytest.fixture
def app(make_app: Callable[..., FastAPI], place: Any) -> FastAPI:
    return make_app(access=place.store.access, hasher=Argon2(memory=64, passes=1), signer=Hs256([SECRET]))


@pytest.fixture
async def admin(app: FastAPI, connect: Any) -> AsyncIterator[httpx.AsyncClient]:
    async with connect(app) as client:
        yield client


def bearing(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def new_key(admin: httpx.AsyncClient, **changes: Any) -> dict[str, Any]:
    body = {"name": "a test", "scopes": ["read"], **changes}
    answer = await admin.post("/v1/keys", json=body)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def new_user(admin: httpx.AsyncClient, name: str = "ann", **changes: Any) -> dict[str, Any]:
    """Add a user who accepts the invitation; the tokens of that first login."""
    made = await admin.post("/v1/users", json={"name": name, **changes})
    assert made.status_code == 201, made.text
    body = {"name": name, "invite": made.json()["invite"], "password": PASSWORD}
    answer = await admin.post("/v1/auth/accept", json=body)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def status(client: httpx.AsyncClient, token: str, path: str = "/v1/models") -> int:
    return (await client.get(path, headers=bearing(token))).status_code


# Keys


async def test_a_key_is_shown_once_and_works_until_it_is_revoked(admin: httpx.AsyncClient) -> None:
    made = await new_key(admin, models=["shop"])
    key = made.pop("key")
    assert await status(admin, key) == 200
    listed = await admin.get("/v1/keys")
    assert [{**item, "used_at": None} for item in listed.json()["items"]] == [made]
    assert key[20:] not in listed.text
    assert (await admin.delete(f"/v1/keys/{made['id']}")).json()["state"] == "revoked"
    assert await status(admin, key) == 401
    assert (await admin.delete("/v1/keys/absent")).status_code == 404


async def test_a_key_ends_when_it_expires(admin: httpx.AsyncClient, place: Any) -> None:
    key = (await new_key(admin, expires_at=place.clock.now() + 100))["key"]
    place.clock.advance(99.9)
    assert await status(admin, key) == 200
    place.clock.advance(0.1)
    assert await status(admin, key) == 401


async def test_revoked_elsewhere_it_works_no_longer_than_a_second(
    admin: httpx.AsyncClient, place: Any
) -> None:
    made = await new_key(admin)
    assert await status(admin, made["key"]) == 200
    place.store.access.keys.revoke(made["id"], place.clock.now())
    place.clock.advance(1.0)
    assert await status(admin, made["key"]) == 401


async def test_within_a_second_the_store_is_not_asked_again(
    admin: httpx.AsyncClient, place: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = (await new_key(admin))["key"]
    assert await status(admin, key) == 200
    asked: list[str] = []
    find = place.store.access.keys.find
    monkeypatch.setattr(place.store.access.keys, "find", lambda i: asked.append(i) or find(i))
    for _ in range(5):
        assert await status(admin, key) == 200
    assert asked == []
    place.clock.advance(0.7)  # in the second half it is renewed, beside the request
    assert await status(admin, key) == 200
    for _ in range(100):
        await asyncio.sleep(0.01)
        if asked:
            break
    assert len(asked) == 1
    place.clock.advance(0.7)
    assert await status(admin, key) == 200


async def test_when_a_key_was_used_is_written_beside_the_answer(admin: httpx.AsyncClient) -> None:
    key = (await new_key(admin))["key"]
    await status(admin, key)
    for _ in range(100):
        listed = (await admin.get("/v1/keys")).json()["items"]
        if listed[0]["used_at"]:
            break
        await asyncio.sleep(0.01)
    assert listed[0]["used_at"].startswith("2023-11-14T22:13:20")


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("scopes", {"scopes": []}),
        ("scopes[0]", {"scopes": ["root"]}),
        ("models", {"scopes": ["admin"], "models": ["shop"]}),
        ("name", {"name": "two\r\nlines"}),
        ("expires_at", {"expires_at": 1}),
        ("rate", {"rate": 1}),
    ],
)
async def test_a_key_that_cannot_be_is_refused_by_field(
    admin: httpx.AsyncClient, field: str, changes: dict[str, Any]
) -> None:
    answer = await admin.post("/v1/keys", json={"name": "x", "scopes": ["read"], **changes})
    assert answer.status_code == 422
    assert [fault["field"] for fault in answer.json()["errors"]] == [field]


async def test_a_store_that_is_down_is_503_and_no_wrong_key(
    admin: httpx.AsyncClient, place: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = (await new_key(admin))["key"]

    def down(_: str) -> None:
        raise UnavailableError("The database does not answer")

    monkeypatch.setattr(place.store.access.keys, "find", down)
    assert await status(admin, key) == 503


# Users and logins


async def test_a_user_is_invited_chooses_a_password_and_logs_in(admin: httpx.AsyncClient) -> None:
    await new_user(admin, role="viewer", grants={"shop": "operator"})
    form = {"grant_type": "password", "username": "Ann", "password": PASSWORD}
    answer = await admin.post("/v1/auth/login", data=form)
    assert answer.headers["cache-control"] == "no-store"
    tokens = answer.json()
    assert (tokens["token_type"], tokens["expires_in"]) == ("bearer", 900)
    me = (await admin.get("/v1/auth/me", headers=bearing(tokens["access_token"]))).json()
    assert (me["name"], me["role"], me["everywhere"]) == ("user:ann", "viewer", ["read"])
    assert me["models"] == {"shop": ["label", "operate", "predict", "read"]}
    assert (await admin.get("/v1/users/ann")).json()["state"] == "active"
    assert "hash" not in (await admin.get("/v1/users")).text


async def test_an_unknown_name_and_a_wrong_password_get_the_same_answer(admin: httpx.AsyncClient) -> None:
    await new_user(admin)
    answers = []
    for name in ("ann", "nobody"):
        answer = await admin.post("/v1/auth/login", json={"username": name, "password": "wrong"})
        answers.append((answer.status_code, {**answer.json(), "request_id": ""}))
    assert answers[0] == answers[1]
    assert answers[0][0] == 401


async def test_a_lock_out_says_when_to_come_back(admin: httpx.AsyncClient, place: Any) -> None:
    await new_user(admin)
    for _ in range(5):
        await admin.post("/v1/auth/login", json={"username": "ann", "password": "wrong"})
    good = {"username": "ann", "password": PASSWORD}
    answer = await admin.post("/v1/auth/login", json=good)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "5")
    assert answer.headers["content-type"] == "application/problem+json"
    place.clock.advance(5)
    assert (await admin.post("/v1/auth/login", json=good)).status_code == 200


async def test_a_refresh_token_rotates_and_its_reuse_ends_the_session(admin: httpx.AsyncClient) -> None:
    first = await new_user(admin)
    second = (await admin.post("/v1/auth/refresh", json={"refresh_token": first["refresh_token"]})).json()
    assert await status(admin, second["access_token"], "/v1/auth/me") == 200
    form = {"grant_type": "refresh_token", "refresh_token": first["refresh_token"]}
    assert (await admin.post("/v1/auth/refresh", data=form)).status_code == 401
    assert await status(admin, second["access_token"], "/v1/auth/me") == 401
    again = await admin.post("/v1/auth/refresh", json={"refresh_token": second["refresh_token"]})
    assert again.status_code == 401
    audit = (await admin.get("/v1/audit")).json()["items"]
    assert ("user:ann", "reused refresh token") in {(item["who"], item["action"]) for item in audit}


async def test_logout_and_a_new_password_end_what_was(admin: httpx.AsyncClient) -> None:
    first = await new_user(admin)
    assert (await admin.post("/v1/auth/logout", headers=bearing(first["access_token"]))).status_code == 204
    assert await status(admin, first["access_token"], "/v1/auth/me") == 401
    second = (await admin.post("/v1/auth/login", json={"username": "ann", "password": PASSWORD})).json()
    body = {"old": PASSWORD, "new": "four other random words"}
    third = await admin.post("/v1/auth/password", json=body, headers=bearing(second["access_token"]))
    assert third.status_code == 200
    assert await status(admin, second["access_token"], "/v1/auth/me") == 401
    assert await status(admin, third.json()["access_token"], "/v1/auth/me") == 200


@pytest.mark.parametrize("path", ["/v1/auth/logout", "/v1/auth/password"])
async def test_a_key_has_no_session_and_no_password(admin: httpx.AsyncClient, path: str) -> None:
    answer = await admin.post(path, json={"old": "x", "new": "y"})
    assert (answer.status_code, answer.json()["type"]) == (403, "/errors/forbidden")


async def test_changes_of_a_user_count_at_once(admin: httpx.AsyncClient) -> None:
    token = (await new_user(admin, role="viewer"))["access_token"]
    assert await status(admin, token) == 200
    await admin.patch("/v1/users/ann", json={"role": None})
    assert await status(admin, token) == 403
    await admin.patch("/v1/users/ann", json={"grants": {"shop": "viewer"}})
    assert await status(admin, token) == 200
    assert (await admin.patch("/v1/users/ann", json={"disabled": True})).json()["state"] == "disabled"
    assert await status(admin, token) == 401
    await admin.patch("/v1/users/ann", json={"disabled": False})
    assert await status(admin, token) == 401  # the session has ended
    assert (await admin.delete("/v1/users/ann")).status_code == 204
    assert (await admin.get("/v1/users/ann")).status_code == 404


async def test_a_new_invitation_ends_password_and_sessions(admin: httpx.AsyncClient) -> None:
    token = (await new_user(admin))["access_token"]
    invite = (await admin.post("/v1/users/ann/invite")).json()["invite"]
    assert await status(admin, token, "/v1/auth/me") == 401
    good = {"username": "ann", "password": PASSWORD}
    assert (await admin.post("/v1/auth/login", json=good)).status_code == 401
    body = {"name": "ann", "invite": invite, "password": PASSWORD}
    assert (await admin.post("/v1/auth/accept", json=body)).status_code == 200
    assert (await admin.post("/v1/auth/accept", json=body)).status_code == 401


@pytest.mark.parametrize(
    ("field", "body"),
    [
        ("name", {"name": "a\r\nSet-Cookie: x=y"}),
        ("role", {"name": "ann", "role": "root"}),
        ("grants.shop", {"name": "ann", "grants": {"shop": "admin"}}),
        ("password", {"name": "ann", "password": PASSWORD}),
    ],
)
async def test_a_user_that_cannot_be_is_refused_by_field(
    admin: httpx.AsyncClient, field: str, body: dict[str, Any]
) -> None:
    answer = await admin.post("/v1/users", json=body)
    assert answer.status_code == 422
    assert [fault["field"] for fault in answer.json()["errors"]] == [field]


async def test_nothing_that_was_sent_to_log_in_comes_back(admin: httpx.AsyncClient) -> None:
    for body in (b'{"username": 7, "password": "to-be-kept-secret"}', b"password=to-be-kept-secret", b"\xff"):
        for kind in ("application/json", "application/x-www-form-urlencoded"):
            answer = await admin.post("/v1/auth/login", content=body, headers={"Content-Type": kind})
            assert answer.status_code == 422, (body, kind)
            assert "to-be-kept-secret" not in answer.text


async def test_who_is_not_known_yet_can_send_little(admin: httpx.AsyncClient) -> None:
    assert (await admin.post("/v1/auth/login", content=b"x" * 17_000)).status_code == 413


async def test_a_body_that_does_not_come_is_not_waited_for(
    admin: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def slow() -> AsyncIterator[bytes]:
        yield b"username=ann"
        await asyncio.sleep(60)

    monkeypatch.setattr("everlearn.api.secret_bodies.PATIENCE", 0.05)
    assert (await admin.post("/v1/auth/login", content=slow())).status_code == 408


@pytest.mark.parametrize(
    "path", ["/v1/users/%00", "/v1/users?cursor=%00", "/v1/audit?who=%00", "/v1/audit?cursor=x"]
)
async def test_strange_texts_are_no_fault_of_the_server(admin: httpx.AsyncClient, path: str) -> None:
    assert (await admin.get(path)).status_code in (200, 404, 422)


async def test_half_a_character_is_refused(admin: httpx.AsyncClient) -> None:
    for path, body in (
        ("/v1/users", b'{"name": "ann", "grants": {"\\ud800": "viewer"}}'),
        ("/v1/keys", b'{"\\ud800": 1}'),
    ):
        answer = await admin.post(path, content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == 422, answer.text


async def test_logins_wait_for_each_other_and_not_without_end() -> None:
    turns, running, most = Turns(waiting=3), 0, 0

    def slow() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        time.sleep(0.01)
        running -= 1

    done = await asyncio.gather(*(turns.take(slow) for _ in range(10)), return_exceptions=True)
    assert most == 1
    assert sum(isinstance(result, UnavailableError) for result in done) == 6
    await turns.take(slow)


async def test_wrong_invitations_are_counted_as_wrong_keys_are(
    make_app: Callable[..., FastAPI], connect: Any
) -> None:
    async with connect(make_app(rates=Rates(wrong=1.0, burst=2))) as client:
        body = {"name": "ann", "invite": "x", "password": PASSWORD}
        found = [(await client.post("/v1/auth/accept", json=body)).status_code for _ in range(4)]
        assert found == [401, 401, 429, 429]


# The audit log


async def acts(admin: httpx.AsyncClient) -> list[tuple[str, str, str, int]]:
    items = (await admin.get("/v1/audit")).json()["items"]
    return [(item["who"], item["action"], item["target"], item["result"]) for item in items]


async def test_privileged_acts_are_written_down_done_or_refused(
    admin: httpx.AsyncClient, spec: dict[str, Any]
) -> None:
    await admin.post("/v1/models", json=spec)
    made = await new_key(admin)
    who = f"key:{made['id']}"
    await admin.post("/v1/models/toy/freeze?wait=0", headers=bearing(made["key"]))
    await admin.delete("/v1/models/toy")
    assert await acts(admin) == [
        ("key", "DELETE /v1/models/{model}", "/v1/models/toy", 204),
        (who, "POST /v1/models/{model}/freeze", "/v1/models/toy/freeze", 403),
        ("key", "POST /v1/keys", "/v1/keys", 201),
        ("key", "POST /v1/models", "/v1/models", 201),
    ]


async def test_logins_are_written_down(admin: httpx.AsyncClient) -> None:
    await new_user(admin)
    await admin.post("/v1/auth/login", json={"username": "ann", "password": "wrong"})
    await admin.post("/v1/auth/login", json={"username": "ann", "password": PASSWORD})
    assert (await acts(admin))[:3] == [
        ("user:ann", "login", "own account", 200),
        ("user:ann", "login", "own account", 401),
        ("user:ann", "accept invitation", "own account", 200),
    ]


async def test_no_name_or_path_forges_a_line(admin: httpx.AsyncClient) -> None:
    name = "ann\r\nuser:admin login own account 200\x1b[2J"
    await admin.post("/v1/auth/login", json={"username": name, "password": "wrong"})
    await admin.delete("/v1/models/shop%0d%0aforged%1b[2J")
    page = await admin.get("/v1/audit")
    for item in page.json()["items"]:
        assert all(str(value).isprintable() for value in item.values()), item
    assert {header for header in page.headers if "forged" in header} == set()


async def test_refusals_do_not_fill_the_disk(admin: httpx.AsyncClient, place: Any) -> None:
    key = (await new_key(admin))["key"]
    for _ in range(100):
        await admin.post("/v1/models/toy/rollback", headers=bearing(key))
    assert len(place.store.access.audit.list(limit=1000).items) <= 25


async def test_predictions_and_readings_are_not_audited(toy: httpx.AsyncClient, place: Any) -> None:
    await toy.post("/v1/models/toy/predict", json={"row": {"a": 1}})
    await toy.get("/v1/models/toy")
    assert place.store.access.audit.list().items == []


# Rates


async def test_a_caller_is_told_how_it_stands_and_when_to_come_back(
    make_app: Callable[..., FastAPI], connect: Any, place: Any
) -> None:
    async with connect(make_app(rates=Rates(per_key=2.0))) as client:
        answers = [await client.get("/v1/models") for _ in range(5)]
        assert [answer.status_code for answer in answers] == [200] * 4 + [429]
        assert answers[0].headers["ratelimit-policy"] == '"caller";q=4;w=2'
        assert [answer.headers["ratelimit"][:12] for answer in answers] == [
            f'"caller";r={left}' for left in (3, 2, 1, 0, 0)
        ]
        assert answers[4].headers["retry-after"] == "1"
        assert answers[4].json()["status"] == 429
        place.clock.advance(0.5)
        assert (await client.get("/v1/models")).status_code == 200


async def test_without_a_limit_nothing_is_told(admin: httpx.AsyncClient) -> None:
    assert not [name for name in (await admin.get("/v1/models")).headers if name.startswith("ratelimit")]


async def test_an_address_with_too_many_wrong_keys_must_wait_but_known_keys_need_not(
    make_app: Callable[..., FastAPI], connect: Any, place: Any
) -> None:
    async with connect(make_app(rates=Rates(wrong=1.0, burst=3))) as client:
        assert (await client.get("/v1/models")).status_code == 200
        wrong = [await status(client, f"wrong-{i}") for i in range(5)]
        assert wrong == [401, 401, 401, 429, 429]
        assert (await client.get("/v1/models")).status_code == 200
        place.clock.advance(1.0)
        assert await status(client, "wrong-again") == 401


async def test_labels_are_the_callers_whatever_the_way(
    admin: httpx.AsyncClient, place: Any, spec: dict[str, Any]
) -> None:
    assert (await admin.post("/v1/models", json=spec)).is_success
    given = await new_key(admin, scopes=["predict", "label"])
    held, url = bearing(given["key"]), "/v1/models/toy/labels"
    rows = [{"a": 1.0, "b": 2.0}] * 4
    await admin.post("/v1/models/toy/predict", json={"rows": rows, "ids": list("1234")})
    one = {"labels": [{"id": "1", "value": "yes"}]}
    assert (await admin.post(url, json=one, headers=held)).is_success
    slow = {"labels": [{"id": "2", "value": "yes"}]}
    assert (await admin.post(url, json=slow, headers={**held, "Idempotency-Key": "k"})).is_success
    table = {**held, "Content-Type": "text/csv"}
    assert (await admin.post(url, content="id,value\n3,no\n", headers=table)).is_success
    assert (await admin.post(url, json={"labels": [{"id": "4", "value": "no"}]})).is_success
    history = {"rows": rows[:1], "targets": ["yes"]}
    assert (await admin.post("/v1/models/toy/examples", json=history, headers=held)).is_success
    named = [e.source for e in place.store.log.read("toy") if hasattr(e, "source")]
    assert named == [f"key:{given['id']}"] * 3 + ["key", f"key:{given['id']}"]
