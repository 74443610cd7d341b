"""What a page works with: the client of whoever is logged in, and the ways to other pages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from everlearn.client import Client
    from everlearn.dashboard.logins import Login, Me


@dataclass(slots=True)
class Desk:
    """One visitor's place. ``pages`` are Streamlit's, by name."""

    login: Login
    pages: dict[str, Any] = field(default_factory=dict)

    @property
    def client(self) -> Client:
        """A client that acts as the visitor. Raises UnauthorizedError once the log-in is over."""
        return self.login.client()

    @property
    def me(self) -> Me:
        """Who the visitor is."""
        return self.login.me

    def tasks(self) -> dict[str, str]:
        """The models that the visitor may see with their tasks, the one that most needs a look first."""
        return {card["name"]: card["task"] for card in self.cards()["items"]}

    def cards(self) -> Mapping[str, Any]:
        """The overview's answer: up to 1,000 cards."""
        return self.client.overview(limit=1000)
