"""What it costs to do a job in a process of its own: in the worker's process, in one that stays, in one each.

    python bench/jobs.py [--jobs N] [--rows N] [--seed N] [--quick] [--json]

The same training jobs of a small model are leased, done and recorded on SQLite, one after another; the
processes are there before the first is timed, but for ``each``, which starts one for every job.

``--json`` prints one object:

rows            examples that each job learns from
jobs            of each way
here            {"median_ms", "p95_ms"}: in the worker's own process, without limits
apart           the same in one process that stays (what workers do)
each            the same in a process for each job (a tenth of the jobs)
apart_costs_ms  median of apart less that of here
start_seconds   until a new process is ready for its first job: the median of ``each`` less that of apart
child_mb        MiB that the process which stays has in memory
seed, quick
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from everlearn.loop import drive
from everlearn.loop.defaults import with_defaults
from everlearn.spec import parse_spec
from everlearn.types import EventKind, JobSpec, NewEvent, Step
from everlearn.wiring import Installation
from everlearn.worker.apart import Apart, Limits
from everlearn.worker.doing import Doer, InProcess
from everlearn.worker.jobs import JobRunner
from everlearn.worker.memory import resident

SPEC = {
    "name": "m",
    "target": "y",
    "features": {"x": "numeric", "z": "numeric"},
    "learner": {"name": "linear"},
    "policy": {"first_rows": 100},
}
console = Console(stderr=True)


def prepare(installation: Installation, rows: int, jobs: int, seed: int) -> None:
    """A model with rows to learn from, and many jobs that learn them as its loop planned it."""
    installation.prepare()
    installation.migrate()
    installation.models.create(with_defaults(parse_spec(SPEC)), time.time())
    draw = random.Random(seed)
    made = [{"x": draw.gauss(0, 1), "z": draw.gauss(0, 1)} for _ in range(rows)]
    events = [{"features": row, "target": row["x"] > row["z"]} for row in made]
    installation.log.append("m", [NewEvent(EventKind.EXAMPLE, time.time(), None, body) for body in events])
    while drive.advance_model("m", installation.log, installation.ledger):
        pass
    planned = installation.jobs.list("m").items[-1].spec
    at = installation.ledger.checkpoint("m")
    more = [JobSpec(f"b-{n}", "m", "train", n, planned.arguments) for n in range(1000, 1000 + jobs)]
    assert installation.ledger.commit("m", Step(at.cursor, at.cursor, at.state, jobs=more))


def timed(installation: Installation, doer: Doer, jobs: int, before: Callable[[], None]) -> list[float]:
    """Milliseconds of each of so many jobs."""
    runner, took = JobRunner(installation, "bench:1:1", doer=doer), []
    for _ in range(jobs):
        before()
        began = time.perf_counter()
        job = runner.run_once()
        took.append(1000.0 * (time.perf_counter() - began))
        assert job is not None
        assert installation.jobs.get(job.spec.id).state == "done", installation.jobs.get(job.spec.id).error
    return took


def shown(took: list[float]) -> dict[str, float]:
    """The median and the 95th percentile."""
    return {"median_ms": statistics.median(took), "p95_ms": sorted(took)[int(0.95 * (len(took) - 1))]}


def measure(jobs: int, rows: int, seed: int, quick: bool) -> dict[str, Any]:
    """Every way in turn."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["EVERLEARN_DATA"] = folder
        installation = Installation.load(data=Path(folder), mlflow_tracking_uri="off")
        few = max(jobs // 10, 3)
        prepare(installation, rows, 2 * (jobs + 5) + few + 5, seed)
        apart = Apart(installation.settings.environment(), Limits(3600.0, 4096))
        found, ways = {}, [("here", InProcess(installation), jobs), ("apart", apart, jobs)]
        for name, doer, count in ways:
            console.print(f"{name}: {count} jobs")
            timed(installation, doer, 5, int)  # what is imported and compiled first
            found[name] = shown(timed(installation, doer, count, int))
        child = resident(apart.pid or 0)
        console.print(f"each: {few} jobs")
        found["each"] = shown(timed(installation, apart, few, apart.close))
        apart.close()
        installation.close()
    here, stays, each = (found[name]["median_ms"] for name in ("here", "apart", "each"))
    return {
        "rows": rows, "jobs": jobs, **found, "apart_costs_ms": stays - here,
        "start_seconds": (each - stays) / 1000.0, "child_mb": child, "seed": seed, "quick": quick,
    }  # fmt: skip


def main() -> None:
    """Measure and tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--jobs", type=int, default=300)
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    jobs = min(options.jobs, 50) if options.quick else options.jobs
    found = measure(jobs, options.rows, options.seed, options.quick)
    if options.json:
        json.dump(found, sys.stdout)
        print()
        return
    table = Table("where", "median ms", "95% ms", title=f"{jobs} jobs that learn {options.rows} rows")
    for name in ("here", "apart", "each"):
        table.add_row(name, *(f"{value:.1f}" for value in found[name].values()))
    Console().print(table)
    print(f"a process of its own costs {found['apart_costs_ms']:.1f} ms a job and {found['child_mb']} MiB")


if __name__ == "__main__":
    main()
