"""Requests that wait for the same version at the same time are answered in one call of its learner.

A forest takes nearly as long for one row as for fifty. So rows that come in one turn of the event loop, or
while the call before is still at work, go into the next call together. Nobody waits for company: a request
that is alone is answered at once. Each request has its own rows checked before, and keeps its own answer, its
own error and its own cancellation, whatever becomes of the others.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TypeAlias
from weakref import WeakKeyDictionary

from everlearn.predictor import Baseline, Predictor
from everlearn.types import Output, Row

MOST_ROWS = 512
"""Rows of one call; what waits beyond them goes into the next."""

QUICK = 0.001
"""Seconds of a call up to which it is made in the event loop itself; longer ones get a thread."""

Answered: TypeAlias = "list[Output] | Exception"
Ask: TypeAlias = Callable[[Sequence[Row]], list[Output]]


class _Line:
    """Who waits for one version: rows with the future of their answers."""

    __slots__ = ("ask", "at_work", "loop", "seconds", "waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.ask: Ask | None = None  # only while it is at work: a version that is gone must not be kept
        self.waiting: deque[tuple[Sequence[Row], asyncio.Future[list[Output]]]] = deque()
        self.at_work = False
        self.seconds = float("inf")  # a first call may take any time


class Joined:
    """Joins the questions to each version. ``most`` bounds the rows of one call to a learner."""

    def __init__(self, most: int = MOST_ROWS) -> None:
        self._most = most
        self._lines: WeakKeyDictionary[Predictor | Baseline, _Line] = WeakKeyDictionary()

    async def ask(self, predictor: Predictor | Baseline, rows: Sequence[Row]) -> list[Output]:
        """What a version says of clean rows; raises what it raised for these very rows."""
        loop = asyncio.get_running_loop()
        line = self._lines.get(predictor)
        if line is None or line.loop is not loop:
            line = self._lines[predictor] = _Line(loop)
        future: asyncio.Future[list[Output]] = loop.create_future()
        line.waiting.append((rows, future))
        if not line.at_work:
            line.at_work, line.ask = True, predictor.predict
            loop.call_soon(self._next, line)
        return await future

    def _next(self, line: _Line) -> None:
        """Make the next call for all that wait, as far as they fit into one."""
        taken: list[tuple[Sequence[Row], asyncio.Future[list[Output]]]] = []
        size = 0
        while line.waiting and (not taken or size + len(line.waiting[0][0]) <= self._most):
            rows, future = line.waiting.popleft()
            if not future.done():  # else its caller has gone
                taken.append((rows, future))
                size += len(rows)
        ask = line.ask
        if not taken or ask is None:
            line.at_work, line.ask = False, None
            return
        parts, futures = [rows for rows, _ in taken], [future for _, future in taken]
        if line.seconds <= QUICK:
            self._settle(line, futures, *timed(ask, parts))
            return
        work = line.loop.run_in_executor(None, timed, ask, parts)
        work.add_done_callback(lambda done: self._done(line, futures, done))

    def _done(
        self,
        line: _Line,
        futures: Sequence[asyncio.Future[list[Output]]],
        work: asyncio.Future[tuple[list[Answered], float]],
    ) -> None:
        if work.cancelled():  # the event loop is being closed
            for future in futures:
                future.cancel()
            return
        self._settle(line, futures, *work.result())

    def _settle(
        self,
        line: _Line,
        futures: Sequence[asyncio.Future[list[Output]]],
        answers: Sequence[Answered],
        seconds: float,
    ) -> None:
        line.seconds = seconds
        for future, answer in zip(futures, answers, strict=True):
            if future.done():
                continue
            if isinstance(answer, Exception):
                future.set_exception(answer)
            else:
                future.set_result(answer)
        line.loop.call_soon(self._next, line)


def timed(ask: Ask, parts: Sequence[Sequence[Row]]) -> tuple[list[Answered], float]:
    """What is said of each part, and the seconds it took."""
    started = time.perf_counter()
    return asked(ask, parts), time.perf_counter() - started


def asked(ask: Ask, parts: Sequence[Sequence[Row]]) -> list[Answered]:
    """What is said of each part, in one call; if that fails, each part by itself, so that it fails alone."""
    try:
        outputs = ask([row for rows in parts for row in rows])
        if len(outputs) != sum(map(len, parts)):
            raise RuntimeError(f"{len(outputs)} answers to {sum(map(len, parts))} rows")
    except Exception as error:
        return [error] if len(parts) == 1 else [asked(ask, [rows])[0] for rows in parts]
    answers: list[Answered] = []
    start = 0
    for rows in parts:
        answers.append(outputs[start : start + len(rows)])
        start += len(rows)
    return answers
