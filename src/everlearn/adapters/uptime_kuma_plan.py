"""Which monitors Uptime Kuma should have, and what is to be done to have them.

A monitor is ours if it carries our tag; the tag's value says which one it is. So a monitor may be renamed,
and what people made themselves is never touched.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import quote

from everlearn.adapters.heartbeats import BEAT_SECONDS
from everlearn.errors import InvalidError

Action = Literal["create", "update", "keep", "delete", "leave"]
"""``leave``: it is ours and nothing needs it any more, but deleting was not asked for."""

WORKER = "worker"
COLOUR = "#0B7285"
"""The colour of the tag."""

PUSH_SLACK = 3
"""How many pushes may be missed: the monitor waits for so many of their intervals."""


@dataclass(frozen=True, slots=True)
class KumaAccount:
    """Who logs in where, and the key that monitors of models send. ``beat``: seconds between two pushes."""

    url: str
    user: str
    password: str
    key: str | None
    beat: int = int(BEAT_SECONDS)

    @classmethod
    def of(cls, url: str | None, user: str | None, password: str | None, key: str | None) -> KumaAccount:
        """The account; raises InvalidError that names what is missing."""
        given = {
            "EVERLEARN_UPTIME_KUMA_URL (or --url)": url,
            "EVERLEARN_UPTIME_KUMA_USER": user,
            "EVERLEARN_UPTIME_KUMA_PASSWORD (or _FILE)": password,
        }
        missing = [name for name, value in given.items() if not value]
        if missing:
            raise InvalidError(f"Nobody can log in to Uptime Kuma: set {' and '.join(missing)}")
        return cls(url or "", user or "", password or "", key)


@dataclass(frozen=True, slots=True)
class Wanted:
    """A monitor that should be there: its key, and the fields of it that we set."""

    key: str
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Change:
    """What to do about a monitor. ``fields`` are those that differ, ``id`` is its id if it is there."""

    action: Action
    key: str
    name: str
    fields: Mapping[str, Any]
    id: int | None = None
    token: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """As ``--json`` shows it: the names of the fields, not what they hold."""
        return {
            "action": self.action,
            "key": self.key,
            "name": self.name,
            "id": self.id,
            "fields": sorted(self.fields),
        }


def wanted(
    target: str, models: Iterable[str], *, prefix: str, interval: int, key: str | None, beat: int
) -> Iterator[Wanted]:
    """The monitors of an installation that answers at ``target``.

    ``key`` is what monitors of models send; without one there are none of them. ``interval`` is how often
    they look and ``beat`` how often a worker pushes, in seconds.
    """
    base = target.rstrip("/")
    for name, path in (("health", "/health"), ("ready", "/v1/health/ready")):
        yield Wanted(name, {**_http(base + path, interval), "name": f"{prefix}: {name}"})
    if key is not None:
        headers = json.dumps({"Authorization": f"Bearer {key}"})
        for model in models:
            url = f"{base}/v1/models/{quote(model, safe='')}/fresh"
            name = f"{prefix}: model {model} is fresh"
            yield Wanted(f"model:{model}", {**_http(url, interval), "name": name, "headers": headers})
    push = {"type": "push", "interval": max(20, PUSH_SLACK * beat), "maxretries": 0}
    yield Wanted(WORKER, {**push, "name": f"{prefix}: worker"})


def _http(url: str, interval: int) -> dict[str, Any]:
    return {
        "type": "http",
        "url": url,
        "method": "GET",
        "interval": interval,
        "retryInterval": min(interval, 30),
        "maxretries": 2,
        "accepted_statuscodes": ["200-299"],
    }


def changes(
    found: Sequence[Mapping[str, Any]],
    monitors: Iterable[Wanted],
    tag: str,
    *,
    prune: bool,
    needed: Collection[str] = (),
    new_token: Callable[[], str] = lambda: secrets.token_hex(16),
) -> list[Change]:
    """What is to be done, given the monitors that Uptime Kuma has.

    ``needed`` are keys of monitors that are left as they are, should they be there.
    """
    ours = {key: monitor for monitor in found if (key := key_of(monitor, tag)) is not None}
    done = [_change(one, ours.get(one.key), new_token) for one in monitors]
    needed = {*needed, *(change.key for change in done)}
    action: Action = "delete" if prune else "leave"
    stale = [
        Change(action, key, str(monitor["name"]), {}, int(monitor["id"]))
        for key, monitor in sorted(ours.items())
        if key not in needed
    ]
    return [*done, *stale]


def key_of(monitor: Mapping[str, Any], tag: str) -> str | None:
    """Which of ours a monitor is, by our tag; ``None`` for somebody else's."""
    return next((str(one.get("value")) for one in monitor.get("tags") or () if one.get("name") == tag), None)


def _change(one: Wanted, there: Mapping[str, Any] | None, new_token: Callable[[], str]) -> Change:
    name = str(one.fields["name"])
    if there is None:
        token = new_token() if one.fields["type"] == "push" else None
        more = {} if token is None else {"pushToken": token}
        return Change("create", one.key, name, {**one.fields, **more}, token=token)
    differ = {
        field: value for field, value in one.fields.items() if there.get(field) != value and field != "name"
    }
    token = there.get("pushToken") if one.fields["type"] == "push" else None
    return Change(
        "update" if differ else "keep", one.key, str(there["name"]), differ, int(there["id"]), token
    )
