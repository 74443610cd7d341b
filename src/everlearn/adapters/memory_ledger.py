"""The ledger in memory: a step is proven whole before any of it is written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import replace
from itertools import islice

from everlearn.adapters import rules
from everlearn.adapters.memory_data import ModelData, SharedData
from everlearn.types import (
    Champion,
    Checkpoint,
    Decision,
    Job,
    Page,
    Promotion,
    Step,
    Version,
    VersionState,
)


class MemoryLedger:
    """:class:`everlearn.ports.Ledger` in memory."""

    def __init__(self, data: SharedData) -> None:
        self._data = data

    def checkpoint(self, model: str) -> Checkpoint:
        """See the port."""
        with self._data.lock:
            return self._data.model(model).checkpoint

    def commit(self, model: str, step: Step) -> bool:
        """See the port."""
        with self._data.lock:
            kept = self._data.model(model)
            if kept.checkpoint.cursor != step.before:
                return False
            champions, versions = _promoted(model, kept, step)
            rules.check_step(model, step, kept.decisions[-1].number if kept.decisions else 0)
            for spec in step.jobs:
                if spec.id in self._data.jobs:
                    raise rules.known_job(spec.id)
            kept.champions, kept.versions = champions, versions
            kept.checkpoint = Checkpoint(step.cursor, step.state)
            kept.decisions.extend(step.decisions)
            kept.card = step.card or kept.card
            kept.points.update({(point.level, point.number): point for point in step.points})
            at = step.decisions[-1].at if step.decisions else kept.log.head().at
            for spec in step.jobs:
                self._data.jobs[spec.id] = Job(spec, created_at=at)
            for promotion in step.promotions:
                self._data.tell(model, rules.champion_message(model, promotion))
            for decision in step.decisions:
                for message in rules.alert_messages(model, decision):
                    self._data.tell(model, message, rules.ALERTS)
            return True

    def decisions(
        self,
        model: str,
        cursor: str | None = None,
        limit: int = 100,
        kind: str | Collection[str] | None = None,
        *,
        since: float | None = None,
        until: float | None = None,
    ) -> Page[Decision]:
        """See the port."""
        rules.check_limit(limit)
        before, kinds = rules.number_of(cursor), None if kind is None else rules.kinds_of(kind)
        with self._data.lock:
            newest = reversed(self._data.model(model).decisions)
            fitting = (
                d
                for d in newest
                if (before is None or d.number < before)
                and (kinds is None or d.kind in kinds)
                and (since is None or d.at >= since)
                and (until is None or d.at <= until)
            )
            items = list(islice(fitting, limit + 1))
        return rules.page_of(items, limit, lambda decision: decision.number)

    def counts(self, model: str, after: int = 0, upto: int | None = None) -> Mapping[str, int]:
        """See the port."""
        with self._data.lock:
            made = self._data.model(model).decisions
            last = made[-1].number if made and upto is None else upto or 0
            return Counter(decision.kind.value for decision in made if after < decision.number <= last)

    def behind(self, limit: int = 100) -> list[str]:
        """See the port."""
        with self._data.lock:
            waiting = [
                (model.log.events[model.checkpoint.cursor].at, name)
                for name, model in self._data.models.items()
                if model.log.seq > model.checkpoint.cursor
            ]
        return [name for _, name in sorted(waiting)[:limit]]


def _promoted(name: str, model: ModelData, step: Step) -> tuple[list[Champion], dict[int, Version]]:
    """The champions and versions after a step; raises, with nothing changed, if it may not be."""
    champions, versions = list(model.champions), dict(model.versions)
    for promotion in step.promotions:
        _promote(name, champions, versions, promotion)
    for number in step.refused:
        if number not in versions:
            raise rules.unknown_version(name, number)
        if versions[number].state is VersionState.CANDIDATE:
            versions[number] = replace(versions[number], state=VersionState.REFUSED)
    return champions, versions


def _promote(
    name: str, champions: list[Champion], versions: dict[int, Version], promotion: Promotion
) -> None:
    now = champions[-1]
    if (now.version, now.term) != (promotion.expected, promotion.term):
        raise rules.lost_race(name, promotion, now.version, now.term)
    if promotion.version not in versions:
        raise rules.unknown_version(name, promotion.version)
    versions[now.version] = replace(versions[now.version], state=VersionState.ARCHIVED)
    versions[promotion.version] = replace(versions[promotion.version], state=VersionState.CHAMPION)
    digest = versions[promotion.version].digest
    champions.append(Champion(promotion.version, now.term + 1, digest, promotion.at))
