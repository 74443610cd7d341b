"""How events are found by their keys: the time of an append must not grow with the log."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import create_engine

from everlearn.adapters.sql import direct, direct_postgres
from everlearn.adapters.sql.tables import metadata


@pytest.mark.parametrize("statement", [direct._SQLITE_KEY, direct._SQLITE_KEYS, direct._SQLITE_ONE])
def test_events_are_looked_up_and_not_read_through(tmp_path: Path, statement: str) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'log.db'}")
    metadata.create_all(engine)
    engine.dispose()
    with sqlite3.connect(tmp_path / "log.db") as database:
        values = (1, '["a", "b"]' if statement == direct._SQLITE_KEYS else 1)
        plan = [row[3] for row in database.execute(f"EXPLAIN QUERY PLAN {statement}", values)]
    database.close()
    (search,) = [step for step in plan if "events" in step]
    assert search.startswith("SEARCH events USING")
    assert "model_id=? AND key=?" in search or "model_id=? AND seq=?" in search


@pytest.mark.parametrize("plan", ["force_custom_plan", "force_generic_plan"])
def test_postgresql_looks_them_up_too(fresh_postgres: str, plan: str) -> None:
    import psycopg

    with psycopg.connect(fresh_postgres) as connection:
        connection.execute(f"SET plan_cache_mode = {plan}")
        statement = direct_postgres._KEYS.replace("%s", "$1", 1).replace("%s", "$2")
        connection.execute(f"PREPARE known (varchar[], int) AS {statement}")
        keys = ",".join(f"k{i}" for i in range(1000))
        found = connection.execute(f"EXPLAIN EXECUTE known ('{{{keys}}}', 1)").fetchall()
    told = "\n".join(row[0] for row in found)
    assert "ix_events_key" in told
    assert "AND ((key)::text = (wanted.key)::text)" in told
