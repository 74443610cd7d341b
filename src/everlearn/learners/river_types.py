"""Which classes and functions of River may stand in a stored model: an explicit list."""

from __future__ import annotations

import random
import types
from collections.abc import Iterator
from importlib import import_module
from typing import Any

PACKAGES = (
    *("active", "anomaly", "base", "cluster", "compose", "covariance", "drift", "dummy", "ensemble", "facto"),
    *("feature_extraction", "feature_selection", "forest", "imblearn", "linear_model", "metrics", "misc"),
    *("model_selection", "multiclass", "naive_bayes", "neighbors", "optim", "preprocessing", "proba"),
    *("rules", "sketch", "stats", "tree", "utils", "_river_rust"),
)
"""Packages of River whose classes and functions may stand in a model."""

DENIED = {
    "river.neighbors.ann": "its search draws random numbers when it is asked: give the model"
    ' {"engine": {"neighbors.LazySearch": {"window_size": 500}}}',
    "river.compose.func": "it holds a function of yours, and code is not stored: use a transformer of River",
    "river.misc.zstd_classifier": "it holds a compressor that cannot be copied: choose another model",
}
"""Modules in them whose objects cannot be kept exactly, and what can be done."""

_PLAIN = {
    "builtins": ("bool", "dict", "float", "frozenset", "int", "list", "set", "str", "tuple"),
    "copy": ("copy", "deepcopy"),
    "collections": ("Counter", "OrderedDict", "defaultdict", "deque"),
    "statistics": ("NormalDist",),
}
_FREE_SLOTS = ("__dict__", "__weakref__")
Function = types.FunctionType | types.BuiltinFunctionType


def resolve(module: str, name: str) -> Any:
    """A class or function by where it is defined; raises ValueError unless it is on a list."""
    if module in _PLAIN:
        if name not in _PLAIN[module]:
            raise ValueError(f"{module}.{name} is not allowed")
        return getattr(import_module(module), name)
    reason = why_not(module)
    if reason:
        raise ValueError(f"{module}.{name} is not allowed: {reason}")
    found: Any = import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    proper = isinstance(found, type | Function) and (found.__module__, found.__qualname__) == (module, name)
    if not proper:
        raise ValueError(f"{module}.{name} is no class or function that is defined there")
    return found


def why_not(module: str) -> str:
    """Why what a module defines cannot be kept, and what can be done; empty if it can."""
    parts = module.split(".")
    for end in range(len(parts), 1, -1):
        if ".".join(parts[:end]) in DENIED:
            return DENIED[".".join(parts[:end])]
    if parts[0] != "river" or len(parts) < 2 or parts[1] not in PACKAGES:
        return "only objects of River's own models, numbers, texts, arrays and containers are kept"
    return ""


def attributes(thing: Any) -> Iterator[tuple[str, Any]]:
    """The attributes of an object, in its dictionary or in slots."""
    yield from getattr(thing, "__dict__", {}).items()
    for name in slots_of(type(thing)):
        if hasattr(thing, name):
            yield name, getattr(thing, name)


def slots_of(kind: type) -> list[str]:
    """The attributes that the objects of a class have in slots."""
    names: list[str] = []
    for part in reversed(kind.__mro__):
        slots = part.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            hidden = name.startswith("__") and not name.endswith("__")
            names.append(f"_{part.__name__.lstrip('_')}{name}" if hidden else name)
    return [name for name in names if name not in _FREE_SLOTS]


def is_idle(owner: Any, name: str, value: Any) -> bool:
    """Whether an attribute is a generator that was seeded by the system, and is not drawn from in learning.

    River's distributions hold one to sample from. It is not stored, so that equal models are equal.
    """
    return (
        name == "_rng"
        and type(owner).__module__.startswith("river.proba")
        and type(value) is random.Random
        and getattr(owner, "seed", 0) is None
    )
