"""The tensors of the Open Inference Protocol: cells in JSON or in bytes, and rows made of them.

https://github.com/kserve/open-inference-protocol, with its extension for binary data: a body is JSON of
``Inference-Header-Content-Length`` bytes, followed by the bytes of the tensors with a ``binary_data_size``.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from everlearn.errors import Fault, InvalidError

CODES: Mapping[str, str] = {
    "BOOL": "?",
    "UINT8": "u1",
    "UINT16": "u2",
    "UINT32": "u4",
    "UINT64": "u8",
    "INT8": "i1",
    "INT16": "i2",
    "INT32": "i4",
    "INT64": "i8",
    "FP16": "f2",
    "FP32": "f4",
    "FP64": "f8",
}
"""The numbers by their names; beside them there is ``BYTES``, which holds UTF-8 text."""

BYTES = "BYTES"
DATATYPES = (*CODES, BYTES)


@dataclass(frozen=True, slots=True)
class Tensor:
    """A named tensor; ``cells`` are flat, row by row (``None``: missing)."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    cells: list[Any]


def fault(name: str, message: str) -> InvalidError:
    """The error for one tensor."""
    where = f"inputs.{name[:60]}"
    return InvalidError(f"{where}: {message}", [Fault(where, message)])


def tensor(name: str, datatype: str, shape: Sequence[int], data: Any, raw: bytes | None) -> Tensor:
    """A tensor from its JSON ``data`` or its bytes; raises InvalidError that names it."""
    if datatype not in DATATYPES:
        raise fault(name, f"has the datatype {datatype[:40]!r}: send one of {', '.join(DATATYPES)}")
    if not shape or any(size < 0 for size in shape):
        raise fault(name, "has no shape: send one such as [1]")
    cells = _of_bytes(name, datatype, raw) if raw is not None else _of_json(name, datatype, data)
    if len(cells) != prod(shape):
        raise fault(name, f"has {len(cells)} values for the shape {list(shape)[:8]}: send {prod(shape)}")
    return Tensor(name, datatype, tuple(shape), cells)


def _of_json(name: str, datatype: str, given: Any) -> list[Any]:
    data: list[Any] = given if isinstance(given, list) else []
    if not isinstance(given, list):
        raise fault(name, "has no data: send a list, or bytes with the parameter binary_data_size")
    while any(isinstance(cell, list) for cell in data):
        if not all(isinstance(cell, list) for cell in data):
            raise fault(name, "has data of uneven depth: send a flat list, or one nested by the shape")
        data = list(chain.from_iterable(data))
    kinds: tuple[type, ...] = (int, float) if datatype.startswith("FP") else (int,)
    kinds = (bool,) if datatype == "BOOL" else (str,) if datatype == BYTES else kinds
    for i, cell in enumerate(data):
        if cell is not None and (not isinstance(cell, kinds) or (type(cell) is bool) != (datatype == "BOOL")):
            raise fault(name, f"has data[{i}] that is no {datatype}")
    return data


def _of_bytes(name: str, datatype: str, raw: bytes) -> list[Any]:
    try:
        if datatype == BYTES:
            return list(_texts(raw))
        cells: list[Any] = np.frombuffer(raw, dtype=f"<{CODES[datatype]}").tolist()
    except (ValueError, struct.error):
        raise fault(name, f"has {len(raw)} bytes that are no {datatype}") from None
    return cells


def _texts(raw: bytes) -> Sequence[str]:
    found, at = [], 0
    while at < len(raw):
        (size,) = struct.unpack_from("<I", raw, at)
        at += 4 + size
        if at > len(raw):
            raise ValueError("a text is cut short")
        found.append(raw[at - size : at].decode())
    return found


def rows_of(tensors: Sequence[Tensor], features: Sequence[str]) -> list[dict[str, Any]]:
    """Rows from one tensor a column (``[n]`` or ``[n, 1]``), or from one ``[n, d]`` in the spec's order."""
    columns: dict[str, list[Any]] = {}
    for given in tensors:
        if len(given.shape) == 1 or given.shape[1:] == (1,):
            found = {given.name: given.cells}
            if given.name not in features and len(features) == len(tensors) == 1:
                found = {features[0]: given.cells}
        else:
            found = _spread(given, features)
        twice = sorted(columns.keys() & found.keys())
        if twice:
            raise fault(twice[0], "is there twice")
        columns.update(found)
    sizes = {len(cells) for cells in columns.values()}
    if len(sizes) > 1:
        raise fault(next(iter(columns)), f"all inputs must have as many rows, not {sorted(sizes)[:5]}")
    return [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]


def _spread(given: Tensor, features: Sequence[str]) -> dict[str, list[Any]]:
    if len(given.shape) != 2 or given.shape[1] != len(features):
        raise fault(
            given.name,
            f"has the shape {list(given.shape)[:8]}: send [n] for one column, or [n, {len(features)}] "
            f"for {', '.join(features[:10])}",
        )
    width = len(features)
    return {name: given.cells[i::width] for i, name in enumerate(features)}


def packed(given: Tensor) -> bytes:
    """The bytes of a tensor without missing cells."""
    if given.datatype != BYTES:
        array: NDArray[Any] = np.array(given.cells, dtype=f"<{CODES[given.datatype]}")
        return array.tobytes()
    texts = [cell.encode() for cell in given.cells]
    return b"".join(struct.pack("<I", len(text)) + text for text in texts)
