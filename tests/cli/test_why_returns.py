"""A live installation that promotes, rolls back and brings back by itself, and the proof of each step."""

from __future__ import annotations

import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from everlearn.config import Settings
from everlearn.loop.alerts import Alert, alerts_of
from everlearn.loop.defaults import with_defaults
from everlearn.loop.drive import advance_model, run_job
from everlearn.loop.state import load
from everlearn.predictor import Baseline, Predictor
from everlearn.running import record_server
from everlearn.spec import parse_spec
from everlearn.types import Decision, EventKind, NewEvent, Output
from everlearn.wiring import Installation

Run = Callable[..., Any]
NAME = "toy"
SPEC = {
    "name": NAME,
    "target": "y",
    "features": {"a": "numeric", "b": "numeric"},
    "learner": {"name": "window", "size": 300, "estimator": "logistic"},
    "threshold": 0.8,
    "label_horizon": {"rows": 5},
    "policy": {"first_rows": 60, "min_labels": 40, "window": 100, "cooldown": 40, "check_every": 10},
    "gate": {"holdout": 40, "min_rows": 20, "look_every": 20},
    "rollback": {"cooldown": 40},
    "drift": {"features": False},
}


class Live:
    """A model of an installation on SQLite: rows are answered and labelled, and the loop runs in between."""

    def __init__(self, parts: Installation) -> None:
        self.parts, self.random, self.asked = parts, random.Random(0), 0
        self.alerts: list[Alert] = []
        self.decided: list[Decision] = []
        parts.models.create(with_defaults(parse_spec(SPEC)), 1.0)

    def until(self, kind: str, turned: bool, *, reused: bool = False) -> Decision:
        """Stream under a concept until such a decision is made; it is the newest of its kind."""
        seen = len(self.decided)
        for _ in range(50):
            self.stream(turned)
            for decision in self.decided[seen:]:
                if decision.kind == kind and bool(decision.evidence.get("reused")) is reused:
                    return decision
        raise AssertionError(f"no {kind} in 1,000 rows: {self.decided[seen:]}")

    def stream(self, turned: bool, rows: int = 20) -> None:
        """Rows whose class is the side of a line they lie on, or the other side."""
        asked = [{"a": self.random.gauss(0, 1), "b": self.random.gauss(0, 1)} for _ in range(rows)]
        now = self.parts.clock.now()
        champion = self.parts.versions.champion(NAME)
        digest = champion.digest
        answering = (
            Predictor.from_bundle(self.parts.artifacts.get(digest)) if digest else Baseline(Output(None))
        )
        events, labels = [], []
        for row, output in zip(asked, answering.predict(asked), strict=True):
            name, self.asked = f"p{self.asked}", self.asked + 1
            body = {"features": row, "value": output.value, "probabilities": output.probabilities}
            events.append(
                NewEvent(EventKind.PREDICTION, now, name, {**body, "version": champion.version}),
            )
            truth = "yes" if (row["a"] + row["b"] > 0) != turned else "no"
            labels.append(NewEvent(EventKind.LABEL, now, name, {"value": truth}))
        self.parts.log.append(NAME, events)
        self.parts.log.append(NAME, labels)
        self.settle()

    def settle(self) -> None:
        """Let the loop take in all there is, and do its jobs."""
        parts = self.parts
        self.advance()
        while (job := parts.jobs.lease("test", 60.0, parts.clock.now())) is not None:
            run_job(
                job,
                log=parts.log,
                versions=parts.versions,
                jobs=parts.jobs,
                artifacts=parts.artifacts,
                clock=parts.clock,
            )
            self.advance()

    def advance(self) -> None:
        def told(model: str, decisions: Any) -> None:
            assert model == NAME
            self.decided += decisions
            self.alerts += alerts_of(decisions)

        while advance_model(NAME, self.parts.log, self.parts.ledger, told=told):
            pass


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Live]:
    """A model in a new data folder."""
    installation = Installation(Settings.load(data=tmp_path / "installation", mlflow_tracking_uri="off"))
    installation.prepare()
    installation.migrate()
    yield Live(installation)
    installation.close()


@pytest.fixture
def serve(live: Live, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """Start a server on the installation, for commands to find."""
    import uvicorn

    from everlearn.api.app import create_app
    from everlearn.api.auth import ApiKey

    started: list[tuple[Any, threading.Thread]] = []

    def start() -> None:
        app = create_app(live.parts, authenticator=ApiKey(str(live.parts.api_key)), poll=0.05)
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, ws="none"))
        listener = socket.create_server(("127.0.0.1", 0))
        record_server(tmp_path / "installation", f"http://127.0.0.1:{listener.getsockname()[1]}")
        monkeypatch.setenv("EVERLEARN_DATA", str(tmp_path / "installation"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        started.append((server, thread))
        while not server.started:
            time.sleep(0.01)

    yield start
    for server, thread in started:
        server.should_exit = True
        thread.join(10)


@pytest.mark.slow
def test_what_is_promoted_rolled_back_and_brought_back_by_itself_is_told_and_proven(
    run: Run, live: Live, serve: Callable[[], None]
) -> None:
    first = live.until("promote", turned=False)
    second = live.until("promote", turned=True)
    assert second.evidence["replaces"] == first.version
    # It turns bad before it has proven itself: the old one comes back, and it is withdrawn.
    back = live.until("rollback", turned=False)
    assert (back.version, back.evidence["replaces"]) == (first.version, second.version)
    assert back.evidence["automatic"]
    assert back.evidence["withdrawn"]
    assert [alert.decision.number for alert in live.alerts if alert.kind == "rollback"] == [back.number]
    state = load(live.parts.ledger.checkpoint(NAME).state)
    assert (state.alerts["rollback"], state.champion) == (1, first.version)

    third = live.until("promote", turned=True)
    assert third.version not in (first.version, second.version)
    for _ in range(6):
        live.stream(turned=True)
    # It has held for a while: when its world is gone, what was made for the old one is remembered.
    again = live.until("promote", turned=False, reused=True)
    assert again.version == first.version
    assert again.evidence["replaces"] == third.version

    serve()
    proven = [d for d in live.decided if d.kind in ("promote", "rollback")]
    assert [d.version for d in proven] == [first.version, second.version, 1, third.version, 1]
    for decision in proven:
        said = run("why", NAME, decision.number, "--verify", "--json").json
        assert said["seq"] == decision.seq
        assert said["verification"]["identical"], said["verification"]["differences"]
    assert "came back" in run("why", NAME, back.number).out
    assert "cost no training" in run("why", NAME, again.number).out
