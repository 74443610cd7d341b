"""States of learners: what an artifact can hold, and whether two are the same bit for bit."""

from __future__ import annotations

import json
import math
import sys
from collections import deque
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

import numpy as np


def stored(state: Any, path: str = "state") -> Any:
    """A state as it comes back from an artifact; raises AssertionError for what no artifact can hold.

    Allowed are dicts with text keys, lists, JSON scalars (finite), arrays of booleans or numbers, and
    bytes under a key that names their format (``"model.skops"``).
    """
    if type(state) is dict:
        for key in state:
            need(type(key) is str, f"{path} has the key {key!r}, which is no text")
        need(
            all("." in key for key, value in state.items() if isinstance(value, bytes)),
            f"{path} holds bytes under a key that names no file format, as in 'model.skops'",
        )
        return {key: stored(value, f"{path}.{key}") for key, value in state.items()}
    if type(state) is list:
        return [stored(value, f"{path}[{i}]") for i, value in enumerate(state)]
    if type(state) is np.ndarray:
        need(state.dtype.kind in "biuf", f"{path} is an array of {state.dtype}, not of numbers")
        return np.frombuffer(state.tobytes(), dtype=state.dtype).reshape(state.shape).copy()
    if type(state) is bytes:
        return bytes(state)
    allowed = state is None or type(state) in (bool, int, float, str)
    need(allowed, f"{path} is a {type(state).__name__}, which no artifact can hold")
    need(type(state) is not float or math.isfinite(state), f"{path} is {state}, which JSON cannot hold")
    return json.loads(json.dumps(state))


def same(a: Any, b: Any) -> bool:
    """Whether two states, or two arrays of answers, are the same bit for bit."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(value, b[key]) for key, value in a.items())
    if isinstance(a, list):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, np.ndarray):
        return bool(a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes())
    return bool(a == b)


def size(state: Any) -> int:
    """Bytes that a state takes, about."""
    if isinstance(state, dict):
        return sum(len(key) + size(value) for key, value in state.items())
    if isinstance(state, list):
        return sum(map(size, state))
    if isinstance(state, np.ndarray):
        return state.nbytes
    return len(state) if isinstance(state, bytes | str) else 8


def held(thing: Any) -> int:
    """Bytes that an object and its class hold, about: arrays, containers, attributes, and what is in them."""
    seen: dict[int, Any] = {}  # with the objects, lest an address be used twice
    waiting: list[Any] = [thing]
    waiting += [value for kind in type(thing).__mro__[:-1] for value in vars(kind).values()]
    total = 0
    while waiting:
        part = waiting.pop()
        if id(part) in seen or isinstance(part, type | ModuleType | FunctionType | BuiltinFunctionType):
            continue
        seen[id(part)] = part
        if isinstance(part, np.ndarray):
            total += part.nbytes
            waiting += [] if part.base is None else [part.base]
            waiting += part.ravel().tolist() if part.dtype == object else []
            continue
        total += sys.getsizeof(part)
        if isinstance(part, dict):
            waiting += [*part.keys(), *part.values()]
        elif isinstance(part, list | tuple | set | frozenset | deque):
            waiting += list(part)
        waiting += list(getattr(part, "__dict__", {}).values())
        for slots in (getattr(kind, "__slots__", ()) for kind in type(part).__mro__):
            names = (slots,) if isinstance(slots, str) else slots
            waiting += [getattr(part, name) for name in names if hasattr(part, name)]
    return total


def spoil(state: Any) -> None:
    """Overwrite everything in a state that can be overwritten."""
    parts = state.values() if isinstance(state, dict) else state if isinstance(state, list) else ()
    for part in list(parts):
        spoil(part)
    if isinstance(state, np.ndarray) and state.flags.writeable:
        state[...] = 1
    elif isinstance(state, dict | list):
        state.clear()


def need(condition: bool, message: str) -> None:
    """Raise AssertionError with a message unless a condition holds (``assert`` would vanish under -O)."""
    if not condition:
        raise AssertionError(message)
