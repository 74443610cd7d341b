"""Damaged files of a version are made again from the log, byte for byte."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from everlearn.adapters.artifacts import FolderArtifacts
from everlearn.adapters.memory import ManualClock
from everlearn.errors import IntegrityError
from everlearn.holding import Holding
from everlearn.loop.defaults import with_defaults
from everlearn.mending import mend, try_to_mend
from everlearn.spec import parse_spec
from everlearn.types import EventKind, JobState, NewEvent
from everlearn.worker import Advancer, JobRunner

SPEC = {
    "name": "m",
    "target": "y",
    "features": {"x": "numeric"},
    "learner": {"name": "window", "size": 300, "estimator": "logistic"},
    "policy": {"first_rows": 60, "min_labels": 40, "window": 100},
    "gate": {"holdout": 40, "min_rows": 20},
}


@pytest.fixture
def parts(any_store: Any, tmp_path: Path) -> Any:
    """An installation whose model has learned twice."""
    store = any_store
    made = SimpleNamespace(
        clock=ManualClock(1_000.0), models=store.models, log=store.log, versions=store.versions,
        ledger=store.ledger, jobs=store.jobs, artifacts=FolderArtifacts(tmp_path),
        backlog=store.backlog, leases=store.leases, erasures=store.erasures,
    )  # fmt: skip
    made.models.create(with_defaults(parse_spec(SPEC)), 1_000.0)
    draw = random.Random(0)
    for _ in range(2):
        rows = [draw.gauss(0, 1) for _ in range(200)]
        body = [{"features": {"x": x}, "target": x > 0} for x in rows]
        made.log.append("m", [NewEvent(EventKind.EXAMPLE, 1_000.0, None, each) for each in body])
        made.log.append("m", [retrain()])
        work(made)
    return made


def retrain() -> NewEvent:
    return NewEvent(EventKind.COMMAND, 1_000.0, None, {"name": "retrain", "arguments": {"force": True}})


def work(parts: Any) -> None:
    advancer = Advancer(parts, Holding(parts.leases, parts.clock, "me:1:1", 15.0))
    while advancer.run_once() or JobRunner(parts, "me:1:1").run_once():
        pass
    advancer.give_back()


def cut(parts: Any, number: int) -> None:
    """Damage the largest file of a version."""
    folder = Path(parts.artifacts.path(parts.versions.get("m", number).digest))
    file = max(folder.iterdir(), key=lambda each: each.stat().st_size)
    file.write_bytes(file.read_bytes()[:-1])


def remove(parts: Any, number: int) -> None:
    shutil.rmtree(parts.artifacts.path(parts.versions.get("m", number).digest))


def learned(parts: Any) -> list[int]:
    return [version.number for version in parts.versions.list("m").items if version.digest]


@pytest.mark.parametrize("harm", [cut, remove])
def test_every_version_comes_out_the_same(parts: Any, harm: Callable[[Any, int], None]) -> None:
    numbers = learned(parts)
    assert len(numbers) >= 2
    for number in numbers:
        harm(parts, number)
    for number in numbers:  # the newest first: it needs the ones before it
        mend("m", number, parts)
        assert parts.artifacts.get(parts.versions.get("m", number).digest)
        assert not mend("m", number, parts)


def test_the_baseline_has_nothing_to_mend(parts: Any) -> None:
    assert not mend("m", 0, parts)


def test_a_job_mends_the_champion_that_it_needs(parts: Any) -> None:
    champion = parts.versions.champion("m").version
    cut(parts, champion)
    parts.log.append("m", [retrain()])
    work(parts)
    assert parts.jobs.list("m").items[0].state is JobState.DONE
    assert not mend("m", champion, parts)


def test_other_bytes_are_no_mending(parts: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    number = learned(parts)[-1]
    cut(parts, number)
    monkeypatch.setattr(parts.artifacts, "put", lambda bundle: "0" * 64)
    with pytest.raises(IntegrityError, match="000000000000"):
        mend("m", number, parts)
    try_to_mend("m", number, parts)  # is told of, and ends nothing
