"""Guessing and forging credentials: what a wrong one costs, and what it tells.

Guards: ``hmac.compare_digest`` behind ``same`` and ``ApiKey``, one argon2 verification for every login
whoever it names, ``Hs256``. Tokens forged in every way are in ``tests/access/test_tokens.py``, accounts
locked out and rates in ``tests/access/test_accounts.py`` and ``tests/api/test_access.py``.
"""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi import FastAPI

from everlearn.access import secrets
from everlearn.access.keys import make_key
from everlearn.access.users import User
from everlearn.access.words import Role, Scope
from everlearn.adapters.passwords import Argon2
from everlearn.adapters.tokens import Hs256, kid_of

PASSWORD = "correct horse battery"
SECRET = "a-signing-secret-of-the-tests-0123456789"


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[Any, Any]]]:
    """What is compared in constant time."""
    seen: list[tuple[Any, Any]] = []
    real = hmac.compare_digest

    def watched(one: Any, other: Any) -> bool:
        seen.append((one, other))
        return real(one, other)

    monkeypatch.setattr(hmac, "compare_digest", watched)
    return seen


async def test_every_secret_is_compared_in_constant_time_by_its_digest(
    api: Any, store: Any, clock: Any, compared: list[tuple[Any, Any]]
) -> None:
    """Counted, not timed. Guards: ``same`` and ``ApiKey.authenticate``."""
    key, record = make_key("k", [Scope.READ], None, None, by="key", now=clock.now())
    store.access.keys.add(record)
    wrong = f"{key[:-5]}AAAAA"
    for token, secret in ((wrong, record.digest), ("not-the-installation's-key", None)):
        compared.clear()
        answer = await api.get("/v1/models", headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 401
        assert compared
        assert all(len(one) == len(other) for one, other in compared), "digests, whose length tells nothing"
        assert not any(token in (one, other) for one, other in compared)
        if secret:
            assert any(other == secret for _, other in compared)
    compared.clear()
    body = {"name": "nobody", "invite": "evi_wrong", "password": PASSWORD}
    assert (await api.post("/v1/auth/accept", json=body)).status_code == 401
    assert compared, "an invitation for a user who is not there is compared too"


def test_the_digest_of_a_secret_is_what_is_compared() -> None:
    assert secrets.same(secrets.digest_of("a"), secrets.digest_of("a"))
    assert not secrets.same(secrets.digest_of("a"), secrets.digest_of("b"))


class Counting(Argon2):
    """Counts the verifications of argon2 itself."""

    def __init__(self) -> None:
        super().__init__(memory=64, passes=1)
        self.verified: list[str] = []
        real = self._hasher.verify

        class Watched:
            def __getattr__(_, name: str) -> Any:  # noqa: N805
                return getattr(hasher, name)

            def verify(_, hashed: str, password: str) -> bool:  # noqa: N805
                self.verified.append(hashed)
                return real(hashed, password)

        hasher = self._hasher
        self.__dict__["_hasher"] = Watched()


async def test_a_login_verifies_once_whoever_it_names(
    make_app: Callable[..., FastAPI], connect: Any, store: Any
) -> None:
    """Else the time tells which users there are. Guard: ``Argon2.verify`` with the hash of nobody."""
    hasher = Counting()
    hashed = hasher.hash(PASSWORD)
    users = (
        User("ann", Role.VIEWER, password=hashed),
        User("invited", Role.VIEWER),
        User("gone", Role.VIEWER, password=hashed, disabled=True),
    )
    for user in users:
        store.access.users.add(user)
    texts = set()
    async with connect(make_app(hasher=hasher), key=None) as nobody:
        for name in ("ann", "invited", "gone", "absent", "../ann", "ann\x00", "ANN' OR 1=1 --"):
            hasher.verified.clear()
            body = {"username": name, "password": "wrong"}
            answer = await nobody.post("/v1/auth/login", json=body)
            assert answer.status_code == 401, name
            assert len(hasher.verified) == 1, name
            parameters = hasher.verified[0].rsplit("$", 2)[0]
            assert parameters == hashed.rsplit("$", 2)[0], "as dear as any"
            texts.add(answer.json()["detail"])
    assert len(texts) == 1


def forged(header: dict[str, Any], body: dict[str, Any], secret: bytes, hash_: str = "sha256") -> str:
    def part(value: Any) -> bytes:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=")

    signed = part(header) + b"." + part(body)
    signature = hmac.new(secret, signed, hash_).digest() if header["alg"] != "none" else b""
    return (signed + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode()


async def test_no_forged_token_gets_in(
    make_app: Callable[..., FastAPI], connect: Any, store: Any, clock: Any
) -> None:
    """Against a session that lives. Guards: ``Hs256.verify``, ``AccessTokens.authenticate``."""
    hasher = Argon2(memory=64, passes=1)
    for name, role in (("ann", Role.VIEWER), ("bob", Role.ADMIN)):
        store.access.users.add(User(name, role, password=hasher.hash(PASSWORD)))
    app = make_app(hasher=hasher, signer=Hs256([SECRET]))
    async with connect(app, key=None) as client:

        async def status(token: str) -> int:
            answer = await client.get("/v1/auth/me", headers={"Authorization": f"Bearer {token}"})
            return int(answer.status_code)

        login = await client.post("/v1/auth/login", json={"username": "ann", "password": PASSWORD})
        good = login.json()["access_token"]
        head, middle, tail = good.split(".")
        body = json.loads(base64.urlsafe_b64decode(middle + "=="))
        header = {"alg": "HS256", "typ": "at+jwt", "kid": kid_of(SECRET)}
        key = SECRET.encode()
        assert await status(good) == await status(forged(header, body, key)) == 200
        public = b"-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQ\n-----END PUBLIC KEY-----\n"
        now = int(clock.now())
        other = forged(header, {**body, "sub": "bob"}, b"x").split(".")[1]
        wrong = {
            "none": forged({**header, "alg": "none"}, body, key),
            "no signature": f"{head}.{middle}.",
            "RS256 by HMAC": forged({**header, "alg": "RS256"}, body, public),
            "HS512": forged({**header, "alg": "HS512"}, body, key, "sha512"),
            "a foreign kid": forged({**header, "kid": "0" * 16}, body, key),
            "a kid that is a path": forged({**header, "kid": "../../../dev/null"}, body, b""),
            "an empty secret": forged(header, body, b""),
            "expired": forged(header, {**body, "exp": now - 1}, key),
            "not valid yet": forged(header, {**body, "nbf": now + 10**9}, key),
            "another user's session": forged(header, {**body, "sub": "bob"}, key),
            "a changed payload": f"{head}.{other}.{tail}",
            "a session that is none": forged(header, {**body, "sid": "f" * 64}, key),
        }
        for name, token in wrong.items():
            assert await status(token) == 401, name
