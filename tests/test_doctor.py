"""The doctor, on installations with something wrong: it says what, and what mends it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from everlearn.access.keys import make_key
from everlearn.doctor import examine
from everlearn.doctor_findings import Finding
from everlearn.doctor_fleet import DAY, check_champions, check_keys, check_queue, check_workers, processes_of
from everlearn.loop.card import card_of, read_card
from everlearn.loop.engine import Engine
from everlearn.loop.state import LoopState
from everlearn.scheduler import SCHEDULER
from everlearn.spec import parse_spec
from everlearn.types import JobSpec, Promotion, Step, Version
from everlearn.wiring import Installation

SPEC = {"name": "shop", "target": "y", "features": {"age": "numeric"}}


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    """One with a model, and nobody at work."""
    made = Installation.load(data=tmp_path / "data", mlflow_tracking_uri="off")
    made.prepare()
    made.migrate()
    made.models.create(parse_spec(SPEC), made.clock.now())
    yield made
    made.close()


def test_what_is_well_is_well(installation: Installation) -> None:
    found = {one.name: one for one in examine(installation)}
    assert {"workers", "queue", "keys", "champions", "clock", "database"} <= set(found)
    assert found["queue"] == Finding("queue", "ok", "nothing waits")
    assert found["keys"].state == found["champions"].state == "ok"
    assert not [one for one in found.values() if one.state == "fail"]


def test_nobody_schedules(installation: Installation) -> None:
    found = check_workers(installation)
    assert (found.state, found.mend) == ("warn", "everlearn up (or: everlearn scheduler)")
    now = installation.clock.now()
    installation.leases.take(SCHEDULER, "host:1:1", 60.0, now)
    found = check_workers(installation)
    assert found.state == "warn"  # the model's first command waits for a worker
    assert "events wait" in found.text
    at = installation.ledger.checkpoint("shop")
    installation.ledger.commit("shop", Step(at.cursor, 1, b""))
    assert check_workers(installation).text.endswith("host:1:1 schedules")


def test_processes_are_found_by_their_module_and_folder(installation: Installation, tmp_path: Path) -> None:
    import subprocess
    import sys

    code = "import sys; print('up', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code, "everlearn.worker", str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert list(processes_of("everlearn.worker", tmp_path)) == [process.pid]
        assert not list(processes_of("everlearn.worker", tmp_path / "other"))


def test_dead_jobs_and_long_queues(installation: Installation) -> None:
    now = installation.clock.now()
    for place in range(101):
        installation.backlog.add(JobSpec(f"j{place}", "shop", "what_if", 0, {}), now)
    long = check_queue(installation)
    assert (long.state, long.text) == ("warn", "101 in maintenance")
    assert "--workers" in (long.mend or "")
    job = installation.jobs.lease("me", 60.0, now)
    assert job is not None
    installation.jobs.fail(job, "no memory", now, None, dead=True)
    dead = check_queue(installation)
    assert "1 jobs are dead" in dead.text
    assert "everlearn jobs retry" in (dead.mend or "")


def test_keys_that_end(installation: Installation) -> None:
    now = installation.clock.now()
    ends = {"checkout": now + 3 * DAY, "later": now + 90 * DAY, "unused": now - 5 * DAY, "never": None}
    for name, end in ends.items():
        _, record = make_key(name, ["read"], None, now + 1e6, by="me", now=now)
        installation.access.keys.add(replace(record, expires_at=end))
    found = check_keys(installation)
    assert found.state == "warn"
    assert "end soon: checkout (in 3 days)" in found.text
    assert "later" not in found.text
    assert "unused" not in found.text
    _, record = make_key("cut off", ["read"], None, now + 1e6, by="me", now=now)
    installation.access.keys.add(replace(record, expires_at=now - 60.0, used_at=now - 120.0))
    assert "within a day before: cut off" in check_keys(installation).text


def test_a_champion_whose_files_are_gone(installation: Installation) -> None:
    promote(installation)
    found = check_champions(installation)
    assert (found.state, found.text) == ("fail", "the stored version is missing or damaged: shop")
    assert "everlearn rollback" in (found.mend or "")


def test_a_model_in_trouble_for_days_with_nothing_done(installation: Installation) -> None:
    engine = Engine(LoopState(spec=parse_spec(SPEC).to_dict()))
    card = msgspec.structs.replace(read_card(card_of(engine)), state="degraded")
    at = installation.ledger.checkpoint("shop")
    installation.ledger.commit("shop", Step(at.cursor, 1, b"", card=msgspec.json.encode(card)))
    assert check_champions(installation).state == "ok"  # it was made just now

    class Later:
        def now(self) -> float:
            return clock.now() + 2 * DAY

    clock: Any = installation.clock
    installation.__dict__["clock"] = Later()
    found = check_champions(installation)
    assert (found.state, found.text) == (
        "warn",
        "under their threshold, and nothing is done: shop (degraded for 2.0 days)",
    )


def promote(installation: Installation) -> None:
    """Let a version answer whose artifact was never stored."""
    at, now = installation.ledger.checkpoint("shop"), installation.clock.now()
    job = JobSpec("shop-1", "shop", "train", 1, {})
    installation.ledger.commit("shop", Step(at.cursor, 1, b"", jobs=[job]))
    leased = installation.jobs.lease("me", 60.0, now)
    assert leased is not None
    version = Version("shop", 1, 0, "linear", {}, 1, 1, 1, 1, "0" * 64, {}, now)
    from everlearn.types import EventKind, NewEvent

    body = {"job": "shop-1", "version": 1, "result": {}, "error": None}
    installation.jobs.finish(leased, version, NewEvent(EventKind.OUTCOME, now, None, body), now)
    installation.ledger.commit("shop", Step(1, 1, b"", promotions=[Promotion(1, 0, 0, now, 1)]))
