"""An installation with many models and long logs, written in bulk and folded for real.

Answers and labels are drawn, not served: to write a million of each through the API would take an hour and
change nothing of what is read afterwards. All else is as it is live: the fold decides, jobs train, gates
judge. Some models are made to differ: in every tenth the concept turns, and some are frozen.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

COLUMNS = ["a", "b", "c"]
STEP = 1000
BULK = 2000
FIRST_ROWS = 400
START = 1_750_000_000.0


def name_of(number: int) -> str:
    """The name of a model."""
    return f"model-{number:03d}"


def build(data: Path, models: int, events: int, seed: int, console: Console) -> dict[str, Any]:
    """Make it; what it holds: ``{"models", "events", "seconds"}``."""
    from everlearn.wiring import Installation

    installation = Installation.load(data=data, mlflow_tracking_uri="off")
    installation.prepare()
    installation.migrate()
    started, long = time.monotonic(), events // 20
    for number in range(models):
        rows = (events // 2 - long) // max(1, models - 1) if number else long
        _fill(installation, number, rows, random.Random(f"{seed}-{number}"))
        if number % 10 == 9:
            console.print(f"{number + 1} models in {time.monotonic() - started:.0f} s", style="dim")
    whole = sum(installation.log.head(name_of(number)).seq for number in range(models))
    installation.close()
    return {"models": models, "events": whole, "seconds": round(time.monotonic() - started, 1)}


def _fill(installation: Any, number: int, rows: int, rng: random.Random) -> None:
    from everlearn.loop.defaults import with_defaults
    from everlearn.spec import parse_spec
    from everlearn.types import EventKind, NewEvent

    name = name_of(number)
    spec = {
        "name": name,
        "target": "y",
        "features": dict.fromkeys(COLUMNS, "numeric"),
        "learner": {"name": "linear"},
        "update": "triggered",
        "threshold": 0.8,
        "label_horizon": {"rows": 50},
        "policy": {"first_rows": FIRST_ROWS, "cooldown": 2000},
    }
    installation.models.create(with_defaults(parse_spec(spec)), START)
    turn = rows if number % 10 else rows // 2  # every tenth sees its concept turn
    for first in range(0, rows, BULK):
        upto = min(first + BULK, rows)
        version = installation.versions.champion(name).version
        batch: list[NewEvent] = []
        for row in range(first, upto):
            batch += _row(row, version, row >= turn, rng)
        installation.log.append(name, batch)
        _advance(name, installation)
    if number % 25 == 24:
        body = {"name": "freeze", "arguments": {"why": "the data is being checked"}}
        installation.log.append(name, [NewEvent(EventKind.COMMAND, START + rows * 60.0, None, body)])
        _advance(name, installation)


def _row(row: int, version: int, turned: bool, rng: random.Random) -> Sequence[Any]:
    """A prediction and its label: right in nine of ten cases, or after the concept turned in six."""
    from everlearn.types import EventKind, NewEvent

    features = {column: round(rng.gauss(0.0, 1.0), 4) for column in COLUMNS}
    truth = "yes" if (features["a"] > features["b"]) != turned else "no"
    right = rng.random() < (0.6 if turned else 0.9)
    value = truth if right else {"yes": "no", "no": "yes"}[truth]
    sure = round(rng.uniform(0.6, 0.99), 4)
    chances = {"yes": sure, "no": round(1.0 - sure, 4)}
    if value == "no":
        chances = {"yes": chances["no"], "no": sure}
    at, key = START + row * 60.0, f"p{row}"
    body = {"features": features, "version": version, "value": value, "probabilities": chances}
    label = NewEvent(EventKind.LABEL, at + 5.0, key, {"value": truth})
    return NewEvent(EventKind.PREDICTION, at, key, body), label


def _advance(name: str, installation: Any) -> None:
    """The fold, and the jobs that it asks for, until there is nothing to do."""
    from everlearn.loop.drive import advance_model, run_job

    while True:
        moved = advance_model(name, installation.log, installation.ledger, STEP)
        job = installation.jobs.lease("bench", 600.0, time.time())
        if job is not None:
            run_job(
                job,
                log=installation.log,
                versions=installation.versions,
                jobs=installation.jobs,
                artifacts=installation.artifacts,
                clock=installation.clock,
            )
        elif not moved:
            return
