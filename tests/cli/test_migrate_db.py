"""``everlearn migrate-db``: copied, killed, gone on with, and proven by what was decided."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import inspect, text

from everlearn.adapters.sql.database import Database
from everlearn.running import DataLock
from everlearn.types import EventKind, NewEvent
from everlearn.wiring import Installation

Run = Callable[..., Any]


@pytest.fixture
def target(postgres: Any) -> str:
    """An empty PostgreSQL database."""
    url: str = postgres.url(postgres.create())
    return url


def source_of(data: Path) -> str:
    return Installation.load(data=data).settings.database


def test_an_installation_moves_and_decides_the_same(
    run: Run, recorded: Path, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = source_of(recorded)
    said = run("migrate-db", source, target, "--data", recorded, "--json").json
    assert said["verified"]
    assert said["events"]["copied"] > 200
    assert said["artifacts_missing"] == []
    assert run("migrate-db", source, target, "--data", recorded, "--verify", "--json").json["verified"]

    monkeypatch.setenv("EVERLEARN_DATABASE_URL", target)
    proven = run("replay", "--recorded", "m", "--verify", "--data", recorded, "--json").json
    assert proven["identical"]
    assert proven["artifacts_checked"] >= 1
    back = f"sqlite:///{recorded / 'back.db'}"
    assert "verified" in run("migrate-db", target, back, "--data", recorded).out
    monkeypatch.setenv("EVERLEARN_DATABASE_URL", back)
    assert run("replay", "--recorded", "m", "--verify", "--data", recorded).out.startswith("identical")


def test_what_is_wrong_is_one_line(run: Run, recorded: Path, target: str, tmp_path: Path) -> None:
    source = source_of(recorded)
    for arguments, words in (
        ((f"sqlite:///{tmp_path / 'none.db'}", target), "no database"),
        (("oracle://x/y", target), "not supported"),
        ((source, source), "the same database"),
        ((source, "postgresql://nobody@127.0.0.1:1/x"), "does not answer"),
    ):
        ended = run("migrate-db", *arguments)
        assert (ended.code, ended.err.count("\n")) == (1, 1)
        assert words in ended.err
    assert not (tmp_path / "none.db").exists()


def test_a_missing_version_is_said(run: Run, recorded: Path, target: str) -> None:
    for folder in (recorded / "artifacts").iterdir():
        folder.rename(recorded / folder.name)
    ended = run("migrate-db", source_of(recorded), target, "--data", recorded)
    assert ended.code == 1
    assert "The files of a version are missing" in ended.err


@pytest.mark.sqlite
def test_a_running_server_is_not_copied_from(run: Run, recorded: Path, target: str) -> None:
    source = source_of(recorded)
    with DataLock(recorded):
        ended = run("migrate-db", source, target, "--data", recorded)
        assert (ended.code, ended.err.count("\n")) == (1, 1)
        assert "stop them first" in ended.err
        ahead = run("migrate-db", source, target, "--ahead", "--data", recorded, "--json").json
        assert (ahead["verified"], ahead["events"]["copied"] > 200) == (False, True)
    last = run("migrate-db", source, target, "--data", recorded, "--json").json
    assert (last["verified"], last["events"]["copied"]) == (True, 0)
    served = Database(target)
    with served.read():
        ended = run("migrate-db", target, f"sqlite:///{recorded / 'back.db'}", "--data", recorded)
        assert "stop them first" in ended.err
    served.close()


@pytest.mark.slow
def test_killed_twice_it_ends_verified(
    run: Run, recorded: Path, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, draw = source_of(recorded), random.Random(3)
    installation = Installation.load(data=recorded)
    body = {"features": {"x": 0.5}, "value": None, "probabilities": None, "version": 0}
    events = [NewEvent(EventKind.PREDICTION, 1_800_001_000.0 + i, f"p{i}", body) for i in range(3000)]
    installation.log.append("m", events)
    installation.close()
    command = [sys.executable, "-m", "everlearn", "migrate-db", source, target, "--batch", "10"]
    command += ["--data", str(recorded)]
    before = 0
    for _ in range(2):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        wanted = before + draw.randrange(50, 800)
        while (before := copied(target)) < wanted:
            assert process.poll() is None, process.communicate()
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    said = run("migrate-db", source, target, "--data", recorded, "--json").json
    assert said["verified"]
    assert before <= said["events"]["resumed"] < 3000
    monkeypatch.setenv("EVERLEARN_DATABASE_URL", target)
    assert run("replay", "--recorded", "m", "--verify", "--data", recorded, "--json").json["identical"]


def copied(target: str) -> int:
    """How many events the target has of a copy that is not finished."""
    database = Database(f"{target}?application_name=a-look")
    with database.read() as connection:
        there = inspect(connection).has_table("moving")
        rows = connection.scalar(text("SELECT rows FROM moving")) if there else 0
    database.close()
    return int(rows or 0)
