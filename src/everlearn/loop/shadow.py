"""Shadow scoring: what other versions would have answered to rows that were answered and labelled.

A version's weights are frozen, so its answers to past rows are what it would have said. They are
computed by a job from the features in the log, never on the request path.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from everlearn.loop.gate import Mark, mark
from everlearn.spec import ModelSpec
from everlearn.types import Output, Row

MOST_ROWS = 2000
"""Rows that one job scores; the rest waits for the next."""

MOST_WAITING = 20_000
"""Rows that wait to be scored, the newest; older ones are left out of the comparison on both sides."""


class Answers(Protocol):
    """Whatever answers rows."""

    def predict(self, rows: Sequence[Row]) -> list[Output]:
        """One output a row."""
        ...


class ShadowRow(msgspec.Struct, array_like=True, gc=False):
    """A matured row that waits to be answered by others: what was served for it, and by which version."""

    row: int
    seq: int
    id: str
    truth: bool | int | float | str
    version: int
    mark: Mark
    groups: list[str] = []
    matured: int = 0
    source: str | None = None


class Shadow(msgspec.Struct):
    """A shadow job at work."""

    job: str
    rows: list[ShadowRow]
    versions: list[int]


def plan_of(rows: Sequence[ShadowRow], versions: Sequence[int], spec: ModelSpec) -> dict[str, Any]:
    """The arguments of a job that lets versions answer rows."""
    asked = [[row.id, row.truth] for row in rows]
    return {"rows": asked, "versions": list(versions), "spec": spec.to_dict()}


def score(
    plan: Mapping[str, Any], spec: ModelSpec, features: Mapping[str, Row], versions: Mapping[int, Answers]
) -> dict[str, Any]:
    """The result of a shadow job: a mark for each row of each version, in the order of the plan."""
    rows = [features[name] for name, _ in plan["rows"]]
    truths = [truth for _, truth in plan["rows"]]
    marks = {}
    for number in plan["versions"]:
        answers = versions[number].predict(rows)
        marks[str(number)] = [
            msgspec.to_builtins(mark(truth, output, spec))
            for truth, output in zip(truths, answers, strict=True)
        ]
    return {"marks": marks}


def marks_of(result: Mapping[str, Any]) -> dict[int, Sequence[Mark]]:
    """The marks of a shadow job's result, by version."""
    return {int(number): _marks(marks) for number, marks in result["marks"].items()}


def _marks(found: Sequence[Any]) -> Sequence[Mark]:
    """Marks as they came: as JSON values from a job, or as they are from a driver in this process."""
    return found if found and isinstance(found[0], Mark) else msgspec.convert(found, list[Mark])
