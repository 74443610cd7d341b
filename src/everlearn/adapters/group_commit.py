"""Many concurrent appends, one transaction: what lets a durable log keep up with requests.

Every caller waits until its own events are durable, but callers that wait at the same time share one
commit (group commit; DeWitt et al., *Implementation Techniques for Main Memory Database Systems*,
1984). A single thread writes, so there is no contention for the store's write lock in this process.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from everlearn.adapters.rules import same_features
from everlearn.errors import ConflictError, Fault, UnavailableError
from everlearn.ports import Log
from everlearn.types import NewEvent, Receipt

_Answer: TypeAlias = list[Receipt] | ConflictError


@dataclass(slots=True, eq=False)
class _Request:
    model: str
    events: Sequence[NewEvent]
    whole: bool
    future: Future[list[Receipt]] = field(default_factory=Future)

    def settle(self, answer: _Answer) -> None:
        if isinstance(answer, ConflictError):
            self.future.set_exception(answer)
        else:
            self.future.set_result(answer)


class GroupCommit:
    """Coalesces appends to ``log`` into one transaction per model, written by one thread.

    ``limit`` bounds the events that wait and ``group`` those of one write. ``wait`` (seconds) is how
    long a group stays open for company; a caller who is alone does not wait. The thread starts with
    the first append and ends with :meth:`close`.
    """

    def __init__(self, log: Log, *, limit: int = 50_000, group: int = 10_000, wait: float = 0.002) -> None:
        self._log = log
        self._limit = limit
        self._group = group
        self._wait = wait
        self._changed = threading.Condition()
        self._queue: deque[_Request] = deque()
        self._queued = 0
        self._closed = False
        self._crowded = False
        self._thread: threading.Thread | None = None

    async def append(self, model: str, events: Sequence[NewEvent], *, whole: bool = False) -> list[Receipt]:
        """Add events durably and in order; one receipt each, as :meth:`everlearn.ports.Log.append`.

        With ``whole``, prediction ids that are known with other features refuse all of the events:
        ConflictError names them and nothing is stored. (When another *process* stores such an id in
        the same instant, the receipts tell of it instead.) Raises UnavailableError when the queue is
        full or closed. A caller that is cancelled before its write began has stored nothing; later,
        its events are stored as if it had not been cancelled.
        """
        return await asyncio.wrap_future(self.submit(model, events, whole=whole))

    def submit(self, model: str, events: Sequence[NewEvent], *, whole: bool = False) -> Future[list[Receipt]]:
        """The same for callers without an event loop."""
        request = _Request(model, events, whole)
        if not events:
            request.future.set_result([])
            return request.future
        with self._changed:
            self._admit(len(events))
            self._queue.append(request)
            self._queued += len(events)
            self._changed.notify()
        return request.future

    def close(self) -> None:
        """Write what waits, then stop. Blocks until done; harmless when repeated."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join()

    def _admit(self, count: int) -> None:
        if self._closed:
            raise UnavailableError("The server is shutting down: send the request again")
        if self._queued and self._queued + count > self._limit:
            raise UnavailableError(
                f"{self._queued} events wait to be written: send the request again in a second"
            )
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="group-commit", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while group := self._next():
            self._crowded = len(group) > 1
            by_model: dict[str, list[_Request]] = {}
            for request in group:
                if request.future.set_running_or_notify_cancel():
                    by_model.setdefault(request.model, []).append(request)
            for model, requests in by_model.items():
                self._write(model, requests)

    def _next(self) -> list[_Request]:
        """Wait for requests and take a group of them; empty once closed and drained."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._closed)
            if self._crowded:
                self._changed.wait_for(lambda: self._closed or self._queued >= self._group, self._wait)
            taken: list[_Request] = []
            size = 0
            while self._queue and (not taken or size + len(self._queue[0].events) <= self._group):
                taken.append(self._queue.popleft())
                size += len(taken[-1].events)
            self._queued -= size
            return taken

    def _write(self, model: str, requests: list[_Request]) -> None:
        """One transaction for all; if it fails, one each, so that a bad request fails alone."""
        try:
            answers = self._append(model, requests)
        except Exception as error:
            if len(requests) == 1 or isinstance(error, UnavailableError):
                for request in requests:
                    request.future.set_exception(error)
            else:
                for request in requests:
                    self._write(model, [request])
        else:
            for request, answer in zip(requests, answers, strict=True):
                request.settle(answer)

    def _append(self, model: str, requests: list[_Request]) -> list[_Answer]:
        refused = self._refused(model, requests)
        kept = [request for request in requests if request not in refused]
        receipts: Iterator[Receipt] = iter(())
        if kept:
            receipts = iter(self._log.append(model, [event for request in kept for event in request.events]))
        answers: list[_Answer] = []
        for request in requests:
            error = refused.get(request)
            answers.append(error if error is not None else [next(receipts) for _ in request.events])
        return answers

    def _refused(self, model: str, requests: list[_Request]) -> dict[_Request, ConflictError]:
        """The requests that must be stored whole but hold an id known with other features."""
        ids = [event.key for request in requests if request.whole for event in request.events if event.key]
        if not ids:
            return {}
        found = self._log.find(model, ids)
        known: dict[str, Any] = {key: hit[0].features for key, hit in found.items() if hit[0] is not None}
        refused: dict[_Request, ConflictError] = {}
        for request in (request for request in requests if request.whole):
            claimed: dict[str, Any] = {}
            clashes = [i for i, event in enumerate(request.events) if _clashes(event, known, claimed)]
            if clashes:
                refused[request] = conflict([(i, str(request.events[i].key)) for i in clashes])
            else:
                known.update(claimed)
        return refused


def _clashes(event: NewEvent, known: dict[str, Any], claimed: dict[str, Any]) -> bool:
    if event.key is None:
        return False
    features = event.body.get("features") or {}
    before = known.get(event.key, claimed.get(event.key, features))
    claimed[event.key] = features
    return not same_features(before, features)


def conflict(ids: Sequence[tuple[int, str]]) -> ConflictError:
    """The error for prediction ids, with their places in the request, that are known with other features."""
    faults = [Fault(f"ids[{i}]", f"{key!r} is known with other features: use a new id") for i, key in ids]
    names = ", ".join(repr(key) for _, key in ids[:20])
    return ConflictError(f"Known with other features, so nothing was stored: {names}", faults[:100])
