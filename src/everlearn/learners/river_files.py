"""River models as JSON: an explicit list of types, nothing pickled, equal models give equal bytes.

A model is a graph of objects that share parts and point at each other. It is written as a table of objects,
in the order in which they are met, and every number, text or reference in them as a *cell*. Objects come back
by ``cls.__new__`` and their attributes, never by a call of their own code. What is on no list is refused.
"""

from __future__ import annotations

import base64
import collections
import functools
import json
import math
import random
import types
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Never

import numpy as np

from everlearn.errors import IntegrityError
from everlearn.learners.inputs import invalid
from everlearn.learners.river_types import Function, attributes, is_idle, resolve, slots_of, why_not


def dump(model: Any) -> bytes:
    """A model as canonical JSON (ASCII); raises InvalidError that names the first type that is refused."""
    objects = _Writer().write(model)
    text = json.dumps({"format": 1, "objects": objects}, separators=(",", ":"), allow_nan=False)
    return text.encode("ascii")


def load(data: bytes) -> Any:
    """The model in :func:`dump`'s bytes; raises IntegrityError for damaged bytes or a type on no list."""
    try:
        content = json.loads(data)
        if content["format"] != 1:
            raise ValueError(f"format {content['format']} is unknown")
        return _Reader(content["objects"]).read()
    except BaseException as error:
        # River's compiled parts panic, past Exception, on bytes that are not theirs.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise IntegrityError(f"A stored River model cannot be read: {error!r}") from error


class _Writer:
    """Numbers objects as they are met, and writes each once."""

    def __init__(self) -> None:
        self._numbers: dict[int, int] = {}
        self._things: list[Any] = []  # keeps them alive, so that no id comes twice
        self._trails: list[str] = []
        self._trail = ""

    def write(self, model: Any) -> list[Any]:
        """The table of objects, with the model first."""
        objects: list[Any] = []
        self._refer(model)
        while len(objects) < len(self._things):
            thing, self._trail = self._things[len(objects)], self._trails[len(objects)]
            objects.append(self._object(thing))
        return objects

    def _refer(self, thing: Any) -> int:
        number = self._numbers.get(id(thing))
        if number is None:
            number = self._numbers[id(thing)] = len(self._things)
            self._things.append(thing)
            self._trails.append(self._trail)
        return number

    def _cell(self, value: Any) -> Any:
        kind = type(value)
        if value is None or kind in (bool, int, str):
            return value
        if kind is float:
            return value if math.isfinite(value) else {"f": repr(value)}
        if isinstance(value, np.generic):
            return (
                {"n": [value.dtype.str, value.tobytes().hex()]}
                if value.dtype.kind in "biuf"
                else self._no(kind)
            )
        if kind is tuple:
            return {"t": [self._cell(part) for part in value]}
        if kind is frozenset:
            return {"z": [self._cell(part) for part in _in_order(value)]}
        if isinstance(value, types.MethodType):
            return {"m": [self._refer(value.__self__), self._named(value.__func__)]}
        if isinstance(value, type | Function):
            return {"g": self._named(value)}
        return {"r": self._refer(value)}

    def _cells(self, values: Iterable[Any]) -> list[Any]:
        return [self._cell(value) for value in values]

    def _pairs(self, pairs: Iterable[tuple[Any, Any]]) -> list[Any]:
        return [cell for pair in pairs for cell in self._cells(pair)]

    def _named(self, value: Any) -> list[str]:
        try:
            if resolve(value.__module__, value.__qualname__) is value:
                return [value.__module__, value.__qualname__]
        except (ValueError, AttributeError, ImportError):
            pass
        return self._no(value if isinstance(value, type) else type(value), getattr(value, "__qualname__", ""))

    def _no(self, kind: type, name: str = "") -> Never:
        reason = why_not(kind.__module__) or "it is not of a kind that is kept"
        what = f"{kind.__module__}.{kind.__qualname__}" + (f" ({name})" if name else "")
        raise invalid("model", f"holds a {what} in {self._trail or 'itself'}: {reason}")

    def _object(self, thing: Any) -> list[Any]:
        write = _WRITE.get(type(thing))
        if write is not None:
            return write(self, thing)
        kind = type(thing)
        if kind.__module__.startswith("river._river_rust"):
            return self._compiled(thing)
        plain = isinstance(thing, dict | list | set | tuple | str | int | float)
        if plain or kind.__module__ == "builtins" or kind.__module__ == "collections":
            return self._no(kind)
        name, trail, cells = self._named(kind), self._trail, {}
        for key, value in attributes(thing):
            self._trail = f"{trail}.{key}" if trail else f"{kind.__name__}.{key}"
            if not is_idle(thing, key, value):
                cells[key] = self._cell(_numbered(thing, key, value))
        return ["object", name, cells]

    def _compiled(self, thing: Any) -> list[Any]:
        """A part of River that is written in Rust."""
        name = self._named(type(thing))
        if name[1] == "VectorDict":
            _, (data, factory, mask, _) = thing.__reduce__()
            return ["vector", self._pairs(data.items()), self._cell(factory), self._cell(mask)]
        if not hasattr(type(thing), "__getstate__") or type(thing.__getstate__()) is not bytes:
            return self._no(type(thing))
        made = thing.__getnewargs__() if hasattr(thing, "__getnewargs__") else ()
        return ["compiled", name, self._cells(made), base64.b64encode(thing.__getstate__()).decode()]

    def _mapping(self, thing: Any) -> list[Any]:
        return ["mapping", self._named(type(thing)), self._pairs(thing.items())]

    def _list(self, thing: list[Any]) -> list[Any]:
        return ["list", self._cells(thing)]

    def _set(self, thing: set[Any]) -> list[Any]:
        for part in thing:
            if getattr(type(part), "__hash__", None) is object.__dict__["__hash__"]:
                raise invalid("model", f"holds a set of {type(part).__qualname__}, whose order is not kept")
        return ["set", self._cells(_in_order(thing))]

    def _deque(self, thing: collections.deque[Any]) -> list[Any]:
        return ["deque", thing.maxlen, self._cells(thing)]

    def _default(self, thing: collections.defaultdict[Any, Any]) -> list[Any]:
        return ["default", self._cell(thing.default_factory), self._pairs(thing.items())]

    def _partial(self, thing: functools.partial[Any]) -> list[Any]:
        return [
            "partial",
            self._cell(thing.func),
            self._cells(thing.args),
            self._pairs(thing.keywords.items()),
        ]

    def _random(self, thing: random.Random) -> list[Any]:
        version, numbers, gauss = thing.getstate()
        return ["random", version, list(numbers), self._cell(gauss)]

    def _generator(self, thing: np.random.Generator | np.random.RandomState) -> list[Any]:
        state = thing.get_state(legacy=False) if isinstance(thing, np.random.RandomState) else None
        if isinstance(thing, np.random.Generator):
            state = dict(thing.bit_generator.state)
        if state is None or state["bit_generator"] not in ("MT19937", "PCG64"):
            return self._no(type(thing))
        return ["generator", type(thing).__name__, _plainly(state)]

    def _array(self, thing: Any) -> list[Any]:
        if thing.dtype.kind not in "biuf":
            return self._no(type(thing), f"of {thing.dtype}")
        return ["array", thing.dtype.str, list(thing.shape), base64.b64encode(thing.tobytes()).decode()]


def _in_order(values: Iterable[Any]) -> list[Any]:
    """The members of a set: sorted if they are texts, whose order differs from process to process anyway."""
    members = list(values)
    return sorted(members) if all(type(member) is str for member in members) else members


def _numbered(owner: Any, name: str, value: Any) -> Any:
    """The rules of AMRules, which it names by their memory address, named by their place."""
    if name == "_rules" and type(owner).__module__ == "river.rules.amrules" and type(value) is dict:
        return dict(enumerate(value.values()))
    return value


def _plainly(state: Any) -> Any:
    """A generator's state with lists for its arrays."""
    if isinstance(state, dict):
        return {key: _plainly(value) for key, value in state.items()}
    return state.tolist() if isinstance(state, np.ndarray | np.generic) else state


_WRITE: dict[type, Callable[[_Writer, Any], list[Any]]] = {
    dict: _Writer._mapping,
    collections.OrderedDict: _Writer._mapping,
    collections.Counter: _Writer._mapping,
    collections.defaultdict: _Writer._default,
    list: _Writer._list,
    set: _Writer._set,
    collections.deque: _Writer._deque,
    functools.partial: _Writer._partial,
    random.Random: _Writer._random,
    np.random.Generator: _Writer._generator,
    np.random.RandomState: _Writer._generator,
    np.ndarray: _Writer._array,
}


class _Reader:
    """Makes every object empty, then fills them: so they may point at each other."""

    def __init__(self, objects: list[Any]) -> None:
        self._objects = objects
        self._made: list[Any] = [None] * len(objects)

    def read(self) -> Any:
        """The first object of the table."""
        later = ("vector", "partial")  # made from parts that must be there
        for names in ((), later):
            for number, entry in enumerate(self._objects):
                if (entry[0] in later) == bool(names):
                    self._made[number] = self._make(*entry)
        hashed = []
        for number, entry in enumerate(self._objects):
            if entry[0] in ("mapping", "default", "set") and _by_objects(entry):
                hashed.append(number)  # its keys must be whole before they are hashed
            else:
                self._fill(self._made[number], *entry)
        for number in hashed:
            self._fill(self._made[number], *self._objects[number])
        return self._made[0]

    def _cell(self, cell: Any) -> Any:
        if not isinstance(cell, dict):
            return cell
        ((kind, value),) = cell.items()
        if kind == "r":
            return self._made[_index(value)]
        if kind == "f":
            return {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}[value]
        if kind == "n":
            return np.frombuffer(bytes.fromhex(value[1]), dtype=np.dtype(_numeric(value[0])))[0]
        if kind == "t":
            return tuple(self._cells(value))
        if kind == "z":
            return frozenset(self._cells(value))
        if kind == "m":
            return types.MethodType(resolve(*value[1]), self._made[_index(value[0])])
        if kind == "g":
            return resolve(*value)
        raise ValueError(f"{kind!r} is no kind of cell")

    def _cells(self, cells: list[Any]) -> list[Any]:
        return [self._cell(cell) for cell in cells]

    def _pairs(self, cells: list[Any]) -> Iterator[tuple[Any, Any]]:
        values = self._cells(cells)
        return zip(values[::2], values[1::2], strict=True)

    def _make(self, kind: str, *parts: Any) -> Any:
        """An object without its content."""
        if kind in ("object", "mapping", "compiled"):
            return self._make_named(kind, resolve(*parts[0]), *parts[1:])
        if kind == "vector":
            vectors = resolve("river._river_rust.vectordict", "VectorDict")
            return vectors(dict(self._pairs(parts[0])), *self._cells(list(parts[1:])), True)
        if kind == "partial":
            return functools.partial(
                self._cell(parts[0]), *self._cells(parts[1]), **dict(self._pairs(parts[2]))
            )
        if kind == "deque":
            return collections.deque(maxlen=parts[0])
        if kind == "random":
            return _random_of(parts[0], parts[1], self._cell(parts[2]))
        if kind == "generator":
            return _generator_of(*parts)
        if kind == "array":
            return (
                np.frombuffer(base64.b64decode(parts[2]), dtype=_numeric(parts[0])).reshape(parts[1]).copy()
            )
        makers: dict[str, Callable[[], Any]] = {
            "list": list,
            "set": set,
            "default": collections.defaultdict,
        }
        return makers[kind]()

    def _make_named(self, kind: str, found: Any, *parts: Any) -> Any:
        if kind == "mapping" and isinstance(found, type) and issubclass(found, dict):
            return found()
        compiled = found.__module__.startswith("river._river_rust")
        if kind == "compiled" and compiled:
            made = found(*self._cells(parts[0]))
            made.__setstate__(base64.b64decode(parts[1], validate=True))
            return made
        plain = found.__module__ in ("builtins", "collections")
        if kind == "object" and isinstance(found, type) and not plain and not compiled:
            return object.__new__(found)
        raise ValueError(f"{found!r} is no {kind}")

    def _fill(self, made: Any, kind: str, *parts: Any) -> None:
        if kind == "object":
            slots = set(slots_of(type(made)))
            for name, cell in parts[1].items():
                if name in slots:
                    object.__setattr__(made, name, self._cell(cell))
                else:
                    made.__dict__[name] = self._cell(cell)
            if type(made).__module__.startswith("river.proba") and getattr(made, "seed", 0) is None:
                made._rng = random.Random(0)
        elif kind == "list":
            made.extend(self._cells(parts[0]))
        elif kind == "deque":
            made.extend(self._cells(parts[1]))
        elif kind == "set":
            made.update(self._cells(parts[0]))
        elif kind == "mapping":
            made.update(dict(self._pairs(parts[1])))
        elif kind == "default":
            made.default_factory = self._cell(parts[0])
            made.update(self._pairs(parts[1]))


def _by_objects(entry: list[Any]) -> bool:
    """Whether a set or mapping is keyed by something that is not a plain number or text."""
    keys = entry[1] if entry[0] == "set" else entry[2][::2]
    return any(isinstance(key, dict) for key in keys)


def _index(number: Any) -> int:
    if type(number) is not int or number < 0:
        raise ValueError(f"{number!r} is no number of an object")
    return number


def _numeric(name: str) -> Any:
    kind = np.dtype(name)
    if kind.kind not in "biuf":
        raise ValueError(f"{name!r} is no type of numbers")
    return kind


def _random_of(version: int, numbers: list[int], gauss: float | None) -> random.Random:
    made = random.Random(0)
    made.setstate((version, tuple(numbers), gauss))
    return made


def _generator_of(name: str, state: dict[str, Any]) -> Any:
    if name == "RandomState":
        made = np.random.RandomState(0)
        made.set_state(
            {**state, "state": {**state["state"], "key": np.array(state["state"]["key"], np.uint32)}}
        )
        return made
    bits = {"MT19937": np.random.MT19937, "PCG64": np.random.PCG64}[state["bit_generator"]](0)
    bits.state = state
    return np.random.Generator(bits)
