"""An installation's database is copied into another of either kind, whole, whatever kills the copy."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from everlearn.adapters.rules import Reply
from everlearn.adapters.sql import SqlStore
from everlearn.adapters.sql.database import Database
from everlearn.adapters.sql.moving import Mover
from everlearn.errors import ConflictError, InvalidError, UnavailableError
from everlearn.types import Promotion, Step

Quiet = Callable[[str, int, int], None]


def quiet(what: str, done: int, total: int) -> None:
    """Nobody is told."""


def fill(url: str, make: Any, rows: int = 300) -> None:
    """Two models with logs of every kind, versions, decisions, jobs and more; one model that is gone."""
    store = SqlStore(url, synchronous="NORMAL")
    store.migrate()
    for name in ("gone", "m", "u"):
        store.models.create(make.spec(name), at=1.0)
        draw = random.Random(name)
        ids = [f"{name}-{i}" for i in range(rows)]
        store.log.append(
            name, [make.prediction(key, draw.gauss(0, 1), at=i / 7) for i, key in enumerate(ids)]
        )
        store.log.append(name, [make.label(key, draw.random(), at=i / 3) for i, key in enumerate(ids[::2])])
        store.log.append(name, [make.label("early", "Grün\n\\N\t"), make.example(None), make.tick(key="t")])
    store.models.delete("gone")
    before = store.ledger.checkpoint("m")
    job = make.job("m-1")
    store.ledger.commit("m", Step(0, 5, b"\x00\xff state", [make.decision(1)], [job]))
    leased = store.jobs.lease("me:1:1", 60, 10.0)
    assert leased is not None
    assert before.cursor == 0
    store.jobs.finish(leased, make.version(1), make.outcome("m-1", 1), 11.0)
    promotion = Promotion(1, 0, 0, 12.0, 2)
    store.ledger.commit("m", Step(5, 6, b"", [make.decision(2)], promotions=[promotion]))
    store.receipts.put("scope", "key", Reply("d", 200, bytes(range(256)), 3.5))
    store.close()


@pytest.fixture
def other_sqlite(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'other.db'}"


@pytest.fixture
def empty_postgres(postgres: Any) -> str:
    url: str = postgres.url(postgres.create())
    return url


@pytest.fixture(params=["sqlite to postgres", "postgres to sqlite", "sqlite to sqlite"])
def pair(request: pytest.FixtureRequest) -> tuple[str, str]:
    """Two URLs: of a database to fill, and of one without a schema."""
    source, _, target = request.param.partition(" to ")
    sources = {"sqlite": "sqlite_url", "postgres": "fresh_postgres"}
    targets = {"sqlite": "other_sqlite", "postgres": "empty_postgres"}
    return request.getfixturevalue(sources[source]), request.getfixturevalue(targets[target])


@pytest.fixture
def opened() -> Iterator[Callable[[str], Database]]:
    """Open databases; they are closed at the end."""
    made: list[Database] = []

    def open_one(url: str) -> Database:
        made.append(Database(url, "NORMAL"))
        return made[-1]

    yield open_one
    for one in made:
        one.close()


def test_every_table_is_copied_and_compared(
    pair: tuple[str, str], opened: Callable[[str], Database], make: Any
) -> None:
    fill(pair[0], make)
    source, target = map(opened, pair)
    moved = Mover(source, target, quiet, batch=100).run()
    assert moved.verified
    by_name = {check.name: check.source.rows for check in moved.checks}
    assert (by_name["models"], by_name["jobs"], by_name["promotions"]) == (2, 1, 3)
    assert by_name["events"] == moved.copied > 900

    store = SqlStore(pair[1], synchronous="NORMAL")
    store.migrate()
    assert store.log.find("u", ["early"])["early"][1].value == "Grün\n\\N\t"  # type: ignore[union-attr]
    assert store.versions.champion("m").version == 1
    store.models.create(make.spec("next"), at=2.0)
    store.close()
    assert number(pair[1], "next") == number(pair[0], "u") + 1


def test_numbers_of_what_was_deleted_last_do_not_come_back(
    pair: tuple[str, str], opened: Callable[[str], Database], make: Any
) -> None:
    fill(pair[0], make, rows=5)
    last = number(pair[0], "u")
    store = SqlStore(pair[0], synchronous="NORMAL")
    store.models.delete("u")
    store.close()
    assert Mover(*map(opened, pair), quiet).run().verified
    store = SqlStore(pair[1], synchronous="NORMAL")
    store.models.create(make.spec("next"), at=2.0)
    store.close()
    assert number(pair[1], "next") == last + 1


def number(url: str, name: str) -> int:
    """A model's number."""
    database = Database(url, "NORMAL")
    with database.read() as connection:
        found = connection.execute(text("SELECT id FROM models WHERE name = :name"), {"name": name})
        id_ = int(found.scalar_one())
    database.close()
    return id_


class Killed(Exception):
    """The copy ended here."""


def test_a_copy_that_breaks_off_anywhere_goes_on_there(
    pair: tuple[str, str], opened: Callable[[str], Database], make: Any
) -> None:
    fill(pair[0], make)
    source, target = map(opened, pair)
    draw, runs = random.Random(5), []
    for attempt in range(100):
        left = draw.randrange(1, 12 + 6 * attempt)

        def tell(what: str, done: int, total: int) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                raise Killed

        try:
            runs.append(Mover(source, target, tell, batch=60).run())
            break
        except Killed:
            half = SqlStore(pair[1], synchronous="NORMAL")
            with pytest.raises(UnavailableError, match="not finished"):
                half.migrate()  # no server starts on it
            with pytest.raises(UnavailableError, match="not finished"):
                half.check()
            half.close()
    assert runs
    assert runs[0].verified
    assert runs[0].resumed > 0


def test_what_is_copied_ahead_is_not_copied_again(
    pair: tuple[str, str], opened: Callable[[str], Database], make: Any
) -> None:
    """The server runs on meanwhile: both models grow, one comes and one goes."""
    fill(pair[0], make)
    source, target = map(opened, pair)
    first = Mover(source, target, quiet, batch=100).run(ahead=True)
    assert (first.copied > 900, first.verified) == (True, False)
    store = SqlStore(pair[0], synchronous="NORMAL")
    store.models.create(make.spec("new"), at=5.0)
    for name in ("m", "new"):
        store.log.append(name, [make.prediction(f"later-{i}") for i in range(250)])
    store.models.delete("u")
    store.close()
    last = Mover(source, target, quiet, batch=100).run()
    assert last.verified
    assert last.resumed == first.copied
    assert last.copied == 251


def test_what_must_not_be_written_to_is_not(
    pair: tuple[str, str], opened: Callable[[str], Database], make: Any, other_sqlite: str, tmp_path: Path
) -> None:
    fill(pair[0], make, rows=3)
    source, target = map(opened, pair)
    with pytest.raises(InvalidError, match="the same database"):
        Mover(source, source, quiet)
    with pytest.raises(UnavailableError, match="schema none"):
        Mover(opened(f"sqlite:///{tmp_path / 'nothing.db'}"), target, quiet).run()
    Mover(source, target, quiet).run(ahead=True)
    fill(f"sqlite:///{tmp_path / 'third.db'}", make, rows=3)
    third = opened(f"sqlite:///{tmp_path / 'third.db'}")
    with pytest.raises(ConflictError, match=r"a copy of .* that is not finished"):
        Mover(third, target, quiet).run()
    with pytest.raises(UnavailableError, match="not finished"):
        Mover(target, third, quiet).run()
    assert Mover(source, target, quiet).run().verified
    with pytest.raises(ConflictError, match="rows in its table"):
        Mover(source, target, quiet).run()


def test_a_forged_row_is_found(pair: tuple[str, str], opened: Callable[[str], Database], make: Any) -> None:
    fill(pair[0], make, rows=20)
    source, target = map(opened, pair)
    assert Mover(source, target, quiet).run().verified
    with target.write() as connection:
        connection.execute(text("UPDATE decisions SET reason = 'forged' WHERE number = 2"))
    found = {check.name: check.equal for check in Mover(source, target, quiet).verify().checks}
    assert [name for name, equal in found.items() if not equal] == ["decisions"]
