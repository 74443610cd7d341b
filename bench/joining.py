"""What answering requests together brings, for learners that take nearly as long for one row as for many.

    python bench/joining.py [--seconds S] [--callers N] [--json]

Callers ask one row at a time, again and again, of a fitted model: each in a call of its own, in a thread as a
server would make it, and joined (``everlearn.api.joining``). Both take turns; medians over the turns.

Prints, or with ``--json`` gives, for each estimator: ``alone`` and ``joined`` (answers a second), ``ratio``,
and ``alone_p99_ms`` and ``joined_p99_ms``; and ``callers``, ``seconds``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from everlearn.api.joining import Joined
from everlearn.loop.defaults import with_defaults
from everlearn.predictor import Predictor
from everlearn.spec import parse_spec
from everlearn.types import Output, Row

ESTIMATORS = ("random_forest", "gradient_boosting")
TURNS = 3

Ask = Callable[[Sequence[Row]], Awaitable[list[Output]]]


def fitted(estimator: str) -> tuple[Predictor, list[Row]]:
    """A model of eight features, fitted on 1,000 rows."""
    draw = np.random.default_rng(0)
    table = draw.normal(size=(1000, 8)).round(4)
    names = [f"x{i}" for i in range(8)]
    rows: list[Row] = [dict(zip(names, row, strict=True)) for row in table.tolist()]
    spec = with_defaults(
        parse_spec(
            {
                "name": "m",
                "target": "y",
                "features": dict.fromkeys(names, "numeric"),
                "learner": {"name": "window", "estimator": estimator, "size": 1000},
            }
        )
    )
    predictor = Predictor.new(spec)
    predictor.learn(rows, np.where(table.sum(axis=1) > 0, "yes", "no").tolist())
    predictor.predict(rows[:1])
    return predictor, rows


async def play(ask: Ask, rows: Sequence[Row], callers: int, seconds: float) -> tuple[float, float]:
    """Answers a second, and the 99th percentile of the milliseconds that one took."""
    until, took = time.perf_counter() + seconds, list[float]()

    async def caller(place: int) -> None:
        while (started := time.perf_counter()) < until:
            await ask([rows[place % len(rows)]])
            took.append(time.perf_counter() - started)
            place += callers

    began = time.perf_counter()
    await asyncio.gather(*(caller(place) for place in range(callers)))
    return len(took) / (time.perf_counter() - began), float(np.percentile(took, 99)) * 1000


def measure(estimator: str, callers: int, seconds: float) -> dict[str, float]:
    """Both ways in turns."""
    predictor, rows = fitted(estimator)
    joined = Joined()
    ways: dict[str, Ask] = {
        "alone": lambda rows: asyncio.to_thread(predictor.predict, rows),
        "joined": lambda rows: joined.ask(predictor, rows),
    }
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(TURNS):
        for name, ask in ways.items():
            found[name].append(asyncio.run(play(ask, rows, callers, seconds)))
    line: dict[str, float] = {}
    for name, turns in found.items():
        line[name], line[f"{name}_p99_ms"] = np.median(turns, axis=0).round(1).tolist()
    return {**line, "ratio": round(line["joined"] / line["alone"], 2)}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=3.0, help="of each turn [3]")
    parser.add_argument("--callers", type=int, default=16, help="[16]")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(arguments)
    result: dict[str, Any] = {name: measure(name, given.callers, given.seconds) for name in ESTIMATORS}
    if given.json:
        print(json.dumps({**result, "callers": given.callers, "seconds": given.seconds}, indent=2))
        return
    table = Table("estimator", "alone", "joined", "ratio", "p99 ms alone", "p99 ms joined")
    for name, line in result.items():
        cells = [line[key] for key in ("alone", "joined", "ratio", "alone_p99_ms", "joined_p99_ms")]
        table.add_row(name, *(f"{cell:,g}" for cell in cells))
    Console().print(table)


if __name__ == "__main__":
    main()
