"""Many concurrent appends, one transaction: what lets a durable log keep up with requests.

Every caller waits until its own events are stored, but callers that wait at the same time share one
commit (group commit; DeWitt et al., *Implementation Techniques for Main Memory Database Systems*,
1984). A single thread writes, so there is no contention for the store's write lock in this process.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from typing import Any, TypeAlias

from loguru import logger

from everlearn.adapters.rules import same_features
from everlearn.errors import ConflictError, Fault, UnavailableError
from everlearn.ports import Log
from everlearn.types import NewEvent, Receipt

_Answer: TypeAlias = "list[Receipt] | Exception"


class _Request:
    """Events of one caller, and where its answer goes: a function, one of the two futures, or nowhere."""

    __slots__ = ("answer", "awaited", "events", "flush", "future", "loop", "model", "then", "whole")

    def __init__(self, model: str, events: Sequence[NewEvent], whole: bool, flush: bool) -> None:
        self.model, self.events, self.whole, self.flush = model, events, whole, flush
        self.future: Future[list[Receipt]] | None = None
        self.awaited: asyncio.Future[list[Receipt]] | None = None
        self.then: Callable[[_Answer], None] | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        self.answer: _Answer | None = None

    def begin(self) -> bool:
        """Whether it is to be written: a caller that was cancelled before has stored nothing."""
        if self.future is not None:
            return self.future.set_running_or_notify_cancel()
        return self.awaited is None or not self.awaited.cancelled()


class _Waiting:
    """What the requests of one event loop share: they reach the writer together, once a turn of the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.requests: list[_Request] = []


class GroupCommit:
    """Coalesces appends to ``log`` into one transaction per model, written by one thread.

    ``limit`` bounds the events of one model that wait (those of all models: twice as many, so that one alone
    cannot take all) and ``group`` those of one write. ``wait`` (seconds) is how long a
    group stays open at most until as many requests have come as the last one had; a caller who is alone
    does not wait. The thread starts with the first append and ends with :meth:`close`. ``on_loss`` is told
    how many events could not be stored whose caller did not wait (:meth:`post`), ``on_group`` how many were
    stored by one write.
    """

    def __init__(
        self,
        log: Log,
        *,
        limit: int = 50_000,
        group: int = 10_000,
        wait: float = 0.002,
        on_loss: Callable[[int], None] = lambda _: None,
        on_group: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._log = log
        self._limit = limit
        self._group = group
        self._wait = wait
        self._on_loss, self._on_group = on_loss, on_group
        self._changed = threading.Condition()
        self._queue: deque[_Request] = deque()
        self._queued = 0
        self._queued_of: dict[str, int] = {}
        self._expected = 1
        self._closed = False
        self._thread: threading.Thread | None = None
        self._waiting: _Waiting | None = None

    async def append(
        self, model: str, events: Sequence[NewEvent], *, whole: bool = False, flush: bool = False
    ) -> list[Receipt]:
        """Add events in order; one receipt each, as :meth:`everlearn.ports.Log.append`.

        With ``whole``, prediction ids that are known with other features refuse all of the events:
        ConflictError names them and nothing is stored. (When another *process* stores such an id in
        the same instant, the receipts tell of it instead.) With ``flush`` they are on disk, too, before it
        returns. Raises UnavailableError when the queue is full or closed. A caller that is cancelled before
        its write began has stored nothing; later, its events are stored as if it had not been cancelled.
        """
        if not events:
            return []
        request = _Request(model, events, whole, flush)
        loop = request.loop = asyncio.get_running_loop()
        request.awaited = loop.create_future()
        self._hand_over(loop, request)
        return await request.awaited

    def append_then(
        self,
        model: str,
        events: Sequence[NewEvent],
        then: Callable[[list[Receipt] | Exception], None],
        *,
        whole: bool = False,
        flush: bool = False,
    ) -> None:
        """The same as ``append``, for callers on an event loop's thread: ``then`` is called there with the
        receipts, or with what went wrong. Raises UnavailableError as ``append``."""
        request = _Request(model, events, whole, flush)
        request.then = then
        loop = request.loop = asyncio.get_running_loop()
        self._hand_over(loop, request)

    def post(self, model: str, events: Sequence[NewEvent]) -> None:
        """Add events soon, without a word of what became of them. Raises UnavailableError as ``append``."""
        request = _Request(model, events, False, False)
        with self._changed:
            self._admit(model, len(events))
            self._enqueue([request])

    def submit(self, model: str, events: Sequence[NewEvent], *, whole: bool = False) -> Future[list[Receipt]]:
        """The same as ``append`` for callers without an event loop."""
        request = _Request(model, events, whole, False)
        future: Future[list[Receipt]] = Future()
        request.future = future
        if not events:
            future.set_result([])
            return future
        with self._changed:
            self._admit(model, len(events))
            self._enqueue([request])
        return future

    def close(self) -> None:
        """Write what waits, then stop. Blocks until done; harmless when repeated."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join()

    # -- on the callers' side ----------------------------------------------------------------------------

    def _hand_over(self, loop: asyncio.AbstractEventLoop, request: _Request) -> None:
        """Let a request travel with the others of this turn of the loop: one lock and one wake-up for all."""
        with self._changed:
            self._admit(request.model, len(request.events))
            self._count(request, len(request.events))
            waiting = self._waiting
            if waiting is not None and waiting.loop is loop:
                waiting.requests.append(request)
                return
            waiting = self._waiting = _Waiting(loop)
            waiting.requests.append(request)
        loop.call_soon(self._arrive, waiting)

    def _arrive(self, waiting: _Waiting) -> None:
        with self._changed:
            if self._waiting is waiting:
                self._waiting = None
            for request in waiting.requests:
                self._count(request, -len(request.events))
            self._enqueue(waiting.requests)

    def _enqueue(self, requests: Sequence[_Request]) -> None:
        before = len(self._queue)
        self._queue.extend(requests)
        for request in requests:
            self._count(request, len(request.events))
        if not before or before < self._expected <= len(self._queue) or self._queued >= self._group:
            self._changed.notify()

    def _count(self, request: _Request, change: int) -> None:
        """Note that so many more events wait, or fewer."""
        self._queued += change
        of_model = self._queued_of.get(request.model, 0) + change
        if of_model:
            self._queued_of[request.model] = of_model
        else:
            self._queued_of.pop(request.model, None)

    def _admit(self, model: str, count: int) -> None:
        if self._closed:
            raise UnavailableError("The server is shutting down: send the request again")
        of_model = self._queued_of.get(model, 0)
        if of_model and of_model + count > self._limit:
            raise UnavailableError(
                f"{of_model} events of model {model!r} wait to be written: send the request again in a second"
            )
        if self._queued and self._queued + count > 2 * self._limit:
            raise UnavailableError(
                f"{self._queued} events wait to be written: send the request again in a second"
            )
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="group-commit", daemon=True)
            self._thread.start()

    # -- the writer's thread -----------------------------------------------------------------------------

    def _run(self) -> None:
        while group := self._next():
            by_model: dict[str, list[_Request]] = {}
            for request in group:
                if request.begin():
                    by_model.setdefault(request.model, []).append(request)
            for model, requests in by_model.items():
                self._write(model, requests)
                self._settle(requests)

    def _next(self) -> list[_Request]:
        """Wait for requests and take a group of them; empty once closed and drained."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or (self._closed and self._waiting is None))
            if self._expected > 1:
                self._await_company()
            taken: list[_Request] = []
            size = 0
            while self._queue and (not taken or size + len(self._queue[0].events) <= self._group):
                taken.append(self._queue.popleft())
                size += len(taken[-1].events)
                self._count(taken[-1], -len(taken[-1].events))
            self._expected = len(taken)
            return taken

    def _await_company(self) -> None:
        """Keep the group open until as many are there as in the last one, or the wait is over."""
        until = time.monotonic() + self._wait
        while len(self._queue) < self._expected and self._queued < self._group and not self._closed:
            if not self._changed.wait(until - time.monotonic()) or time.monotonic() >= until:
                return

    def _write(self, model: str, requests: list[_Request]) -> None:
        """One transaction for all; if it fails, one each, so that a bad request fails alone."""
        try:
            self._append(model, requests)
        except Exception as error:
            if len(requests) == 1 or isinstance(error, UnavailableError):
                for request in requests:
                    request.answer = error
            else:
                for request in requests:
                    self._write(model, [request])

    def _append(self, model: str, requests: list[_Request]) -> None:
        refused = self._refused(model, requests)
        kept = [request for request in requests if request not in refused]
        receipts: Iterator[Receipt] = iter(())
        if kept:
            flush = any(request.flush for request in kept)
            every = [event for request in kept for event in request.events]
            receipts = iter(self._log.append(model, every, flush=flush))
            self._on_group(len(every))
        for request in requests:
            error = refused.get(request)
            request.answer = error if error is not None else [next(receipts) for _ in request.events]

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

    def _settle(self, requests: list[_Request]) -> None:
        """Give everyone the answer: one wake-up for each event loop, however many of its callers wait."""
        by_loop: dict[asyncio.AbstractEventLoop, list[_Request]] = {}
        for request in requests:
            if request.loop is not None:
                by_loop.setdefault(request.loop, []).append(request)
            elif request.future is not None:
                _tell(request.future, request.answer)
            elif isinstance(request.answer, Exception):
                logger.error("{} events could not be stored: {}", len(request.events), request.answer)
                self._on_loss(len(request.events))
        for loop, waiting in by_loop.items():
            try:
                loop.call_soon_threadsafe(_wake, waiting)
            except RuntimeError:  # the loop is closed, and nobody waits on it any more
                continue


def _wake(requests: list[_Request]) -> None:
    for request in requests:
        if request.then is not None:
            request.then(request.answer or [])
        elif request.awaited is not None and not request.awaited.done():
            _tell(request.awaited, request.answer)


def _tell(future: asyncio.Future[list[Receipt]] | Future[list[Receipt]], answer: _Answer | None) -> None:
    if isinstance(answer, Exception):
        future.set_exception(answer)
    else:
        future.set_result(answer or [])


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
