"""A person's frames go: from the log, from the store of images, and from every version that learned them."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from everlearn.adapters.memory import ManualClock, MemoryArtifacts, MemoryStore
from everlearn.adapters.sql import SqlStore
from everlearn.adapters.sql.tables import jobs
from everlearn.certificates import Seal
from everlearn.erasing import Eraser, check
from everlearn.loop import drive, training
from everlearn.loop.defaults import with_defaults
from everlearn.loop.state import LoopState, load
from everlearn.predictor import Baseline, Predictor
from everlearn.spec import MEASURED, parse_spec
from everlearn.types import EventKind, NewEvent, Tick
from everlearn.vision import making
from everlearn.vision.boxes import Box, parse, to_text
from everlearn.vision.frames import StoredImages, bundle_of

START = 4_000_000_000.0
"""After the images were put into the store, whenever these tests run."""

SIDE = 8
NOTHING = Baseline()
SEAL = Seal(["a secret that nobody knows"])
PEOPLE = ("ann", "ben", "cat", "dan", "eve")
SPEC: dict[str, Any] = {
    "name": "door",
    "task": "detection",
    "target": "boxes",
    "features": {"frame": "image"},
    "subject": "person",
    "threshold": 0.5,
    "label_horizon": {"rows": 10},
    "policy": {"first_rows": 60, "min_labels": 40, "window": 80, "cooldown": 40, "check_every": 10},
    "gate": {"holdout": 40, "min_rows": 20, "margin": 0.2, "max_latency_ms": None},
    "regimes": {"anchor_every": 4, "anchors": 40},
    "drift": {"rows": 50},
}


def command_of(name: str, **arguments: Any) -> NewEvent:
    return NewEvent(EventKind.COMMAND, START, None, {"name": name, "arguments": arguments})


class Glance:
    """The smallest detector: how bright the frames of each class are, on the whole. It is fine-tuned."""

    name, prefers, incremental, tuned, wants, size = "glance", "triggered", False, True, None, SIDE

    def __init__(self, made_by: dict[str, str]) -> None:
        self._sums: dict[str, list[float]] = {}
        self._made_by = made_by

    @property
    def classes(self) -> list[str]:
        return list(self._sums)

    @property
    def frames(self) -> float:
        """How many frames it has learned, by way of what it began from too."""
        return sum(count for _, count in self._sums.values())

    def begin_from(self, other: Glance) -> None:
        self._sums = {name: list(sums) for name, sums in other._sums.items()}

    def learn(self, X: Any, y: Any, progress: Any = None) -> None:
        for image, text in zip(X, y, strict=True):
            for box in parse(text):
                sums = self._sums.setdefault(box.name, [0.0, 0.0])
                sums[:] = sums[0] + float(image.mean()), sums[1] + 1.0

    def predict(self, X: Any, least: float = 0.0) -> list[list[Box]]:
        return [[Box(self._nearest(float(image.mean())), 0.0, 0.0, 8.0, 8.0, 0.9)] for image in X]

    def _nearest(self, light: float) -> str:
        return min(self._sums, key=lambda name: abs(light - self._sums[name][0] / self._sums[name][1]))

    def state(self) -> dict[str, Any]:
        return {"sums": {name: list(sums) for name, sums in self._sums.items()}, "made_by": self._made_by}

    def restore(self, state: dict[str, Any]) -> None:
        self._sums = {name: list(sums) for name, sums in state["sums"].items()}


@pytest.fixture(autouse=True)
def made_by(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What the detectors say of where they were made. Images are pixels, so that no extra is needed."""
    said: dict[str, str] = {}
    monkeypatch.setattr("everlearn.vision.detectors.build", lambda spec: Glance(dict(said)))
    monkeypatch.setattr("everlearn.vision.frames.decode", pixels)
    monkeypatch.setattr("everlearn.vision.frames.encode", lambda image: image.tobytes())
    return said


def pixels(data: bytes) -> NDArray[np.uint8]:
    return np.frombuffer(data, dtype=np.uint8).reshape(SIDE, SIDE, 3)


class Live:
    """An installation by hand: frames of people are asked and labelled, and the loop and its jobs run."""

    def __init__(self, url: str | None) -> None:
        self.store: Any = MemoryStore() if url is None else SqlStore(url, synchronous="NORMAL")
        if url is not None:
            self.store.migrate()
        nouns = ("models", "log", "versions", "ledger", "jobs", "backlog", "retention", "erasures", "remains")
        self.clock, self.artifacts = ManualClock(START), MemoryArtifacts()
        self.parts: Any = SimpleNamespace(
            clock=self.clock,
            artifacts=self.artifacts,
            **{noun: getattr(self.store, noun) for noun in nouns},
        )
        self.store.models.create(with_defaults(parse_spec(SPEC)), START)
        self.images, self.shown = StoredImages(self.artifacts, kept=0), dict[str, list[str]]()
        self._draw, self.asked, self._late = random.Random(7), 0, list[tuple[str, str]]()
        self.people = list(PEOPLE)

    def ask(self, rows: int) -> None:
        """Frames, each with its true box seven frames later."""
        champion = self.parts.versions.champion("door")
        bundle = champion.digest and self.artifacts.get(champion.digest)
        learned = Predictor.from_bundle(bundle, self.images) if bundle else Baseline()
        for _ in range(rows):
            person, bright = self._draw.choice(self.people), self._draw.random() < 0.5
            light = self._draw.randrange(150, 250) if bright else self._draw.randrange(100)
            own = len(self.shown).to_bytes(2, "big")  # no two images are the same
            self.send(person, bytes([light]) * (SIDE * SIDE * 3 - 2) + own, learned)
            self._late.append((f"{person}-{self.asked - 1}", "day" if bright else "night"))
            if len(self._late) > 7:
                self.label(*self._late.pop(0))

    def send(self, person: str, data: bytes, learned: Any = NOTHING) -> str:
        """Record a frame; the digest of its image."""
        digest, _ = self.images.put(data)
        self.shown.setdefault(digest, []).append(person)
        features = {**dict.fromkeys(MEASURED, self._draw.random()), "frame": digest, "person": person}
        output = learned.predict([features])[0]
        body = {"features": features, "value": output.value, "probabilities": None}
        body["version"] = self.parts.versions.champion("door").version
        key = f"{person}-{self.asked}"
        self.parts.log.append("door", [NewEvent(EventKind.PREDICTION, START + self.asked, key, body)])
        self.asked += 1
        return digest

    def label(self, key: str, name: str) -> None:
        body = {"value": to_text([Box(name, 0.0, 0.0, 8.0, 8.0)])}
        self.parts.log.append("door", [NewEvent(EventKind.LABEL, START + self.asked, key, body)])

    def advance(self) -> None:
        parts = self.parts
        while True:
            moved = drive.advance_model("door", parts.log, parts.ledger, 50, erasures=parts.erasures)
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

    def command(self, name: str, **arguments: Any) -> None:
        self.parts.log.append("door", [command_of(name, **arguments)])
        self.advance()

    def erase(self, person: str) -> Any:
        """From here on they send no more."""
        self.people = [one for one in self.people if one != person]
        now = self.clock.now()
        return self.parts.erasures.begin("door", "person", person, "user:op", now, now + 86_400.0)

    def carry_through(self, rounds: int = 10) -> Any:
        """Let the loop and the eraser work until an erasure is done; its certificate."""
        eraser = Eraser(self.parts, SEAL)
        for _ in range(rounds):
            self.stream(20)
            if done := list(eraser.run_once()):
                return done[0].certificate
        raise AssertionError(f"not done: {eraser._failed} {self.state().status}")

    def state(self) -> LoopState:
        return load(self.parts.ledger.checkpoint("door").state)

    def champion(self) -> Glance:
        digest = self.parts.versions.champion("door").digest
        learner: Any = Predictor.from_bundle(self.artifacts.get(digest), self.images).learner
        return learner

    def of(self, person: str) -> set[str]:
        """The digests of the images of somebody alone."""
        return {digest for digest, people in self.shown.items() if people == [person]}


POSTGRES = pytest.param("postgres", marks=pytest.mark.slow)  # each makes a database of its own


@pytest.fixture(params=["memory", "sqlite", POSTGRES])
def live(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Live]:
    """An installation whose detector has learned frames of everybody, and been fine-tuned once."""
    url = None if request.param == "memory" else f"sqlite:///{tmp_path / 'one.db'}"
    if request.param == "postgres":
        pytest.importorskip("psycopg", reason="the environment of detectors has no PostgreSQL")
        postgres = request.getfixturevalue("postgres")
        url = postgres.url(postgres.create())
    opened = Live(url)
    opened.stream(200)
    opened.command("retrain", force=True)
    opened.command("promote", version=2)
    opened.stream(60)
    yield opened
    if url is not None:
        opened.store.close()


in_sql = pytest.mark.parametrize("live", ["sqlite", POSTGRES], indirect=True)


def test_a_persons_frames_leave_the_log_the_store_and_all_that_was_learned(live: Live) -> None:
    before, learned = live.parts.versions.champion("door"), live.champion()
    assert before.version >= 2, "it was fine-tuned from one that learned them as well"
    own = live.of("ann")
    erasure = live.erase("ann")
    read = live.parts.log.read("door", 0, 10_000)
    assert [event.seq for event in read] == list(range(1, len(read) + 1))
    assert sum(isinstance(event, Tick) for event in read) == erasure.removed["events"] > 2 * len(own) - 20
    given = live.carry_through()
    assert not any(live.artifacts.sound(digest) for digest in {*own, before.digest})
    assert all(live.artifacts.sound(digest) for digest in live.of("ben"))
    assert given["champion"]["version"] > before.version
    assert live.champion().frames < learned.frames, "it began anew"
    assert given["proof"]["versions_made_again"] >= 1
    assert given["proof"]["proven_by_search_alone"] == []
    state = live.parts.ledger.checkpoint("door").state.decode()
    assert '"ann' not in state
    assert all(digest not in state for digest in own)
    live.stream(60)
    assert check(live.parts, SEAL, given).failures == ()


def test_the_sketches_of_what_frames_show_begin_anew(live: Live) -> None:
    watched = live.state().watch
    assert watched is not None
    assert watched.taken
    live.erase("ann")
    live.advance()
    after = live.state().watch
    assert after is not None
    assert {*MEASURED} <= {*after.building}, "the embedding, too"
    assert (after.taken, after.windows, after.columns) == (0, 0, {})


def test_an_image_that_another_row_shows_stays(live: Live) -> None:
    data = b"\x50" * (SIDE * SIDE * 3)
    shared = [live.send(person, data) for person in ("ann", "ben")]
    assert len(set(shared)) == 1
    live.erase("ann")
    given = live.carry_through()
    assert live.artifacts.sound(shared[0])
    assert given["images_removed"] == len(live.of("ann"))


def test_the_certificate_knows_the_images_again_and_does_not_tell_them(live: Live) -> None:
    own = live.of("ann")
    erasure = live.erase("ann")
    given = live.carry_through()
    assert given["images"] == sorted(live.parts.remains.salted(erasure, own))
    assert all(digest not in repr(given) for digest in own)


def test_who_goes_on_after_the_images_were_removed_certifies_them_all_the_same(live: Live) -> None:
    own = live.of("ann")
    live.erase("ann")
    live.advance()
    first = Eraser(live.parts, SEAL)
    first._certify = lambda *_: False  # type: ignore[method-assign]  # it ends here
    list(first.run_once())
    assert not any(live.artifacts.sound(digest) for digest in own)
    assert live.carry_through()["images_removed"] == len(own)


def test_an_image_that_is_left_is_found_unless_somebody_has_sent_it_again(live: Live) -> None:
    data = b"\x51" * (SIDE * SIDE * 3)
    live.send("ann", data)
    live.erase("ann")
    given = live.carry_through()
    live.artifacts.put(bundle_of(data))
    (failure,) = check(live.parts, SEAL, given).failures
    assert "an image that was removed is there again" in failure
    live.send("ben", data)
    live.advance()
    assert check(live.parts, SEAL, given).failures == ()


def test_an_image_that_comes_back_without_a_row_is_removed_before_anything_is_certified(live: Live) -> None:
    data = b"\x52" * (SIDE * SIDE * 3)
    digest = live.send("ann", data)
    live.erase("ann")
    live.advance()
    eraser = Eraser(live.parts, SEAL)
    certify, eraser._certify = eraser._certify, lambda *_: False  # type: ignore[method-assign]
    list(eraser.run_once())
    assert not live.artifacts.sound(digest)
    live.artifacts.put(bundle_of(data))
    eraser._certify = certify  # type: ignore[method-assign]
    for _ in range(10):
        live.stream(20)
        list(eraser.run_once())
    assert not live.artifacts.sound(digest)
    (done,) = live.parts.erasures.list("door")
    assert check(live.parts, SEAL, done.certificate).failures == ()


def test_what_went_on_from_a_version_that_is_withdrawn_is_never_certified(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows are nowhere, but for the weights: what is made again from the log shows it."""
    whole = training._train

    def tainted(spec: Any, plan: Any, *rest: Any) -> Any:
        return whole(spec, {**plan, "anew": False}, *rest)

    live.erase("ann")
    with monkeypatch.context() as planted:
        planted.setattr(training, "_train", tainted)
        live.stream(60)
    assert live.champion().frames > 200
    eraser, proofs = Eraser(live.parts, SEAL), list[float]()
    monkeypatch.setattr(eraser, "_going_on", proofs.append)
    assert list(eraser.run_once()) == []
    assert "comes out as" in " ".join(eraser._failed.values())
    assert proofs
    proofs.clear()
    assert list(eraser.run_once()) == []
    assert proofs == [], "what takes as long as a training is not done again at once"


@in_sql
def test_the_digest_of_an_image_in_a_table_is_found(live: Live) -> None:
    own = sorted(live.of("ann"))
    live.erase("ann")
    given = live.carry_through()
    with live.store._database.write() as connection:
        own_job = jobs.c.version == 1
        connection.execute(jobs.update().where(own_job).values(arguments=f'{{"rows":[["{own[0]}","x"]]}}'))
    assert "jobs holds an image" in check(live.parts, SEAL, given).failures


@pytest.mark.parametrize(
    ("said", "here", "words"),
    [
        ({"device": "cuda"}, {"device": "cuda"}, "it was made on a GPU, which does not add up in one order"),
        (
            {"device": "cpu", "processor": "A"},
            {"device": "cpu", "processor": "B"},
            "it was made with processor A, and here is B",
        ),
        ({"torch": "2"}, {"device": "cpu", "torch": "2"}, "it does not say on what it was made"),
    ],
)
def test_what_cannot_come_out_the_same_is_named_and_proven_by_the_search_alone(
    live: Live,
    made_by: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    said: dict[str, str],
    here: dict[str, str],
    words: str,
) -> None:
    made_by.update(said)
    monkeypatch.setattr(making, "made_here", lambda weights=None: here)
    live.erase("ann")
    given = live.carry_through()
    assert given["proof"]["versions_made_again"] == 0
    assert given["proof"]["equality"].endswith("proven by search alone")
    assert all(line.endswith(words) for line in given["proof"]["proven_by_search_alone"])
    assert given["proof"]["proven_by_search_alone"][0].startswith("door-")


def test_what_a_job_had_stored_when_it_was_ended_goes(live: Live) -> None:
    """It is in the store and known to nobody; and so is a version of another model, which stays."""
    live.parts.log.append("door", [command_of("retrain", force=True)])
    drive.advance_model("door", live.parts.log, live.parts.ledger, 5000, erasures=live.parts.erasures)
    job = live.parts.jobs.lease("a worker", 60, live.clock.now())
    assert job is not None
    parts = live.parts
    done = drive.do_job(
        job.spec, log=parts.log, versions=parts.versions, artifacts=live.artifacts, clock=live.clock
    )
    assert done.version is not None
    stored = live.artifacts.get(str(done.version.digest))
    spec = {**stored.manifest["spec"], "name": "gate"}
    digests = [
        done.version.digest,
        live.artifacts.put(replace(stored, manifest={**stored.manifest, "spec": spec})),
    ]
    for digest in digests:
        live.artifacts._put_at[str(digest)] = START
    live.clock.advance(1.0)
    live.erase("ann")  # the worker dies here
    live.carry_through()
    assert [live.artifacts.sound(str(digest)) for digest in digests] == [False, True]


def test_a_proof_ends_when_its_process_is_to_stop(live: Live) -> None:
    live.erase("ann")
    live.advance()
    live.stream(40)
    stop, looks = threading.Event(), list[None]()

    def may() -> bool:
        """The lease is taken, and looked at again while the proof is at work."""
        looks.append(None)
        if len(looks) > 1:
            stop.set()
        return True

    Eraser(live.parts, SEAL, may).run(stop)
    assert len(looks) == 2
    assert live.parts.erasures.list("door", open_only=True)
    live.carry_through()


def test_a_version_learns_from_the_frames_whose_images_are_there(live: Live) -> None:
    old = live.of("ben")
    for digest in old:
        live.artifacts.delete(digest)
    before = live.parts.versions.list("door").items[0].number
    live.command("retrain", force=True)
    made = live.parts.versions.list("door").items[0]
    assert made.number > before
    assert made.rows < len(live.shown) - len(old)


def test_a_version_whose_images_were_removed_for_their_age_is_proven_by_the_search_alone(live: Live) -> None:
    live.erase("ann")
    given = live.carry_through()
    assert given["proof"]["proven_by_search_alone"] == []
    live.artifacts.delete(min(live.of("ben")))
    for digest in live.of("eve"):
        live.artifacts.delete(digest)
    found = check(live.parts, SEAL, given)
    assert found.failures == ()
    assert "is no longer stored" in found.numbers["proven_by_search_alone"][0]
