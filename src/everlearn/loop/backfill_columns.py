"""The answers of a part of a backfill as columns, and as the bundle in which they are stored."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from everlearn.errors import IntegrityError
from everlearn.types import Bundle, Output, Prediction, Scalar, Task

KIND = "backfill"
FORMAT = 1
CELLS = "cells.json"

PART_ROWS = 20_000
MOST_ROWS = 100_000
"""Positions of a part: so many if nothing else is asked for, and at most. Its answers fit into memory."""


@dataclass(slots=True)
class Columns:
    """A list for each column (n,), in the order of the log.

    ``at`` in seconds; ``labels`` with ``None`` where there is none; ``keys`` name the columns of
    ``probabilities`` (n, k), which is empty for regression.
    """

    ids: list[str] = field(default_factory=list)
    at: list[float] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    served_versions: list[int] = field(default_factory=list)
    served: list[Scalar] = field(default_factory=list)
    values: list[Scalar] = field(default_factory=list)
    labels: list[Scalar] = field(default_factory=list)
    keys: tuple[str, ...] = ()
    probabilities: list[list[float]] = field(default_factory=list)

    def add(self, asked: Prediction, answer: Output, label: Scalar) -> None:
        """Add a row: as it was served, as the version answers it, and its label."""
        self.ids.append(asked.id)
        self.at.append(asked.at)
        self.positions.append(asked.seq)
        self.served_versions.append(asked.version)
        self.served.append(asked.output.value)
        self.values.append(answer.value)
        self.labels.append(label)
        if answer.probabilities:
            self.keys = self.keys or tuple(answer.probabilities)
            self.probabilities.append([answer.probabilities[key] for key in self.keys])

    def kinds(self) -> list[str]:
        """The types of the values, answers and labels that occur: ``bool``, ``int``, ``float``, ``str``."""
        cells = [*self.served, *self.values, *self.labels]
        found = {type(cell).__name__ for cell in cells if cell is not None}
        if any(type(cell) is int and not -(2**63) <= cell < 2**63 for cell in cells):
            found.add("str")  # a number that no column of whole numbers holds
        return sorted(found)

    def slice(self, low: int, high: int) -> Columns:
        """Some of the rows."""
        return Columns(
            self.ids[low:high],
            self.at[low:high],
            self.positions[low:high],
            self.served_versions[low:high],
            self.served[low:high],
            self.values[low:high],
            self.labels[low:high],
            self.keys,
            self.probabilities[low:high],
        )


def bundle_of(columns: Columns, manifest: dict[str, Any]) -> Bundle:
    """The stored form: the same columns give the same bytes. ``manifest`` says what they are of."""
    arrays = {
        "at": np.array(columns.at, dtype=np.float64),
        "position": np.array(columns.positions, dtype=np.int64),
        "served_version": np.array(columns.served_versions, dtype=np.int64),
        "probabilities": np.array(columns.probabilities, dtype=np.float64).reshape(
            len(columns.probabilities), len(columns.keys)
        ),
    }
    cells = {"id": columns.ids, "served": columns.served, "value": columns.values, "label": columns.labels}
    told = {**manifest, "kind": KIND, "format": FORMAT, "keys": list(columns.keys)}
    return Bundle(told, arrays, {CELLS: json.dumps(cells, separators=(",", ":"), allow_nan=False).encode()})


def is_answers(bundle: Bundle) -> bool:
    """Whether a stored bundle holds answers of a backfill."""
    return bundle.manifest.get("kind") == KIND


def columns_of(bundle: Bundle) -> Columns:
    """The columns of a stored part; raises IntegrityError for a bundle that holds something else."""
    if not is_answers(bundle) or bundle.manifest.get("format") != FORMAT:
        raise IntegrityError("The artifact holds no answers of a backfill that this version reads")
    cells, arrays = json.loads(bundle.files[CELLS]), bundle.arrays
    return Columns(
        cells["id"],
        arrays["at"].tolist(),
        arrays["position"].tolist(),
        arrays["served_version"].tolist(),
        cells["served"],
        cells["value"],
        cells["label"],
        tuple(bundle.manifest["keys"]),
        arrays["probabilities"].tolist() if bundle.manifest["keys"] else [],
    )


def common_kind(kinds: Iterable[str], task: Task) -> str:
    """The one type that the cells of all parts have; ``str`` where they differ, ``float`` for regression.

    >>> common_kind(["int"], "classification"), common_kind(["bool", "int"], "classification")
    ('int', 'str')
    """
    found = set(kinds)
    if task == "regression":
        return "float"
    return found.pop() if len(found) == 1 else "str"
