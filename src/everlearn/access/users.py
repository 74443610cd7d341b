"""Users: a name, a role, grants for single models, and a password that is stored as its argon2id hash."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from everlearn.access.names import fault
from everlearn.access.secrets import MAX_PASSWORD, MIN_PASSWORD, weakness
from everlearn.access.words import SCOPES_OF, Principal, Role

INVITE_SECONDS: Final = 86_400.0 * 3
"""How long an invitation can be accepted."""


@dataclass(frozen=True, slots=True)
class User:
    """A person with an account.

    ``role`` holds for every model (``None``: for none), ``grants`` for single ones. ``password`` is a
    hash or ``None`` while an invitation waits; ``invite`` is the digest of that invitation's token, valid
    until ``invite_until``. ``revision`` counts changes, so that of two at once one is refused.
    """

    name: str
    role: Role | None
    grants: Mapping[str, Role] = field(default_factory=dict)
    password: str | None = None
    invite: str | None = None
    invite_until: float | None = None
    disabled: bool = False
    created_at: float = 0.0
    revision: int = 0

    @property
    def state(self) -> str:
        """``disabled``, ``invited`` (no password yet) or ``active``."""
        if self.disabled:
            return "disabled"
        return "active" if self.password else "invited"

    def principal(self, session: str | None = None, expires: float | None = None) -> Principal:
        """What the user may do."""
        everywhere = SCOPES_OF[self.role] if self.role else frozenset()
        models = {model: SCOPES_OF[role] for model, role in self.grants.items()}
        name = f"user:{self.name}"
        return Principal(name, self.role or "none", everywhere, models, expires, session)


def check_grants(grants: Mapping[str, Role]) -> None:
    """Raise InvalidError for a grant that cannot be."""
    from everlearn.access.names import model_name

    for model, role in grants.items():
        model_name(f"grants.{model}"[:80], model)
        if role is Role.ADMIN:
            raise fault(f"grants.{model}", "admin is a role for everything: grant operator or viewer")


def check_password(password: str, name: str) -> None:
    """Raise InvalidError for a password that is easily guessed."""
    if len(password) > MAX_PASSWORD:
        raise fault("password", f"must have at most {MAX_PASSWORD} characters")
    why = weakness(password, MIN_PASSWORD)
    if why is None and len(name) > 2 and name in password.lower():
        why = "it holds the user's name"
    if why is not None:
        raise fault("password", f"is too weak: {why}; a few random words make a good one")
