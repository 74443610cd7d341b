"""Old events go; nothing that is decided, learned or answered later is different for it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import text

from everlearn.adapters.memory import ManualClock, MemoryArtifacts
from everlearn.adapters.sql import SqlStore
from everlearn.adapters.sql.retention import Floor
from everlearn.errors import NotFoundError
from everlearn.loop import drive
from everlearn.loop.defaults import with_defaults
from everlearn.loop.verify import verify
from everlearn.retention import DAY, Retention
from everlearn.spec import parse_spec
from everlearn.types import EventKind, NewEvent, Status

START = 1_700_000_000.0
SPEC: dict[str, Any] = {
    "name": "m",
    "target": "y",
    "features": {"x": "numeric", "z": "numeric"},
    "learner": {"name": "window", "size": 150, "estimator": "logistic"},
    "threshold": 0.8,
    "label_horizon": {"rows": 10},
    "policy": {"first_rows": 60, "min_labels": 40, "window": 80, "cooldown": 40, "check_every": 10},
    "gate": {"holdout": 40, "min_rows": 20},
}


class Live:
    """An installation by hand: rows are asked and labelled, the loop and its jobs run, days go by."""

    def __init__(self, url: str) -> None:
        store = SqlStore(url, synchronous="NORMAL")
        store.migrate()
        nouns = ("models", "log", "versions", "ledger", "jobs", "retention")
        self.store, self.clock = store, ManualClock(START)
        self.parts: Any = SimpleNamespace(
            clock=self.clock, artifacts=MemoryArtifacts(), **{noun: getattr(store, noun) for noun in nouns}
        )
        store.models.create(with_defaults(parse_spec(SPEC)), START)
        self._draw, self._asked = random.Random(7), 0

    def days(
        self, count: int, rows: int, turned: bool = False, tidy: Callable[[], Any] = lambda: None
    ) -> None:
        for _ in range(count):
            self.ask(rows, turned)
            self.advance()
            self.clock.advance(DAY)
            tidy()

    def ask(self, rows: int, turned: bool) -> None:
        """Predictions of which every third is never labelled; labels come seven rows late."""
        version = self.parts.versions.champion("m").version
        late: list[tuple[str, str]] = []
        events: list[NewEvent] = []
        for _ in range(rows):
            x, at, key = self._draw.gauss(0, 1), self.clock.now() + self._asked, f"p{self._asked}"
            body = {"features": {"x": x, "z": 0.5}, "value": "no", "probabilities": None, "version": version}
            events.append(NewEvent(EventKind.PREDICTION, at, key, body))
            if self._asked % 3:
                late.append((key, "yes" if (x > 0) != turned else "no"))
            if len(late) > 7:
                name, truth = late.pop(0)
                events.append(NewEvent(EventKind.LABEL, at, name, {"value": truth}))
            self._asked += 1
            if len(events) > 20:
                self.parts.log.append("m", events)
                events = []
        self.parts.log.append("m", events)

    def advance(self) -> None:
        parts = self.parts
        while True:
            moved = drive.advance_model("m", parts.log, parts.ledger, 50)
            job = parts.jobs.lease("test", 60, self.clock.now())
            if job is not None:
                drive.run_job(
                    job, log=parts.log, versions=parts.versions, jobs=parts.jobs,
                    artifacts=parts.artifacts, clock=self.clock,
                )  # fmt: skip
            elif not moved:
                return

    def decided(self) -> list[Any]:
        found = self.parts.ledger.decisions("m", limit=1000).items
        return [(one.number, one.seq, one.kind, one.reason, one.version) for one in found]

    def proven(self) -> Any:
        floor: Floor | None = self.parts.retention.floor("m")
        return verify(
            "m", log=self.parts.log, ledger=self.parts.ledger, versions=self.parts.versions,
            artifacts=self.parts.artifacts, floor=None if floor is None else floor.checkpoint,
            kept_from=0 if floor is None else floor.known_from,
        )  # fmt: skip

    def rows(self) -> int:
        with self.store._database.read() as connection:
            return int(connection.scalar(text("SELECT count(*) FROM events")) or 0)


@pytest.fixture(params=["sqlite", "postgres"])
def open_live(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[str], Live]]:
    """Open a new installation by a name."""
    opened: list[Live] = []

    def open_one(name: str) -> Live:
        url = f"sqlite:///{tmp_path / name}.db"
        if request.param == "postgres":
            postgres = request.getfixturevalue("postgres")
            url = postgres.url(postgres.create())
        opened.append(Live(url))
        return opened[-1]

    yield open_one
    for one in opened:
        one.store.close()


@pytest.mark.slow
def test_what_is_decided_is_the_same_with_and_without(open_live: Callable[[str], Live]) -> None:
    kept, thinned = open_live("kept"), open_live("thinned")
    retention = Retention(thinned.parts, days=2)

    def tidy() -> None:
        assert [one.problem for one in retention.run_once()] == [None]

    for live, then in ((kept, lambda: None), (thinned, tidy)):
        live.days(6, 150, tidy=then)
        live.days(4, 150, turned=True, tidy=then)
        live.days(3, 150, tidy=then)
    assert thinned.decided() == kept.decided()
    assert {kind for _, _, kind, _, _ in kept.decided()} >= {"promote", "update"}
    assert thinned.parts.versions.list("m").items == kept.parts.versions.list("m").items
    assert thinned.rows() < 0.85 * kept.rows()

    whole, rest = kept.proven(), thinned.proven()
    assert (whole.identical, whole.begins) == (True, 0)
    assert (rest.identical, rest.differences) == (True, ())
    assert rest.begins > 1000
    assert 0 < rest.decisions < whole.decisions


def test_what_stays_and_what_an_old_id_becomes(open_live: Callable[[str], Live]) -> None:
    live = open_live("one")
    log = live.parts.log
    log.append("m", [NewEvent(EventKind.LABEL, live.clock.now(), "nobody", {"value": "yes"})])
    live.days(5, 150)
    log.append(
        "m", [NewEvent(EventKind.LABEL, live.clock.now(), "p3", {"value": "no"})]
    )  # of a row of day one
    before = log.head("m")
    retention = Retention(live.parts, days=1)
    list(retention.run_once())
    assert live.rows() > 1000  # when these were logged nobody noted, so today counts
    live.clock.advance(2 * DAY)
    live.advance()
    (thinned,) = retention.run_once()
    assert thinned.dropped > 100
    assert next(iter(retention.run_once())).dropped == 0

    head = log.head("m")
    assert (head.seq, head.rows, head.labels) == (before.seq, before.rows, before.labels)
    assert head.parked == before.parked - 1
    assert log.find("m", ["p0", "nobody"]) == {}  # never labelled
    assert log.find("m", ["p749"])["p749"][0] is not None  # not mature
    kinds = {type(event).__name__ for event in log.read("m", 0, 5000)}
    assert {"Command", "Outcome", "Prediction", "Label"} <= kinds
    assert all(e.prediction is not None for e in log.read("m", 0, 5000) if type(e).__name__ == "Label")

    body = {"features": {"x": 9.0, "z": 9.0}, "value": "no", "probabilities": None, "version": 0}
    again = [NewEvent(EventKind.PREDICTION, live.clock.now(), "p0", body)]
    assert log.append("m", again)[0].status is Status.ACCEPTED  # nobody remembers it: a new prediction
    lone = [NewEvent(EventKind.LABEL, live.clock.now(), "p6", {"value": "no"})]
    assert log.append("m", lone)[0].status is Status.PARKED
    live.advance()
    assert live.proven().identical


def test_what_is_not_proven_is_not_dropped(open_live: Callable[[str], Live]) -> None:
    live = open_live("forged")
    live.days(3, 150)
    with live.store._database.write() as connection:
        connection.execute(text("UPDATE decisions SET reason = 'forged' WHERE kind = 'promote'"))
    rows, retention = live.rows(), Retention(live.parts, days=1)
    list(retention.run_once())
    live.clock.advance(2 * DAY)
    (thinned,) = retention.run_once()
    assert "not proven" in (thinned.problem or "")
    assert live.rows() == rows


def test_a_job_that_has_not_ended_is_waited_for(open_live: Callable[[str], Live]) -> None:
    live = open_live("busy")
    retention = Retention(live.parts, days=1)
    live.ask(150, False)
    while not live.parts.jobs.list("m").items:
        assert drive.advance_model("m", live.parts.log, live.parts.ledger, 50)
    rows = live.rows()
    list(retention.run_once())
    live.clock.advance(2 * DAY)
    assert [one.dropped for one in retention.run_once()] == [0]
    assert live.rows() == rows
    assert live.parts.retention.floor("m") is None


def test_a_drop_that_broke_off_is_finished(
    open_live: Callable[[str], Live], monkeypatch: pytest.MonkeyPatch
) -> None:
    import everlearn.adapters.sql.retention as module

    live = open_live("broken")
    live.days(4, 150)
    retention = Retention(live.parts, days=1)
    list(retention.run_once())
    live.clock.advance(2 * DAY)
    monkeypatch.setattr(module, "BATCH", 100)
    drop, times = module._drop, [0]

    def break_off(*arguments: Any) -> int:
        times[0] += 1
        if times[0] == 3:
            raise KeyboardInterrupt
        return drop(*arguments)

    monkeypatch.setattr(module, "_drop", break_off)
    with pytest.raises(KeyboardInterrupt):
        list(retention.run_once())
    monkeypatch.setattr(module, "_drop", drop)
    (thinned,) = Retention(live.parts, days=1).run_once()
    assert thinned.dropped > 0
    assert live.proven().identical
    live.days(2, 100)
    assert live.proven().identical


def test_what_is_gone_cannot_be_verified(open_live: Callable[[str], Live]) -> None:
    live = open_live("gone")
    live.days(3, 150)
    retention = Retention(live.parts, days=1)
    list(retention.run_once())
    live.clock.advance(2 * DAY)
    list(retention.run_once())
    floor = live.parts.retention.floor("m")
    with pytest.raises(NotFoundError, match="were dropped"):
        verify(
            "m", log=live.parts.log, ledger=live.parts.ledger, versions=live.parts.versions,
            artifacts=live.parts.artifacts, upto=floor.seq - 1, floor=floor.checkpoint,
        )  # fmt: skip


def test_the_doctor_tells_of_logs_that_are_not_thinned_out(open_live: Callable[[str], Live]) -> None:
    from everlearn.config import Settings
    from everlearn.doctor import check_retention
    from everlearn.wiring import Installation

    live = open_live("doctor")
    live.days(2, 60)
    url = live.store._database.url.render_as_string(hide_password=False)
    installation = Installation(Settings(database_url=url, retention_days=1.0))
    installation.__dict__["clock"] = live.clock
    assert check_retention(Installation(Settings(database_url=url))).text == "every event is kept"
    live.parts.retention.mark(live.clock.now(), 0.0)
    assert check_retention(installation).state == "ok"
    live.clock.advance(5 * DAY)
    assert check_retention(installation).state == "warn"
    list(Retention(live.parts, days=1).run_once())
    found = check_retention(installation)
    assert (found.state, found.text) == ("ok", "events are kept for 1 days; 1 logs have been thinned out")
    installation.close()
