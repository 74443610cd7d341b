"""everlearn keeps a deployed model current."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from everlearn import learners as learners
    from everlearn.client import AsyncClient as AsyncClient
    from everlearn.client import Client as Client
    from everlearn.loop.replay import replay as replay

__version__ = "0.1.0"

__all__ = ["AsyncClient", "Client", "__version__", "learners", "replay"]

_HOMES = {
    "AsyncClient": "everlearn.client",
    "Client": "everlearn.client",
    "replay": "everlearn.loop.replay",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that ``import everlearn`` stays fast (PEP 562)."""
    if name == "learners":
        return import_module("everlearn.learners")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'everlearn' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
