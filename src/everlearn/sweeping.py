"""Bundles that nothing refers to any more are found, and removed.

What is kept, however old: every version of every model there is, in whatever state. A champion answers, an
archived version may answer again or be gone back to, and what was refused is loaded by ``everlearn why
--verify``, which computes the results of jobs again; but not a version that learned rows which were erased
since. Kept too is whatever a loop's state or a job that has not ended names, and what a backfill answered.
The rest comes from deleted models, from jobs whose lease was lost after they had stored a version, and from
uploads that died.

The images of frames lie in the same store. They are kept for a time of their own after they were sent last,
and go then, whatever refers to them: a detector is trained and judged on those that are there.

A version is stored before it is recorded, so nothing is removed that was put within the grace period, and
:meth:`everlearn.ports.Artifacts.delete` looks at that once more in the same step in which it removes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from everlearn.errors import IntegrityError, NotFoundError
from everlearn.loop.backfill_report import answers_of
from everlearn.ports import Artifacts, Clock, Jobs, Ledger, Models, Versions
from everlearn.types import JobState, Page, Stored, VersionState
from everlearn.vision.frames import is_image

T = TypeVar("T")

GRACE = 24 * 3600.0
"""Seconds after its last put within which a bundle is kept without being referred to."""

IMAGES = 90 * 24 * 3600.0
"""Seconds for which the images of frames are kept after they were sent last."""

_DIGEST = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
_OPEN = (JobState.QUEUED, JobState.RUNNING)


class Parts(Protocol):
    """What sweeping needs of an installation."""

    @property
    def clock(self) -> Clock: ...  # noqa: D102
    @property
    def models(self) -> Models: ...  # noqa: D102
    @property
    def versions(self) -> Versions: ...  # noqa: D102
    @property
    def ledger(self) -> Ledger: ...  # noqa: D102
    @property
    def jobs(self) -> Jobs: ...  # noqa: D102
    @property
    def artifacts(self) -> Artifacts: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Swept:
    """What a store holds: what is referred to, what is not but is young, and what is garbage.

    ``removed`` are those of the garbage that are gone now; the others were put again meanwhile.
    """

    kept: tuple[Stored, ...]
    young: tuple[Stored, ...]
    garbage: tuple[Stored, ...]
    removed: tuple[Stored, ...] = ()


def look(parts: Parts, grace: float = GRACE, images: float = IMAGES) -> Swept:
    """What there is to remove; changes nothing. Images are young for ``images`` seconds, all else for
    ``grace``.

    The store is listed before the references are read: what is recorded between the two counts as kept.
    """
    held = list(parts.artifacts.stored())
    wanted = reachable(parts)
    now = parts.clock.now()
    loose = [one for one in held if one.digest not in wanted]
    old = {one.digest for one in loose if one.at < now - grace and not _kept_image(parts, one, now - images)}
    return Swept(
        kept=tuple(one for one in held if one.digest in wanted),
        young=tuple(one for one in loose if one.digest not in old),
        garbage=tuple(one for one in loose if one.digest in old),
    )


def _kept_image(parts: Parts, one: Stored, before: float) -> bool:
    """Whether a stored bundle is an image that was sent since then."""
    if one.at < before:
        return False
    try:
        return is_image(parts.artifacts.get(one.digest))
    except (IntegrityError, NotFoundError):  # damaged, or an upload that died: no image
        return False


def sweep(parts: Parts, grace: float = GRACE, images: float = IMAGES) -> Swept:
    """Remove what :func:`look` finds, unless it is put again meanwhile. Safe beside running workers."""
    found = look(parts, grace, images)
    before = parts.clock.now() - grace
    removed = tuple(one for one in found.garbage if parts.artifacts.delete(one.digest, before))
    return Swept(found.kept, found.young, found.garbage, removed)


def reachable(parts: Parts) -> set[str]:
    """The digests that a version, a loop's state, a backfill, or a job that has not ended refers to."""
    found: set[str] = set()
    for spec in _all(parts.models.list):
        with suppress(NotFoundError):  # deleted meanwhile
            found |= _named_by(spec.name, parts)
    return found


def _named_by(model: str, parts: Parts) -> set[str]:
    versions = _all(_of(parts.versions.list, model))
    kept = (one for one in versions if one.state is not VersionState.ERASED)
    found = {one.digest for one in kept if one.digest is not None}
    found.update(_DIGEST.findall(parts.ledger.checkpoint(model).state.decode("utf-8", "replace")))
    for job in _all(_of(parts.jobs.list, model)):
        if job.state in _OPEN:
            found.update(_DIGEST.findall(json.dumps(dict(job.spec.arguments))))
        if digest := answers_of(job):
            found.add(digest)
    return found


def _of(pages: Callable[..., Page[T]], model: str) -> Callable[[str | None, int], Page[T]]:
    return lambda cursor, limit: pages(model, cursor, limit)


def _all(pages: Callable[[Any, int], Page[T]]) -> Iterator[T]:
    cursor: str | None = None
    while True:
        page = pages(cursor, 1000)
        yield from page.items
        cursor = page.next
        if cursor is None:
            return
