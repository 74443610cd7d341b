"""Keys: their form, what they allow, and when they end."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everlearn.access.keys import make_key, parts_of
from everlearn.access.words import ALL_SCOPES, Scope
from everlearn.errors import InvalidError


def key_of(house: Any, *scopes: Scope, models: list[str] | None = None, days: float | None = None) -> Any:
    now = house.clock.now()
    until = None if days is None else now + days * 86_400
    key, record = make_key("a test", scopes or (Scope.READ,), models, until, by="key", now=now)
    house.store.keys.add(record)
    return key, record


def test_a_key_has_256_random_bits_and_is_not_stored(house: Any) -> None:
    key, record = key_of(house)
    assert re.fullmatch(r"evl_[0-9a-f]{12}_[A-Za-z0-9_-]{43}", key)
    assert key.rpartition("_")[2] not in repr(record)
    assert len({key_of(house)[0] for _ in range(50)}) == 50


def test_its_holder_may_do_what_it_says_and_nothing_else(house: Any) -> None:
    key, record = key_of(house, Scope.PREDICT, models=["shop"])
    holder = house.keys.authenticate(key)
    assert holder.name == f"key:{record.id}"
    assert {(s, m) for s in Scope for m in ("shop", "bank", None) if holder.allows(s, m)} == {
        (Scope.PREDICT, "shop")
    }


def test_admin_includes_all(house: Any) -> None:
    holder = house.keys.authenticate(key_of(house, Scope.ADMIN)[0])
    assert holder.everywhere == ALL_SCOPES


def test_wrong_revoked_and_expired_keys_are_nobody(house: Any) -> None:
    key, _ = key_of(house, days=1)
    other, _ = key_of(house)
    assert house.keys.authenticate(key) is not None
    swapped = key[:17] + other[17:]
    for wrong in (swapped, key[:-1], key + "a", key.upper(), "evl_", "", key.replace("evl_", "")):
        assert house.keys.authenticate(wrong) is None
    house.clock.advance(86_400)
    assert house.keys.authenticate(key) is None
    assert house.keys.authenticate(other) is not None
    house.store.keys.revoke(parts_of(other)[0], house.clock.now())  # type: ignore[index]
    assert house.keys.authenticate(other) is None


def test_when_it_was_used_is_noted_once_a_minute(house: Any) -> None:
    key, record = key_of(house)
    start = house.clock.now()
    for seconds, noted in ((0, 0), (30, 0), (31, 61), (10, 61)):
        house.clock.advance(seconds)
        house.keys.authenticate(key)
        house.keys.settle()
        assert house.store.keys.find(record.id).used_at == start + noted


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("scopes", {"scopes": []}),
        ("models", {"models": []}),
        ("models", {"models": ["shop"], "scopes": [Scope.ADMIN]}),
        ("models", {"models": ["a b"]}),
        ("expires_at", {"expires_at": 99.0}),
        ("name", {"name": ""}),
        ("name", {"name": "x\r\nSet-Cookie: a=b"}),
        ("name", {"name": "x" * 101}),
        ("name", {"name": " x"}),
        ("name", {"name": "\u202egnp.exe"}),
    ],
)
def test_what_cannot_be_is_refused_by_field(field: str, changes: dict[str, Any]) -> None:
    given = {"name": "x", "scopes": [Scope.READ], "models": None, "expires_at": None, **changes}
    with pytest.raises(InvalidError) as caught:
        make_key(**given, by="key", now=100.0)
    assert [fault.field for fault in caught.value.faults] == [field]


@given(st.text(max_size=80))
def test_no_text_breaks_the_parser(text: str) -> None:
    assert parts_of(text) is None or text.startswith("evl_")
