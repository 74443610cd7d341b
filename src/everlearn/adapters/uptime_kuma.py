"""Uptime Kuma over its Socket.IO interface, which its own pages use: it has no other to make monitors by.

Each call is an event with an acknowledgement ``{"ok": bool, "msg": str, ...}``; the monitors come as an event
``monitorList`` after a log-in, by their ids. (Uptime Kuma 1.23 and 2.)
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from everlearn.adapters.uptime_kuma_plan import COLOUR, Change
from everlearn.errors import ForbiddenError, InvalidError, MissingExtraError, UnavailableError

SECONDS = 20.0
"""How long each answer is waited for."""

_NEW: Mapping[str, Any] = {
    "accepted_statuscodes": ["200-299"],
    "maxredirects": 0,
    "notificationIDList": {},
    "kafkaProducerBrokers": [],
    "kafkaProducerSaslOptions": {"mechanism": "None"},
}
"""What its handler asks of every new monitor, whatever its type."""

_NEW_IN_2: Mapping[str, Any] = {"conditions": [], "rabbitmqNodes": []}
"""What it asks since 2.0."""


class UptimeKuma:
    """One connection. Use as a context manager.

    Raises MissingExtraError, InvalidError for an address that is none, UnavailableError where nobody answers,
    ForbiddenError where the log-in is refused.
    """

    def __init__(self, url: str, *, seconds: float = SECONDS) -> None:
        if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
            raise InvalidError("--url: must be the address of Uptime Kuma, such as http://127.0.0.1:3001")
        try:
            import socketio  # type: ignore[import-untyped]
        except ImportError:
            raise MissingExtraError("Uptime Kuma", "uptime-kuma") from None
        self.url, self._seconds = url.rstrip("/"), seconds
        self._client = socketio.Client(reconnection=False, handle_sigint=False)
        self._monitors: dict[str, Any] = {}
        self._listed, self._informed = threading.Event(), threading.Event()
        self._version = ""
        self._tag: int | None = None
        self._client.on("monitorList", self._on_monitors)
        self._client.on("info", self._on_info)

    def __enter__(self) -> UptimeKuma:
        from socketio.exceptions import ConnectionError as NoConnection  # type: ignore[import-untyped]

        try:
            self._client.connect(self.url, wait_timeout=self._seconds)
        except NoConnection as error:
            raise UnavailableError(f"Uptime Kuma does not answer at {self.url}: {error}") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.disconnect()

    def log_in(self, user: str, password: str, code: str | None = None) -> None:
        """Log in; ``code`` is that of a second factor, where the user has one."""
        answer = self._ask("login", {"username": user, "password": password, "token": code or ""})
        if answer.get("tokenRequired"):
            raise ForbiddenError("Uptime Kuma asks for the code of the second factor: give --code")
        if not answer.get("ok"):
            raise ForbiddenError(f"Uptime Kuma refuses the log-in: {answer.get('msg', 'no reason given')}")
        if not (self._listed.wait(self._seconds) and self._informed.wait(self._seconds)):
            raise UnavailableError(f"Uptime Kuma at {self.url} does not tell its monitors")

    @property
    def monitors(self) -> Sequence[Mapping[str, Any]]:
        """The monitors as they were told last."""
        return list(self._monitors.values())

    def apply(self, change: Change, tag: str) -> int | None:
        """Do one change; the monitor's id."""
        if change.action == "create":
            return self._create(change, tag)
        if change.action == "update":
            self._do("editMonitor", {**self._monitors[str(change.id)], **change.fields})
        elif change.action == "delete":
            self._do("deleteMonitor", change.id)
        return change.id

    def _create(self, change: Change, tag: str) -> int:
        more = {} if self._version.startswith("1.") or "-dev" in self._version else _NEW_IN_2
        made = int(self._do("add", {**_NEW, **more, **change.fields})["monitorID"])
        try:
            self._do("addMonitorTag", (self._tag_of(tag), made, change.key))
        except Exception:
            self._do("deleteMonitor", made)  # without its tag nobody would know that it is ours
            raise
        return made

    def _tag_of(self, name: str) -> int:
        """The id of our tag, which is made where there is none."""
        if self._tag is None:
            tags = self._do("getTags")["tags"]
            known = next((tag["id"] for tag in tags if tag["name"] == name), None)
            if known is None:
                known = self._do("addTag", {"name": name, "color": COLOUR})["tag"]["id"]
            self._tag = int(known)
        return self._tag

    def _do(self, event: str, data: Any = None) -> Mapping[str, Any]:
        answer = self._ask(event, data)
        if not answer.get("ok"):
            raise InvalidError(f"Uptime Kuma refuses {event}: {answer.get('msg', 'no reason given')}")
        return answer

    def _ask(self, event: str, data: Any = None) -> Mapping[str, Any]:
        from socketio.exceptions import SocketIOError

        try:
            answer = self._client.call(event, data, timeout=self._seconds)
        except SocketIOError as error:
            raise UnavailableError(f"Uptime Kuma at {self.url} does not answer {event}") from error
        return answer if isinstance(answer, Mapping) else {}

    def _on_monitors(self, monitors: Mapping[str, Any]) -> None:
        self._monitors = {str(key): monitor for key, monitor in monitors.items()}
        self._listed.set()

    def _on_info(self, info: Mapping[str, Any]) -> None:
        version = info.get("version")  # it is told of before the log-in, too, without its version
        if version:
            self._version = str(version)
            self._informed.set()
