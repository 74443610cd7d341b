"""Many models for a benchmark, each with a task of its own that it has learned."""

from __future__ import annotations

import random
import statistics
import time
from pathlib import Path
from typing import Any

from rich.console import Console

COLUMNS = [f"x{i}" for i in range(8)]
EXAMPLES = 200
ROUNDS = 5
"""How often a model is given examples: the gate wants proof, which takes some models more of them."""

WEIGHED = 20


def name_of(number: int) -> str:
    """The model that is asked ``number``-th most."""
    return f"m{number:04d}"


def draw_row(model: int, rng: random.Random) -> tuple[dict[str, float], str]:
    """A row of a model and its label: which of two columns is larger, and noise."""
    row = {column: round(rng.gauss(0.0, 1.0), 4) for column in COLUMNS}
    left, right = COLUMNS[model % 8], COLUMNS[(model // 8 + 1 + model) % 8]
    return row, "yes" if row[left] + rng.gauss(0.0, 0.3) > row[right] * (left != right) else "no"


def make_models(data: Path, count: int, learner: str, seed: int, console: Console) -> None:
    """An installation with so many models that have learned, as far as their gates were convinced."""
    from everlearn.wiring import Installation

    installation = Installation.load(data=data, mlflow_tracking_uri="off")
    installation.prepare()
    installation.migrate()
    rng, started = random.Random(seed), time.monotonic()
    for number in range(count):
        _make(number, learner, rng, installation)
        if number % 100 == 99:
            console.print(f"{number + 1} models made in {time.monotonic() - started:.0f} s", style="dim")
    installation.close()


def weigh_models(data: Path) -> tuple[int, float, int]:
    """How many models there are, what they weigh in MB as the API weighs the first of them, and how many are
    at version 0 still."""
    from everlearn.api.loading import Loader
    from everlearn.wiring import Installation

    installation = Installation.load(data=data, mlflow_tracking_uri="off")
    champions = installation.versions.champions()
    loader = Loader(installation)
    weights = [
        loader.load(installation.models.get(name), one, one.version, one.digest).bytes
        for name, one in sorted(champions.items())[:WEIGHED]
    ]
    installation.close()
    unconvinced = sum(champion.version == 0 for champion in champions.values())
    return len(champions), statistics.mean(weights) * len(champions) / 2**20, unconvinced


def _make(number: int, learner: str, rng: random.Random, installation: Any) -> None:
    from everlearn.loop.defaults import with_defaults
    from everlearn.spec import parse_spec
    from everlearn.types import EventKind, NewEvent

    name, now = name_of(number), time.time()
    spec = {
        "name": name,
        "target": "y",
        "features": dict.fromkeys(COLUMNS, "numeric"),
        "learner": {"name": learner},
        "policy": {"first_rows": 100},
        "gate": {"holdout": 60, "min_rows": 20},
    }
    installation.models.create(with_defaults(parse_spec(spec)), now)
    for _ in range(ROUNDS):
        rows = [draw_row(number, rng) for _ in range(EXAMPLES)]
        body = [{"features": row, "target": y} for row, y in rows]
        installation.log.append(name, [NewEvent(EventKind.EXAMPLE, now, None, one) for one in body])
        _turn(name, installation)
        if installation.versions.champion(name).version:
            return


def _turn(name: str, installation: Any) -> None:
    from everlearn.loop.drive import advance_model, run_job

    while True:
        moved = advance_model(name, installation.log, installation.ledger)
        job = installation.jobs.lease("bench", 60.0, time.time())
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
