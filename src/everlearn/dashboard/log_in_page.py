"""The page where one logs in: plain HTML, because there is nothing to run before one may."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Final
from urllib.parse import quote

from everlearn.dashboard.pictures import MARK
from everlearn.dashboard.style import log_in_style

WAYS: Final[Mapping[str, str]] = {"user": "User", "key": "API key", "invitation": "Invitation"}
"""The ways to log in."""

_HERE: Final = ' aria-current="page"'
_LOGO: Final = f'<svg viewBox="0 0 32 32" aria-hidden="true">{MARK}</svg>'


def page(way: str, onward: str, fault: str = "", name: str = "", key_path: str = "") -> str:
    """The whole page. ``onward`` is the path that one comes to afterwards; ``fault`` says what went wrong."""
    told = f'<p class="fault" role="alert">{escape(fault)}</p>' if fault else ""
    further = quote(onward, safe="")
    tabs = "".join(
        f'<a href="/login?with={each}&amp;onward={further}"{_HERE if each == way else ""}>{title}</a>'
        for each, title in WAYS.items()
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<title>Log in · everlearn</title><link rel="icon" href="/icon.svg" type="image/svg+xml">'
        f"<style>{log_in_style()}</style></head><body><main>"
        f"<header>{_LOGO}<p>everlearn</p></header>"
        f'<div class="sheet"><h1>Log in</h1><nav aria-label="Ways to log in">{tabs}</nav>{told}'
        f'<form method="post" action="/login"><input type="hidden" name="with" value="{escape(way)}">'
        f'<input type="hidden" name="onward" value="{escape(onward)}">{_fields(way, name, key_path)}'
        f"</form></div>{_first_time(way)}</main></body></html>\n"
    )


def _fields(way: str, name: str, key_path: str) -> str:
    if way == "key":
        where = (
            f"The installation's own key stands in <code>{escape(key_path)}</code> on its machine."
            if key_path
            else "Administrators make keys, here under Admin or with <code>everlearn keys create</code>."
        )
        return (
            _field("key", "API key", "password", "off", focus=True)
            + f'<p class="help">{where}</p><button type="submit">Log in with the key</button>'
        )
    user = _field("name", "User name", "text", "username", value=name, focus=not name)
    if way == "invitation":
        return (
            f"{user}{_field('invite', 'Invitation', 'text', 'off', focus=bool(name))}"
            '<p class="help">The first start of <code>everlearn up</code> prints one for the user '
            "<code>admin</code>; for others an administrator makes it.</p>"
            f"{_field('password', 'New password', 'password', 'new-password')}"
            '<button type="submit">Set the password and log in</button>'
        )
    return (
        f"{user}{_field('password', 'Password', 'password', 'current-password', focus=bool(name))}"
        '<button type="submit">Log in</button>'
    )


def _field(name: str, label: str, kind: str, complete: str, value: str = "", *, focus: bool = False) -> str:
    given = f' value="{escape(value)}"' if value else ""
    return (
        f'<label for="{name}">{label}</label><input id="{name}" name="{name}" type="{kind}" '
        f'autocomplete="{complete}" autocapitalize="none" spellcheck="false" maxlength="1024" '
        f"required{given}{' autofocus' if focus else ''}>"
    )


def _first_time(way: str) -> str:
    if way != "user":
        return ""
    return (
        '<p class="note">First time here? The first start printed an API key and an invitation for the user '
        "<code>admin</code>: use either, above. Lost both? <code>everlearn users invite admin</code> makes "
        "a new invitation.</p>"
    )
