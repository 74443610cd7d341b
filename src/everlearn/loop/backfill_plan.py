"""What a backfill is asked for, and the parts that it is cut into: a job each, of positions alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from everlearn.errors import ConflictError, Fault, InvalidError
from everlearn.loop.backfill_columns import KIND, MOST_ROWS
from everlearn.loop.backfill_scores import shown_metric
from everlearn.spec import ModelSpec
from everlearn.types import Head, JobSpec, Version, VersionState

MOST_PARTS = 1000


@dataclass(frozen=True, slots=True)
class Stretch:
    """The positions in ``(after, upto]``, and of their predictions those made from ``since`` to ``until``."""

    after: int
    upto: int
    since: float | None = None
    until: float | None = None
    notes: tuple[str, ...] = ()

    def has(self, at: float) -> bool:
        """Whether a prediction of this time is in it."""
        return (self.since is None or at >= self.since) and (self.until is None or at <= self.until)


def stretch_of(
    head: Head, kept_from: int, after: int | None, upto: int | None, since: float | None, until: float | None
) -> Stretch:
    """The stretch that is asked for, of a log that is whole from ``kept_from`` on.

    Raises InvalidError that names the field where it is empty or reaches beyond the log.
    """
    if not head.rows:
        raise InvalidError("The log has no predictions yet: there is nothing to answer")
    first = max(kept_from - 1, 0)
    if after is not None and after < first:
        raise _fault("after", f"the log up to position {first} was dropped: give {first} or more")
    begin, end = first if after is None else after, head.seq if upto is None else upto
    if end > head.seq:
        raise _fault("upto", f"the log ends at position {head.seq}: give {head.seq} or less")
    if begin >= end:
        field = "after" if upto is None else "upto"
        raise _fault(field, f"no position lies after {begin} and up to {end}: give a longer stretch")
    if since is not None and until is not None and since > until:
        raise _fault("until", "lies before since: no time is in between")
    notes = (f"the log up to position {first} was dropped",) if after is None and first else ()
    return Stretch(begin, end, since, until, notes)


def check_task(spec: ModelSpec) -> None:
    """Raise InvalidError for a detector."""
    if spec.task == "detection":
        raise InvalidError(
            f"{spec.name} finds objects in frames, whose images are not kept as long as its log: "
            "a backfill is for classification and regression"
        )


def check_version(version: Version) -> None:
    """Raise InvalidError for the baseline, ConflictError for a version that was withdrawn."""
    if version.state is VersionState.ERASED:
        why = "it had learned rows that were erased"
        raise ConflictError(f"Version {version.number} was withdrawn ({why}): choose another version")
    if version.digest is None:
        why = "is the baseline, which looks at no row: choose a version from 1 on"
        raise _fault("version", f"{version.number} {why}")


def _fault(field: str, message: str) -> InvalidError:
    return InvalidError(f"{field}: {message}", [Fault(field, message)])


def job_id(model: str, group: str, place: int) -> str:
    """The id of a job of a backfill; that at place 0 says how many there are."""
    return f"{model}-backfill-{group}-{place}"


def plan(
    spec: ModelSpec, version: Version, stretch: Stretch, known: int, part_rows: int, group: str
) -> list[JobSpec]:
    """The jobs of a backfill, each of at most ``part_rows`` positions; labels as of the position ``known``.

    Raises InvalidError for too many parts and for a detector.
    """
    check_task(spec)
    count = -(-(stretch.upto - stretch.after) // part_rows)
    if count > MOST_PARTS:
        least = -(-(stretch.upto - stretch.after) // MOST_PARTS)
        many = f"makes {count} parts, and {MOST_PARTS} is the most"
        raise _fault("part_rows", f"{many}: give {least} or more (to {MOST_ROWS}), or a shorter stretch")
    common = {
        "group": group, "of": count, "version": version.number, "known": known, "since": stretch.since,
        "until": stretch.until, "task": spec.task, "metric": shown_metric(spec.metric, spec.task),
        "learned_upto": version.learned_upto,
        "notes": [*stretch.notes, *_notes(spec, version, stretch)],
    }  # fmt: skip
    starts = range(stretch.after, stretch.upto, part_rows)
    ends = [*starts[1:], stretch.upto]
    return [
        JobSpec(
            job_id(spec.name, group, place),
            spec.name,
            KIND,
            version.number,
            {**common, "name": f"{after + 1} to {upto}", "after": after, "upto": upto},
        )
        for place, (after, upto) in enumerate(zip(starts, ends, strict=True))
    ]


def _notes(spec: ModelSpec, version: Version, stretch: Stretch) -> Iterator[str]:
    shown = shown_metric(spec.metric, spec.task)
    if shown != spec.metric:
        yield f"{spec.metric} needs all rows at once: {shown} stands in for it"
    if version.learned_upto > stretch.after:
        upto = f"up to position {version.learned_upto}"
        yield f"the version may have learned rows {upto}: its scores there are no test of it"
