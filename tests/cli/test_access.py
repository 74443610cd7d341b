"""Keys, users and the audit log from the command line, on a running server."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from everlearn.cli.users import grants_of
from everlearn.errors import InvalidError

Run = Callable[..., Any]
PASSWORD = "correct horse battery"


@pytest.fixture
def name() -> str:
    return f"u-{os.urandom(4).hex()}"


def test_a_key_from_making_to_revoking(run: Run, data: Path) -> None:
    made = run("keys", "create", "the shop", "--scope", "read", "--model", "shop", "--days", "1")
    assert made.code == 0, made.err
    key = made.out.strip()
    assert key.startswith("evl_")
    key_id = key.split("_")[1]
    assert f"keys revoke {key_id}" in made.err
    assert run("models", "list", "--key", key, "--json").json == {"items": []}
    refused = run("keys", "list", "--key", key)
    assert refused.code == 1
    assert f"key:{key_id} may not admin" in refused.err

    (line,) = [line for line in run("keys", "list").out.splitlines() if key_id in line]
    assert "the shop" in line
    assert "active" in line
    assert run("keys", "revoke", key_id).out == f"revoked {key_id} (the shop)\n"
    assert run("models", "list", "--key", key).code == 1
    states = {item["id"]: item["state"] for item in run("keys", "list", "--json").json["items"]}
    assert states[key_id] == "revoked"


def test_a_key_as_json_and_what_is_wrong_with_one(run: Run, data: Path) -> None:
    made = run("keys", "create", "x", "--scope", "predict", "--scope", "label", "--json").json
    assert (made["scopes"], made["models"], made["expires_at"]) == (["label", "predict"], None, None)
    none = run("keys", "create", "x")
    assert none.code == 1
    assert "scopes: name at least one" in none.err
    assert "absent" in run("keys", "revoke", "absent").err


def test_a_user_from_invitation_to_removal(run: Run, data: Path, tmp_path: Path, name: str) -> None:
    added = run("users", "add", name, "--role", "viewer", "--grant", "shop=operator")
    assert added.code == 0, added.err
    *_, said_name, invite = added.out.split()
    assert said_name == name
    secret = tmp_path / "password"
    secret.write_text(PASSWORD + "\n")
    tokens = run("users", "accept", name, invite, "--password-file", secret, "--json").json
    assert run("models", "list", "--key", tokens["access_token"]).code == 0

    (line,) = [line for line in run("users", "list").out.splitlines() if name in line]
    assert "shop=operator" in line
    assert "active" in line
    assert run("users", "set-role", name, "none").out == f"{name} is none now\n"
    listed = {user["name"]: user for user in run("users", "list", "--json").json["items"]}
    assert (listed[name]["role"], listed[name]["grants"]) == (None, {"shop": "operator"})
    changed = run("users", "set-role", name, "operator", "--grant", "bank=viewer", "--json").json
    assert (changed["role"], changed["grants"]) == ("operator", {"bank": "viewer"})

    assert run("users", "disable", name).out == f"{name} is disabled\n"
    assert run("models", "list", "--key", tokens["access_token"]).code == 1
    assert run("users", "enable", name, "--json").json["state"] == "active"
    again = run("users", "invite", name, "--json").json
    assert again["user"]["state"] == "invited"
    assert run("users", "delete", name, "--json").json == {"deleted": name}
    assert run("users", "invite", name).code == 1


def test_a_password_is_asked_for_twice_and_not_shown(
    run: Run, data: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import typer

    invite = run("users", "add", name, "--json").json["invite"]
    asked: dict[str, Any] = {}

    def prompt(text: str, **how: Any) -> str:
        asked.update(how, text=text)
        return PASSWORD

    monkeypatch.setattr(typer, "prompt", prompt)
    assert run("users", "accept", name, invite).code == 0
    assert asked == {"text": "Password", "hide_input": True, "confirmation_prompt": True, "err": True}


def test_the_audit_log_shows_who_did_what(run: Run, data: Path, name: str) -> None:
    run("users", "add", name)
    run("users", "delete", name)
    shown = run("audit", "--limit", "5")
    assert f"/v1/users/{name}" in shown.out
    entries = run("audit", "--who", "key", "--json").json["items"]
    assert {entry["who"] for entry in entries} == {"key"}
    assert ("DELETE /v1/users/{name}", 204) in {(e["action"], e["result"]) for e in entries}
    assert PASSWORD not in json.dumps(entries)


@pytest.mark.parametrize("wrong", ["shop", "=operator", "shop="])
def test_a_grant_is_a_model_and_a_role(wrong: str) -> None:
    with pytest.raises(InvalidError, match="MODEL=ROLE"):
        grants_of([wrong])
