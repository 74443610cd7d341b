"""Which side answers a row while a candidate is on trial: a share of the keys, and always the same ones.

A key lies where a digest of the model's name and its own text falls between 0 and 1; those under the
candidate's share are the candidate's. So a key goes to the same side in every process and after every
restart, and a greater share keeps the keys of a smaller one.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

from everlearn.spec import RouteSpec
from everlearn.types import Row, Scalar


def place(model: str, key: str) -> float:
    """Where a key lies, in [0, 1): even over many keys, and the same everywhere.

    >>> place("shop", "ann") == place("shop", "ann") != place("shop", "bob")
    True
    """
    digest = blake2b(f"{model}\0{key}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return (int.from_bytes(digest) >> 11) / 2**53


def key_of(cell: Scalar, id: str) -> str:  # noqa: A002 (what callers know it by)
    """The text by which a row is told apart: its cell, or its prediction id where that is missing.

    A number has one text however it was sent.

    >>> key_of(30, "a"), key_of(30.0, "a"), key_of(None, "a")
    ('30.0', '30.0', 'a')
    """
    if cell is None:
        return id
    if isinstance(cell, bool):
        return "true" if cell else "false"
    return cell if isinstance(cell, str) else repr(float(cell))


def of_candidate(model: str, route: RouteSpec, rows: Sequence[Row], ids: Sequence[str]) -> list[bool]:
    """Whether each clean row is the candidate's."""
    share, by = route.candidate, route.by
    if by is None:
        return [place(model, key) < share for key in ids]
    return [place(model, key_of(row.get(by), id)) < share for row, id in zip(rows, ids, strict=True)]  # noqa: A001
