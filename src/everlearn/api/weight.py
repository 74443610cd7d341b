"""How much memory an object takes: itself and all that it refers to, but for what all of its kind share."""

from __future__ import annotations

import gc
import sys
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np

MOST = 200_000
"""Objects that are looked at; what is beyond them is taken to be like those before."""

_SHARED = (type, ModuleType, CodeType, BuiltinFunctionType)
_LIBRARIES = ("numba.", "llvmlite.", "loguru", "threading", "_thread", "weakref")
_STORES = ("everlearn.adapters.", "everlearn.vision.frames")
"""Where what a version was read from is kept, and what it looks images up in."""

_OTHERS = (*_LIBRARIES, *_STORES)


def weigh(thing: Any) -> int:
    """Bytes, roughly: what a library keeps outside of Python's memory is not seen.

    Types, modules and compiled code are left out: they are there once, for all.

    >>> 8_000 < weigh({"a": np.zeros(1000)}) < 9_000
    True
    """
    seen: set[int] = set()
    stack, total = [thing], 0
    while stack:
        one = stack.pop()
        if id(one) in seen or isinstance(one, _SHARED) or type(one).__module__.startswith(_OTHERS):
            continue
        seen.add(id(one))
        if len(seen) > MOST:
            return int(total * (1.0 + len(stack) / MOST))
        total += sys.getsizeof(one)
        stack.extend(_parts(one))
    return total


def _parts(one: Any) -> list[Any]:
    if isinstance(one, np.ndarray):
        held = gc.get_referents(one) if one.dtype.hasobject else []
        return held if one.base is None else [one.base, *held]
    if isinstance(one, FunctionType):  # its closure, and not its globals, which are a module's
        return [*(one.__closure__ or ()), *(one.__defaults__ or ())]
    return gc.get_referents(one)
