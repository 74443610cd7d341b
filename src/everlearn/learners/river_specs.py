"""River models from plain text and numbers, as a spec in YAML or JSON can hold them."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

from everlearn.learners.inputs import invalid
from everlearn.learners.river_types import attributes, why_not
from everlearn.types import Task

_PATH = re.compile(r"[a-z][a-z_0-9]*(\.[a-z][a-z_0-9]*)*\.[A-Z][A-Za-z0-9]*")
_HOW = (
    "use a path such as 'tree.HoeffdingTreeClassifier', a mapping of one path to its parameters, or a list"
    " of steps"
)


def make(model: Any, *, task: Task, seed: int) -> Any:
    """The River model that a spec describes, new.

    A path in River (``"tree.HoeffdingTreeClassifier"``), a mapping of one path to its parameters
    (``{"neighbors.LazySearch": {"window_size": 500}}``, which may also stand for a parameter's value), or a
    list of them: a pipeline. A classifier that knows two classes alone is put into
    ``multiclass.OneVsRestClassifier``. Who takes a ``seed`` and is given none gets ours. Raises InvalidError
    for anything that is not one of River's estimators, and never imports anything outside River.
    """
    steps = [_made(step, seed) for step in (model if isinstance(model, list | tuple) else [model])]
    if not steps:
        raise invalid("model", f"is an empty list: {_HOW}")
    steps[-1] = _suited(steps[-1], task)
    if len(steps) == 1:
        return steps[0]
    from river import base, compose

    for step in steps[:-1]:
        if not isinstance(step, base.Transformer):
            raise invalid("model", f"{type(step).__name__} is no transformer: only the last step may learn y")
    return compose.Pipeline(*steps)


def last_step(model: Any) -> Any:
    """The part of a model that learns: the last step of a pipeline, within a wrapper for many classes."""
    steps = getattr(model, "steps", None)
    last = list(steps.values())[-1] if isinstance(steps, dict) and steps else model
    return getattr(last, "classifier", last) if type(last).__name__ == "OneVsRestClassifier" else last


def take_nominal(model: Any, columns: Sequence[int]) -> bool:
    """Tell every part that can take category codes which columns hold them; whether there is one."""
    found, waiting, seen = False, [model], set()
    while waiting:
        part = waiting.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        if isinstance(part, dict):
            waiting += part.values()
        elif isinstance(part, list | tuple):
            waiting += part
        elif type(part).__module__.startswith("river."):
            if "nominal_attributes" in getattr(part, "__dict__", {}):
                found = True
                part.nominal_attributes = part.nominal_attributes or list(columns)
            waiting += [value for _, value in attributes(part)]
    return found


def _made(spec: Any, seed: int) -> Any:
    if isinstance(spec, str):
        return _one(spec, {}, seed)
    if isinstance(spec, Mapping) and len(spec) == 1:
        ((path, parameters),) = spec.items()
        return _one(path, parameters or {}, seed)
    raise invalid("model", f"{spec!r} is no River model: {_HOW}")


def _one(path: Any, parameters: Any, seed: int) -> Any:
    kind = _find(path)
    if not isinstance(parameters, Mapping):
        raise invalid(
            "model", f"the parameters of {path} are {parameters!r}: give a mapping of names to values"
        )
    valid = list(inspect.signature(kind).parameters)
    for name in parameters:
        if name not in valid:
            raise invalid("model", f"{name!r} is not a parameter of {path}: use {', '.join(valid) or 'none'}")
    given = {name: _value(value, seed) for name, value in parameters.items()}
    if "seed" in valid and given.get("seed") is None:
        given["seed"] = seed
    try:
        return kind(**given)
    except Exception as error:  # a constructor's own checks raise what they like
        raise invalid("model", f"{path} cannot be built: {error}") from error


def _find(path: Any) -> Any:
    from river.base import Base

    if not isinstance(path, str) or not _PATH.fullmatch(path):
        raise invalid("model", f"{path!r} is no River model: {_HOW}")
    module, _, name = path.removeprefix("river.").rpartition(".")
    reason = why_not(f"river.{module}")
    if reason:
        raise invalid("model", f"{path} is refused: {reason}")
    try:
        found = getattr(import_module(f"river.{module}"), name)
    except (ImportError, AttributeError):
        raise invalid("model", f"there is no {path} in the installed River") from None
    if not (isinstance(found, type) and issubclass(found, Base)) or inspect.isabstract(found):
        raise invalid("model", f"{path} is no model, transformer or part of one")
    reason = why_not(found.__module__)
    if reason:
        raise invalid("model", f"{path} is refused: {reason}")
    return found


def _value(value: Any, seed: int) -> Any:
    """A parameter's value, with the River objects in it made."""
    if isinstance(value, Mapping):
        paths = [isinstance(key, str) and _PATH.fullmatch(key) for key in value]
        if len(paths) == 1 and paths[0]:
            return _made(value, seed)
        return {key: _value(part, seed) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_value(part, seed) for part in value]
    return value


def _suited(model: Any, task: Task) -> Any:
    """The model, if it learns the task; able to take more than two classes."""
    from river import base, multiclass

    wanted = base.Classifier if task == "classification" else base.Regressor
    if not isinstance(model, wanted) or isinstance(model, base.MultiLabelClassifier):
        raise invalid("model", f"{type(model).__name__} does not learn a {task}: choose one that does")
    return (
        multiclass.OneVsRestClassifier(model) if task == "classification" and not model._multiclass else model
    )
