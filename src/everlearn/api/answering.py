"""Rows to answers: at once, in a thread if that would hold up others, or together with other requests."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from everlearn.api.instruments import Instruments
from everlearn.api.joining import Joined
from everlearn.api.served import Served
from everlearn.features.schema import Checked
from everlearn.types import Output, Row

FEW = 32
"""Rows of a request up to which they are answered together with those of other requests."""

LONG = 0.005
"""Seconds of CPU work from which on a request is answered in a thread, so that it holds up no other."""


class Answering:
    """Checks and answers rows, and remembers how long a row of each model takes."""

    def __init__(self, instruments: Instruments) -> None:
        self._instruments = instruments
        self._joined = Joined()
        self._cost: dict[str, float] = {}
        self._doubtful: set[str] = set()

    def forget(self, model: str) -> None:
        """A model is gone."""
        self._cost.pop(model, None)
        self._doubtful.discard(model)

    async def answer(
        self, served: Served, rows: Sequence[Row], ids: Sequence[str]
    ) -> tuple[Checked, list[Output], list[int]]:
        """Check and answer rows (see :meth:`Served.answer`), in a thread if it is going to take long.

        Few rows are answered together with those of other requests, where the learner gains by it.
        """
        model = served.spec.name
        started = time.perf_counter()
        if len(rows) <= FEW and served.joins:
            result = await self._jointly(served, rows, ids)
            self._instruments.predicted(served.roles(result[2]), time.perf_counter() - started)
            return result
        at_once = self.now(served, rows, ids)
        if at_once is not None:
            return at_once
        result, worked = await asyncio.to_thread(_answered, served, rows, ids, time.thread_time)
        self._cost[model] = worked / max(1, len(rows))
        self._instruments.predicted(served.roles(result[2]), time.perf_counter() - started)
        return result

    def now(
        self, served: Served, rows: Sequence[Row], ids: Sequence[str]
    ) -> tuple[Checked, list[Output], list[int]] | None:
        """The same in this thread; ``None`` where that takes long, or is better done with other requests."""
        model, count = served.spec.name, len(rows)
        if (count <= FEW and served.joins) or count * self._cost.get(model, LONG / 64) > LONG:
            return None
        # The clock on the wall is quick to read, but counts waits too: where it says much, the next request
        # is measured by the work in it.
        doubtful = model in self._doubtful
        result, took = _answered(served, rows, ids, time.thread_time if doubtful else time.perf_counter)
        if took > LONG / 2 and not doubtful:
            self._doubtful.add(model)
        else:
            self._doubtful.discard(model)
            self._cost[model] = took / max(1, count)
        self._instruments.predicted(served.roles(result[2]), took)
        return result

    async def _jointly(
        self, served: Served, rows: Sequence[Row], ids: Sequence[str]
    ) -> tuple[Checked, list[Output], list[int]]:
        checked = served.schema.check(rows)
        clean = checked.rows
        outputs, versions = [Output(None)] * len(clean), [0] * len(clean)
        for side, places in served.sides(clean, ids):
            by, given = await self._of(served, side, [clean[i] for i in places])
            for i, output in zip(places, given, strict=True):
                outputs[i], versions[i] = output, by.version
        return checked, outputs, versions

    async def _of(self, served: Served, side: Served, rows: Sequence[Row]) -> tuple[Served, list[Output]]:
        """What a side says, and who did say it (see :meth:`Served.ask`)."""
        try:
            if side.joins:
                return side, await self._joined.ask(side.predictor, rows)
            return side, side.outputs(rows)
        except Exception as error:
            if side is served:
                raise
            served.stand_in(side, error)
            return await self._of(served, served, rows)


def _answered(
    served: Served, rows: Sequence[Row], ids: Sequence[str], clock: Callable[[], float]
) -> tuple[tuple[Checked, list[Output], list[int]], float]:
    """What is answered, and the seconds that it took by a clock."""
    started = clock()
    result = served.answer(rows, ids)
    return result, clock() - started
