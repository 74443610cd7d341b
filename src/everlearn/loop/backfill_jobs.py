"""A backfill over the workers: a version answers a stretch of its log after the fact, a job for each part.

A job names positions alone. It reads its stretch, answers it with the version's artifact as serving would,
stores what it answered as one bundle, and tells its digest and the sums from which the scores are made.
Labels are those that were known at the position at which the backfill was asked for, so that a part that is
done twice is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from everlearn.errors import ConflictError, Fault, InvalidError
from everlearn.loop.backfill_columns import KIND, MOST_ROWS, Columns, bundle_of
from everlearn.loop.backfill_scores import Sums, scores, shown_metric
from everlearn.loop.drive import load_version
from everlearn.loop.training import Progress
from everlearn.ports import Artifacts, Erasures, Log, Versions
from everlearn.predictor import Predictor
from everlearn.spec import ModelSpec
from everlearn.types import (
    ENDED,
    Event,
    Head,
    Job,
    JobSpec,
    JobState,
    Label,
    Prediction,
    Scalar,
    Version,
    VersionState,
)

MOST_PARTS = 1000
BATCH = 2000
"""Events that are read, and rows that are answered, at once."""


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


def work(
    model: str,
    plan: Mapping[str, Any],
    *,
    log: Log,
    versions: Versions,
    artifacts: Artifacts,
    erasures: Erasures,
    kept_from: int,
    now: Callable[[], float],
    progress: Progress,
) -> dict[str, Any]:
    """Answer one part; ``now`` tells what it costs, and decides nothing.

    Raises InvalidError where the log is not whole any more, ConflictError for a withdrawn version.
    """
    began, after, upto = now(), plan["after"], plan["upto"]
    if after + 1 < kept_from:
        raise InvalidError(f"The log up to position {kept_from - 1} was dropped: ask for what is after it")
    version = _version(model, plan["version"], versions, artifacts)
    columns, sums = Columns(), Sums(plan["task"], plan["metric"])
    for events in _pages(log, model, after, upto):
        _answer(log, model, plan, [e for e in events if isinstance(e, Prediction)], version, columns, sums)
        progress((events[-1].seq - after) / (upto - after))
    told = {name: plan[name] for name in ("version", "after", "upto", "since", "until", "known", "task")}
    digest = artifacts.put(bundle_of(columns, {"model": model, **told}))
    if any(erasure.seq > plan["known"] for erasure in erasures.list(model)):
        artifacts.delete(digest)
        raise InvalidError("Rows were erased since it was asked for: ask for a new backfill")
    return {
        "digest": digest,
        "first": min(columns.at, default=None),
        "last": max(columns.at, default=None),
        "kinds": columns.kinds(),
        **sums.to_dict(),
        "seconds": now() - began,
    }


def _version(model: str, number: int, versions: Versions, artifacts: Artifacts) -> Predictor:
    check_version(versions.get(model, number))
    version = load_version(model, number, versions, artifacts)
    assert version is not None
    return version


def _pages(log: Log, model: str, after: int, upto: int) -> Iterator[list[Event]]:
    while after < upto:
        events = [e for e in log.read(model, after, min(BATCH, upto - after)) if e.seq <= upto]
        if not events:
            return
        yield events
        after = events[-1].seq


def _answer(
    log: Log,
    model: str,
    plan: Mapping[str, Any],
    asked: Sequence[Prediction],
    version: Predictor,
    columns: Columns,
    sums: Sums,
) -> None:
    stretch = Stretch(plan["after"], plan["upto"], plan["since"], plan["until"])
    rows = [one for one in asked if stretch.has(one.at)]
    labels = labels_at(log, model, rows, plan["known"])
    answers = version.predict([one.features for one in rows])
    for one, answer in zip(rows, answers, strict=True):
        truth = labels.get(one.id)
        columns.add(one, answer, truth)
        sums.add(one.row, truth, answer, one.output)


def labels_at(log: Log, model: str, asked: Sequence[Prediction], known: int) -> dict[str, Scalar]:
    """The labels of predictions, by id, as they were known at a position of the log."""
    found = {name: label for name, (_, label) in log.find(model, [one.id for one in asked]).items()}
    newest = {name: label for name, label in found.items() if label is not None and label.seq <= known}
    changed = {name for name, label in found.items() if label and label.seq > known and label.correction}
    if changed:  # what they were before stands in the log alone
        before = [one for one in asked if one.id in changed]
        newest |= {one.id: one.label for one in before if one.label is not None}
        for events in _pages(log, model, min(one.seq for one in before), known):
            newest |= {e.id: e for e in events if isinstance(e, Label) and e.id in changed}
    return {name: label.value for name, label in newest.items()}


def state_of(jobs: Sequence[Job]) -> str:
    """Where a backfill is: ``queued``, ``running``, ``done``, ``erased``, ``cancelled`` or ``failed``."""
    states = {job.state for job in jobs}
    if states <= {JobState.QUEUED}:
        return "queued"
    if not states <= set(ENDED):
        return "running"
    if any(job.state is JobState.DONE and not answers_of(job) for job in jobs):
        return "erased"
    if states == {JobState.DONE}:
        return "done"
    return "cancelled" if states <= {JobState.DONE, JobState.CANCELLED} else "failed"


def answers_of(job: Job) -> str | None:
    """The digest of what a part answered; ``None`` before, after it was removed, and for other jobs."""
    return (job.result or {}).get("digest") if job.spec.kind == KIND else None


def gather(jobs: Sequence[Job]) -> dict[str, Any] | None:
    """The report, once all parts are done; ``None`` before, and where one ended otherwise."""
    if state_of(jobs) != "done":
        return None
    asked, found = jobs[0].spec.arguments, [job.result or {} for job in jobs]
    task, metric = asked["task"], asked["metric"]
    rows = sum(part["rows"] for part in found)
    empty = [] if rows else ["no prediction lies in this stretch"]
    return {
        "version": asked["version"],
        "after": asked["after"],
        "upto": jobs[-1].spec.arguments["upto"],
        "rows": rows,
        "labels": sum(part["labels"] for part in found),
        "metric": metric,
        "scores": scores(found, task, metric),
        "agreement": sum(part["agreed"] for part in found) / rows if rows else None,
        "parts": [_part(job, task, metric) for job in jobs],
        "seconds": max((job.finished_at or 0.0) - (job.created_at or 0.0) for job in jobs),
        "compute_seconds": sum(part["seconds"] for part in found),
        "notes": [*asked["notes"], *empty],
    }


def _part(job: Job, task: Any, metric: str) -> dict[str, Any]:
    """One point of a plot over time; ``first`` and ``last`` are the times of its rows."""
    asked, found = job.spec.arguments, job.result or {}
    own = scores([found], task, metric)
    told = {name: found[name] for name in ("rows", "labels", "first", "last")}
    ends = {"from": asked["after"] + 1, "upto": asked["upto"]}
    return {**ends, **told, **{side: score[metric] for side, score in own.items()}}
