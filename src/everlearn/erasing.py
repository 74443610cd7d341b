"""Carrying erasures through: from the log, where it begins, to the certificate.

The log is clean when an erasure is asked for, the loop's state when it has read the command. What is left is
done here, again and again until nothing is: jobs and what they reported are scrubbed, versions that may have
learned the rows are retired and their artifacts removed, and the champion, if it is one of them, is replaced
by one that never saw the rows: as soon as the gate does not find it worse, at the deadline whatever the gate
says. Then everything is searched, the record is made again, and a certificate is signed. Stopped anywhere, it
goes on where it was.

The images of the rows go once no other row shows them, of no model.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from loguru import logger

from everlearn import __version__, erasure_proof
from everlearn.adapters.bundles import digest_of, encode_bundle
from everlearn.certificates import FORMAT, Seal
from everlearn.erasure_proof import (
    Proof,
    Removed,
    prove,
    sha256,
    showing,
    shown,
    stores_image,
    versions_of,
)
from everlearn.errors import EverlearnError, IntegrityError
from everlearn.loop import backfill_erasing
from everlearn.loop.erasing import image_columns
from everlearn.loop.erasing_jobs import remove_lost
from everlearn.loop.state import LoopState, load
from everlearn.loop.training import Progress, silent
from everlearn.ports import Backlog, Clock, Erasures
from everlearn.sweeping import reachable
from everlearn.types import (
    Decision,
    DecisionKind,
    Erasure,
    ErasureState,
    EventKind,
    NewEvent,
    Version,
    VersionState,
)
from everlearn.vision.frames import bundle_of

ERASING = "erasing"
"""The lease of who carries erasures through."""

EVERY = 2.0
"""Seconds between two looks at the erasures that are not done."""

SENDING = 60.0
"""Seconds after which an image that was stored has its row, if it is ever to have one."""

ASK_AGAIN = 600
"""Seconds after which a clean version is asked for again, where none is being made or tried."""

PROVE_AGAIN = 300.0
"""Seconds after which a proof is made again that failed when it had trained all versions again."""

HOLD_EVERY = 5.0
"""Seconds between two looks at whether to go on, while a proof is at work."""


class StoppedError(Exception):
    """There is no time to end a proof: the next process makes it."""


class Parts(erasure_proof.Parts, Protocol):
    """What carrying erasures through needs of an installation."""

    @property
    def clock(self) -> Clock: ...  # noqa: D102
    @property
    def erasures(self) -> Erasures: ...  # noqa: D102
    @property
    def backlog(self) -> Backlog: ...  # noqa: D102


class Eraser:
    """Carries erasures through, while ``may`` lets it. More than one at work is waste, never harm."""

    def __init__(self, parts: Parts, seal: Seal, may: Callable[[], bool] = lambda: True) -> None:
        self._parts, self._seal, self._may = parts, seal, may
        self._scrubbed: set[tuple[str, int]] = set()
        self._failed: dict[str, str] = {}
        self._removed: dict[str, set[str]] = {}
        self._images: dict[str, list[str]] = {}
        self._rests_until: dict[str, float] = {}
        self._stop: threading.Event | None = None
        self._looked = 0.0

    def run(self, stop: threading.Event) -> None:
        """Go on until told to stop."""
        while not stop.is_set():
            try:
                for done in self.run_once(stop) if self._may() else ():
                    logger.info("{}: {} is done, and certified", done.model, done.id)
            except StoppedError:
                return
            except EverlearnError as error:
                logger.warning("erasures wait: {}", error)
            except Exception as error:
                logger.opt(exception=error).error("erasures wait: {}", type(error).__name__)
            stop.wait(EVERY)

    def run_once(self, stop: threading.Event | None = None) -> Iterator[Erasure]:
        """Take every erasure that is not done a step further, the oldest first; those that are done by it."""
        self._stop = stop
        for erasure in reversed(self._parts.erasures.list(open_only=True)):
            if stop is not None and stop.is_set():
                return
            if erasure.state is ErasureState.FORGOTTEN and self._carry_on(erasure):
                yield self._parts.erasures.get(erasure.id)

    def _carry_on(self, erasure: Erasure) -> bool:
        """Do what can be done now; whether that was all."""
        parts, model = self._parts, erasure.model
        state = load(parts.ledger.checkpoint(model).state)
        champion = parts.versions.champion(model).version
        withdrawn = [one for one in versions_of(parts.versions, model) if state.has_erased(one.number)]
        if (erasure.id, champion) not in self._scrubbed:
            backfill_erasing.remove(erasure, parts.jobs, parts.backlog, parts.artifacts, parts.clock.now())
            numbers = [number for first, below in state.erased for number in range(first, below)]
            parts.erasures.scrub(erasure, numbers, parts.clock.now())
            self._scrubbed.add((erasure.id, champion))
        removed = self._remove(withdrawn, champion)
        images = self._remove_images(erasure)
        if state.has_erased(champion):
            self._replace(erasure, state)
            return False
        if images is None or not self._remove_lost(erasure, state):
            return False
        return self._certify(erasure, removed, images)

    def _remove(self, withdrawn: Sequence[Version], champion: int) -> list[str]:
        """Remove the artifacts of withdrawn versions but for that of the champion; the digests of all."""
        digests = {one.digest for one in withdrawn if one.digest is not None and one.number != champion}
        if not digests:
            return []
        artifacts = self._parts.artifacts
        loose = sorted(digests - reachable(self._parts))
        for digest in loose:
            artifacts.delete(digest)
        return loose

    def _remove_lost(self, erasure: Erasure, state: LoopState) -> bool:
        """Remove what jobs had stored when they were ended; whether nothing of it is left."""
        parts = self._parts
        return remove_lost(
            erasure.model, state.has_erased, parts.jobs, parts.artifacts,
            named=lambda: reachable(parts), asked_at=erasure.at, now=parts.clock.now(),
        )  # fmt: skip

    def _remove_images(self, erasure: Erasure) -> list[str] | None:
        """Remove the images of erased rows that no other row shows, of no model; their digests.

        ``None`` while one is there that may be getting a row: whoever sends an image again stores it again.
        """
        if erasure.id in self._images:
            return self._images[erasure.id]
        parts, sought = self._parts, set(erasure.gone.files if erasure.gone else ())
        for model in showing(parts, erasure.model) if sought else ():
            sought -= shown(parts, model)
        removed = self._removed.setdefault(erasure.id, set())
        there = {digest for digest in sought if stores_image(parts.artifacts, digest)}
        there -= reachable(parts) if there else there  # damaged versions
        before = max(erasure.at, parts.clock.now() - SENDING)
        gone = {digest for digest in there if parts.artifacts.delete(digest, before)}
        removed |= gone
        if there - gone:
            return None
        # What rows of a detector name are images: also those that were removed before this process began.
        named = image_columns(parts.models.get(erasure.model).features)
        self._images[erasure.id] = sorted(sought if named else removed)
        return self._images[erasure.id]

    # -- the champion ------------------------------------------------------------------------------------

    def _replace(self, erasure: Erasure, state: LoopState) -> None:
        """See that a champion that learned the rows does not stay."""
        now = self._parts.clock.now()
        if now >= erasure.deadline:
            number = self._newest_clean(erasure.model, state)
            why = f"the deadline of {erasure.id} has passed, and this version never saw what is erased"
            self._command(erasure, "promote", {"version": number, "why": why}, f"{number}")
        elif state.activity is None and state.candidate is None and not state.frozen and state.learnable >= 2:
            why = f"{erasure.id} waits for a version that never saw what is erased"
            self._command(erasure, "retrain", {"force": True, "why": why}, f"{now // ASK_AGAIN:.0f}")

    def _newest_clean(self, model: str, state: LoopState) -> int:
        """The newest version that cannot have learned what is erased, whatever the gate said of it."""
        for one in versions_of(self._parts.versions, model):
            known = one.digest is not None and state.version(one.number) is not None
            if known and one.state is not VersionState.ERASED and not state.tainted(one.number):
                return one.number
        return 0

    def _command(self, erasure: Erasure, name: str, arguments: Mapping[str, Any], key: str) -> None:
        body = {"name": name, "arguments": {**arguments, "by": "everlearn"}}
        event = NewEvent(EventKind.COMMAND, self._parts.clock.now(), f"{erasure.id}:{name}:{key}", body)
        self._parts.log.append(erasure.model, [event])

    # -- the certificate ---------------------------------------------------------------------------------

    def _certify(self, erasure: Erasure, artifacts: Sequence[str], images: Sequence[str]) -> bool:
        parts = self._parts
        assert erasure.gone is not None
        if time.monotonic() < self._rests_until.get(erasure.id, 0.0):
            return False
        floor = parts.retention.floor(erasure.model)
        state = sha256(floor.state) if floor is not None and floor.seq == erasure.seq else None
        standing = {str(one.number): one.digest for one in self._standing(erasure.model) if one.digest}
        salted = sorted(parts.remains.salted(erasure, images))
        removed = Removed(ranges(erasure.gone.seqs), artifacts, state, standing, salted)
        proof = prove(parts, erasure, removed, self._going_on, whole=False)
        if proof.failures:  # somebody may have brought it back: it is looked for and removed again
            if "record" in proof.numbers:
                self._rests_until[erasure.id] = time.monotonic() + PROVE_AGAIN
            self._images.pop(erasure.id, None)
            self._scrubbed = {one for one in self._scrubbed if one[0] != erasure.id}
            self._tell(erasure, proof)
            return False
        fresh = parts.erasures.get(erasure.id)
        body = certificate(fresh, removed, proof, self._decision(erasure), parts.clock.now())
        champion = parts.versions.champion(erasure.model)
        body["champion"] = {"version": champion.version, "artifact": champion.digest}
        parts.erasures.finish(erasure, self._seal.sign(body), parts.clock.now())
        return True

    def _going_on(self, share: float) -> None:  # noqa: ARG002 (a progress)
        """Keep the lease while a proof is at work, and end it where there is no time left."""
        if self._stop is not None and self._stop.is_set():
            raise StoppedError
        if time.monotonic() - self._looked > HOLD_EVERY:
            self._looked = time.monotonic()
            self._may()

    def _standing(self, model: str) -> Iterator[Version]:
        return (
            one for one in versions_of(self._parts.versions, model) if one.state is not VersionState.ERASED
        )

    def _tell(self, erasure: Erasure, proof: Proof) -> None:
        said = "; ".join(proof.failures[:5])
        if self._failed.get(erasure.id) != said:
            self._failed[erasure.id] = said
            logger.error("{}: {} is not proven: {}", erasure.model, erasure.id, said)

    def _decision(self, erasure: Erasure) -> Decision | None:
        kind = DecisionKind.ERASE.value
        found = self._parts.ledger.decisions(erasure.model, None, 1000, kind).items
        return next((one for one in found if one.evidence.get("erasure") == erasure.id), None)


def certificate(
    erasure: Erasure, removed: Removed, proof: Proof, decision: Decision | None, now: float
) -> dict[str, Any]:
    """What is signed: what was removed, and how it was proven. It holds no value of the subject's."""
    return {
        "format": FORMAT,
        "everlearn": __version__,
        "id": erasure.id,
        "model": erasure.model,
        "subject": erasure.subject,
        "asked_at": erasure.at,
        "done_at": now,
        "position": erasure.seq,
        "decision": None if decision is None else decision.number,
        "removed": dict(erasure.removed),
        "positions": [list(pair) for pair in removed.positions],
        "withdrawn": [] if decision is None else list(decision.evidence.get("versions", [])),
        "artifacts_removed": list(removed.artifacts),
        "images_removed": len(removed.images),
        "images": list(removed.images),
        "versions": dict(removed.versions),
        "state": removed.state,
        "proof": dict(proof.numbers),
    }


def check(parts: Parts, seal: Seal, given: Mapping[str, Any], progress: Progress = silent) -> Proof:
    """Prove a certificate again, as things are now. Raises IntegrityError for one that was changed."""
    if not seal.verify(given):
        raise IntegrityError("The certificate is not as this installation signed it")
    erasure = parts.erasures.get(str(given["id"]))
    positions = [(int(first), int(last)) for first, last in given["positions"]]
    artifacts, images = given["artifacts_removed"], given.get("images", [])
    removed = Removed(positions, artifacts, given["state"], given["versions"], images)
    return prove(parts, erasure, removed, progress)


def is_removed(parts: Parts, given: Mapping[str, Any], image: bytes) -> bool:
    """Whether an image, as it was sent, is one of those that a certificate names."""
    digest = digest_of(encode_bundle(bundle_of(image)))
    salted = parts.remains.salted(parts.erasures.get(str(given["id"])), [digest])
    return salted[0] in given.get("images", ())


def ranges(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """Numbers in rising order as ranges (first, last).

    >>> ranges([1, 2, 3, 7, 9, 10])
    [(1, 3), (7, 7), (9, 10)]
    """
    found: list[tuple[int, int]] = []
    for number in numbers:
        if found and number == found[-1][1] + 1:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return found
