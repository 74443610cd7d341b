"""Erasures in memory: the same steps, under the one lock."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import msgspec

from everlearn.adapters import rules
from everlearn.adapters.memory_data import ModelData, SharedData
from everlearn.adapters.scrub_rules import MAKING, WHY, Sought, kept_of, without
from everlearn.loop.erasing import digests_in, image_columns, strings
from everlearn.ports import Ledger
from everlearn.types import (
    ENDED,
    Erasure,
    ErasureState,
    EventKind,
    Floor,
    Gone,
    NewEvent,
    Outcome,
    Prediction,
    Step,
    Tick,
    VersionState,
)


class Answers(Protocol):
    """The answers that are kept for repeats."""

    def scrub(self, named: Callable[[str, bytes], bool]) -> int: ...  # noqa: D102


class MemoryErasures:
    """:class:`everlearn.ports.Erasures` in memory. Digests are salted with the model's name."""

    def __init__(self, data: SharedData, ledger: Ledger, answers: Answers) -> None:
        self._data, self._ledger, self._answers = data, ledger, answers

    def begin(self, model: str, column: str, subject: str, by: str, now: float, deadline: float) -> Erasure:
        """See the port."""
        digest = rules.digest_of(model, subject)
        with self._data.lock:
            kept = self._data.model(model)
            images = image_columns(kept.spec.features)
            gone = kept.log.erase(column, subject, kept.checkpoint.cursor, images)
            if not gone.seqs:
                same = [one for one in self.list(model) if one.subject == digest]
                if not same:
                    raise rules.unknown_subject(model, subject)
                return same[0]
            name = f"erasure-{uuid.uuid4().hex[:16]}"
            command = {"erasure": name, "events": len(gone.seqs), "known": gone.known, "by": by}
            body = {"name": "erase", "arguments": command}
            receipt = kept.log.append(NewEvent(EventKind.COMMAND, now, None, body))
            removed = {"events": len(gone.seqs)}
            erasure = Erasure(
                name, model, digest, ErasureState.LOGGED, receipt.seq or 0, now, deadline, by, removed, gone
            )
            self._data.erasures[name] = erasure
            return erasure

    def get(self, id: str) -> Erasure:  # noqa: A002
        """See the port."""
        with self._data.lock:
            found = self._data.erasures.get(id)
        if found is None:
            raise rules.unknown_erasure(id)
        return found

    def list(self, model: str | None = None, *, open_only: bool = False) -> Sequence[Erasure]:
        """See the port."""
        with self._data.lock:
            if model is not None:
                self._data.model(model)
            found = reversed(self._data.erasures.values())
            return [
                one
                for one in found
                if one.model in self._data.models
                and (model is None or one.model == model)
                and not (open_only and one.state is ErasureState.DONE)
            ]

    def settle(self, erasure: Erasure, step: Step, removed: Mapping[str, int]) -> bool:
        """See the port."""
        with self._data.lock:
            if not self._ledger.commit(erasure.model, step):
                return False
            before = self._data.floors.get(erasure.model)
            kept_from, known_from = (before.kept_from, before.known_from) if before else (1, 1)
            floor = Floor(step.cursor, kept_from, known_from, erasure.at, step.state)
            self._data.floors[erasure.model] = floor
            self._change(erasure.id, removed, state=ErasureState.FORGOTTEN)
        return True

    def scrub(self, erasure: Erasure, versions: Sequence[int], now: float) -> Mapping[str, int]:
        """See the port."""
        with self._data.lock:
            kept = self._data.model(erasure.model)
            sought = Sought.of(self.get(erasure.id).gone or Gone(), erasure.seq)
            places = _jobs(self._data, kept, sought, versions, now)
            found = {
                "jobs": len(places),
                "outcomes": _outcomes(kept, sought, places),
                "answers": self._answers.scrub(
                    lambda scope, body: sought.named_by(scope) or _names(body, sought)
                ),
                "versions": _retire(kept, versions),
            }
            changed = {name: count for name, count in found.items() if count}
            self._change(erasure.id, changed)
            return changed

    def finish(self, erasure: Erasure, certificate: Mapping[str, Any], now: float) -> None:
        """See the port."""
        with self._data.lock:
            if self.get(erasure.id).state is not ErasureState.DONE:
                done = {"certificate": dict(certificate), "done_at": now, "gone": None}
                self._change(erasure.id, {}, state=ErasureState.DONE, **done)

    def _change(self, id: str, removed: Mapping[str, int], **changes: Any) -> None:  # noqa: A002
        old = self._data.erasures[id]
        counts = dict(old.removed)
        for name, count in removed.items():
            counts[name] = counts.get(name, 0) + count
        self._data.erasures[id] = replace(old, removed=counts, **changes)


def _jobs(
    data: SharedData, kept: ModelData, sought: Sought, versions: Sequence[int], now: float
) -> dict[str, list[int]]:
    """Cancel open jobs that may have read the rows; the places that these had in what jobs were asked."""
    changed: dict[str, list[int]] = {}
    for job in [job for job in data.jobs.values() if job.spec.model == kept.spec.name]:
        named = sought.touched_by(job)
        makes = job.spec.kind in MAKING and job.spec.version in versions
        left = job
        if job.state not in ENDED and (named or makes):
            left = rules.cancelled_job(job, WHY, now)
            if (event := rules.failure_of(job.spec, WHY, now)) is not None:
                kept.log.append(event)
        if named:
            rows = job.spec.arguments.get("rows", [])
            changed[job.spec.id] = [i for i, row in enumerate(rows) if row[0] in sought.ids]
            spec = replace(job.spec, arguments=without(job.spec.arguments, sought.ids))
            left = replace(left, spec=spec, result=None if job.result is None else {})
        data.jobs[job.spec.id] = left
    return changed


def _outcomes(kept: ModelData, sought: Sought, places: Mapping[str, Sequence[int]]) -> int:
    found = 0
    for i, event in enumerate(kept.log.events):
        if isinstance(event, Outcome):
            result = kept_of(event.result, sought.seqs, places.get(event.job, ()))
            if result != event.result:
                kept.log.events[i] = replace(event, result=result)
                found += 1
    return found


def _names(body: bytes, sought: Sought) -> bool:
    try:
        return sought.named_in(msgspec.json.decode(body or b"null"))
    except msgspec.DecodeError:
        return False


def _retire(kept: ModelData, versions: Sequence[int]) -> int:
    champion, found = kept.champions[-1].version, 0
    for number in versions:
        one = kept.versions.get(number)
        if one is not None and number != champion and one.state is not VersionState.ERASED:
            kept.versions[number] = replace(one, state=VersionState.ERASED)
            found += 1
    return found


class MemoryFloors:
    """Where verifications begin."""

    def __init__(self, data: SharedData) -> None:
        self._data = data

    def floor(self, model: str) -> Floor | None:
        """How far the log is not derived again, if any of it is not."""
        with self._data.lock:
            return self._data.floors.get(model)


@dataclass(frozen=True, slots=True)
class _Found:
    leftovers: list[str]
    read: dict[str, int]


class MemoryRemains:
    """:class:`everlearn.ports.Remains` in memory."""

    def __init__(self, data: SharedData) -> None:
        self._data = data

    def salted(self, erasure: Erasure, texts: Iterable[str]) -> list[str]:
        """See the port."""
        return [rules.digest_of(erasure.model, text) for text in texts]

    def search(
        self,
        erasure: Erasure,
        column: str | None,
        positions: list[tuple[int, int]],
        images: Collection[str] = (),
    ) -> _Found:
        """See the port."""
        with self._data.lock:
            kept = self._data.model(erasure.model)
            ids = {rules.digest_of(erasure.model, one) for one in kept.log.erased}
            found = _Found([], {})
            held = [kept.log.events[seq - 1] for first, last in positions for seq in range(first, last + 1)]
            filled = [event.seq for event in held if not isinstance(event, Tick)]
            found.leftovers.extend(f"events at position {seq} holds what was erased there" for seq in filled)
            rows = (
                event.features for event in kept.log.events[: erasure.seq] if isinstance(event, Prediction)
            )
            if set(images).intersection(self.salted(erasure, digests_in(rows))):
                found.leftovers.append("events holds an image")
            for store, texts in self._texts(kept, erasure, column):
                found.read[store] = found.read.get(store, 0) + 1
                digests = {rules.digest_of(erasure.model, text) for text in texts}
                if digests & ids:
                    found.leftovers.append(f"{store} holds an id")
                if erasure.subject in digests:
                    found.leftovers.append(f"{store} holds the subject")
            return found

    def _texts(
        self, kept: ModelData, erasure: Erasure, column: str | None
    ) -> Iterator[tuple[str, list[str]]]:
        for event in kept.log.events[: erasure.seq]:
            if isinstance(event, Prediction):
                yield "events", [event.id, str(event.features.get(column or ""))]
        yield "checkpoints", list(strings(msgspec.json.decode(kept.checkpoint.state or b"null")))
        for job in self._data.jobs.values():
            if job.spec.model == erasure.model:
                yield "jobs", list(strings(dict(job.spec.arguments)))
        for decision in kept.decisions:
            yield "decisions", [decision.reason, *strings(dict(decision.evidence))]
