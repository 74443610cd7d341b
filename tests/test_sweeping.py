"""What nothing refers to is removed, and nothing else: not what is stored a moment before it is recorded."""

from __future__ import annotations

import json
import os
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from typer.testing import CliRunner

from everlearn.adapters.artifacts import FolderArtifacts
from everlearn.adapters.clock import SystemClock
from everlearn.adapters.memory import ManualClock
from everlearn.adapters.object_store import ObjectArtifacts
from everlearn.cli import app
from everlearn.doctor import check_artifacts
from everlearn.loop import drive, verify
from everlearn.loop.defaults import with_defaults
from everlearn.spec import parse_spec
from everlearn.sweeping import GRACE, look, sweep
from everlearn.types import Bundle, EventKind, JobSpec, NewEvent, Step, VersionState
from everlearn.wiring import Installation

SPEC = {
    "name": "m",
    "target": "y",
    "features": {"x": "numeric"},
    "learner": {"name": "window", "size": 300, "estimator": "logistic"},
    "policy": {"first_rows": 60, "min_labels": 40, "window": 100},
    "gate": {"holdout": 40, "min_rows": 20},
}
LATER = time.time() + 10 * GRACE


def waste(number: float = 1.0) -> Bundle:
    return Bundle({"format": 1}, {"a": np.full(100, number)})


def fill(parts: Any, name: str, jobs: int = 3) -> None:
    """A model with as many versions."""
    parts.models.create(with_defaults(parse_spec({**SPEC, "name": name})), 1_000.0)
    draw = random.Random(name)
    for _ in range(jobs):
        rows = [draw.gauss(0, 1) for _ in range(200)]
        body = [{"features": {"x": x}, "target": x > draw.gauss(0, 1)} for x in rows]
        parts.log.append(name, [NewEvent(EventKind.EXAMPLE, 1_000.0, None, each) for each in body])
        retrain = {"name": "retrain", "arguments": {"force": True}}
        parts.log.append(name, [NewEvent(EventKind.COMMAND, 1_000.0, None, retrain)])
        work(parts, name)


def work(parts: Any, name: str) -> None:
    while True:
        moved = drive.advance_model(name, parts.log, parts.ledger)
        job = parts.jobs.lease("me", 60.0, LATER)
        if job is not None:
            drive.run_job(
                job,
                log=parts.log,
                versions=parts.versions,
                jobs=parts.jobs,
                artifacts=parts.artifacts,
                clock=parts.clock,
            )
        elif not moved:
            return


@pytest.fixture(params=["folder", "objects"])
def parts(request: pytest.FixtureRequest, any_store: Any, tmp_path: Path) -> Any:
    store = any_store
    folder = request.param == "folder"
    nouns = ("models", "log", "versions", "ledger", "jobs")
    return SimpleNamespace(
        clock=ManualClock(LATER),
        artifacts=FolderArtifacts(tmp_path) if folder else ObjectArtifacts(f"memory://{uuid4().hex}"),
        **{name: getattr(store, name) for name in nouns},
    )


def test_every_version_of_every_model_stays_and_can_be_verified(parts: Any) -> None:
    fill(parts, "m")
    versions = parts.versions.list("m").items
    made = {version.digest for version in versions if version.digest}
    loose = parts.artifacts.put(waste())
    found = sweep(parts)
    assert {one.digest for one in found.removed} == {loose}
    assert {one.digest for one in parts.artifacts.stored()} == made
    assert len(made) == len(versions) - 1 >= 2
    assert VersionState.ARCHIVED in {version.state for version in versions} or len(versions) > 1
    proof = verify.verify(
        "m", log=parts.log, ledger=parts.ledger, versions=parts.versions, artifacts=parts.artifacts
    )
    assert not proof.differences
    assert proof.artifacts_checked >= 2


def test_a_deleted_model_frees_what_it_alone_had(parts: Any) -> None:
    fill(parts, "m", 1)
    fill(parts, "other", 1)
    kept = {version.digest for version in parts.versions.list("other").items if version.digest}
    gone = {version.digest for version in parts.versions.list("m").items if version.digest}
    parts.models.delete("m")
    assert {one.digest for one in look(parts).garbage} == gone
    assert gone
    sweep(parts)
    assert {one.digest for one in parts.artifacts.stored()} == kept


def test_looking_changes_nothing(parts: Any) -> None:
    parts.artifacts.put(waste())
    assert len(look(parts).garbage) == 1
    assert len(list(parts.artifacts.stored())) == 1


def test_what_is_young_stays(parts: Any) -> None:
    parts.clock = SystemClock()
    digest = parts.artifacts.put(waste())
    found = sweep(parts)
    assert [one.digest for one in found.young] == [digest]
    assert found.removed == ()
    assert parts.artifacts.sound(digest)


def test_what_an_open_job_or_a_loop_names_stays(parts: Any) -> None:
    parts.models.create(with_defaults(parse_spec(SPEC)), 1_000.0)
    job, state = parts.artifacts.put(waste(1.0)), parts.artifacts.put(waste(2.0))
    checkpoint = parts.ledger.checkpoint("m")
    plan = JobSpec("m:1", "m", "train", 1, {"from": job})
    text = json.dumps({"seen": state}).encode()
    assert parts.ledger.commit("m", Step(checkpoint.cursor, checkpoint.cursor, text, jobs=[plan]))
    assert sweep(parts).removed == ()
    assert {one.digest for one in look(parts).kept} == {job, state}


@pytest.mark.slow
def test_a_racing_writer_loses_nothing(parts: Any) -> None:
    """A writer stores bundles and records each a moment later; a sweeper runs without pause.

    Old waste of the same digests lies there already, so only the writer's putting again saves them.
    """
    parts.models.create(with_defaults(parse_spec(SPEC)), 1_000.0)
    parts.clock = SystemClock()
    grace, over = 1.0, threading.Event()
    recorded: list[str] = []
    digests = [parts.artifacts.put(waste(float(i))) for i in range(12)]
    time.sleep(grace + 0.2)
    rounds: list[int] = []

    def sweeping() -> None:
        while not over.is_set():
            rounds.append(len(sweep(parts, grace).removed))

    thread = threading.Thread(target=sweeping)
    thread.start()
    try:
        for i, digest in enumerate(digests):
            assert parts.artifacts.put(waste(float(i))) == digest
            time.sleep(0.1)  # what a worker does between the two
            checkpoint = parts.ledger.checkpoint("m")
            recorded.append(digest)
            state = json.dumps(recorded).encode()
            assert parts.ledger.commit("m", Step(checkpoint.cursor, checkpoint.cursor, state))
            assert parts.artifacts.sound(digest)
        time.sleep(2 * grace)
    finally:
        over.set()
        thread.join()
    assert len(rounds) > 3
    assert all(parts.artifacts.sound(digest) for digest in recorded)


# The command and the doctor


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    made = Installation.load(data=tmp_path, mlflow_tracking_uri="off")
    made.prepare()
    made.migrate()
    yield made
    made.close()


def old_waste(installation: Installation) -> str:
    digest = installation.artifacts.put(waste())
    folder = installation.artifacts.path(digest)
    os.utime(str(folder), (time.time() - 2 * GRACE, time.time() - 2 * GRACE))
    return digest


def test_the_command_says_what_it_did(installation: Installation) -> None:
    digest, data = old_waste(installation), str(installation.settings.data)
    run = CliRunner()
    said = json.loads(run.invoke(app, ["gc", "--data", data, "--dry-run", "--json"]).stdout)
    assert said["unreachable"]["bundles"] == 1
    assert said["removed"] == {"bundles": 0, "bytes": 0}
    assert said["digests"] == [digest]
    text = run.invoke(app, ["gc", "--data", data]).stdout
    assert "removed: 1 bundles" in text
    assert list(installation.artifacts.stored()) == []
    assert run.invoke(app, ["gc", "--data", data, "--grace-hours", "0"]).exit_code == 2


@pytest.mark.sqlite
def test_without_an_installation_nothing_is_swept(tmp_path: Path) -> None:
    missing = CliRunner().invoke(app, ["gc", "--data", str(tmp_path / "none")])
    assert "There is no installation in" in str(missing.exception)


def test_the_doctor_says_how_much_nothing_refers_to(installation: Installation) -> None:
    old_waste(installation)
    finding = check_artifacts(installation)
    assert finding.state == "ok"
    assert "MiB more in 1 that nothing refers to" in finding.text


def test_images_are_kept_for_a_time_of_their_own(parts: Any) -> None:
    from everlearn.vision.frames import bundle_of

    image, version = parts.artifacts.put(bundle_of(b"\x89PNG")), parts.artifacts.put(waste())
    found = look(parts, images=11 * GRACE)
    assert {one.digest for one in found.garbage} == {version}
    assert {one.digest for one in look(parts, images=9 * GRACE).garbage} == {image, version}
    assert {one.digest for one in sweep(parts, images=11 * GRACE).removed} == {version}
