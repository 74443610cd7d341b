"""SQLite beside PostgreSQL: the same load on both, and what a long log costs on each.

    python bench/databases.py [--sizes N ...] [--seconds S] [--connections N] [--postgres URL]
                              [--only sqlite|postgres] [--seed N] [--quick] [--json]

Throughput: ``everlearn up`` on SQLite with one API process and on PostgreSQL with two is asked for a row at a
time over so many connections; each prediction is stored before it is answered.

The cost curve: logs of each size are filled with predictions and labels by the path of bulk requests; then
single predictions are asked over HTTP, one after the other, and the loop takes in new predictions and labels.
The loop's state is that of the first events, put at the end of the log: to fold all of them would take longer
than to fill the log, and what a step costs does not depend on how it got there. The logs of all sizes take
turns, prediction by prediction and step by step, so that a busy machine is busy for all.

``--json`` prints one object:

throughput  a list of {database, processes, requests_per_second, p50_ms, p99_ms, failed}
curve       a list of {database, events, fill_events_per_second, predict_p50_ms, predict_p99_ms,
            advance_us_per_event, label_append_ms, bytes, bytes_per_event}; ``label_append_ms`` is the time to
            store a label of a prediction drawn from the whole log, with its commit
growth      for each database, costs at the largest size over those at the smallest: {predict, advance, label}
goals       {flat: every predict and advance grows by less than a fifth}
sizes, connections, seed, quick, seconds
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import msgspec
from rich.console import Console
from rich.table import Table

from database_world import SERVER, Stream, fill, fresh_postgres, make_model, size_of
from everlearn.adapters.sql import SqlStore
from everlearn.loop import drive
from everlearn.loop.state import dump, load
from everlearn.types import EventKind, NewEvent, Step
from live_server import LiveServer
from serving_load import Target, closed

FIRST = 2_000
"""Events that the loop reads in earnest before the log is filled."""

ROUNDS, STEP = 25, 1_000
LABELS, WARM = 200, 50
FLAT = 1.2

progress = Console(stderr=True)


@contextmanager
def installation(database: str, server: str) -> Iterator[tuple[Path, str]]:
    """A data folder, and the URL of a new database."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        data.mkdir()
        if database == "sqlite":
            yield data, f"sqlite:///{data / 'everlearn.db'}"
            return
        with fresh_postgres(server) as url:
            yield data, url


@contextmanager
def serving(data: Path, url: str, processes: int = 1) -> Iterator[LiveServer]:
    """``everlearn up`` on it."""
    os.environ["EVERLEARN_DATABASE_URL"] = url
    running = LiveServer(data, mlflow=False, workers=processes)
    try:
        running.start()
        del os.environ["EVERLEARN_DATABASE_URL"]
        yield running
    finally:
        os.environ.pop("EVERLEARN_DATABASE_URL", None)
        running.stop()


def throughput(database: str, processes: int, given: argparse.Namespace) -> dict[str, Any]:
    with installation(database, given.postgres) as (data, url):
        store = SqlStore(url, synchronous="NORMAL")
        make_model(store)
        store.close()
        row = Stream(given.seed).row()
        with serving(data, url, processes) as running:
            target = _target(running, row)
            closed(target, given.connections, 1.0)  # warms
            load = closed(target, given.connections, given.seconds)
    progress.print(f"{database} with {processes}: {load.rps:.0f} requests/s", highlight=False)
    return {
        "database": database,
        "processes": processes,
        "requests_per_second": round(load.rps),
        "p50_ms": round(load.p50, 2),
        "p99_ms": round(load.p99, 2),
        "failed": load.failed,
    }


def _target(running: LiveServer, row: dict[str, float]) -> Target:
    headers = (("Authorization", f"Bearer {running.key}"), ("Content-Type", "application/json"))
    return Target(f"{running.url}/v1/models/m/predict", json.dumps({"row": row}).encode(), headers)


@dataclass
class Log:
    """A log of one size, and what was measured on it."""

    size: int
    data: Path
    url: str
    stream: Stream
    store: SqlStore
    rate: float = 0.0
    asked: list[float] = field(default_factory=list)
    steps: list[float] = field(default_factory=list)
    labels: list[float] = field(default_factory=list)

    def fill(self) -> None:
        """The first events, which the loop reads in earnest, and then all others."""
        make_model(self.store)
        fill(self.store, self.stream, FIRST, lambda _: None)
        advance(self.store)
        started = time.monotonic()
        fill(self.store, self.stream, self.size, lambda _: None)
        self.rate = (self.size - FIRST) / (time.monotonic() - started)
        skip(self.store)

    def figures(self, database: str) -> dict[str, Any]:
        """A row of the curve."""
        held = size_of(self.url)
        return {
            "database": database,
            "events": self.size,
            "fill_events_per_second": round(self.rate),
            "predict_p50_ms": round(statistics.median(self.asked), 3),
            "predict_p99_ms": round(statistics.quantiles(self.asked, n=100)[98], 3),
            "advance_us_per_event": round(1e6 * statistics.median(self.steps), 1),
            "label_append_ms": round(1e3 * statistics.median(self.labels), 3),
            "bytes": held,
            "bytes_per_event": round(held / self.size, 1),
        }


def curve(database: str, given: argparse.Namespace) -> list[dict[str, Any]]:
    """A log of each size; they take turns, so that whatever else the machine does is the same for all."""
    with ExitStack() as stack:
        logs = []
        for size in given.sizes:
            data, url = stack.enter_context(installation(database, given.postgres))
            store = SqlStore(url, synchronous="NORMAL")
            stack.callback(store.close)
            logs.append(Log(size, data, url, Stream(given.seed), store))
            logs[-1].fill()
            progress.print(f"{database}: {size} events, {logs[-1].rate:.0f}/s", highlight=False)
        predict(logs, given.asked)
        for log in logs:
            skip(log.store)
        for _ in range(ROUNDS):
            for log in logs:
                log.steps.append(step_seconds(log.store, log.stream))
        draw = random.Random(given.seed)
        for i in range(LABELS):
            for log in logs:
                log.labels.append(label_seconds(log.store, draw, i))
        return [log.figures(database) for log in logs]


def advance(store: SqlStore) -> int:
    """Let the loop read what is new; how many events that was. Jobs are left alone."""
    taken, cache = 0, drive.EngineCache()
    while moved := drive.advance_model("m", store.log, store.ledger, STEP, cache):
        taken += moved
    return taken


def skip(store: SqlStore) -> None:
    """Put the loop's state at the end of the log."""
    checkpoint, head = store.ledger.checkpoint("m"), store.log.head("m")
    state = load(checkpoint.state)
    state.cursor, state.rows = head.seq, head.rows
    state.watermark.row = state.watermark.floor = head.rows
    assert store.ledger.commit("m", Step(checkpoint.cursor, head.seq, dump(state)))


def predict(logs: Sequence[Log], count: int) -> None:
    """Time single predictions over HTTP, one after the other, of each log in turn."""
    with ExitStack() as stack:
        lines = []
        for log in logs:
            target = _target(stack.enter_context(serving(log.data, log.url)), log.stream.row())
            client = stack.enter_context(httpx.Client(headers=dict(target.headers), timeout=60))
            lines.append((log, target.url, client))
        for i in range(count + WARM):
            for log, url, client in lines:
                body = msgspec.json.encode({"row": log.stream.row()})
                started = time.perf_counter()
                client.post(url, content=body).raise_for_status()
                if i >= WARM:
                    log.asked.append(1e3 * (time.perf_counter() - started))


def step_seconds(store: SqlStore, stream: Stream) -> float:
    """Seconds that the loop takes for an event of a step, with its part of the commit."""
    for events in stream.batch(STEP // 2):
        store.log.append("m", events)
    started = time.perf_counter()
    count = advance(store)
    return (time.perf_counter() - started) / count


def label_seconds(store: SqlStore, draw: random.Random, i: int) -> float:
    """Seconds to correct the label of a prediction anywhere in the log."""
    place = draw.randrange(store.log.head("m").rows // 2)
    body = {"value": f"other {i}", "correction": True}
    label = NewEvent(EventKind.LABEL, 1_800_000_000.0, f"row-{place}", body)
    started = time.perf_counter()
    store.log.append("m", [label])
    return time.perf_counter() - started


def growth(found: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Costs at the largest size over those at the smallest."""
    grown: dict[str, dict[str, float]] = {}
    for database in dict.fromkeys(one["database"] for one in found):
        own = [one for one in found if one["database"] == database]
        costs = {"predict": "predict_p50_ms", "advance": "advance_us_per_event", "label": "label_append_ms"}
        grown[database] = {name: round(own[-1][key] / own[0][key], 3) for name, key in costs.items()}
    return grown


def show(found: dict[str, Any]) -> None:
    for name in ("throughput", "curve"):
        if not found[name]:
            continue
        table = Table(title=name)
        for column in found[name][0]:
            table.add_column(column, justify="right")
        for row in found[name]:
            table.add_row(*map(str, row.values()))
        Console(width=160).print(table)
    print(f"growth {found['growth']}; goals {found['goals']}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[10**5, 10**6, 10**7])
    parser.add_argument("--seconds", type=float, default=10.0, help="of load")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--asked", type=int, default=1000, help="predictions of a point of the curve")
    parser.add_argument("--postgres", default=SERVER, help="the server")
    parser.add_argument("--only", choices=("sqlite", "postgres"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    if given.quick:
        given.sizes, given.seconds, given.asked = [10**4, 10**5], 3.0, 300
    started = time.monotonic()
    databases = [given.only] if given.only else ["sqlite", "postgres"]
    loads = [throughput(name, 1 if name == "sqlite" else 2, given) for name in databases]
    points = [point for name in databases for point in curve(name, given)]
    grown = growth(points)
    flat = all(each[name] < FLAT for each in grown.values() for name in ("predict", "advance"))
    found = {
        "throughput": loads,
        "curve": points,
        "growth": grown,
        "goals": {"flat": flat},
        "sizes": given.sizes,
        "connections": given.connections,
        "seed": given.seed,
        "quick": given.quick,
        "seconds": round(time.monotonic() - started, 1),
    }
    if given.json:
        print(json.dumps(found, indent=2))
    else:
        show(found)


if __name__ == "__main__":
    main()
