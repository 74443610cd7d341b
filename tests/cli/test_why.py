"""``everlearn why`` on a real server over a real data folder."""

from __future__ import annotations

import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from everlearn.config import Settings
from everlearn.loop.defaults import with_defaults
from everlearn.running import record_server
from everlearn.spec import parse_spec
from everlearn.types import EventKind, NewEvent
from everlearn.wiring import Installation
from everlearn.worker import Worker

Run = Callable[..., Any]
SPEC = {
    "name": "m",
    "target": "y",
    "features": {"x": "numeric"},
    "gate": {"holdout": 40, "min_rows": 20},
    "policy": {"first_rows": 60},
    "learner": {"name": "window", "estimator": "logistic"},
}


def record(installation: Installation, wait_until: Callable[..., None]) -> None:
    """A model whose first version was promoted."""
    installation.models.create(with_defaults(parse_spec(SPEC)), 1_800_000_000.0)
    rng = random.Random(0)
    xs = [rng.gauss(0, 1) for _ in range(200)]
    body = [{"features": {"x": x}, "target": "yes" if x > 0 else "no"} for x in xs]
    installation.log.append("m", [NewEvent(EventKind.EXAMPLE, 1_800_000_000.0, None, one) for one in body])
    worker = Worker(installation, poll_seconds=0.01)
    thread = threading.Thread(target=worker.run, daemon=True)
    thread.start()
    try:
        wait_until(lambda: installation.versions.champion("m").version == 1)
    finally:
        worker.stop()
        thread.join(10)


@pytest.fixture
def served(
    tmp_path: Path, wait_until: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """A data folder with a record, and a server on it."""
    import uvicorn

    from everlearn.api.app import create_app
    from everlearn.api.auth import ApiKey

    data = tmp_path / "installation"
    installation = Installation(Settings.load(data=data, mlflow_tracking_uri="off"))
    installation.prepare()
    installation.migrate()
    record(installation, wait_until)
    app = create_app(installation, authenticator=ApiKey(str(installation.api_key)), poll=0.05)
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, ws="none"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        record_server(data, f"http://127.0.0.1:{listener.getsockname()[1]}")
        monkeypatch.setenv("EVERLEARN_DATA", str(data))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield data
        server.should_exit = True
        thread.join(10)
    installation.close()


def test_a_promotion_is_told_and_proven_and_a_forged_one_is_found(run: Run, served: Path) -> None:
    told = run("why", "m")
    assert told.code == 0
    assert told.out.startswith("Version 1 was promoted (decision ")
    assert "took over from version 0" in told.out
    assert "Why not? " in told.out

    said = run("why", "m", "--json").json
    again = run("why", "m", said["number"], "--json").json
    assert said == again
    assert {"headline", "paragraph", "numbers", "why_not", "evidence"} <= said.keys()

    proven = run("why", "m", "--verify")
    assert proven.code == 0
    assert "\nidentical\n" in proven.out
    verified = run("why", "m", "--verify", "--no-retrain", "--json").json["verification"]
    assert verified["identical"]
    assert verified["events"] == said["seq"]

    forge(served)
    found = run("why", "m", "--verify")
    assert found.code == 1
    assert "\ndifferent\n" in found.out
    assert "forged" in found.err


def forge(data: Path) -> None:
    installation = Installation.load(data=data)
    with installation.store._database.write() as connection:
        connection.execute(text("UPDATE decisions SET reason = 'forged' WHERE kind = 'promote'"))
    installation.close()


@pytest.mark.usefixtures("data")
def test_what_there_is_not_is_one_line(run: Run) -> None:
    ended = run("why", "nobody")
    assert (ended.code, ended.err.count("\n")) == (1, 1)
    assert "nobody" in ended.err
