"""Which monitors there should be, and what is done to have them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everlearn.adapters.uptime_kuma_plan import Change, KumaAccount, Wanted, changes, wanted
from everlearn.errors import InvalidError

TARGET = "http://api:8000/"
DEFAULTS: dict[str, Any] = {"prefix": "everlearn", "interval": 60, "key": "k" * 20, "beat": 20}


def plan(*models: str, **more: Any) -> list[Wanted]:
    return list(wanted(TARGET, models, **{**DEFAULTS, **more}))


def there(made: list[Change], tag: str = "everlearn") -> list[dict[str, Any]]:
    """The monitors that Uptime Kuma has once changes were done."""
    return [
        {"id": number, **change.fields, "tags": [{"name": tag, "value": change.key}]}
        for number, change in enumerate(made, start=1)
    ]


def test_an_installation_has_monitors_for_all_that_can_fail() -> None:
    found = {one.key: one.fields for one in plan("shop", "fraud/eu")}
    assert list(found) == ["health", "ready", "model:shop", "model:fraud/eu", "worker"]
    assert found["ready"]["url"] == "http://api:8000/v1/health/ready"
    assert found["model:fraud/eu"]["url"] == "http://api:8000/v1/models/fraud%2Feu/fresh"
    assert json.loads(found["model:shop"]["headers"]) == {"Authorization": f"Bearer {'k' * 20}"}
    assert found["worker"] == {"type": "push", "interval": 60, "maxretries": 0, "name": "everlearn: worker"}
    assert "headers" not in found["health"]
    assert [one.key for one in plan("shop", key=None)] == ["health", "ready", "worker"]


def test_what_is_there_is_left_and_what_differs_is_updated() -> None:
    made = changes([], plan("shop"), "everlearn", prune=False, new_token=lambda: "t0ken")
    assert {change.action for change in made} == {"create"}
    assert [change.token for change in made] == [None, None, None, "t0ken"]
    monitors = there(made)
    again = changes(monitors, plan("shop"), "everlearn", prune=True)
    assert {change.action for change in again} == {"keep"}
    assert again[-1].token == "t0ken"
    monitors[0]["name"], monitors[1]["interval"] = "renamed by hand", 3600
    mended = changes(monitors, plan("shop"), "everlearn", prune=True)
    assert [(change.action, dict(change.fields)) for change in mended] == [
        ("keep", {}),
        ("update", {"interval": 60}),
        ("keep", {}),
        ("keep", {}),
    ]


def test_only_our_own_are_pruned_and_only_when_asked() -> None:
    monitors = there(changes([], plan("shop", "gone"), "everlearn", prune=False))
    monitors.append({"id": 99, "name": "everlearn: by hand", "tags": [{"name": "mine", "value": "health"}]})
    left = changes(monitors, plan("shop"), "everlearn", prune=False)
    assert [(change.action, change.key) for change in left[-1:]] == [("leave", "model:gone")]
    pruned = changes(monitors, plan("shop"), "everlearn", prune=True)
    assert [(change.key, change.id) for change in pruned if change.action == "delete"] == [("model:gone", 4)]
    other = changes(monitors, plan("shop", prefix="two"), "two", prune=True)
    assert {change.action for change in other} == {"create"}


def test_without_a_key_the_monitors_of_models_are_left_as_they_are() -> None:
    monitors = there(changes([], plan("shop", "gone"), "everlearn", prune=False))
    found = changes(monitors, plan("shop", key=None), "everlearn", prune=True, needed=["model:shop"])
    assert [change.key for change in found if change.action == "delete"] == ["model:gone"]
    assert "model:shop" not in {change.key for change in found}


def test_nothing_secret_is_told() -> None:
    made = changes([], plan("shop"), "everlearn", prune=False)
    assert "k" * 20 not in json.dumps([change.to_dict() for change in made])


def test_an_account_names_what_is_missing() -> None:
    with pytest.raises(InvalidError, match="EVERLEARN_UPTIME_KUMA_USER and EVERLEARN_UPTIME_KUMA_PASSWORD"):
        KumaAccount.of("http://kuma:3001", None, "", None)
    assert KumaAccount.of("http://kuma:3001", "ann", "secret", None).key is None


@given(names=st.lists(st.text(min_size=1, max_size=8), unique=True, max_size=6), others=st.booleans())
def test_twice_is_the_same_as_once(names: list[str], others: bool) -> None:
    more = [{"id": 500, "name": "x", "tags": []}] if others else []
    once = there(changes(more, plan(*names), "everlearn", prune=True))
    assert {change.action for change in changes([*once, *more], plan(*names), "everlearn", prune=True)} == {
        "keep"
    }
