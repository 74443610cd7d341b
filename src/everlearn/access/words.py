"""Scopes, roles and principals: what a caller may do, everywhere or with single models."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final


class Scope(StrEnum):
    """A kind of act. Admin includes all others."""

    PREDICT = "predict"
    LABEL = "label"
    READ = "read"
    OPERATE = "operate"
    ADMIN = "admin"


class Role(StrEnum):
    """A bundle of scopes that people know by a name."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"


Scopes = frozenset[Scope]

ALL_SCOPES: Final[Scopes] = frozenset(Scope)

SCOPES_OF: Final[Mapping[Role, Scopes]] = {
    Role.VIEWER: frozenset({Scope.READ}),
    Role.OPERATOR: frozenset({Scope.PREDICT, Scope.LABEL, Scope.READ, Scope.OPERATE}),
    Role.ADMIN: ALL_SCOPES,
}


def widened(scopes: Collection[Scope]) -> Scopes:
    """The scopes with all that they include."""
    return ALL_SCOPES if Scope.ADMIN in scopes else frozenset(scopes)


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls, and what they may do. One that is given nothing may do nothing.

    ``name`` is unique among all callers (``key``, ``key:3f9a…``, ``user:ann``), ``role`` is for people to
    read. ``everywhere`` are the scopes for every model and for what belongs to none, ``models`` those for
    single models. ``expires`` is when the credential ends, ``session`` the session that it belongs to,
    ``labels_per_day`` how many labels and examples it may give (``None``: as the installation says).

    >>> ann = Principal("user:ann", "viewer", SCOPES_OF[Role.VIEWER], {"shop": SCOPES_OF[Role.OPERATOR]})
    >>> ann.allows(Scope.PREDICT, "shop"), ann.allows(Scope.PREDICT, "bank"), ann.allows(Scope.READ, "bank")
    (True, False, True)
    """

    name: str
    role: str
    everywhere: Scopes = frozenset()
    models: Mapping[str, Scopes] = field(default_factory=dict)
    expires: float | None = None
    session: str | None = None
    labels_per_day: int | None = None

    def allows(self, scope: Scope, model: str | None = None) -> bool:
        """Whether they may do this with a model (``None``: with everything)."""
        if scope in self.everywhere:
            return True
        return model is not None and scope in self.models.get(model, ())

    def allows_some(self, scope: Scope) -> bool:
        """Whether there is anything that they may do this with."""
        return scope in self.everywhere or any(scope in scopes for scopes in self.models.values())


def administrator(name: str) -> Principal:
    """A principal that may do everything."""
    return Principal(name, Role.ADMIN.value, ALL_SCOPES)
