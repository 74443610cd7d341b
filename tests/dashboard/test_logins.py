"""Log-ins: by password, key or invitation; tokens are traded in time, and forgotten at the end."""

from __future__ import annotations

import threading
from typing import Any

import httpx
import pytest

from everlearn.dashboard import logins
from everlearn.dashboard.logins import Logins, Me
from everlearn.errors import UnauthorizedError


class Api:
    """Gives tokens by number, and takes only the newest."""

    def __init__(self, me: dict[str, Any], expires_in: float = 900.0) -> None:
        self.given = 0
        self.logged_out: list[str] = []
        self.expires_in = expires_in
        self.table = {
            "GET /v1/auth/me": lambda _, key: me if key in ("key", self.access) else 401,
            "POST /v1/auth/login": lambda request, _: self.tokens(b"right" in request.content),
            "POST /v1/auth/accept": lambda request, _: self.tokens(b"evi_" in request.content),
            "POST /v1/auth/refresh": lambda request, _: self.tokens(self.refresh.encode() in request.content),
            "POST /v1/auth/logout": self.log_out,
        }

    @property
    def access(self) -> str:
        return f"access-{self.given}"

    @property
    def refresh(self) -> str:
        return f"refresh-{self.given}"

    def tokens(self, right: bool) -> Any:
        if not right:
            return 401
        self.given += 1
        return {
            "access_token": self.access,
            "refresh_token": self.refresh,
            "token_type": "bearer",
            "expires_in": self.expires_in,
        }

    def log_out(self, _: httpx.Request, key: str) -> Any:
        self.logged_out.append(key)
        return {}


def test_one_logs_in_by_password_key_or_invitation(admin: dict[str, Any], answering: Any) -> None:
    api = Api(admin)
    each = Logins(answering(api.table))
    ids = [each.by_password("ann", "right"), each.by_key("key"), each.by_invitation("ann", "evi_1", "new")]
    assert len(set(ids)) == 3
    for sid in ids:
        login = each.find(sid)
        assert login is not None
        assert login.me.shown == "ann"


def test_what_is_wrong_is_refused(admin: dict[str, Any], answering: Any) -> None:
    each = Logins(answering(Api(admin).table))
    with pytest.raises(UnauthorizedError):
        each.by_password("ann", "wrong")
    with pytest.raises(UnauthorizedError):
        each.by_key("another")
    with pytest.raises(UnauthorizedError, match="no API key"):
        each.by_key("two words")
    assert each.find("made-up") is None
    assert each.find(None) is None


def test_a_token_is_traded_once_before_it_ends(admin: dict[str, Any], answering: Any) -> None:
    api = Api(admin, expires_in=logins.EARLY_SECONDS / 2)
    each = Logins(answering(api.table))
    login = each.find(each.by_password("ann", "right"))
    assert login is not None
    api.expires_in = 900.0
    threads = [threading.Thread(target=login.client) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert api.given == 2  # a refresh token works once: used twice, the session would end


def test_logging_out_revokes_the_tokens(admin: dict[str, Any], answering: Any) -> None:
    api = Api(admin)
    each = Logins(answering(api.table))
    sid = each.by_password("ann", "right")
    each.end(sid)
    assert api.logged_out == ["access-1"]
    assert each.find(sid) is None


def test_a_key_is_forgotten_but_not_revoked(admin: dict[str, Any], answering: Any) -> None:
    api = Api(admin)
    each = Logins(answering(api.table))
    sid = each.by_key("key")
    each.end(sid)
    assert api.logged_out == []
    assert each.find(sid) is None


def test_an_idle_log_in_ends(admin: dict[str, Any], answering: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    api = Api(admin)
    each = Logins(answering(api.table))
    sid = each.by_password("ann", "right")
    monkeypatch.setattr(logins, "IDLE_SECONDS", -1.0)
    assert each.find(sid) is None
    assert api.logged_out == ["access-1"]


def test_there_are_never_too_many(
    admin: dict[str, Any], answering: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logins, "MOST", 2)
    each = Logins(answering(Api(admin).table))
    ids = [each.by_key("key") for _ in range(3)]
    assert [each.find(sid) is not None for sid in ids] == [False, True, True]


def test_rights_hold_everywhere_or_for_single_models(admin: dict[str, Any]) -> None:
    me = Me.read({**admin, "everywhere": ["read"], "models": {"shop": ["operate", "read"]}})
    assert me.may("read")
    assert not me.may("operate")
    assert me.may("operate", "shop")
    assert not me.may("operate", "spam")
