"""What a route needs: a scope, and with which model."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from everlearn.access.words import Principal, Scope
from everlearn.errors import ForbiddenError


class On(Enum):
    """Which model a route works with, where it is none by name."""

    PATH = "the model in the path"
    ALL = "every model, or none"
    SOME = "at least one: the handler looks which"


@dataclass(frozen=True, slots=True)
class Need:
    """A permission. ``scope`` is ``None`` where any valid credential will do; ``open`` needs none."""

    scope: Scope | None = None
    on: On | str = On.PATH
    open: bool = False

    @property
    def privileged(self) -> bool:
        """Whether acts under it belong in the audit log."""
        return self.scope in (Scope.OPERATE, Scope.ADMIN)


def met(need: Need, principal: Principal, model: str | None) -> bool:
    """Whether a principal may use a route; ``model`` is the one in the path, if there is one."""
    if need.open or need.scope is None:
        return True
    if need.on is On.SOME:
        return principal.allows_some(need.scope)
    if need.on is On.ALL:
        return principal.allows(need.scope)
    wanted = need.on if isinstance(need.on, str) else model
    return wanted is not None and principal.allows(need.scope, wanted)


def denied(principal: Principal, scope: Scope, model: str | None) -> ForbiddenError:
    """The error for one who may not."""
    what = f"model {model!r}" if model else "everything"
    return ForbiddenError(
        f"{principal.name} may not {scope} {what}: ask an administrator for the scope '{scope}' on it"
    )


def permit(principal: Principal, scope: Scope, model: str | None) -> None:
    """Raise ForbiddenError unless a principal may do this with a model (``None``: with everything)."""
    if not principal.allows(scope, model):
        raise denied(principal, scope, model)
