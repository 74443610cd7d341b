"""The check at the door: are these rows and targets what the model's spec declares?

>>> schema = Schema({"age": "numeric", "colour": "categorical"})
>>> schema.check([{"age": 30, "colour": "red", "note": "hi"}])
Checked(rows=[{'age': 30, 'colour': 'red'}], ignored={'note': 1})
>>> schema.check([{"age": "30"}, {"age": True}])
Traceback (most recent call last):
...
everlearn.errors.SchemaError: 2 faults: rows[0].age: is the text '30': send 30 without quotes; rows[1].age: \
is true: send 1 or 0, or declare the feature boolean
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import numpy as np

from everlearn.errors import Fault, SchemaError
from everlearn.features.cells import CELLS, MAX_WHOLE, Cell, CellError, is_missing, numeric, shown
from everlearn.features.infer import infer_spec as infer_spec
from everlearn.spec import ModelSpec
from everlearn.types import FeatureKind, Row, Scalar, Task
from everlearn.vision import boxes

if TYPE_CHECKING:
    import pandas as pd

MAX_FAULTS = 100
"""How many faults an error lists; it counts them all."""

_NUMBERS = frozenset({int, float})
_WHOLE = 2.0**53


@dataclass(frozen=True, slots=True)
class Checked:
    """Clean rows, and how often each column that the schema does not name was left out of them.

    A clean row holds clean cells (:mod:`everlearn.features.cells`) of its present features in the
    order of their names. Missing cells are left out; a row with nothing but missing cells keeps one
    as ``None``. So equal rows have equal clean rows, and a clean row is its own clean row.
    """

    rows: list[dict[str, Scalar]]
    ignored: Mapping[str, int] = field(default_factory=dict)


class Schema:
    """The features of a model by name and kind, its task, and whether unknown columns are refused."""

    def __init__(
        self, features: Mapping[str, FeatureKind], task: Task = "classification", strict: bool = False
    ) -> None:
        self.features: dict[str, FeatureKind] = {name: features[name] for name in sorted(features)}
        self.task = task
        self.strict = strict
        self._names = tuple(self.features)
        self._checks: dict[str, Cell] = {name: CELLS[kind] for name, kind in self.features.items()}
        numbers = [name for name, kind in self.features.items() if kind == "numeric"]
        self._others = [(name, check) for name, check in self._checks.items() if name not in set(numbers)]
        self._all = _getter(self._names)
        self._numbers = _getter(tuple(numbers))

    @classmethod
    def from_spec(cls, spec: ModelSpec) -> Schema:
        """The schema that a spec declares."""
        return cls(spec.columns, spec.task, spec.strict)

    @staticmethod
    def infer(frame: pd.DataFrame, target: str) -> tuple[dict[str, FeatureKind], Task]:
        """The features and the task of a table: see :func:`everlearn.features.infer.infer_spec`."""
        spec = infer_spec(frame, target)
        return spec["features"], spec["task"]

    def check(self, rows: Sequence[Row], *, strict: bool | None = None) -> Checked:
        """Clean rows, if all fit; ``strict`` overrides whether unknown columns are refused.

        Missing columns are missing values, but a row that names none of the features is a fault.
        Raises SchemaError with every fault of every row (it lists the first 100).
        """
        refuse = self.strict if strict is None else strict
        faults = _Faults()
        ignored: dict[str, int] = {}
        clean: list[dict[str, Scalar]] = []
        for i, row in enumerate(rows):
            quick = self._quick(row)
            if quick is None and not isinstance(row, Mapping):
                faults.add(f"rows[{i}]", f"is a {type(row).__name__}: send an object of columns and values")
                continue
            clean.append(self._slow(i, row, faults) if quick is None else quick)
            if len(row) != len(clean[-1]):
                self._extras(i, row, refuse, ignored, faults)
        faults.raise_any()
        return Checked(clean, ignored)

    def check_target(self, values: Iterable[Any]) -> list[Scalar]:
        """Canonical targets: finite floats for regression; text, booleans and ints for classes; for
        detection the text of a frame's boxes (:mod:`everlearn.vision.boxes`).

        A class given as a float that is whole becomes an int, so that 1.0 and 1 are one class. Raises
        SchemaError with every fault, named ``targets[i]``.
        """
        canonical = _TARGETS.get(self.task, _class)
        faults = _Faults()
        targets: list[Scalar] = []
        for i, value in enumerate(values):
            try:
                targets.append(canonical(value))
            except CellError as error:
                faults.add(f"targets[{i}]", str(error))
        faults.raise_any()
        return targets

    def _quick(self, row: Row) -> dict[str, Scalar] | None:
        """The clean row if all is there and good, None if it needs a closer look."""
        try:
            clean = dict(zip(self._names, self._all(row), strict=True))
            cells = self._numbers(row)
            # A sum is finite only if each of its terms is.
            if not (_NUMBERS.issuperset(map(type, cells)) and math.isfinite(sum(cells))):
                return None
            for name, check in self._others:
                if (cell := check(clean[name])) is None:
                    return None
                clean[name] = cell
        except (KeyError, TypeError, ValueError, OverflowError):
            return None
        return clean

    def _slow(self, i: int, row: Row, faults: _Faults) -> dict[str, Scalar]:
        named = [name for name in self._names if name in row]
        if not named:
            listed = ", ".join(self._names[:10]) + (", …" if len(self._names) > 10 else "")
            faults.add(f"rows[{i}]", f"names no feature of the model: send at least one of {listed}")
        clean: dict[str, Scalar] = {}
        for name in named:
            try:
                cell = self._checks[name](row[name])
            except CellError as error:
                faults.add(f"rows[{i}].{name}", str(error))
                continue
            if cell is not None:
                clean[name] = cell
        return clean or dict.fromkeys(self._names[:1])

    def _extras(self, i: int, row: Row, refuse: bool, ignored: dict[str, int], faults: _Faults) -> None:
        for name in row:
            if name in self._checks:
                continue
            if refuse:
                message = "is not a feature of the model: leave it out, or add it to the spec"
                faults.add(f"rows[{i}].{name}", message)
            ignored[str(name)] = ignored.get(str(name), 0) + 1


class _Faults:
    """The first faults, and how many there are."""

    def __init__(self) -> None:
        self.count = 0
        self.listed: list[Fault] = []

    def add(self, where: str, message: str) -> None:
        self.count += 1
        if len(self.listed) < MAX_FAULTS:
            self.listed.append(Fault(where, message))

    def raise_any(self) -> None:
        if not self.count:
            return
        shown = "; ".join(f"{fault.field}: {fault.message}" for fault in self.listed[:5])
        more = f"; and {self.count - 5} more" if self.count > 5 else ""
        start = f"{self.count} faults: " if self.count > 1 else ""
        raise SchemaError(f"{start}{shown}{more}", self.listed)


def _getter(names: tuple[str, ...]) -> Any:
    """A function from a row to the tuple of its cells of some names; raises KeyError for a missing one."""
    if len(names) > 1:
        return itemgetter(*names)
    return (lambda row: (row[names[0]],)) if names else (lambda _: ())


def _estimate(value: Any) -> float:
    if is_missing(value):
        raise CellError("is missing: send a finite number")
    try:
        number = numeric(value)
    except CellError:
        number = None
    if number is None:
        raise CellError(f"is {shown(value)}: send a finite number (no text, no boolean)")
    return float(number)


def _boxes(value: Any) -> str:
    try:
        return boxes.canonical_truth(value)
    except boxes.BoxError as error:
        raise CellError(str(error)) from None


def _class(value: Any) -> Scalar:
    if isinstance(value, np.generic):
        value = value.item()
    if is_missing(value):
        raise CellError("is missing: send the class as text, a whole number or a boolean")
    if isinstance(value, str) or (isinstance(value, int) and abs(value) < MAX_WHOLE):
        return value
    if isinstance(value, float) and value.is_integer() and abs(value) <= _WHOLE:
        return int(value)
    if isinstance(value, int | float):
        raise CellError(f"is {shown(value)}: send classes as text or whole numbers, or use task regression")
    raise CellError(f"is a {type(value).__name__}: send the class as text, a whole number or a boolean")


_TARGETS: Mapping[Task, Callable[[Any], Scalar]] = {"regression": _estimate, "detection": _boxes}
