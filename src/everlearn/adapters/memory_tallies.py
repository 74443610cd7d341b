"""What monitoring reads of a store in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from everlearn.adapters.memory_data import ModelData, SharedData
from everlearn.types import ENDED, Spent, Tally, Waiting


class MemoryTallies:
    """:class:`everlearn.ports.Tallies` in memory."""

    def __init__(self, data: SharedData) -> None:
        self._data = data

    def models(self) -> Sequence[Tally]:
        """See the port."""
        with self._data.lock:
            return [_tally(name, self._data.models[name]) for name in sorted(self._data.models)]

    def spent(self) -> Mapping[str, Spent]:
        """See the port."""
        found: dict[str, Spent] = {}
        with self._data.lock:
            for job in self._data.jobs.values():
                if job.state in ENDED and job.started_at is not None and job.finished_at is not None:
                    before = found.get(job.queue, Spent(0, 0.0))
                    seconds = max(0.0, job.finished_at - job.started_at)
                    found[job.queue] = Spent(before.jobs + 1, before.seconds + seconds)
        return found

    def waiting(self) -> Mapping[str, Waiting]:
        """See the port."""
        found: dict[str, Waiting] = {}
        with self._data.lock:
            for message in self._data.messages.values():
                before = found.get(message.destination, Waiting(0, message.id, message.id))
                oldest, newest = min(before.oldest, message.id), max(before.newest, message.id)
                found[message.destination] = Waiting(before.messages + 1, oldest, newest)
        return found


def _tally(name: str, model: ModelData) -> Tally:
    champion = model.champions[-1]
    decisions = model.decisions[-1].number if model.decisions else 0
    return Tally(
        model.id,
        name,
        model.log.head(),
        model.checkpoint.cursor,
        decisions,
        champion.version,
        champion.term,
        champion.since,
    )
