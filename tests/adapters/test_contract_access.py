"""Keys, users, sessions and the audit log, in memory and in SQL."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from everlearn.access.audit import AuditEntry, entry
from everlearn.access.keys import KeyRecord, make_key
from everlearn.access.ports import AccessStore
from everlearn.access.sessions import Session
from everlearn.access.users import User
from everlearn.access.words import Role, Scope
from everlearn.errors import ConflictError, NotFoundError


@pytest.fixture
def access(open_store: Any) -> AccessStore:
    return open_store().access


def record(name: str = "shop", **changes: Any) -> KeyRecord:
    made = make_key(name, [Scope.PREDICT, Scope.LABEL], ["a", "b"], 900.0, by="user:ann", now=100.0)[1]
    return replace(made, **changes)


def test_a_key_comes_back_as_it_was_stored(access: AccessStore) -> None:
    for key in (record(), record(models=None, expires_at=None, scopes=frozenset({Scope.ADMIN}))):
        access.keys.add(key)
        assert access.keys.find(key.id) == key
    assert access.keys.find("absent") is None


def test_a_key_is_revoked_once_and_for_all(access: AccessStore, open_store: Any) -> None:
    key = record()
    access.keys.add(key)
    assert access.keys.revoke(key.id, 200.0) == replace(key, revoked_at=200.0)
    assert access.keys.revoke(key.id, 300.0).revoked_at == 200.0
    assert open_store().access.keys.find(key.id).state(150.0) == "revoked"
    with pytest.raises(NotFoundError, match="absent"):
        access.keys.revoke("absent", 1.0)


def test_when_a_key_was_used_is_kept(access: AccessStore) -> None:
    key = record()
    access.keys.add(key)
    access.keys.used(key.id, 500.0)
    access.keys.used("absent", 500.0)
    assert access.keys.find(key.id) == replace(key, used_at=500.0)


def test_lists_come_in_order_and_in_pages(access: AccessStore) -> None:
    keys = sorted((record() for _ in range(5)), key=lambda key: key.id)
    for key in reversed(keys):
        access.keys.add(key)
    first = access.keys.list(limit=3)
    rest = access.keys.list(first.next, limit=3)
    assert ([*first.items, *rest.items], rest.next) == (keys, None)
    for name in ("d", "b", "c"):
        access.users.add(User(name, None))
    page = access.users.list(limit=2)
    assert [user.name for user in (*page.items, *access.users.list(page.next).items)] == ["b", "c", "d"]


def test_a_user_comes_back_as_stored(access: AccessStore) -> None:
    users = [
        User("ann", Role.VIEWER, {"shop": Role.OPERATOR}, "hash", None, None, True, 7.5),
        User("bob", None, invite="d" * 64, invite_until=99.0),
    ]
    for user in users:
        access.users.add(user)
        assert access.users.find(user.name) == user
    assert access.users.find("absent") is None


def test_a_user_name_is_given_once(access: AccessStore) -> None:
    access.users.add(User("ann", None))
    with pytest.raises(ConflictError, match="'ann'"):
        access.users.add(User("ann", Role.ADMIN))
    assert access.users.find("ann").role is None  # type: ignore[union-attr]


def test_of_two_changes_at_once_one_is_refused(access: AccessStore) -> None:
    access.users.add(User("ann", None))
    seen = access.users.find("ann")
    assert seen is not None
    changed = access.users.replace(replace(seen, role=Role.VIEWER))
    assert (changed.role, changed.revision) == (Role.VIEWER, 1)
    with pytest.raises(ConflictError, match="meantime"):
        access.users.replace(replace(seen, role=Role.ADMIN))
    assert access.users.find("ann") == changed
    with pytest.raises(NotFoundError):
        access.users.replace(User("absent", None))


def session(name: str, user: str = "ann", until: float = 100.0) -> Session:
    return Session(name * 64, user, "0" * 64, 1.0, until)


def test_deleting_a_user_ends_their_sessions(access: AccessStore) -> None:
    access.users.add(User("ann", None))
    access.sessions.add(session("a"))
    access.sessions.add(session("b", user="bob"))
    access.users.delete("ann")
    assert access.users.find("ann") is None
    assert access.sessions.find("a" * 64) is None
    assert access.sessions.find("b" * 64) == session("b", user="bob")
    with pytest.raises(NotFoundError):
        access.users.delete("ann")


def test_a_refresh_rotates_only_from_the_newest_digest(access: AccessStore) -> None:
    access.sessions.add(session("a"))
    assert access.sessions.rotate("a" * 64, "0" * 64, "1" * 64, 200.0)
    assert not access.sessions.rotate("a" * 64, "0" * 64, "2" * 64, 300.0)
    assert not access.sessions.rotate("absent", "0" * 64, "2" * 64, 300.0)
    assert access.sessions.find("a" * 64) == replace(session("a"), digest="1" * 64, expires_at=200.0)


def test_sessions_end_one_by_one_all_or_by_age(access: AccessStore) -> None:
    for name, user, until in (("a", "ann", 10.0), ("b", "ann", 20.0), ("c", "bob", 5.0), ("d", "bob", 30.0)):
        access.sessions.add(session(name, user, until))
    assert access.sessions.end("a" * 64)
    assert not access.sessions.end("a" * 64)
    assert access.sessions.forget(before=10.0) == 1
    assert access.sessions.end_all("ann") == 1
    assert [access.sessions.find(name * 64) is not None for name in "abcd"] == [False, False, False, True]


def test_nothing_is_found_under_names_that_no_database_can_hold(access: AccessStore) -> None:
    access.users.add(User("ann", None))
    for name in ("ann\0", "\0", ""):
        assert access.users.find(name) is None
        assert access.keys.find(name) is None
        assert access.audit.list(who=name).items == []
        with pytest.raises(NotFoundError):
            access.users.delete(name)
        with pytest.raises(NotFoundError):
            access.keys.revoke(name, 1.0)
    assert access.users.list("\0").next is None


def test_the_audit_log_is_numbered_and_read_backwards(access: AccessStore) -> None:
    for i in range(5):
        access.audit.add(
            entry(float(i), "ann" if i % 2 else "bob", "POST /x", f"/x/{i}", 200, "10.0.0.1", "r")
        )
    first = access.audit.list(limit=2)
    rest = access.audit.list(first.next)
    every = [*first.items, *rest.items]
    assert [item.target for item in every] == ["/x/4", "/x/3", "/x/2", "/x/1", "/x/0"]
    numbers = [item.number for item in every]
    assert numbers == sorted(numbers, reverse=True)
    assert every[0] == AuditEntry(4.0, "bob", "POST /x", "/x/4", 200, "10.0.0.1", "r", numbers[0])
    assert [item.target for item in access.audit.list(who="ann").items] == ["/x/3", "/x/1"]
