"""The live driver: one step of the fold in one transaction, and the jobs that it asks for.

Works on ports alone, so the same code runs on SQLite, on PostgreSQL and in memory.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from everlearn import __version__
from everlearn.errors import EverlearnError, FencedError, InvalidError, NotFoundError, UnavailableError
from everlearn.loop import erasing, remembering, shadow
from everlearn.loop.card import card_of
from everlearn.loop.engine import Engine
from everlearn.loop.maturity import Waiting
from everlearn.loop.state import dump, load, spec_of
from everlearn.loop.training import Progress, Trained, examples_wanted, remember, silent, train
from everlearn.ports import Artifacts, Clock, Erasures, Jobs, Ledger, Log, Versions
from everlearn.predictor import Predictor
from everlearn.spec import ModelSpec, parse_spec
from everlearn.types import (
    Command,
    Decision,
    Erasure,
    Event,
    EventKind,
    Job,
    JobSpec,
    NewEvent,
    Row,
    Step,
    Version,
    VersionState,
)
from everlearn.vision.frames import StoredImages

TRAINING = frozenset({"train", "vision"})
"""The kinds of job that make a version."""

MAX_ATTEMPTS = 3
RETRY_SECONDS = 5.0


class EngineCache:
    """Engines of the models that advanced last, so that a step need not read the state back."""

    def __init__(self, size: int = 64) -> None:
        self._size = size
        self._engines: OrderedDict[str, Engine] = OrderedDict()

    def take(self, model: str, cursor: int) -> Engine | None:
        """The model's engine, if it stands at this position. It must be given back after the commit."""
        engine = self._engines.pop(model, None)
        return engine if engine is not None and engine.state.cursor == cursor else None

    def give(self, model: str, engine: Engine) -> None:
        """Keep an engine whose state has been committed."""
        self._engines[model] = engine
        while len(self._engines) > self._size:
            self._engines.popitem(last=False)


def restore(model: str, log: Log, state: bytes) -> Engine:
    """An engine at a stored state, with the labels that waited there read back from the log."""
    loaded = load(state)
    spec = spec_of(loaded)
    waiting = Waiting(by_time=spec is not None and spec.horizon_seconds is not None)
    mark = loaded.watermark
    for label in log.pending(model, after_row=mark.floor, upto=loaded.cursor):
        prediction = label.prediction
        if prediction is None or not loaded.feedback.lets_in(label):
            continue
        if not mark.covers(prediction.row, prediction.at):
            waiting.add(label)
    return Engine(loaded, waiting, code=__version__)


Told = Callable[[str, Sequence[Decision]], None]


def untold(model: str, decisions: Sequence[Decision]) -> None:
    """Decisions that nobody is told of."""


def advance_model(
    model: str,
    log: Log,
    ledger: Ledger,
    limit: int = 1000,
    cache: EngineCache | None = None,
    told: Told = untold,
    erasures: Erasures | None = None,
) -> int:
    """Take in the next events of a model, in one transaction; how many there were.

    ``told`` is called with what was decided once it is committed. ``erasures`` tell what an ``erase`` command
    has removed, and are settled with the step that takes it in.
    Returns 0 when there is nothing to do, or when another worker took the same events first.
    """
    checkpoint = ledger.checkpoint(model)
    events = log.read(model, checkpoint.cursor, limit)
    if not events:
        return 0
    engine = cache.take(model, checkpoint.cursor) if cache else None
    engine = engine or restore(model, log, checkpoint.state)
    taken, erasure = _up_to_erasure(events, erasures)
    engine.run(taken)
    effects = engine.take()
    step = Step(
        checkpoint.cursor,
        taken[-1].seq,
        dump(engine.state),
        effects.decisions,
        effects.jobs,
        effects.promotions,
        effects.refused,
        effects.points,
        card_of(engine),
    )
    if erasures is not None and erasure is not None:
        removed = effects.decisions[0].evidence["removed"] if effects.decisions else {}
        if not erasures.settle(erasure, step, removed):
            return 0
    elif not ledger.commit(model, step):
        return 0
    if cache:
        cache.give(model, engine)
    told(model, effects.decisions)
    return len(taken)


def _up_to_erasure(
    events: Sequence[Event], erasures: Erasures | None
) -> tuple[Sequence[Event], Erasure | None]:
    """The events before an ``erase`` command; or it alone, told what was removed, where it comes first."""
    places = [i for i, e in enumerate(events) if isinstance(e, Command) and e.name == erasing.COMMAND]
    if erasures is None or not places:
        return events, None
    command = events[0]
    if places[0] > 0 or not isinstance(command, Command):
        return events[: places[0]], None
    erasure = erasures.get(str(command.arguments["erasure"]))
    told = {**command.arguments, erasing.GONE: erasure.gone}
    return [replace(command, arguments=told)], erasure


@dataclass(frozen=True, slots=True)
class Done:
    """What a job made: a version (``train``), and what tells of it: an event, or a result of its own."""

    version: Version | None = None
    outcome: NewEvent | None = None
    result: Mapping[str, Any] | None = None


def is_passing(error: Exception) -> bool:
    """Whether what went wrong may go right another time."""
    return isinstance(error, (UnavailableError, OSError, MemoryError))


def words_of(error: Exception) -> str:
    """An error as the loop is told of it."""
    return error.detail if isinstance(error, EverlearnError) else f"{type(error).__name__}: {error}"


def run_job(
    job: Job,
    *,
    log: Log,
    versions: Versions,
    jobs: Jobs,
    artifacts: Artifacts,
    clock: Clock,
    progress: Progress = silent,
) -> None:
    """Do a leased job and record its outcome, or its failure. A lost lease ends it without a trace."""
    try:
        done = do_job(
            job.spec, log=log, versions=versions, artifacts=artifacts, clock=clock, progress=progress
        )
        jobs.finish(job, done.version, done.outcome, clock.now(), done.result)
    except FencedError:
        raise
    except Exception as error:
        retry = is_passing(error) and job.attempts < MAX_ATTEMPTS
        now = clock.now()
        jobs.fail(job, words_of(error), now, now + RETRY_SECONDS * 2**job.attempts if retry else None)


def do_job(
    job: JobSpec,
    *,
    log: Log,
    versions: Versions,
    artifacts: Artifacts,
    clock: Clock,
    progress: Progress = silent,
) -> Done:
    """Do a job and return what it made. It writes nothing but artifacts, which nobody knows of yet."""
    if job.kind not in TRAINING:
        result = derive_marks(job, log, versions, artifacts)
        return Done(outcome=_told(job, result, clock.now()))
    started = clock.now()
    plan, spec = job.arguments, parse_spec(job.arguments["spec"])
    left = plan.get("seconds_left")

    def within_budget(share: float) -> None:
        if left is not None and clock.now() - started > left:
            raise InvalidError(f"stopped: the budget of the day had {left:.0f} s left for it")
        progress(share)

    trained = derive(job.model, spec, plan, log, versions, artifacts, within_budget)
    digest = artifacts.put(trained.predictor.bundle(trained.anchors))
    result = result_of(trained, digest, servable(digest, artifacts))
    result["facts"]["latency_ms"] = _latency(trained, clock)
    now = clock.now()
    result["facts"]["seconds"] = now - started
    version = Version(
        model=job.model,
        number=job.version,
        parent=plan["champion"],
        learner=spec.learner.name,
        parameters=spec.learner.parameters,
        learned_from=trained.learned_from,
        learned_through=trained.learned_through,
        learned_upto=trained.learned_upto,
        rows=trained.rows,
        digest=digest,
        metrics={**result["evidence"], **result["facts"], "job": job.id},
        created_at=now,
    )
    return Done(version, _told(job, result, now))


def _told(job: JobSpec, result: Mapping[str, Any], at: float) -> NewEvent:
    body = {"job": job.id, "version": job.version, "result": result, "error": None}
    return NewEvent(EventKind.OUTCOME, at, f"outcome:{job.id}", body)


def _latency(trained: Trained, clock: Clock) -> float | None:
    """Milliseconds that one row takes: the median over the anchors."""
    took = []
    for row in trained.anchors[:20]:
        started = clock.now()
        trained.predictor.predict([row])
        took.append(1000.0 * (clock.now() - started))
    return sorted(took)[len(took) // 2] if took else None


def derive(
    model: str,
    spec: ModelSpec,
    plan: Mapping[str, Any],
    log: Log,
    versions: Versions,
    artifacts: Artifacts,
    progress: Progress = silent,
    *,
    again: bool = False,
) -> Trained:
    """Train what a plan says, from the log and the champion's artifact: repeatable at any later time.

    What is learned afresh is only compared with the champion: without it, where its artifact is erased. Of
    frames those count whose images are there; ``again``: raises NotFoundError where one is not.
    """
    champion = None
    if plan["champion"] and not (afresh(plan) and is_erased(model, plan["champion"], versions)):
        champion = load_version(model, plan["champion"], versions, artifacts)
    wants = Predictor.new(spec).learner.wants
    examples = log.examples(model, **examples_wanted(spec, plan, wants))
    there = _images_there(spec, artifacts)
    if again and not all(there(e.features) for e in examples):
        raise NotFoundError("An image that this learned is no longer stored")
    examples = [e for e in examples if there(e.features)]
    if not examples:
        raise InvalidError("There is nothing new to learn from: send labels or load history")
    trained = train(spec, plan, examples, champion, progress, StoredImages(artifacts))
    anchors = plan.get("anchors", {})
    features = features_of(model, [name for kept in anchors.values() for name, _ in kept], log)
    if again and not all(map(there, features.values())):
        raise NotFoundError("An image that this was judged by is no longer stored")
    features = {name: row for name, row in features.items() if there(row)}
    return replace(trained, remembered=remember(spec, plan, features, trained.predictor, champion))


def _images_there(spec: ModelSpec, artifacts: Artifacts) -> Callable[[Row], bool]:
    """Whether the image of a row is stored; of rows that have none it is."""
    columns = erasing.image_columns(spec.features)
    if not columns:
        return lambda _: True
    held = {one.digest for one in artifacts.stored()}
    return lambda row: all(row.get(name) in held for name in columns)


def afresh(plan: Mapping[str, Any]) -> bool:
    """Whether a version learns anew: a detector goes on from its champion, unless the plan says ``anew``."""
    tuned = plan["spec"].get("task") == "detection"
    return plan["mode"] == "fresh" and (not tuned or not plan["champion"] or bool(plan.get("anew")))


def derive_marks(job: JobSpec, log: Log, versions: Versions, artifacts: Artifacts) -> dict[str, Any]:
    """Let versions answer rows of the log (``shadow``), or test them for a known regime (``regime``)."""
    plan, spec = job.arguments, parse_spec(job.arguments["spec"])
    regime = job.kind == "regime"
    numbers = remembering.versions_of(plan) if regime else plan["versions"]
    answering = {number: load_version(job.model, number, versions, artifacts) for number in numbers}
    known = {number: version for number, version in answering.items() if version is not None}
    ids = remembering.ids_of(plan) if regime else [name for name, _ in plan["rows"]]
    work = remembering.tested if regime else shadow.score
    return work(plan, spec, features_of(job.model, ids, log), known)


def features_of(model: str, ids: Sequence[str], log: Log) -> dict[str, Row]:
    """The features of predictions, by id."""
    found = log.find(model, ids) if ids else {}
    return {name: asked.features for name, (asked, _) in found.items() if asked is not None}


def is_erased(model: str, number: int, versions: Versions) -> bool:
    """Whether a version's artifact is gone, because it had learned what was erased."""
    return versions.get(model, number).state is VersionState.ERASED


def load_version(model: str, number: int, versions: Versions, artifacts: Artifacts) -> Predictor | None:
    """A version from its artifact; ``None`` for version 0, which has none."""
    digest = versions.get(model, number).digest
    return Predictor.from_bundle(artifacts.get(digest), StoredImages(artifacts)) if digest else None


def result_of(trained: Trained, digest: str | None, servable: bool) -> dict[str, Any]:
    """The result of a job as its outcome event carries it. ``facts`` may hold what was measured, too."""
    return {
        "evidence": trained.evidence,
        "answers": msgspec.to_builtins(trained.answers),
        "anchors": trained.remembered,
        "facts": {"servable": servable},
        "digest": digest,
        "rows": trained.rows,
        "learned_from": trained.learned_from,
        "learned_through": trained.learned_through,
        "learned_upto": trained.learned_upto,
        **({"sources": list(trained.sources)} if trained.sources else {}),
    }


def servable(digest: str, artifacts: Artifacts) -> bool:
    """Whether a stored version loads, and answers its anchors as it did when it was stored."""
    try:
        Predictor.from_bundle(artifacts.get(digest)).self_test()
    except EverlearnError:
        return False
    return True
