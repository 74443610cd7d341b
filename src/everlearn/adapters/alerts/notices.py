"""What is told, and how each kind of receiver reads it."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.message import EmailMessage
from typing import Any

import msgspec

from everlearn.loop.alerts import severity_of

_COLOURS = {"critical": 0xD32F2F, "warning": 0xF9A825, "recovered": 0x2E7D32}
_MARKS = {"critical": "🔴", "warning": "🟠", "recovered": "🟢"}
_TITLES = {
    "rollback": "rolled back",
    "freeze": "frozen",
    "abstain": "abstains",
    "drift": "drift",
    "feedback": "a source of labels",
    "load": "a version does not load",
    "test": "a test",
}
_OVER = {
    "rollback": "a new version answers",
    "freeze": "updated again",
    "abstain": "answers again",
    "drift": "drift answered by a new version",
    "feedback": "the source is let in again",
    "load": "the version loads",
    "test": "a test, over",
}
_ACTIONS = {
    "rollback": "the version before answers again",
    "freeze": "nothing is updated until somebody unfreezes it",
    "abstain": "answers say that the model abstains, until it is better",
    "drift": "watched; the policy updates the model if its score asks for it",
    "feedback": "labels of the source are held against those of others, or left out",
    "load": "the version before goes on answering",
}
MAX_TEXT, MAX_FACTS = 1500, 8
PICTURE = "score.png"
"""What a chart is called beside a message."""


@dataclass(frozen=True, slots=True)
class Notice:
    """Something to tell. ``id`` is the same however often it is sent; ``recovered`` says that it is over.

    ``picture`` is a chart (PNG), for receivers that show one.
    """

    id: str
    kind: str
    model: str
    at: float
    text: str
    recovered: bool = False
    decision: int | None = None
    version: int | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    link: str | None = None
    picture: bytes | None = None

    @property
    def severity(self) -> str:
        """How bad it is, or was."""
        return severity_of(self.kind)

    @property
    def title(self) -> str:
        """A few words."""
        words = _OVER if self.recovered else _TITLES
        return f"{self.model}: {words.get(self.kind, self.kind)}"

    @property
    def look(self) -> str:
        """``critical``, ``warning`` or ``recovered``."""
        return "recovered" if self.recovered else self.severity

    @property
    def action(self) -> str | None:
        """What everlearn does about it by itself; ``None`` once it is over."""
        return None if self.recovered else _ACTIONS.get(self.kind)

    @property
    def command(self) -> str | None:
        """The command that says more."""
        return None if self.decision is None else f"everlearn why {self.model} {self.decision}"


def discord(notice: Notice) -> dict[str, Any]:
    """The body of a Discord webhook: one embed."""
    fields = [{"name": name, "value": str(value)[:1024], "inline": True} for name, value in _facts(notice)]
    for name, value in (("action", notice.action), ("why", notice.command and f"`{notice.command}`")):
        if value:
            fields.append({"name": name, "value": value, "inline": False})
    embed: dict[str, Any] = {
        "title": f"{_MARKS[notice.look]} {notice.title}"[:256],
        "description": _plain(notice.text),
        "color": _COLOURS[notice.look],
        "timestamp": _iso(notice.at),
        "fields": fields,
        "footer": {"text": f"everlearn · {notice.look}"},
    }
    if notice.link:
        embed["url"] = notice.link
    if notice.picture:
        embed["image"] = {"url": f"attachment://{PICTURE}"}
    # Whatever stands in a reason, nobody is pinged by it.
    return {"embeds": [embed], "allowed_mentions": {"parse": []}}


def slack(notice: Notice) -> dict[str, Any]:
    """The body of a Slack webhook: blocks, and a text for notifications."""
    title = f"{_MARKS[notice.look]} {notice.title}"
    lines = [f"*{name}* {value}" for name, value in _facts(notice)]
    lines += [f"*action* {notice.action}"] if notice.action else []
    lines += [f"`{notice.command}`"] if notice.command else []
    blocks: list[dict[str, Any]] = [
        {"type": "header", "text": {"type": "plain_text", "text": title[:150]}},
        {"type": "section", "text": {"type": "plain_text", "text": _plain(notice.text) or "-"}},
    ]
    if lines:
        text = _escaped("\n".join(lines))[:2900]
        blocks.append({"type": "section", "text": {"type": "mrkdwn", "text": text}})
    if notice.link:
        button = {"type": "button", "text": {"type": "plain_text", "text": "Look"}, "url": notice.link}
        blocks.append({"type": "actions", "elements": [button]})
    return {"text": title, "blocks": blocks}


def cloud_event(notice: Notice) -> dict[str, Any]:
    """A CloudEvent (1.0, structured JSON; https://cloudevents.io)."""
    data = {
        name: getattr(notice, name) for name in ("kind", "model", "text", "recovered", "decision", "version")
    }
    return {
        "specversion": "1.0",
        "id": notice.id,
        "source": f"everlearn/models/{notice.model}",
        "type": f"dev.everlearn.alert.{'recovered' if notice.recovered else 'raised'}",
        "time": _iso(notice.at),
        "datacontenttype": "application/json",
        "data": {**data, "severity": notice.severity, "facts": dict(notice.facts), "link": notice.link},
    }


def signature(secret: bytes, id_: str, seconds: int, body: bytes) -> dict[str, str]:
    """Headers by which a receiver can tell that a body is ours and new (Standard Webhooks 1.0.0).

    The signature is the base64 of HMAC-SHA256 over ``id.timestamp.body``.
    """
    signed = hmac.new(secret, f"{id_}.{seconds}.".encode() + body, hashlib.sha256).digest()
    return {
        "webhook-id": id_,
        "webhook-timestamp": str(seconds),
        "webhook-signature": f"v1,{base64.b64encode(signed).decode()}",
    }


def email(notice: Notice, sender: str, to: list[str]) -> EmailMessage:
    """An e-mail in plain text."""
    message = EmailMessage()
    subject = f"[everlearn] {notice.look}: {notice.title}"
    message["Subject"] = " ".join(subject.split())[:200]
    message["From"], message["To"] = sender, ", ".join(to)
    message["Message-ID"] = f"<{hashlib.sha256(notice.id.encode()).hexdigest()[:32]}@everlearn>"
    lines = [notice.text[:MAX_TEXT], "", *(f"{name}: {value}" for name, value in _facts(notice))]
    lines += [f"action: {notice.action}"] if notice.action else []
    lines += [line for line in (notice.command, notice.link) if line]
    message.set_content("\n".join(lines))
    return message


def body_of(kind: str, notice: Notice) -> bytes:
    """What is posted to a receiver of a kind."""
    made = {"discord": discord, "slack": slack, "webhook": cloud_event}[kind](notice)
    return msgspec.json.encode(made)


def _facts(notice: Notice) -> list[tuple[str, Any]]:
    facts: list[tuple[str, Any]] = [] if notice.version is None else [("version", notice.version)]
    facts += [(name.replace("_", " "), _short(value)) for name, value in notice.facts.items()]
    return facts[:MAX_FACTS]


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _plain(text: str) -> str:
    return " ".join(text.split())[:MAX_TEXT]


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")
