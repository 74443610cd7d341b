"""Who is logged in: tokens and keys in the memory of this process, each under an opaque id for the browser.

A restart of the dashboard ends all of them, and nothing of them is ever written down. Access tokens last
some minutes; each is traded for the next shortly before it ends, by one thread at a time, since a refresh
token works once.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from everlearn.client import Client, Retries
from everlearn.errors import EverlearnError, UnauthorizedError

IDLE_SECONDS: Final = 12 * 3600.0
"""A log-in that nobody uses for so long is forgotten."""
EARLY_SECONDS: Final = 60.0
"""How long before its end an access token is traded for the next."""
MOST: Final = 10_000
"""Log-ins that are kept at most; the one unused for longest goes first."""
PATIENCE: Final = Retries(attempts=2, base=0.2)
"""A page says that the server does not answer sooner than a script would."""
TIMEOUT: Final = 10.0

Tokens = Mapping[str, Any]
Connect = Callable[[str], Client]
"""Makes a client with a key or an access token."""


def connector(url: str) -> Connect:
    """What makes clients of the API at an address."""
    return lambda key: Client(url, key, timeout=TIMEOUT, retries=PATIENCE)


@dataclass(frozen=True, slots=True)
class Me:
    """Who is logged in, and what they may do: everywhere, and with single models."""

    name: str
    role: str
    everywhere: frozenset[str]
    models: Mapping[str, frozenset[str]]

    @classmethod
    def read(cls, record: Mapping[str, Any]) -> Me:
        """Read the answer of ``GET /v1/auth/me``."""
        models = {name: frozenset(scopes) for name, scopes in record["models"].items()}
        return cls(record["name"], record["role"], frozenset(record["everywhere"]), models)

    @property
    def shown(self) -> str:
        """The name as people know it."""
        return "API key" if self.name == "key" else self.name.removeprefix("user:")

    def may(self, scope: str, model: str | None = None) -> bool:
        """Whether the API will let them, with a model or (``None``) with everything."""
        return scope in self.everywhere or (model is not None and scope in self.models.get(model, ()))


class Login:
    """One log-in: by tokens, which are refreshed, or by an API key. Safe to share between threads."""

    def __init__(self, connect: Connect, me: Me, tokens: Tokens | None, key: str | None = None) -> None:
        self.me = me
        self.used = time.monotonic()
        self._connect = connect
        self._lock = threading.Lock()
        self._refresh: str | None = None
        self._ends = float("inf")
        self._client = self._connected(tokens, key)

    def client(self) -> Client:
        """A client that acts as this user. Raises UnauthorizedError once the log-in is over."""
        self.used = time.monotonic()
        with self._lock:
            if self._refresh is not None and time.monotonic() > self._ends - EARLY_SECONDS:
                self._client = self._connected(self._client.refresh(self._refresh), None)
                self.me = Me.read(self._client.me())
            return self._client

    def end(self) -> None:
        """Log out: the tokens are worth nothing afterwards. A server that is down is left to expire them."""
        with contextlib.suppress(EverlearnError), self._lock:
            if self._refresh is not None:
                self._client.logout()

    def _connected(self, tokens: Tokens | None, key: str | None) -> Client:
        if tokens is not None:
            key, self._refresh = tokens["access_token"], tokens["refresh_token"]
            self._ends = time.monotonic() + float(tokens["expires_in"])
        return self._connect(key or "")


class Logins:
    """The log-ins of one dashboard, by the ids that browsers hold."""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._open: dict[str, Login] = {}
        self._lock = threading.Lock()

    def by_password(self, name: str, password: str) -> str:
        """Log in with name and password; returns the id. Raises UnauthorizedError if they are wrong."""
        return self._by_tokens(lambda client: client.login(name, password))

    def by_invitation(self, name: str, invite: str, password: str) -> str:
        """Choose a password by an invitation, and log in; returns the id."""
        return self._by_tokens(lambda client: client.accept_invite(name, invite, password))

    def by_key(self, key: str) -> str:
        """Log in with an API key; returns the id. Raises UnauthorizedError if it is wrong."""
        if not key.isascii() or any(c.isspace() for c in key):
            raise UnauthorizedError("This is no API key: it has spaces or letters that no key has")
        with self._connect(key) as client:
            me = Me.read(client.me())
        return self.keep(Login(self._connect, me, None, key))

    def find(self, sid: str | None) -> Login | None:
        """The log-in of an id, or ``None`` if there is none, or no longer."""
        login = self._open.get(sid or "")
        if login is not None and time.monotonic() - login.used > IDLE_SECONDS:
            self.end(sid)
            return None
        return login

    def end(self, sid: str | None) -> None:
        """Log out and forget."""
        with self._lock:
            login = self._open.pop(sid or "", None)
        if login is not None:
            login.end()

    def keep(self, login: Login) -> str:
        """Remember a log-in under a new id."""
        sid = secrets.token_urlsafe(32)
        with self._lock:
            while len(self._open) >= MOST:
                del self._open[min(self._open, key=lambda one: self._open[one].used)]
            self._open[sid] = login
        return sid

    def _by_tokens(self, ask: Callable[[Client], Tokens]) -> str:
        # A key of this process's environment must not be sent along: nobody is logged in yet.
        with self._connect("nobody") as client:
            tokens = ask(client)
        with self._connect(tokens["access_token"]) as client:
            me = Me.read(client.me())
        return self.keep(Login(self._connect, me, tokens))


@dataclass(slots=True)
class Place:
    """What one dashboard serves: its log-ins and the name of their cookie."""

    logins: Logins
    cookie: str


@cache
def place() -> Place:
    """The one of this process. Streamlit runs its script without arguments, so the script asks here."""
    return Place(Logins(connector("")), "")
