"""What stores share when they take erased rows out of plans and of what jobs reported."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from everlearn.loop.backfill_columns import KIND as BACKFILL
from everlearn.loop.erasing import strings
from everlearn.types import ENDED, Gone, Job

MAKING = ("train", "vision")
"""The kinds of job that make a version."""

WHY = "rows that it may have read are erased"
"""Why a job is cancelled."""


@dataclass(frozen=True, slots=True)
class Sought:
    """What to look for: ids of predictions, and positions in the log. ``seq``: that of the erasure."""

    ids: frozenset[str]
    seqs: frozenset[int]
    seq: int = 0

    @classmethod
    def of(cls, gone: Gone, seq: int) -> Sought:
        """What an erasure took out."""
        return cls(frozenset(gone.ids), frozenset(gone.seqs), seq)

    def touched_by(self, job: Job) -> bool:
        """Whether a job names one of the predictions, or is a backfill that may have read them."""
        if job.spec.kind == BACKFILL and job.spec.arguments["known"] < self.seq:
            return job.state not in ENDED or bool(job.result)
        return self.named_in(job.spec.arguments) or self.named_in(job.result)

    def named_by(self, scope: str) -> bool:
        """Whether the path that an answer was given to names one of the predictions: those of frames do."""
        return not self.ids.isdisjoint(scope.split("/"))

    def named_in(self, value: Any) -> bool:
        """Whether JSON values name one of the predictions."""
        return any(text in self.ids for text in strings(value))


def without(value: Any, ids: Collection[str]) -> Any:
    """JSON values without the lists that begin with one of these ids, as plans name rows."""
    if isinstance(value, Mapping):
        return {key: without(item, ids) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without(item, ids) for item in value if not _begins_with(item, ids)]
    return value


def _begins_with(value: Any, ids: Collection[str]) -> bool:
    return isinstance(value, list | tuple) and bool(value) and isinstance(value[0], str) and value[0] in ids


def kept_of(result: Mapping[str, Any], seqs: Collection[int], places: Sequence[int]) -> dict[str, Any]:
    """The result of a job without what it says of rows one by one; ``places`` are theirs in its plan."""
    kept = dict(result)
    if "answers" in kept:  # (row, position, …)
        kept["answers"] = [one for one in kept["answers"] if one[1] not in seqs]
    if places and "marks" in kept:
        gone = set(places)
        kept["marks"] = {
            version: [one for i, one in enumerate(marks) if i not in gone]
            for version, marks in kept["marks"].items()
        }
    return kept
