"""scikit-learn estimators as skops files: nothing is unpickled, and equal fits give equal bytes.

skops names the parts of a file by memory address and stamps them with the time. Here they are numbered
in order of appearance and stamped alike, so that an artifact's digest tells whether two fits are the same.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from everlearn.errors import IntegrityError, InvalidError

TRUSTED = (
    "functools.partial",  # only of check_array: see _untrusted
    "numpy.dtype",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.metrics._dist_metrics.EuclideanDistance64",
    "sklearn.neighbors._ball_tree.BallTree",
    "sklearn.neighbors._kd_tree.KDTree",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
    "sklearn.tree._tree.Tree",
    "sklearn.utils.validation.check_array",
)
"""What may stand in a file besides what skops itself trusts (public estimators, numpy and plain types)."""

MAX_RATIO = 20
"""How many times larger a file may become when it is unpacked."""

_PARTIAL = "sklearn.utils.validation.check_array"
_SCHEMA = "schema.json"
_EPOCH = (1980, 1, 1, 0, 0, 0)


def dump(estimator: Any) -> bytes:
    """An estimator as a skops file, the same bytes for the same estimator in any process.

    Raises InvalidError for an estimator that holds types outside :data:`TRUSTED`.
    """
    import skops.io

    try:
        data = canonical(skops.io.dumps(estimator))
    except Exception as error:  # skops raises many kinds for what it cannot write
        raise InvalidError(f"estimator: {type(estimator).__name__} cannot be stored: {error}") from error
    odd = _untrusted(data)
    if odd:
        raise InvalidError(f"estimator: holds types that are not loaded again: {', '.join(odd)}")
    return data


def load(data: bytes) -> Any:
    """The estimator in a skops file; raises IntegrityError for a damaged file or an untrusted type."""
    import skops.io

    _check_unpacked(data)
    try:
        odd = _untrusted(data)
        if not odd:
            return skops.io.loads(data, trusted=list(TRUSTED))
    except Exception as error:  # whatever a forged file provokes means the same to the caller
        raise IntegrityError(f"A stored estimator cannot be read: {error!r}") from error
    raise IntegrityError(f"A stored estimator holds types that are not allowed: {', '.join(odd)}")


def _check_unpacked(data: bytes) -> None:
    """Raise IntegrityError for a file that would become far larger in memory. Ours are not compressed."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as source:
            size = sum(entry.file_size for entry in source.infolist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise IntegrityError(f"A stored estimator cannot be read: {error!r}") from error
    if size > MAX_RATIO * len(data):
        raise IntegrityError(f"A stored estimator of {len(data)} bytes has {size} when it is unpacked")


def canonical(data: bytes) -> bytes:
    """A skops file with its parts numbered in order of appearance, and without times."""
    with zipfile.ZipFile(io.BytesIO(data)) as source:
        schema = json.loads(source.read(_SCHEMA))
        names = _renumber(schema)
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as target:
            for old, new in names.items():
                target.writestr(_entry(new), source.read(old))
            target.writestr(_entry(_SCHEMA), json.dumps(schema, separators=(",", ":")))
    return out.getvalue()


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, date_time=_EPOCH)
    entry.create_system = 3  # else it tells the operating system
    return entry


def _renumber(schema: dict[str, Any]) -> dict[str, str]:
    """Give parts and files new names in place; returns the files' new names by old.

    JSON values get a number each, because whether two of them share an address means nothing.
    """
    numbers: dict[int, int] = {}
    names: dict[str, str] = {}
    for count, node in enumerate(_nodes(schema)):
        if "__id__" in node:
            shared = node.get("__loader__") != "JsonNode"
            node["__id__"] = numbers.setdefault(node["__id__"], count) if shared else count
        if isinstance(node.get("file"), str):
            old = node["file"]
            node["file"] = names.setdefault(old, f"{len(names)}{PurePosixPath(old).suffix}")
    return names


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """Every JSON object in a tree, from the top, in order."""
    stack = [tree]
    while stack:
        node = stack.pop()
        if isinstance(node, dict):
            yield node
            stack.extend(reversed(node.values()))
        elif isinstance(node, list):
            stack.extend(reversed(node))


def _untrusted(data: bytes) -> list[str]:
    """The types in a file that are not allowed."""
    import skops.io

    odd = set(skops.io.get_untrusted_types(data=data)) - set(TRUSTED)
    seen: dict[Any, tuple[Any, ...]] = {}
    with zipfile.ZipFile(io.BytesIO(data)) as source:
        for node in _nodes(json.loads(source.read(_SCHEMA))):
            if "__loader__" not in node:
                continue
            if seen.setdefault(node["__id__"], _kind(node)) != _kind(node):
                odd.add(f"{_name(node)} in the place of another type")  # skops would build the first
            if node["__loader__"] == "PartialNode" and _name(node["content"]["func"]) != _PARTIAL:
                odd.add(f"functools.partial of {_name(node['content']['func'])}")
    return sorted(odd)


def _kind(node: dict[str, Any]) -> tuple[Any, ...]:
    return node["__loader__"], node["__module__"], node["__class__"]


def _name(node: dict[str, Any]) -> str:
    return f"{node['__module__']}.{node['__class__']}"
