"""``everlearn migrate-db`` on a long log, killed twice on its way: how long it takes, and what differs.

    python bench/migrate_db.py [--rows N] [--kills N] [--postgres URL] [--seed N] [--quick] [--json]

An installation on SQLite gets a log of so many rows (events: a prediction and its label are two) by the path
of bulk requests, while its loop learns and decides. The command copies it to a new database of PostgreSQL and
is killed with ``kill -9`` at random places; the last run ends verified. Then the record is folded again on
the other side, every version trained again, and compared with its ledger there.

``--json`` prints one object:

rows            events in the log
seconds         of all runs of the command together, the comparison of both sides included
rows_per_second rows over seconds
kills           runs that were killed
resumed         events that the last run found there
verified        whether number and SHA-256 of the rows of every table are equal on both sides
tables, decisions, versions
replay_differs  decisions and results of jobs that come out otherwise on the other side
replay_seconds  for that
source_bytes, target_bytes
seed, quick
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from database_world import Stream, fill, fresh_postgres, make_model, size_of
from everlearn.adapters.sql import SqlStore
from everlearn.loop import drive
from everlearn.loop.verify import verify
from everlearn.wiring import Installation

QUICK_ROWS = 20_000
LIVED = 20_000
"""Events of the beginning that the loop reads as they come; later ones by the hundred thousand."""

console = Console(stderr=True)


def live(installation: Installation) -> None:
    """Let the loop read the log to its end, and do its jobs."""
    parts, cache = installation, drive.EngineCache()
    while True:
        moved = drive.advance_model("m", parts.log, parts.ledger, 2000, cache)
        job = parts.jobs.lease("bench", 600, parts.clock.now())
        if job is not None:
            drive.run_job(
                job, log=parts.log, versions=parts.versions, jobs=parts.jobs,
                artifacts=parts.artifacts, clock=parts.clock,
            )  # fmt: skip
        elif not moved:
            return


def make_source(data: Path, rows: int, seed: int) -> str:
    """An installation with a log of so many events, all of which its loop has read; its URL."""
    installation = Installation.load(data=data, mlflow_tracking_uri="off", database_synchronous="NORMAL")
    installation.prepare()
    make_model(installation.store)
    stream, done = Stream(seed), 0
    while done < rows:
        done = min(rows, done + (1000 if done < LIVED else 100_000))
        fill(installation.store, stream, done, lambda _: None)
        live(installation)
        console.print(f"{done} of {rows} events logged and read", highlight=False)
    installation.close()
    return installation.settings.database


def command(source: str, target: str, data: Path, rows: int) -> list[str]:
    batch = str(min(10_000, max(100, rows // 100)))
    start = [sys.executable, "-m", "everlearn", "migrate-db", source, target]
    return [*start, "--batch", batch, "--data", str(data), "--json"]


def copied(target: str) -> int:
    """Events that a copy under way has written down."""
    import psycopg

    try:
        with psycopg.connect(target) as connection:
            found = connection.execute("SELECT rows FROM moving").fetchone()
    except psycopg.errors.UndefinedTable:
        return 0
    return 0 if found is None else int(found[0])


def kill_once(start: list[str], target: str, at: int) -> bool:
    """Run the command and kill it once it has copied so much; ``False`` if it was done before."""
    process = subprocess.Popen(start, stdout=subprocess.DEVNULL)
    while process.poll() is None and copied(target) < at:
        time.sleep(0.02)
    if process.poll() is not None:
        return False
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    console.print(f"killed after {copied(target)} events", highlight=False)
    return True


def measure(rows: int, kills: int, server: str, seed: int, quick: bool) -> dict[str, Any]:
    draw = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder, fresh_postgres(server) as target:
        data = Path(folder)
        source = make_source(data, rows, seed)
        started = time.monotonic()
        places = [int(rows * (i + draw.random()) / (kills + 1)) for i in range(kills)]
        start = command(source, target, data, rows)
        killed = sum(kill_once(start, target, place) for place in places)
        last = subprocess.run(start, capture_output=True, text=True, check=True)
        seconds = time.monotonic() - started
        said = json.loads(last.stdout)
        return {
            "rows": rows,
            "seconds": round(seconds, 1),
            "rows_per_second": round(rows / seconds),
            "kills": killed,
            "resumed": said["events"]["resumed"],
            "verified": said["verified"],
            "tables": len(said["tables"]),
            **replayed(target, data),
            "source_bytes": size_of(source),
            "target_bytes": size_of(target),
            "seed": seed,
            "quick": quick,
        }


def replayed(target: str, data: Path) -> dict[str, Any]:
    """The record of the other side, decided again."""
    store, started = SqlStore(target), time.monotonic()
    installation = Installation.load(data=data)
    found = verify(
        "m", log=store.log, ledger=store.ledger, versions=store.versions, artifacts=installation.artifacts
    )
    versions = len(store.versions.list("m", limit=1000).items)
    store.close()
    for difference in found.differences:
        console.print(difference, highlight=False)
    return {
        "decisions": found.decisions,
        "versions": versions,
        "replay_differs": len(found.differences),
        "replay_seconds": round(time.monotonic() - started, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--kills", type=int, default=2)
    parser.add_argument("--postgres", default="postgresql://postgres@127.0.0.1:5432", help="the server")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    rows = QUICK_ROWS if given.quick else given.rows
    found = measure(rows, given.kills, given.postgres, given.seed, given.quick)
    if given.json:
        print(json.dumps(found, indent=2))
    else:
        table = Table(title="everlearn migrate-db, SQLite to PostgreSQL")
        table.add_column("figure")
        table.add_column("", justify="right")
        for name, value in found.items():
            table.add_row(name, str(value))
        Console().print(table)
    if not found["verified"] or found["replay_differs"] or found["kills"] != given.kills:
        sys.exit(1)


if __name__ == "__main__":
    main()
