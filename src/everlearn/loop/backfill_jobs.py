"""A part of a backfill: a version answers a stretch of its log after the fact.

It reads the stretch, answers it with the version's artifact as serving would, stores what it answered as one
bundle, and tells its digest and the sums from which the scores are made. Labels are those that were known at
the position at which the backfill was asked for, so that a part that is done twice is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from everlearn.errors import InvalidError
from everlearn.loop.backfill_columns import Columns, bundle_of
from everlearn.loop.backfill_plan import Stretch, check_version
from everlearn.loop.backfill_scores import Sums
from everlearn.loop.drive import load_version
from everlearn.loop.training import Progress
from everlearn.ports import Artifacts, Erasures, Log, Versions
from everlearn.predictor import Predictor
from everlearn.types import Event, Label, Prediction, Scalar

BATCH = 2000
"""Events that are read, and rows that are answered, at once."""


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
