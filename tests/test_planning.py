"""The never-updated baseline: asked for by the scheduler, filled in by a worker."""

from __future__ import annotations

from typing import Any

import pytest

from everlearn.adapters.memory import ManualClock, MemoryStore
from everlearn.loop.drive import advance_model, load_version
from everlearn.loop.engine import Engine
from everlearn.loop.state import load
from everlearn.planning import plan_hindsight
from everlearn.spec import parse_spec
from everlearn.types import EventKind, NewEvent
from everlearn.worker import JobRunner

SPEC = {
    "name": "toy",
    "target": "y",
    "features": {"a": "numeric"},
    "learner": {"name": "linear"},
    "update": "triggered",
    "threshold": 0.9,
    "label_horizon": {"rows": 0},
    "policy": {"first_rows": 60, "min_labels": 40, "window": 100, "cooldown": 40, "check_every": 10},
    "gate": {"holdout": 40, "min_rows": 20},
}


class Parts(MemoryStore):
    """A store with a clock."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock(1000.0)


def play(parts: Parts, first: int, rows: int, turned: bool) -> None:
    """Predictions of the champion with their labels: ``y`` is whether ``a`` is positive, or the reverse."""
    runner = JobRunner(parts, "me")
    for i in range(first, first + rows):
        row = {"a": (i * 37 % 101) / 50 - 1}
        number = parts.versions.champion("toy").version
        version = load_version("toy", number, parts.versions, parts.artifacts)
        output = version.predict([row])[0] if version else None
        body: dict[str, Any] = {"features": row, "version": number, "value": output.value if output else None}
        body["probabilities"] = dict(output.probabilities) if output and output.probabilities else None
        truth = "yes" if (row["a"] > 0) != turned else "no"
        label = NewEvent(EventKind.LABEL, float(i), f"p{i}", {"value": truth})
        parts.log.append("toy", [NewEvent(EventKind.PREDICTION, float(i), f"p{i}", body), label])
        while advance_model("toy", parts.log, parts.ledger) or runner.run_once():
            pass


@pytest.fixture(scope="module")
def turned() -> Parts:
    """A model whose concept turned round after 300 rows, and which has learned the new one."""
    parts = Parts()
    parts.models.create(parse_spec(SPEC), 1.0)
    play(parts, 0, 300, turned=False)
    play(parts, 300, 500, turned=True)
    return parts


def test_it_is_what_the_first_version_would_have_scored(turned: Parts) -> None:
    assert turned.versions.champion("toy").version > 1
    assert plan_hindsight(turned) == 1
    assert plan_hindsight(turned) == 0  # it is asked for already
    job = JobRunner(turned, "me").run_once()
    assert job is not None
    points = turned.scores.points("toy", 0, 1, 99)
    assert turned.jobs.get(job.spec.id).result == {"filled": sum(p.champion > 0 for p in points)}
    assert len(points) == 8
    by_number = {p.number: p for p in points}
    assert by_number[3].never_updated == pytest.approx(1.0, abs=0.1)
    assert by_number[8].never_updated == pytest.approx(0.0, abs=0.1)
    assert by_number[8].score is not None
    assert by_number[8].score > 0.8
    (whole,) = turned.scores.points("toy", 1, 1, 1)
    told = [p.never_updated for p in points if p.never_updated is not None]
    assert whole.never_updated == pytest.approx(sum(told) / len(told))
    assert plan_hindsight(turned) == 0


def test_a_replay_gives_the_same_points(turned: Parts) -> None:
    events = turned.log.read("toy", 0, 10_000)
    kept = [p for level in (0, 1) for p in turned.scores.points("toy", level, 1, 99)]
    for size in (1, 7, 10_000):
        engine = Engine(load(b""))
        made = []
        for start in range(0, len(events), size):
            engine.run(events[start : start + size])
            made += engine.take().points
        assert {(p.level, p.number): _before_hindsight(p) for p in made} == {
            (p.level, p.number): _before_hindsight(p) for p in kept
        }


def _before_hindsight(point: Any) -> Any:
    import msgspec

    return msgspec.structs.replace(point, never_updated=None)
