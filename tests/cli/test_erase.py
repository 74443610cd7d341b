"""Erasing a person from the command line, and checking the certificate."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from everlearn.config import Settings
from everlearn.erasing import Eraser
from everlearn.loop import drive
from everlearn.loop.defaults import with_defaults
from everlearn.spec import parse_spec
from everlearn.types import EventKind, NewEvent
from everlearn.vision.frames import bundle_of
from everlearn.wiring import Installation

from .conftest import Run

START = 1_800_000_000.0


@pytest.fixture
def here(tmp_path: Path) -> Any:
    """An installation in a folder, with a model that has learned from people's history."""
    installation = Installation(Settings.load(data=tmp_path / "installation", mlflow_tracking_uri="off"))
    installation.prepare()
    installation.migrate()
    spec = {"name": "m", "target": "y", "features": {"x": "numeric"}, "subject": "user"}
    spec |= {"policy": {"first_rows": 60}, "learner": {"name": "window", "estimator": "logistic"}}
    spec |= {"gate": {"holdout": 40, "min_rows": 20}}
    installation.models.create(with_defaults(parse_spec(spec)), START)
    rng = random.Random(0)
    for i in range(200):
        x, user = rng.gauss(0, 1), rng.choice(["ann", "ben", "cat"])
        body = {"features": {"user": user, "x": x}, "target": x > 0}
        installation.log.append("m", [NewEvent(EventKind.EXAMPLE, START + i, None, body)])
    yield installation
    installation.close()


def settle(here: Installation) -> None:
    """Let the loop and its jobs run until there is nothing to do."""
    while True:
        moved = drive.advance_model("m", here.log, here.ledger, erasures=here.erasures)
        job = here.jobs.lease("test", 60, here.clock.now())
        if job is not None:
            drive.run_job(
                job, log=here.log, versions=here.versions, jobs=here.jobs,
                artifacts=here.artifacts, clock=here.clock,
            )  # fmt: skip
        elif not moved:
            return


def test_a_certificate_is_verified_until_something_is_planted(here: Any, run: Run, tmp_path: Path) -> None:
    settle(here)
    assert here.versions.champion("m").version == 1
    erasure = here.erasures.begin("m", "user", "ann", "user:op", START, START + 60.0)
    settle(here)
    list(Eraser(here, here.seal).run_once())
    done = here.erasures.get(erasure.id)
    assert done.certificate["champion"]["version"] > 1
    file, data = tmp_path / "certificate.json", here.settings.data
    file.write_text(json.dumps({"certificate": done.certificate}), encoding="utf-8")
    said = run("erasure", "verify", file, "--data", data)
    assert (said.code, said.out.splitlines()[0]) == (0, "verified"), said.err
    told = run("erasure", "verify", file, "--data", data, "--json").json
    assert (told["verified"], told["failures"], told["equality"]) == (True, [], "identical")
    from everlearn.adapters.sql.tables import events

    first = done.certificate["positions"][0][0]
    with here.store._database.write() as connection:
        there = events.update().where(events.c.seq == first)
        connection.execute(there.values(kind=3, features='{"user":"ann","x":1.0}', value="true"))
    said = run("erasure", "verify", file, "--data", data)
    assert (said.code, said.out.splitlines()[0]) == (1, "not verified")
    assert f"events at position {first} holds what was erased there" in said.err
    file.write_text(json.dumps({**done.certificate, "positions": []}), encoding="utf-8")
    said = run("erasure", "verify", file, "--data", data)
    assert said.code == 1
    assert "not as this installation signed it" in said.err
    file.write_text("{}", encoding="utf-8")
    assert "holds no signed certificate" in run("erasure", "verify", file, "--data", data).err


def test_who_has_an_image_is_told_whether_it_was_removed(here: Any, run: Run, tmp_path: Path) -> None:
    camera = {"name": "cam", "task": "detection", "target": "boxes", "features": {"frame": "image"}}
    here.models.create(parse_spec({**camera, "subject": "person"}), START)
    for person in ("ann", "ben"):
        digest = here.artifacts.put(bundle_of(person.encode()))
        body = {"features": {"frame": digest, "person": person}, "value": None, "probabilities": None}
        here.log.append("cam", [NewEvent(EventKind.PREDICTION, START, person, {**body, "version": 0})])
        (tmp_path / person).write_bytes(person.encode())
    now = here.clock.now() + 60.0
    erasure = here.erasures.begin("cam", "person", "ann", "user:op", now, now)
    while drive.advance_model("cam", here.log, here.ledger, erasures=here.erasures):
        pass
    list(Eraser(here, here.seal).run_once())
    file, data = tmp_path / "certificate.json", here.settings.data
    file.write_text(json.dumps(here.erasures.get(erasure.id).certificate), encoding="utf-8")
    for person, removed in (("ann", True), ("ben", False)):
        told = run("erasure", "verify", file, "--image", tmp_path / person, "--data", data, "--json").json
        assert (told["verified"], told["image_removed"]) == (True, removed)
    said = run("erasure", "verify", file, "--image", tmp_path / "ann", "--data", data).out
    assert "ann is one of the images that were removed" in said


def test_erasing_asks_first_and_tells_what_was_removed(run: Run, data: Path, tmp_path: Path) -> None:
    spec = {"name": "people", "target": "y", "features": {"x": "numeric"}, "subject": "user"}
    (tmp_path / "people.json").write_text(json.dumps(spec), encoding="utf-8")
    assert run("models", "create", "people.json").code == 0
    row = '{"x": 1.0, "user": "ann"}'
    assert run("predict", "people", "--row", row, "--json").code == 0
    assert "nothing was erased yet" in run("erasure", "list", "people").out
    assert run("erase", "people", "ann").code == 1, "nobody said yes"
    told = run("erase", "people", "ann", "--yes", "--wait", "0", "--json").json
    assert told["removed"] == {"events": 1}
    assert told["id"] in run("erasure", "list", "people").out
    assert "removed: 1 events" in run("erasure", "show", "people", told["id"]).out
    assert "has no rows of the subject" in run("erase", "people", "ben", "--yes").err
