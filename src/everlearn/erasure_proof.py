"""How an erasure is proven, now and at any later time, without knowing what was erased.

Everything is searched for digests of what was removed, the store of images too. Then the loop is folded over
the log from the erasure on, and every version made since is trained again from the log, which holds none of
the rows: the state that comes out must be the stored one, byte for byte, and so must the versions. Whatever
is left in a sketch, a buffer, a reservoir or an artifact, in sums or in arrays, is found: what never saw the
rows could not have made it. Detectors that cannot come out the same on this machine are named: of them the
search alone is proof.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

from everlearn.errors import IntegrityError, NotFoundError
from everlearn.loop import backfill_erasing
from everlearn.loop.erasing import digests_in
from everlearn.loop.state import LoopState, dump, load
from everlearn.loop.training import Progress, silent
from everlearn.loop.verify import verify
from everlearn.ports import Artifacts, Jobs, Ledger, Log, Models, Remains, Versions, all_specs
from everlearn.types import (
    Erasure,
    Floor,
    JobSpec,
    LoadedExample,
    Outcome,
    Prediction,
    Version,
    VersionState,
)
from everlearn.vision.frames import is_image

BATCH = 2000


class Floors(Protocol):
    """Where the record of a model begins."""

    def floor(self, model: str) -> Floor | None: ...  # noqa: D102


class Parts(Protocol):
    """What a proof needs of an installation."""

    @property
    def models(self) -> Models: ...  # noqa: D102
    @property
    def log(self) -> Log: ...  # noqa: D102
    @property
    def versions(self) -> Versions: ...  # noqa: D102
    @property
    def ledger(self) -> Ledger: ...  # noqa: D102
    @property
    def jobs(self) -> Jobs: ...  # noqa: D102
    @property
    def artifacts(self) -> Artifacts: ...  # noqa: D102
    @property
    def remains(self) -> Remains: ...  # noqa: D102
    @property
    def retention(self) -> Floors: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Removed:
    """What must stay gone: ranges (first, last) of positions, and digests of artifacts.

    ``state`` is the SHA-256 of the loop's state just after the erasure, ``versions`` the artifacts of the
    versions that stayed, by number, ``images`` the salted digests of those of images.
    """

    positions: Sequence[tuple[int, int]]
    artifacts: Sequence[str] = ()
    state: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    images: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Proof:
    """What a proof found: ``failures`` in words, and the numbers of what was looked at."""

    failures: tuple[str, ...]
    numbers: Mapping[str, Any]


def prove(
    parts: Parts, erasure: Erasure, removed: Removed, progress: Progress = silent, *, whole: bool = True
) -> Proof:
    """Look for anything that an erasure should have removed. Not ``whole``: nothing is made again where the
    search has found something."""
    model = erasure.model
    ranges = [(first, last) for first, last in removed.positions]
    searched = parts.remains.search(erasure, parts.models.get(model).subject, ranges, removed.images)
    floor = parts.retention.floor(model)
    if floor is None or floor.seq < erasure.seq:
        raise NotFoundError(f"The loop of {model} has not read {erasure.id} yet: see that a worker runs")
    failures = list(searched.leftovers)
    failures += _artifacts(parts, model, removed)
    stored, back = _images(parts, erasure, removed.images)
    failures += back
    failures += backfill_erasing.left(erasure, parts.jobs)
    if removed.state is not None and floor.seq == erasure.seq and sha256(floor.state) != removed.state:
        failures.append("the loop's state just after the erasure is not the one that was certified")
    if failures and not whole:
        return Proof(tuple(failures), {"rows_searched": dict(searched.read), "stored_searched": stored})
    found, numbers = _record(parts, model, floor, progress)
    numbers = {"rows_searched": dict(searched.read), "stored_searched": stored, **numbers}
    return Proof((*failures, *found), numbers)


def _artifacts(parts: Parts, model: str, removed: Removed) -> Iterator[str]:
    """Artifacts that are back, and versions whose artifact is another than it was."""
    standing = {one.number: one for one in versions_of(parts.versions, model) if not _erased(one)}
    used = {one.digest for one in standing.values()}
    for digest in removed.artifacts:
        if digest not in used and parts.artifacts.sound(digest):
            yield f"the artifact {digest[:12]}… of a withdrawn version is there again"
    for number, digest in removed.versions.items():
        there = standing.get(int(number))
        if there is not None and there.digest != digest:
            yield f"version {number} has another artifact than when it was certified"


def _images(parts: Parts, erasure: Erasure, images: Sequence[str]) -> tuple[int, list[str]]:
    """How much of the store was looked through, and images that are back in it and shown by no row.

    What somebody has sent again since is theirs, and has a row.
    """
    if not images:
        return 0, []
    held = [one.digest for one in parts.artifacts.stored()]
    sought = set(images)
    salted = zip(held, parts.remains.salted(erasure, held), strict=True)
    back = {digest for digest, own in salted if own in sought}
    for model in showing(parts, erasure.model) if back else ():
        back -= shown(parts, model)
    return len(held), [
        f"an image that was removed is there again ({digest[:12]}…)" for digest in sorted(back)
    ]


def showing(parts: Parts, model: str) -> list[str]:
    """A model, and all others that have images: one that was sent to two is stored once."""
    others = [spec.name for spec in all_specs(parts.models) if "image" in spec.features.values()]
    return [model, *(name for name in others if name != model)]


def shown(parts: Parts, model: str) -> set[str]:
    """The digests in the rows of a model: images are stored under them."""
    found: set[str] = set()
    after = 0
    with suppress(NotFoundError):  # deleted meanwhile
        while events := parts.log.read(model, after, BATCH):
            rows = (event.features for event in events if isinstance(event, Prediction | LoadedExample))
            found |= digests_in(rows)
            after = events[-1].seq
    return found


def stores_image(artifacts: Artifacts, digest: str) -> bool:
    """Whether an image is stored under a digest; a damaged bundle that is no version may be one."""
    try:
        return is_image(artifacts.get(digest))
    except NotFoundError:
        return False
    except IntegrityError:
        return True


def _record(
    parts: Parts, model: str, floor: Floor, progress: Progress
) -> tuple[Iterator[str], dict[str, Any]]:
    """Fold the log again from the erasure on, and compare decisions, versions and the resulting state."""
    checkpoint, states = parts.ledger.checkpoint(model), list[LoopState]()
    record = verify(
        model, log=parts.log, ledger=parts.ledger, versions=parts.versions, artifacts=parts.artifacts,
        floor=floor.checkpoint, kept_from=floor.known_from, upto=checkpoint.cursor,
        asked=_at_work(parts.jobs, load(floor.state)), reached=states.append, progress=progress,
    )  # fmt: skip
    numbers = {
        "record": {
            "after": record.begins,
            "events": record.events,
            "decisions": record.decisions,
            "unchecked": record.unchecked,
        },
        "versions_made_again": record.artifacts_checked,
        "equality": "identical, but for what is proven by search alone" if record.elsewhere else "identical",
        "proven_by_search_alone": list(record.elsewhere),
    }

    def failures() -> Iterator[str]:
        yield from record.differences
        parts_of = _differing(checkpoint.state, dump(states[0]))
        if parts_of:
            yield f"the loop's state is not what the log leads to: it differs in {', '.join(parts_of)}"
        yield from _other_artifacts(parts, model, floor.seq, checkpoint.cursor)

    return failures(), numbers


def _at_work(jobs: Jobs, state: LoopState) -> list[JobSpec]:
    """The training that was asked for in the very step of the erasure."""
    if state.activity is None:
        return []
    try:
        return [jobs.get(state.activity.job).spec]
    except NotFoundError:
        return []


def _differing(stored: bytes, made: bytes) -> list[str]:
    if stored == made:
        return []
    one, other = msgspec.json.decode(stored), msgspec.json.decode(made)
    return [name for name in other if one.get(name) != other[name]] or ["its form"]


def _other_artifacts(parts: Parts, model: str, after: int, upto: int) -> Iterator[str]:
    """Versions made since whose artifact is not the one that their job reported."""
    reported: dict[int, str] = {}
    while after < upto and (events := parts.log.read(model, after, min(BATCH, upto - after))):
        for event in events:
            if isinstance(event, Outcome) and event.result.get("digest"):
                reported[event.version] = event.result["digest"]
        after = events[-1].seq
    for one in versions_of(parts.versions, model):
        if not _erased(one) and reported.get(one.number, one.digest) != one.digest:
            yield f"version {one.number} has another artifact than the one that its job made"


def versions_of(versions: Versions, model: str) -> Iterator[Version]:
    """All versions of a model."""
    cursor: str | None = None
    while True:
        page = versions.list(model, cursor, 1000)
        yield from page.items
        cursor = page.next
        if cursor is None:
            return


def _erased(version: Version) -> bool:
    return version.state is VersionState.ERASED


def sha256(data: bytes) -> str:
    """64 hex digits."""
    return hashlib.sha256(data).hexdigest()
