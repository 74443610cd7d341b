"""The proof of a record: the same log gives the same decisions, and the same versions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import msgspec

from everlearn.errors import EverlearnError, MissingExtraError, NotFoundError
from everlearn.loop.drive import TRAINING, afresh, derive, derive_marks, is_erased, restore, result_of
from everlearn.loop.engine import Engine
from everlearn.loop.remembering import versions_of
from everlearn.loop.state import LoopState
from everlearn.loop.training import Progress, silent
from everlearn.ports import Artifacts, Ledger, Log, Versions
from everlearn.spec import parse_spec
from everlearn.types import Checkpoint, Decision, Event, JobSpec, Outcome
from everlearn.vision import detectors

BATCH = 2000

_LEARNED = frozenset({"digest", "rows", "learned_from", "learned_through", "learned_upto", "sources"})


def unread(_: LoopState) -> None:
    """A state that nobody asks for."""


@dataclass(frozen=True, slots=True)
class Verification:
    """What a verification found. ``differences`` says, for people, what is not as recorded.

    ``begins`` is the position that it began after: not 0 where old events were dropped. ``unchecked`` are
    results of jobs that read such events. ``elsewhere`` says of others why they cannot come out the same
    here: detectors that were trained on another kind of machine.
    """

    identical: bool
    events: int
    decisions: int
    artifacts_checked: int
    differences: tuple[str, ...]
    begins: int = 0
    unchecked: int = 0
    elsewhere: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The verdict as JSON values."""
        found = {name: getattr(self, name) for name in self.__slots__}
        return {**found, "differences": list(self.differences), "elsewhere": list(self.elsewhere)}


class ElsewhereError(Exception):
    """What a job made cannot come out the same here; says why."""


def verify(
    model: str,
    *,
    log: Log,
    ledger: Ledger,
    versions: Versions,
    artifacts: Artifacts,
    retrain: bool = True,
    upto: int | None = None,
    floor: Checkpoint | None = None,
    kept_from: int = 0,
    reached: Callable[[LoopState], None] = unread,
    asked: Sequence[JobSpec] = (),
    progress: Progress = silent,
) -> Verification:
    """Fold the recorded log of a model again and compare every decision with the ledger.

    With ``retrain`` every version is trained again from the log as well, other versions' answers are
    computed again, and all is compared with what the jobs reported (but for what they measured: seconds).
    Takes the log as far as the loop had read it, or to the position ``upto``, and passes the state there to
    ``reached``. ``floor`` is where to begin, where events before ``kept_from`` were dropped; jobs that
    learned from such are not done again. ``asked`` are jobs that were at work there, to be done again too.
    """
    cursor = ledger.checkpoint(model).cursor
    upto = cursor if upto is None else min(upto, cursor)
    begins = 0 if floor is None else floor.cursor
    if upto < begins:
        raise NotFoundError(f"The events up to position {upto} were dropped: the record begins at {begins}")
    recorded = {
        decision.number: decision for decision in _recorded(ledger, model) if begins < decision.seq <= upto
    }
    engine = Engine(LoopState()) if floor is None else restore(model, log, floor.state)
    differences, elsewhere, checked, unchecked = list[str](), list[str](), 0, 0
    jobs = {job.id: job for job in asked}
    derived = 0
    for event in _events(log, model, begins, upto):
        engine.step(event)
        if retrain and isinstance(event, Outcome) and event.error is None and event.job in jobs:
            job = jobs.pop(event.job)
            known = job.kind not in TRAINING or event.result.get("learned_from", kept_from) >= kept_from
            if not known or not _able(job, versions):
                unchecked += 1
            else:
                share = (event.seq - begins) / max(1, upto - begins)
                try:
                    differences += _retrained(job, event, log, versions, artifacts, _still(progress, share))
                    checked += 1
                except ElsewhereError as error:
                    elsewhere.append(f"{job.id} (version {job.version}): {error}")
        effects = engine.take()
        jobs |= {job.id: job for job in effects.jobs}
        for decision in effects.decisions:
            derived += 1
            differences += _compared(decision, recorded.pop(decision.number, None))
        if event.seq % 500 == 0:
            progress((event.seq - begins) / max(1, upto - begins))
    differences += [f"decision {number} is recorded, but was not made again" for number in sorted(recorded)]
    progress(1.0)
    reached(engine.state)
    found = tuple(differences)
    return Verification(not found, upto, derived, checked, found, begins, unchecked, tuple(elsewhere))


def _still(progress: Progress, share: float) -> Progress:
    """Progress of work that is a part of the whole: how far that is stays as it is."""
    return lambda _: progress(share)


def _events(log: Log, model: str, cursor: int, upto: int) -> Iterator[Event]:
    while cursor < upto and (batch := log.read(model, cursor, min(BATCH, upto - cursor))):
        yield from batch
        cursor = batch[-1].seq


def _recorded(ledger: Ledger, model: str) -> Iterator[Decision]:
    cursor: str | None = None
    while True:
        page = ledger.decisions(model, cursor, 1000)
        yield from page.items
        if page.next is None:
            return
        cursor = page.next


def _compared(made: Decision, recorded: Decision | None) -> list[str]:
    if recorded is None:
        return [
            f"decision {made.number} ({made.kind}, position {made.seq}) was made again, but is not recorded"
        ]
    return [
        f"decision {made.number}: {name} is recorded as {_json(was)}, and made again as {_json(now)}"
        for name in ("seq", "at", "kind", "reason", "version", "evidence")
        if _json(was := getattr(recorded, name)) != _json(now := getattr(made, name))
    ]


def _json(value: Any) -> str:
    return msgspec.json.encode(value, order="deterministic").decode()


def _able(job: JobSpec, versions: Versions) -> bool:
    """Whether a job can be done again: not where it asked a version that is erased for its answers, or went
    on from it."""
    if job.kind in TRAINING:
        return afresh(job.arguments) or not _lacks(job, versions)
    asked = versions_of(job.arguments) if job.kind == "regime" else job.arguments["versions"]
    return not any(is_erased(job.model, number, versions) for number in asked)


def _lacks(job: JobSpec, versions: Versions) -> bool:
    """Whether the champion that a job compared its version with is erased."""
    return bool(job.arguments["champion"]) and is_erased(job.model, job.arguments["champion"], versions)


def _retrained(
    job: JobSpec,
    outcome: Outcome,
    log: Log,
    versions: Versions,
    artifacts: Artifacts,
    progress: Progress,
) -> list[str]:
    """How what a job reported differs from what comes out now. Raises ElsewhereError."""
    try:
        result = _again(job, outcome, log, versions, artifacts, progress)
    except MissingExtraError as error:
        raise ElsewhereError(error.detail) from None
    except EverlearnError as error:
        if job.kind == "vision" and isinstance(error, NotFoundError):
            raise ElsewhereError("an image that it was made from is no longer stored") from None
        return [f"the {job.kind} job {job.id} cannot be done again: {error.detail}"]
    return [
        f"{job.id}: {name} was reported as {_json(outcome.result.get(name))}, "
        f"and comes out as {_json(result[name])}"
        for name in result
        if _json(outcome.result.get(name)) != _json(result[name])
    ]


def _again(
    job: JobSpec,
    outcome: Outcome,
    log: Log,
    versions: Versions,
    artifacts: Artifacts,
    progress: Progress,
) -> Mapping[str, Any]:
    """The result of a job done again, with the facts that it had measured."""
    if job.kind not in TRAINING:
        return derive_marks(job, log, versions, artifacts)
    spec = parse_spec(job.arguments["spec"])
    with _as_made(job, outcome, artifacts):
        plan = job.arguments
        trained = derive(job.model, spec, plan, log, versions, artifacts, progress, again=True)
    digest = artifacts.put(trained.predictor.bundle(trained.anchors))
    facts = outcome.result.get("facts", {})
    result = result_of(trained, digest, bool(facts.get("servable", True)))
    if _lacks(job, versions):  # what it learned is the same; what it was compared with is gone
        return {name: value for name, value in result.items() if name in _LEARNED}
    return {**result, "facts": {**facts, **result["facts"]}}


def _as_made(job: JobSpec, outcome: Outcome, artifacts: Artifacts) -> AbstractContextManager[None]:
    """Let a detector be trained as the one was that the job made. Raises ElsewhereError where it cannot."""
    if job.kind != "vision":
        return nullcontext()
    bundle = artifacts.get(outcome.result["digest"])
    if why := detectors.elsewhere(bundle):
        raise ElsewhereError(why)
    return detectors.as_made(bundle)
