"""A person's rows go: from the log, from what the loop remembers, from every version that learned them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import func, select

from everlearn.adapters.memory import ManualClock, MemoryArtifacts, MemoryStore
from everlearn.adapters.rules import Reply
from everlearn.adapters.sql import SqlStore
from everlearn.adapters.sql.tables import checkpoints, events, jobs, versions
from everlearn.certificates import Seal
from everlearn.erasing import Eraser, check
from everlearn.errors import FencedError, IntegrityError, NotFoundError
from everlearn.loop import drive
from everlearn.loop.anchors import Anchor
from everlearn.loop.defaults import with_defaults
from everlearn.loop.explain_case import Case
from everlearn.loop.explain_kinds import tell
from everlearn.loop.state import LoopState, dump, load
from everlearn.loop.verify import Verification, verify
from everlearn.predictor import Baseline, Predictor
from everlearn.retention import Retention
from everlearn.spec import parse_spec
from everlearn.types import (
    Bundle,
    DecisionKind,
    Erasure,
    ErasureState,
    EventKind,
    NewEvent,
    Output,
    Status,
    Tick,
)
from everlearn.vision.frames import bundle_of

START = 1_700_000_000.0
SPEC: dict[str, Any] = {
    "name": "m",
    "target": "y",
    "features": {"x": "numeric", "z": "numeric", "town": "categorical"},
    "subject": "user",
    "learner": {"name": "window", "size": 150, "estimator": "logistic"},
    "threshold": 0.8,
    "label_horizon": {"rows": 10},
    "policy": {"first_rows": 60, "min_labels": 40, "window": 80, "cooldown": 40, "check_every": 10},
    "gate": {"holdout": 40, "min_rows": 20},
    "regimes": {"anchor_every": 4, "anchors": 40},
    "drift": {"rows": 50},
}
SEAL = Seal(["a secret that nobody knows"])
USERS = ("ann", "ben", "cat", "dan", "eve")


def command_of(name: str, **arguments: Any) -> NewEvent:
    return NewEvent(EventKind.COMMAND, START, None, {"name": name, "arguments": arguments})


class Live:
    """An installation by hand: people's rows are asked and labelled, and the loop and its jobs run."""

    def __init__(self, url: str | None, **changes: Any) -> None:
        self.store: Any = MemoryStore() if url is None else SqlStore(url, synchronous="NORMAL")
        self.clock = ManualClock(START)
        if isinstance(self.store, SqlStore):
            self.store.migrate()
        nouns = (
            "models",
            "log",
            "versions",
            "ledger",
            "jobs",
            "backlog",
            "retention",
            "erasures",
            "receipts",
            "remains",
        )
        self.parts: Any = SimpleNamespace(
            clock=self.clock,
            artifacts=MemoryArtifacts(),
            **{noun: getattr(self.store, noun) for noun in nouns},
        )
        self.store.models.create(with_defaults(parse_spec({**SPEC, **changes})), START)
        self._draw, self.asked, self.cache = random.Random(7), 0, drive.EngineCache()

    def ask(self, rows: int, users: tuple[str, ...] = USERS) -> None:
        """Predictions, each labelled seven rows later."""
        champion = self.parts.versions.champion("m")
        bundle = champion.digest and self.parts.artifacts.get(champion.digest)
        learned = Predictor.from_bundle(bundle) if bundle else Baseline(Output("no"))
        events: list[NewEvent] = []
        late: list[tuple[str, str]] = []
        for _ in range(rows):
            user, x, at = self._draw.choice(users), self._draw.gauss(0, 1), self.clock.now() + self.asked
            features: dict[str, Any] = {
                "town": f"town-of-{user}",
                "user": user,
                "x": x,
                "z": self._draw.random(),
            }
            output = learned.predict([features])[0]
            body = {"features": features, "value": output.value, "probabilities": output.probabilities}
            body["version"] = champion.version
            key = f"{user}-{self.asked}"
            events.append(NewEvent(EventKind.PREDICTION, at, key, body))
            late.append((key, "yes" if x > 0 else "no"))
            if len(late) > 7:
                name, truth = late.pop(0)
                events.append(NewEvent(EventKind.LABEL, at, name, {"value": truth}))
            self.asked += 1
        self.parts.log.append("m", events)

    def command(self, name: str, **arguments: Any) -> None:
        self.parts.log.append("m", [command_of(name, **arguments)])
        self.advance()

    def advance(self) -> None:
        parts = self.parts
        while True:
            moved = drive.advance_model("m", parts.log, parts.ledger, 50, self.cache, erasures=parts.erasures)
            job = parts.jobs.lease("test", 60, self.clock.now())
            if job is not None:
                drive.run_job(
                    job, log=parts.log, versions=parts.versions, jobs=parts.jobs,
                    artifacts=parts.artifacts, clock=self.clock,
                )  # fmt: skip
            elif not moved:
                return

    def stream(self, rows: int) -> None:
        for _ in range(0, rows, 20):
            self.ask(20)
            self.advance()

    def erase(self, subject: str, days: float = 1.0) -> Any:
        now = self.clock.now()
        begin = self.parts.erasures.begin
        self.erased: Erasure = begin("m", "user", subject, "user:op", now, now + days * 86400.0)
        return self.erased

    def carry_through(self, rounds: int = 10) -> Any:
        """Let the loop and the eraser work until an erasure is done; that one."""
        eraser = Eraser(self.parts, SEAL)
        for _ in range(rounds):
            self.advance()
            if done := list(eraser.run_once()):
                return done[0]
        raise AssertionError(f"not done: {eraser._failed} {self.state().status}")

    def state(self) -> LoopState:
        return load(self.parts.ledger.checkpoint("m").state)

    def decided(self, kind: DecisionKind) -> list[Any]:
        return list(self.parts.ledger.decisions("m", limit=1000, kind=kind).items)

    def proven(self) -> Verification:
        floor = self.parts.retention.floor("m")
        return verify(
            "m", log=self.parts.log, ledger=self.parts.ledger, versions=self.parts.versions,
            artifacts=self.parts.artifacts, floor=None if floor is None else floor.checkpoint,
            kept_from=0 if floor is None else floor.known_from,
        )  # fmt: skip

    def everything(self) -> str:
        """All that the store holds, as text."""
        if isinstance(self.store, MemoryStore):
            data = self.store.erasures._data
            return repr((data.models["m"].log.events, data.models["m"].checkpoint, data.jobs))
        from everlearn.adapters.sql.tables import metadata

        with self.store._database.read() as connection:
            rows = [row for table in metadata.sorted_tables for row in connection.execute(table.select())]
        return repr(rows)


POSTGRES = pytest.param("postgres", marks=pytest.mark.slow)  # each makes a database of its own


@pytest.fixture(params=["memory", "sqlite", POSTGRES])
def store(request: pytest.FixtureRequest) -> str:
    """Where it runs."""
    return str(request.param)


@pytest.fixture
def open_live(store: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., Live]]:
    """Open a new installation; the keywords change its spec."""
    opened: list[Live] = []

    def open_one(**changes: Any) -> Live:
        url = None if store == "memory" else f"sqlite:///{tmp_path / str(len(opened))}.db"
        if store == "postgres":
            postgres = request.getfixturevalue("postgres")
            url = postgres.url(postgres.create())
        opened.append(Live(url, **changes))
        return opened[-1]

    yield open_one
    for live in opened:
        if store != "memory":
            live.store.close()


def test_the_rows_of_a_subject_leave_the_log_at_once(open_live: Callable[..., Live]) -> None:
    live = open_live()
    live.stream(100)
    live.ask(20)  # the loop has not read these yet
    head = live.parts.log.head("m")
    erasure = live.erase("ann")
    assert erasure.state is ErasureState.LOGGED
    assert erasure.seq == head.seq + 1
    read = live.parts.log.read("m", 0, 10_000)
    assert [event.seq for event in read] == list(range(1, head.seq + 2)), "positions stay dense"
    assert "ann" not in repr([event for event in read if not isinstance(event, Tick)][:-1])
    assert "ann" not in repr(live.parts.log.examples("m", upto=head.seq))
    assert sum(isinstance(event, Tick) for event in read) == erasure.removed["events"]
    assert live.parts.log.find("m", erasure.gone.ids) == {}
    assert live.parts.log.head("m").labels < head.labels


def test_a_label_that_comes_late_for_an_erased_row_is_not_kept(open_live: Callable[..., Live]) -> None:
    live = open_live()
    live.ask(40)
    key = live.erase("ann").gone.ids[0]
    before = live.parts.log.head("m")
    label = NewEvent(EventKind.LABEL, START, key, {"value": "yes"})
    unknown = NewEvent(EventKind.LABEL, START, "nobody's", {"value": "yes"})
    statuses = [receipt.status for receipt in live.parts.log.append("m", [label, unknown])]
    assert statuses == [Status.ERASED, Status.PARKED]
    assert live.parts.log.head("m").seq == before.seq + 1


def test_it_is_done_once_however_often_it_is_asked_for(open_live: Callable[..., Live]) -> None:
    live = open_live()
    live.ask(40)
    first = live.erase("ann")
    assert live.erase("ann") == first
    with pytest.raises(NotFoundError, match="no rows of the subject 'nobody'"):
        live.erase("nobody")
    live.ask(20, ("ann",))
    assert live.erase("ann").id != first.id, "who comes back can be erased again"


def test_the_loop_forgets_and_makes_a_version_that_never_saw_the_rows(open_live: Callable[..., Live]) -> None:
    live = open_live()
    live.stream(300)
    champion, before = live.parts.versions.champion("m").version, live.state()
    assert champion
    assert any(anchor.id.startswith("ann") for anchor in before.regimes.regimes[0].reservoir.entries)
    live.erase("ann")
    live.advance()
    state = live.state()
    assert '"ann' not in live.parts.ledger.checkpoint("m").state.decode()
    assert "town-of-ann" not in live.parts.ledger.checkpoint("m").state.decode()
    assert state.tainted(champion)
    assert not state.tainted(state.champion)
    assert state.champion > champion, "a clean version answers"
    assert sum(n for _, n in state.baselines.counts) == state.baselines.rows < before.baselines.rows
    decided = live.decided(DecisionKind.ERASE)[0]
    told = tell(Case(decided, [], None, None))
    assert told.headline == "A person's rows were erased"
    assert "asked for by user:op" in " ".join(told.sentences)
    assert decided.evidence["versions"][0] <= champion
    assert decided.evidence["removed"]["anchors"] > 0
    assert "ann" not in repr(decided)


def test_the_record_is_proven_from_the_erasure_on(open_live: Callable[..., Live]) -> None:
    live = open_live()
    live.stream(300)
    erasure = live.erase("ann")
    live.advance()
    live.stream(100)
    found = live.proven()
    assert found.identical
    assert found.begins == erasure.seq
    live.erase("ben")
    live.advance()
    live.stream(60)
    assert live.proven().identical


def test_it_ends_with_a_certificate_and_nothing_is_left_in_the_database(
    open_live: Callable[..., Live],
) -> None:
    live = open_live()
    live.stream(300)
    tainted = live.parts.versions.get("m", live.state().champion).digest
    erasure = live.erase("ann")
    done = live.carry_through()
    assert done.id == erasure.id
    assert done.state is ErasureState.DONE
    assert done.gone is None
    assert "ann" not in live.everything().replace("channel", "")
    assert not live.parts.artifacts.sound(tainted), "what learned the rows is gone"
    given = done.certificate
    assert SEAL.verify(given)
    assert given["artifacts_removed"] == [tainted]
    assert given["removed"]["events"] == sum(last - first + 1 for first, last in given["positions"])
    assert given["proof"]["versions_made_again"] >= 1
    assert given["proof"]["equality"] == "identical"
    live.stream(60)
    assert check(live.parts, SEAL, given).failures == ()


def test_the_files_of_sqlite_hold_nothing_either(tmp_path: Path) -> None:
    live = Live(f"sqlite:///{tmp_path / 'one.db'}")
    live.stream(300)
    live.erase("ann")
    live.carry_through()
    held = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"town-of-ben" in held
    assert b"town-of-ann" not in held
    assert b'"user":"ann"' not in held
    live.store.close()


def test_a_certificate_that_was_changed_does_not_verify(open_live: Callable[..., Live]) -> None:
    live = open_live()
    live.stream(60)
    live.erase("ann")
    given = live.carry_through().certificate
    with pytest.raises(IntegrityError, match="not as this installation signed it"):
        check(live.parts, SEAL, {**given, "positions": []})
    with pytest.raises(IntegrityError):
        check(live.parts, Seal(["another secret"]), given)


def planted_in_the_log(live: Live, position: int) -> None:
    with live.store._database.write() as connection:
        row = {"features": '{"user":"ann","x":1.0}', "kind": 1, "key": "ann-0", "row": 1}
        connection.execute(events.update().where(events.c.seq == position).values(row))


def planted_in_a_newer_row(live: Live, position: int) -> None:
    """Under a position that was never hers."""
    with live.store._database.write() as connection:
        there = events.c.features.like('%"ben"%')
        first = connection.scalar(select(func.min(events.c.seq)).where(there))
        row = {"features": '{"user":"ann","x":1.0}'}
        connection.execute(events.update().where(events.c.seq == first).values(row))


def planted_in_the_state(change: Callable[[LoopState], None]) -> Callable[[Live, int], None]:
    def plant(live: Live, position: int) -> None:
        state = live.state()
        change(state)
        with live.store._database.write() as connection:
            connection.execute(checkpoints.update().values(state=dump(state)))

    return plant


def an_anchor(state: LoopState) -> None:
    entries = state.regimes.regimes[-1].reservoir.entries
    entries.append(Anchor(10_000, "ann-0", "yes", START))


def a_count_of_a_sketch(state: LoopState) -> None:
    assert state.watch is not None
    if state.watch.building:
        state.watch.building["x"].values.append(0.5)
    else:
        state.watch.columns["x"].window[1] += 1


def a_row_of_a_buffer(state: LoopState) -> None:
    state.window.append(state.window[-1])


def planted_in_an_artifact(live: Live, position: int) -> None:
    """The champion's files are replaced by what learned one more row."""
    champion = live.parts.versions.champion("m")
    learned = Predictor.from_bundle(live.parts.artifacts.get(champion.digest))
    learned.anchors = ()
    other = Predictor.new(learned.spec)
    other.learn([{"x": 1.0, "z": 0.1, "town": "a"}, {"x": -1.0, "z": 0.1, "town": "b"}], ["yes", "no"])
    digest = live.parts.artifacts.put(other.bundle())
    with live.store._database.write() as connection:
        connection.execute(
            versions.update().where(versions.c.digest == champion.digest).values(digest=digest)
        )


def planted_in_a_job(live: Live, position: int) -> None:
    assert live.erased.gone is not None
    arguments = f'{{"rows":[["{live.erased.gone.ids[0]}","yes"]]}}'
    with live.store._database.write() as connection:
        own = jobs.c.version == 1
        connection.execute(jobs.update().where(own).values(arguments=arguments))


@pytest.mark.parametrize("store", ["sqlite", POSTGRES])
@pytest.mark.parametrize(
    ("plant", "words"),
    [
        (planted_in_the_log, "holds what was erased there"),
        (planted_in_a_newer_row, "holds the subject"),
        (planted_in_the_state(an_anchor), "regimes"),
        (planted_in_the_state(a_count_of_a_sketch), "differs in watch"),
        (planted_in_the_state(a_row_of_a_buffer), "differs in window"),
        (planted_in_an_artifact, "has another artifact"),
        (planted_in_a_job, "jobs holds an id"),
    ],
    ids=["log", "another's row", "anchors", "sketch", "buffer", "artifact", "job"],
)
def test_a_planted_leftover_is_found(
    open_live: Callable[..., Live], plant: Callable[[Live, int], None], words: str
) -> None:
    live = open_live()
    live.stream(300)
    live.erase("ann")
    given = live.carry_through().certificate
    plant(live, given["positions"][0][0])
    failures = check(live.parts, SEAL, given).failures
    assert any(words in failure for failure in failures), failures


def test_an_artifact_that_is_put_back_is_found(open_live: Callable[..., Live]) -> None:
    live = open_live()
    live.stream(300)
    bundle = live.parts.artifacts.get(live.parts.versions.champion("m").digest)
    live.erase("ann")
    given = live.carry_through().certificate
    live.parts.artifacts.put(bundle)
    assert any("is there again" in failure for failure in check(live.parts, SEAL, given).failures)


class Killed(BaseException):
    """The process ends."""


class Mortal:
    """A port whose process ends at one of its writes: just before, or when it has been done."""

    WRITES = frozenset({"begin", "settle", "scrub", "finish", "commit", "delete", "append"})

    def __init__(self, port: Any, fate: Fate) -> None:
        self._port, self._fate = port, fate

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._port, name)
        if name not in self.WRITES:
            return found

        def write(*given: Any, **named: Any) -> Any:
            self._fate.before()
            answer = found(*given, **named)
            self._fate.after()
            return answer

        return write


class Fate:
    """Which write is the last one, and whether it is still done."""

    def __init__(self, left: int, done: bool) -> None:
        self.left, self.done = left, done

    def before(self) -> None:
        self.left -= 1
        if self.left == 0 and not self.done:
            raise Killed

    def after(self) -> None:
        if self.left == 0 and self.done:
            raise Killed


@pytest.mark.parametrize("store", ["memory", pytest.param("sqlite", marks=pytest.mark.slow)])
@pytest.mark.parametrize("done", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("left", [2, 4, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 3, 5, 6, 7))])
def test_it_goes_on_wherever_it_was_killed(
    open_live: Callable[..., Live], store: str, left: int, done: bool
) -> None:
    live = open_live()
    live.stream(300)
    whole, fate = live.parts, Fate(left, done)
    nouns = ("erasures", "artifacts", "log", "ledger")
    live.parts = SimpleNamespace(
        **{**vars(whole), **{noun: Mortal(getattr(whole, noun), fate) for noun in nouns}}
    )
    try:
        live.erase("ann")
        live.carry_through()
    except Killed:
        live.cache = drive.EngineCache()  # what was in memory is gone
    live.parts = whole
    asked_again = live.erase("ann")
    finished = [one for one in whole.erasures.list("m") if one.state is ErasureState.DONE]
    given = (finished or [live.carry_through()])[0].certificate
    assert len(whole.erasures.list("m")) == 1
    assert given["id"] == asked_again.id
    assert check(whole, SEAL, given).failures == ()
    assert given["proof"]["versions_made_again"] >= 1


def test_a_clean_version_that_is_worse_takes_over_at_the_deadline(open_live: Callable[..., Live]) -> None:
    live = open_live(gate={"holdout": 40, "min_rows": 5000})  # the gate cannot tell for a long time
    live.stream(300)
    live.command("promote", version=1)
    champion = live.state().champion
    assert champion == 1
    erasure = live.erase("ann", days=2.0)
    eraser = Eraser(live.parts, SEAL)
    live.advance()
    assert list(eraser.run_once()) == []
    assert live.parts.versions.champion("m").version == champion, "it answers while a clean one is on trial"
    live.clock.advance(3 * 86400.0)
    done = live.carry_through()
    assert done.id == erasure.id
    promoted = live.decided(DecisionKind.PROMOTE)[0]
    assert promoted.version == done.certificate["champion"]["version"] > champion
    assert "the deadline of" in promoted.evidence["why"]


def test_by_force_a_frozen_model_falls_back_to_what_knows_nothing(open_live: Callable[..., Live]) -> None:
    live = open_live()
    live.stream(300)
    live.command("freeze")
    live.erase("ann", days=0.0)
    assert live.carry_through().certificate["champion"] == {"version": 0, "artifact": None}


def test_rows_without_labels_touch_no_version(open_live: Callable[..., Live]) -> None:
    live = open_live()
    live.stream(300)
    champion = live.parts.versions.champion("m")
    features = {"user": "zoe", "x": 1.0, "z": 0.0, "town": "t"}
    body = {"features": features, "value": "no", "probabilities": None, "version": champion.version}
    live.parts.log.append("m", [NewEvent(EventKind.PREDICTION, START, "zoe-1", body)])
    live.advance()
    live.erase("zoe")
    given = live.carry_through().certificate
    assert given["withdrawn"] == []
    assert live.parts.versions.champion("m") == champion
    assert check(live.parts, SEAL, given).failures == ()


def test_jobs_at_work_are_cancelled_and_begin_again(open_live: Callable[..., Live]) -> None:
    live = open_live()
    live.stream(300)
    live.parts.log.append("m", [command_of("retrain", force=True)])
    drive.advance_model("m", live.parts.log, live.parts.ledger, 5000, erasures=live.parts.erasures)
    job = live.parts.jobs.lease("a worker", 60, live.clock.now())
    assert job is not None
    live.erase("ann")
    while drive.advance_model("m", live.parts.log, live.parts.ledger, 50, erasures=live.parts.erasures):
        pass
    list(Eraser(live.parts, SEAL).run_once())
    with pytest.raises(FencedError):
        live.parts.jobs.renew(job, 60, live.clock.now(), 0.5)
    given = live.carry_through().certificate
    assert job.spec.version in range(given["withdrawn"][0], given["withdrawn"][1] + 1)
    assert given["champion"]["version"] > job.spec.version


@pytest.mark.parametrize("store", ["sqlite"])
def test_old_events_are_dropped_though_people_are_erased_every_day(
    open_live: Callable[..., Live], store: str
) -> None:
    live, day = open_live(), 86_400.0
    tidy = Retention(live.parts, days=3.0)
    kept = []
    for i in range(9):
        live.stream(80)
        if i > 2:
            live.ask(2, (f"guest-{i}",))
            live.erase(f"guest-{i}")
            live.carry_through()
        live.clock.advance(day)
        kept += [one.kept_from for one in tidy.run_once()]
    assert kept[-1] > kept[5] > 1
    assert live.proven().identical
    live.erase("ann")
    assert check(live.parts, SEAL, live.carry_through().certificate).failures == ()


@pytest.mark.parametrize("store", ["sqlite", POSTGRES])
def test_answers_that_were_given_to_a_path_with_an_id_go_whenever_they_come(
    open_live: Callable[..., Live],
) -> None:
    live = open_live()
    live.ask(60)
    scopes = [f"key:k POST /v1/models/m/frames/{who}/boxes" for who in ("ann-1", "ben-1")]
    gone = live.erase("ann").gone.ids[0]
    scopes[0] = scopes[0].replace("ann-1", gone)

    def answered() -> None:
        for scope in scopes:
            live.store.receipts.put(scope, "k", Reply("d", 200, b'{"accepted": 1}', START))

    answered()
    live.advance()
    eraser = Eraser(live.parts, SEAL)
    certify, eraser._certify = eraser._certify, lambda *_: False  # type: ignore[method-assign]
    list(eraser.run_once())
    assert [live.store.receipts.get(scope, "k") is None for scope in scopes] == [True, False]
    answered()  # a label that came late
    eraser._certify = certify  # type: ignore[method-assign]
    rounds = [list(eraser.run_once()) for _ in range(3)]
    assert sum(map(len, rounds)) == 1
    assert live.store.receipts.get(scopes[0], "k") is None


def test_the_images_of_rows_go_too_but_not_those_that_others_show(open_live: Callable[..., Live]) -> None:
    live = open_live(features={"x": "numeric", "photo": "categorical"})
    own, shared, seen, text = (
        live.parts.artifacts.put(bundle)
        for bundle in (bundle_of(b"own"), bundle_of(b"shared"), bundle_of(b"seen"), Bundle({"a": 1}))
    )
    camera = {
        "task": "detection",
        "target": "boxes",
        "features": {"frame": "image"},
        "learner": {"name": "yolo"},
    }
    live.parts.models.create(parse_spec({"name": "gate", **camera}), START)
    frame = {"features": {"frame": seen}, "value": None, "probabilities": None, "version": 0}
    live.parts.log.append("gate", [NewEvent(EventKind.PREDICTION, START, "f1", frame)])
    rows = [("ann", own), ("ann", shared), ("ann", seen), ("ann", text), ("ben", shared)]
    for i, (user, photo) in enumerate(rows):
        body = {"features": {"photo": photo, "user": user, "x": 1.0}, "value": "no", "probabilities": None}
        live.parts.log.append("m", [NewEvent(EventKind.PREDICTION, START, f"p{i}", {**body, "version": 0})])
    live.clock.advance(10 * 365 * 86_400.0)  # after the images were sent, whatever the day is
    live.erase("ann")
    assert live.carry_through().certificate["images_removed"] == 1
    there = [live.parts.artifacts.sound(digest) for digest in (own, shared, seen, text)]
    assert there == [False, True, True, True]
