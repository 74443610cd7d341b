"""``everlearn users``: who has an account, in which role, with which models."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from everlearn.cli.options import Data, Json, Key, Url
from everlearn.errors import InvalidError

app = typer.Typer(help="Add, list, change and remove users.", no_args_is_help=True, rich_markup_mode=None)

NONE = "none"
Name = Annotated[str, typer.Argument(help="Name of the user.", metavar="NAME", show_default=False)]
Grants = Annotated[
    list[str] | None,
    typer.Option(
        "--grant",
        help="MODEL=ROLE, a role for one model; again for more.",
        show_default=False,
        metavar="GRANT",
    ),
]


@app.command()
def add(
    name: Name,
    role: Annotated[str, typer.Option("--role", help="viewer, operator, admin or none.")] = NONE,
    grant: Grants = None,
    url: Url = None,
    key: Key = None,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Add a user. Prints an invitation with which they choose a password, once."""
    body = {"name": name, "role": role_of(role), "grants": grants_of(grant)}
    made = _send("POST", "/v1/users", body, url, key, data)
    _show_invite(made, as_json)


@app.command("list")
def list_users(url: Url = None, key: Key = None, data: Data = None, as_json: Json = False) -> None:
    """List the users."""
    from everlearn.cli.connection import connect
    from everlearn.cli.output import moment, show_json, table
    from everlearn.client.calls import Pages, get

    with connect(url, key, data) as client:
        items = list(client.run_pages(Pages(get("/v1/users", limit=1000))))
    if as_json:
        show_json({"items": items})
        return
    rows = [
        (item["name"], item["role"], item["grants"] or None, item["state"], moment(item["created_at"]))
        for item in items
    ]
    table(
        ("name", "role", "grants", "state", "since"),
        rows,
        empty="no users: add one with 'everlearn users add'",
    )


@app.command("set-role")
def set_role(
    name: Name,
    role: Annotated[str, typer.Argument(help="viewer, operator, admin or none.", show_default=False)],
    grant: Grants = None,
    url: Url = None,
    key: Key = None,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Give a user another role; with --grant, other roles for single models too."""
    changes: dict[str, Any] = {"role": role_of(role)}
    if grant is not None:
        changes["grants"] = grants_of(grant)
    _change(name, changes, f"{name} is {role} now", url, key, data, as_json)


@app.command()
def disable(name: Name, url: Url = None, key: Key = None, data: Data = None, as_json: Json = False) -> None:
    """Lock a user out, and end their sessions."""
    _change(name, {"disabled": True}, f"{name} is disabled", url, key, data, as_json)


@app.command()
def enable(name: Name, url: Url = None, key: Key = None, data: Data = None, as_json: Json = False) -> None:
    """Let a disabled user in again."""
    _change(name, {"disabled": False}, f"{name} is enabled", url, key, data, as_json)


@app.command()
def invite(name: Name, url: Url = None, key: Key = None, data: Data = None, as_json: Json = False) -> None:
    """Invite a user again, who forgot the password: the old one and all sessions end."""
    _show_invite(_send("POST", f"{_path(name)}/invite", {}, url, key, data), as_json)


@app.command()
def delete(name: Name, url: Url = None, key: Key = None, data: Data = None, as_json: Json = False) -> None:
    """Remove a user."""
    from everlearn.cli.output import show_json

    _send("DELETE", _path(name), None, url, key, data)
    if as_json:
        show_json({"deleted": name})
    else:
        typer.echo(f"removed {name}")


@app.command()
def accept(
    name: Name,
    token: Annotated[str, typer.Argument(help="The invitation.", metavar="INVITE", show_default=False)],
    password_file: Annotated[
        Path | None,
        typer.Option("--password-file", help="File with the password; - reads it from standard input."),
    ] = None,
    url: Url = None,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Choose a password by an invitation. It is asked for, unless a file holds it."""
    from everlearn.cli.output import show_json

    body = {"name": name, "invite": token, "password": _password(password_file)}
    # An open route: no key is needed, and none is sent.
    made = _send("POST", "/v1/auth/accept", body, url, "none", data)
    if as_json:
        show_json(made)
    else:
        typer.echo(f"{name} can log in now: POST /v1/auth/login")


def role_of(text: str) -> str | None:
    """A role as the API takes it."""
    return None if text == NONE else text


def grants_of(given: list[str] | None) -> dict[str, str]:
    """Grants from ``MODEL=ROLE``.

    >>> grants_of(["shop=operator"])
    {'shop': 'operator'}
    """
    grants = {}
    for text in given or ():
        model, equals, role = text.rpartition("=")
        if not (model and equals and role):
            raise InvalidError(f"--grant {text}: write MODEL=ROLE, such as shop=operator")
        grants[model] = role
    return grants


def _password(path: Path | None) -> str:
    if path is None:
        return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True))
    text = sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8")
    return text.rstrip("\r\n")


def _path(name: str) -> str:
    from urllib.parse import quote

    return f"/v1/users/{quote(name, safe='')}"


def _send(
    method: str,
    path: str,
    body: Mapping[str, Any] | None,
    url: str | None,
    key: str | None,
    data: Path | None,
) -> dict[str, Any]:
    from everlearn.cli.connection import connect
    from everlearn.client.calls import Call, to_json

    headers = {"Content-Type": "application/json"} if body is not None else {}
    content = to_json(body) if body is not None else None
    with connect(url, key, data) as client:
        return client.run(
            Call(method, path, lambda r: r.json() if r.content else {}, headers=headers, content=content)
        )


def _change(
    name: str,
    changes: Mapping[str, Any],
    said: str,
    url: str | None,
    key: str | None,
    data: Path | None,
    as_json: bool,
) -> None:
    from everlearn.cli.output import show_json

    changed = _send("PATCH", _path(name), changes, url, key, data)
    if as_json:
        show_json(changed)
    else:
        typer.echo(said)


def _show_invite(made: Mapping[str, Any], as_json: bool) -> None:
    from everlearn.cli.output import moment, show_json

    if as_json:
        show_json(made)
        return
    name = made["user"]["name"]
    typer.echo(f"everlearn users accept {name} {made['invite']}")
    typer.echo(f"give {name} this line: it works once, until {moment(made['invite_until'])} UTC", err=True)
