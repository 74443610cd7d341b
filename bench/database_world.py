"""Databases to measure on, and logs to fill them with: what ``databases.py`` and ``migrate_db.py`` share."""

from __future__ import annotations

import json
import random
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from everlearn.adapters.batches import LabelBatch, PredictionBatch
from everlearn.adapters.sql import SqlStore
from everlearn.loop.defaults import with_defaults
from everlearn.spec import parse_spec

SERVER = "postgresql://postgres@127.0.0.1:5432"
BATCH = 5_000
COLUMNS = [f"x{i}" for i in range(8)]
SPEC: dict[str, Any] = {
    "name": "m",
    "target": "y",
    "features": dict.fromkeys(COLUMNS, "numeric"),
    "learner": {"name": "window", "size": 1000, "estimator": "logistic"},
    "threshold": 0.5,
    "label_horizon": {"rows": 100},
    "policy": {"first_rows": 500},
    "gate": {"holdout": 100, "min_rows": 50},
}


@contextmanager
def fresh_postgres(server: str) -> Iterator[str]:
    """The URL of a new database, which is dropped at the end."""
    import psycopg

    name = f"everlearn_bench_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(f"{server}/postgres", autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}")
        try:
            yield f"{server}/{name}"
        finally:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


def size_of(url: str) -> int:
    """Bytes on disk: the database's own measure, or SQLite's file and write-ahead log."""
    if url.startswith("sqlite"):
        file = Path(url.removeprefix("sqlite:///"))
        return sum(part.stat().st_size for part in file.parent.glob(f"{file.name}*"))
    import psycopg

    with psycopg.connect(url) as connection:
        found = connection.execute("SELECT pg_database_size(current_database())").fetchone()
    assert found is not None
    return int(found[0])


class Stream:
    """Rows with their truths, in batches as the API stores them: predictions, then their labels."""

    def __init__(self, seed: int) -> None:
        self._draw = random.Random(seed)
        self._made = 0

    def row(self) -> dict[str, float]:
        """The features of one row."""
        return {name: self._draw.gauss(0, 1) for name in COLUMNS}

    def batch(self, count: int, version: int = 0) -> tuple[PredictionBatch, LabelBatch]:
        """The next predictions, answered by a version, and a label for each."""
        ids = [f"row-{self._made + i}" for i in range(count)]
        times = [1_700_000_000.0 + self._made + i for i in range(count)]
        rows = [self.row() for _ in range(count)]
        self._made += count
        truths = ["yes" if row["x0"] + row["x1"] > 0 else "no" for row in rows]
        told = [json.dumps({"no": 0.25, "yes": 0.75})] * count
        asked = PredictionBatch(ids, times, [version] * count, rows, ['"yes"'] * count, told, fresh=True)
        return asked, LabelBatch(ids, times, truths, [False] * count)


def make_model(store: SqlStore) -> None:
    """The model that is measured."""
    store.migrate()
    store.models.create(with_defaults(parse_spec(SPEC)), 1_700_000_000.0)


def fill(store: SqlStore, stream: Stream, upto: int, tell: Callable[[int], None]) -> None:
    """Append predictions and labels by the path of the API's bulk requests, up to a length of the log."""
    while (there := store.log.head("m").seq) < upto:
        count = max(1, min(BATCH, (upto - there + 1) // 2))
        for events in stream.batch(count):
            store.log.append("m", events)
        tell(min(upto, there + 2 * count))
