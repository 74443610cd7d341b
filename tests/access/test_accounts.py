"""Logging in and out, refreshing, invitations, passwords, lock-outs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from everlearn.access.accounts import LockedOutError, ReusedError, first_admin
from everlearn.access.sessions import ACCESS_SECONDS, REFRESH_SECONDS, SESSION_SECONDS
from everlearn.access.users import INVITE_SECONDS, User, check_grants, check_password
from everlearn.access.words import Role, Scope
from everlearn.errors import InvalidError, UnauthorizedError

PASSWORD = "correct horse battery"


def test_a_login_gives_the_rights_of_the_user(house: Any) -> None:
    house.user()
    who = house.tokens.authenticate(house.accounts.login("Ann", PASSWORD, "10.0.0.1").access)
    assert (who.name, who.role) == ("user:ann", "viewer")
    assert who.allows(Scope.READ, "bank")
    assert who.allows(Scope.PREDICT, "shop")
    assert not who.allows(Scope.PREDICT, "bank")


def test_unknown_disabled_invited_and_wrong_fail_alike(house: Any) -> None:
    user = house.user()
    house.store.users.add(replace(user, name="disabled", disabled=True))
    house.store.users.add(replace(user, name="invited", password=None))
    said = set()
    for name, password in (
        ("ann", "wrong"),
        ("nobody", PASSWORD),
        ("disabled", PASSWORD),
        ("invited", PASSWORD),
    ):
        with pytest.raises(UnauthorizedError) as caught:
            house.accounts.login(name, password, name)
        said.add(caught.value.detail)
    assert said == {"The user name or the password is wrong"}


def test_every_failure_hashes_once(house: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same work whoever it is: what is spent on an unknown user is spent on a wrong password too."""
    house.user()
    asked: list[bool] = []
    verify = house.hasher.verify

    def counted(hashed: str | None, password: str) -> bool:
        asked.append(hashed is None)
        return verify(hashed, password)

    monkeypatch.setattr(house.hasher, "verify", counted)
    for name in ("ann", "nobody"):
        with pytest.raises(UnauthorizedError):
            house.accounts.login(name, "wrong", "10.0.0.1")
    assert asked == [False, True]


def test_the_hash_of_nobody_is_as_dear_as_any(house: Any) -> None:
    from argon2 import extract_parameters

    assert extract_parameters(house.hasher._nobody) == extract_parameters(house.hasher.hash(PASSWORD))


def test_access_ends_by_itself_and_a_refresh_goes_on(house: Any) -> None:
    house.user()
    tokens = house.accounts.login("ann", PASSWORD, "")
    house.clock.advance(ACCESS_SECONDS)
    assert house.tokens.authenticate(tokens.access) is None
    name, newer = house.accounts.refresh(tokens.refresh)
    assert (name, newer.refresh != tokens.refresh) == ("ann", True)
    assert house.tokens.authenticate(newer.access) is not None


def test_a_refresh_token_used_twice_ends_the_session_for_both(house: Any) -> None:
    house.user()
    stolen = house.accounts.login("ann", PASSWORD, "")
    other = house.accounts.login("ann", PASSWORD, "")
    _, thief = house.accounts.refresh(stolen.refresh)
    with pytest.raises(ReusedError):
        house.accounts.refresh(stolen.refresh)
    assert house.tokens.authenticate(thief.access) is None
    with pytest.raises(UnauthorizedError):
        house.accounts.refresh(thief.refresh)
    assert house.tokens.authenticate(other.access) is not None  # another login of the same user


def test_a_session_ends_unused_and_in_any_case_some_day(house: Any) -> None:
    house.user()
    unused = house.accounts.login("ann", PASSWORD, "")
    tokens = house.accounts.login("ann", PASSWORD, "")
    for _ in range(int(SESSION_SECONDS // (REFRESH_SECONDS - 1))):
        house.clock.advance(REFRESH_SECONDS - 1)
        _, tokens = house.accounts.refresh(tokens.refresh)
    with pytest.raises(UnauthorizedError):
        house.accounts.refresh(unused.refresh)
    house.clock.advance(REFRESH_SECONDS - 1)
    with pytest.raises(UnauthorizedError):
        house.accounts.refresh(tokens.refresh)


@pytest.mark.parametrize("wrong", ["", "evr_", "evr_a_b", "x" * 2000, "evr_" + "a" * 43 + "_" + "b" * 43])
def test_a_wrong_refresh_token_is_refused(house: Any, wrong: str) -> None:
    with pytest.raises(UnauthorizedError):
        house.accounts.refresh(wrong)


def test_logout_ends_both_tokens(house: Any) -> None:
    house.user()
    tokens = house.accounts.login("ann", PASSWORD, "")
    house.accounts.logout(house.tokens.authenticate(tokens.access).session)
    assert house.tokens.authenticate(tokens.access) is None
    with pytest.raises(UnauthorizedError):
        house.accounts.refresh(tokens.refresh)


@pytest.mark.parametrize("change", [{"disabled": True}, {"password": None}])
def test_a_user_who_is_no_longer_active_is_out_at_once(house: Any, change: dict[str, Any]) -> None:
    house.user()
    tokens = house.accounts.login("ann", PASSWORD, "")
    house.store.users.replace(replace(house.store.users.find("ann"), **change))
    assert house.tokens.authenticate(tokens.access) is None
    with pytest.raises(UnauthorizedError):
        house.accounts.refresh(tokens.refresh)


def test_a_change_of_role_holds_for_tokens_that_are_out(house: Any) -> None:
    house.user()
    access = house.accounts.login("ann", PASSWORD, "").access
    house.store.users.replace(replace(house.store.users.find("ann"), role=None, grants={}))
    assert not house.tokens.authenticate(access).allows_some(Scope.READ)


def test_an_invitation_works_once_and_in_time(house: Any) -> None:
    house.store.users.add(User("ann", Role.ADMIN))
    token, user = house.accounts.invite("ann")
    assert token not in repr(user)
    for wrong in ("", "x", token + "x"):
        with pytest.raises(UnauthorizedError):
            house.accounts.accept("ann", wrong, PASSWORD)
    with pytest.raises(InvalidError, match="password"):
        house.accounts.accept("ann", token, "short")
    assert house.tokens.authenticate(house.accounts.accept("ann", token, PASSWORD).access) is not None
    with pytest.raises(UnauthorizedError):
        house.accounts.accept("ann", token, PASSWORD)
    late, _ = house.accounts.invite("ann")
    house.clock.advance(INVITE_SECONDS)
    with pytest.raises(UnauthorizedError):
        house.accounts.accept("ann", late, PASSWORD)


def test_an_empty_invitation_opens_no_account_without_one(house: Any) -> None:
    house.store.users.add(User("ann", Role.ADMIN, invite_until=house.clock.now() + 100))
    house.user("bob")
    for name in ("ann", "bob", "nobody"):
        with pytest.raises(UnauthorizedError):
            house.accounts.accept(name, "", PASSWORD)


def test_a_new_password_ends_all_sessions(house: Any) -> None:
    house.user()
    old = house.accounts.login("ann", PASSWORD, "")
    with pytest.raises(UnauthorizedError):
        house.accounts.change_password("ann", "wrong", "four other random words")
    new = house.accounts.change_password("ann", PASSWORD, "four other random words")
    assert house.tokens.authenticate(old.access) is None
    assert house.tokens.authenticate(new.access) is not None
    house.accounts.login("ann", "four other random words", "")
    with pytest.raises(UnauthorizedError):
        house.accounts.login("ann", PASSWORD, "")


@pytest.mark.parametrize("name", ["ann", "nobody"])
def test_failures_lock_an_account_out_whether_it_is_there_or_not(house: Any, name: str) -> None:
    house.user()
    for i in range(5):
        with pytest.raises(UnauthorizedError):
            house.accounts.login(name, "wrong", f"10.0.0.{i}")
    with pytest.raises(LockedOutError) as caught:
        house.accounts.login(name, PASSWORD, "10.0.1.1")
    assert caught.value.wait == pytest.approx(5.0)
    house.clock.advance(5.0)
    if name == "ann":
        house.accounts.login(name, PASSWORD, "10.0.1.1")


def test_failures_lock_an_address_out(house: Any) -> None:
    house.user()
    for i in range(20):
        with pytest.raises(UnauthorizedError):
            house.accounts.login(f"name-{i}", "wrong", "10.0.0.1")
    with pytest.raises(LockedOutError):
        house.accounts.login("ann", PASSWORD, "10.0.0.1")
    house.accounts.login("ann", PASSWORD, "10.0.0.2")


@pytest.mark.parametrize(
    "weak",
    ["", "short", "aaaaaaaaaaaaaaaa", "password1234", "ann-ann-ann-ann!", "qwertyqwerty", "x1y2" * 100],
)
def test_weak_passwords_are_refused(weak: str) -> None:
    with pytest.raises(InvalidError) as caught:
        check_password(weak, "ann")
    assert [fault.field for fault in caught.value.faults] == ["password"]


def test_admin_cannot_be_granted_for_one_model() -> None:
    with pytest.raises(InvalidError, match=r"grants\.shop"):
        check_grants({"shop": Role.ADMIN})
    with pytest.raises(InvalidError, match="grants"):
        check_grants({"a\nb": Role.VIEWER})


def test_the_first_admin_is_invited_or_has_the_given_password(house: Any) -> None:
    token = first_admin(house.store, house.hasher, None, house.clock.now())
    assert token is not None
    assert house.store.users.find("admin").state == "invited"
    assert first_admin(house.store, house.hasher, None, house.clock.now()) is None
    access = house.accounts.accept("admin", token, PASSWORD).access
    assert house.tokens.authenticate(access).allows(Scope.ADMIN)


def test_a_password_in_the_settings_makes_the_first_admin_and_no_second(house: Any) -> None:
    assert first_admin(house.store, house.hasher, PASSWORD, house.clock.now()) is None
    house.accounts.login("admin", PASSWORD, "")
    assert first_admin(house.store, house.hasher, "another password", house.clock.now()) is None
    with pytest.raises(UnauthorizedError):
        house.accounts.login("admin", "another password", "")
