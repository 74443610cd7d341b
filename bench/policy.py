"""Compare update policies by what they cost: wrong answers, and the price of each update.

    python bench/policy.py [--data DIR] [--prices 10 50 250] [--seed N] [--quick] [--json]

Every stream of the data folder is played with labels 500 rows late. Versions of one learner (gradient
boosting on the newest 5,000 labelled rows) are trained at every grid point, each 250 rows, on what is
known there, and answer all later rows: once, cached by content in ``bench/.cache``. Then every policy is
played over the grid by the product's own code, at three prices of an update. A new version answers at
once, without a gate, and old ones never come back: this bench compares policies alone. The first version
is there for everybody and is charged to nobody. ``best_cadence`` is the best fixed cadence, and
``oracle`` the best sequence of updates, both in hindsight; ``cusum`` is the policy ``on_drift`` with the
calibrated detector; ``cost_aware`` has its default settings everywhere; ``informed`` is its rule, told as
soon as labels are known what a fresh version would have got wrong: what it costs over ``best_cadence`` is
what hindsight is worth.

``--json`` prints one object:

cases         [stream, price, rows (played), never, always, best_cadence: {every (rows; null: never),
              cost, updates}, cusum, oracle, informed, cost_aware (total costs, in rows answered wrongly),
              ratio (cost_aware over best_cadence), updates (of cost_aware), cusum_updates]
at_or_under   share of the cases in which cost_aware costs at most what the best fixed cadence does
worst_ratio   the largest ratio
mean_ratio    the mean ratio
others        the same four for small streams of River's wheel and for made ones (planted changes)
seed, quick, delay, step, seconds
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from everlearn.loop import oracle
from everlearn.loop.bounds import proportion_interval
from everlearn.loop.cost import CostState
from everlearn.loop.cusum import Cusum, CusumState
from everlearn.loop.policy import Situation, advise
from everlearn.spec import ModelSpec, parse_spec
from policy_grid import (
    DELAY,
    LEARNER,
    STEP,
    Grid,
    grid_of,
    grid_points,
    made_streams,
    real_streams,
    small_streams,
)
from policy_informed import informed
from streams import DATA, Stream

PRICES = (10.0, 50.0, 250.0)
QUICK_ROWS = 3000


class Play:
    """One policy over a grid: only what would be known at a grid point is looked at there."""

    def __init__(self, grid: Grid, spec: ModelSpec) -> None:
        self._grid, self._spec = grid, spec
        self._champion, self._old, self._matured = 0, -1, int(grid.points[0])
        self._cost, self._detector, self._rise = CostState(), Cusum(CusumState(), 1.0), 0
        self._cost.updated(self._row(0), self._known(0), LEARNER["size"])
        self.updates: list[int] = []

    def run(self) -> list[int]:
        """The grid points at which the policy updates."""
        for point in range(1, len(self._grid.points)):
            self._mature(self._known(point))
            advice = advise(self._spec, 0.0, False, self._situation(point))
            if advice.action == "fresh":
                self._update(point)
        return self.updates

    def _row(self, point: int) -> int:
        return int(self._grid.points[point])

    def _known(self, point: int) -> int:
        return self._row(point) - DELAY

    def _mature(self, through: int) -> None:
        """Score the champion's rows whose labels are known by now, and the version before it beside it."""
        wrong, champion, old = self._grid.wrong, self._champion, self._old
        for row in range(self._matured, through):
            loss = float(wrong[champion, row])
            self._cost.saw(loss)
            if old >= 0:
                self._cost.compared(float(wrong[old, row]), loss)
            rise = self._detector.update(loss)
            if rise is not None:
                self._rise = row + 1 - rise.width
        self._matured = max(self._matured, through)

    def _situation(self, point: int) -> Situation:
        start, known = self._row(self._champion), self._known(point)
        window = self._grid.wrong[self._champion, max(start, known - self._spec.policy.window) : known]
        right = len(window) - int(window.sum())
        return Situation(
            champion=self._champion + 1,
            learnable=known,
            since_update=self._row(point) - start,
            at_update=self._known(self._champion),
            new_history=0,
            refusals=0,
            acting=False,
            metric=proportion_interval(right, len(window), 0.95),
            warned=self._rise > 0,
            drift_rows=known - self._rise if self._rise else None,
            row=self._row(point),
            capacity=LEARNER["size"],
            cost=self._cost,
        )

    def _update(self, point: int) -> None:
        self.updates.append(point)
        self._cost.updated(self._row(point), self._known(point), LEARNER["size"])
        self._old, self._champion, self._rise = self._champion, point, 0
        self._matured = max(self._matured, self._row(point))
        self._detector.restart()


def spec_for(policy: str, **settings: Any) -> ModelSpec:
    """A spec with a policy; nothing else of it matters here."""
    named = {"name": policy, **settings}
    return parse_spec({"name": "bench", "target": "y", "features": {"x": "numeric"}, "policy": named})


def case(grid: Grid, price: float) -> dict[str, Any]:
    """All policies on a stream at a price."""
    losses, points = grid.losses, len(grid.points)
    asked = Play(grid, spec_for("cost_aware", price=price)).run()
    drifts = Play(grid, spec_for("on_drift")).run()
    best = oracle.best_cadence(losses, price)
    cost = oracle.cost_of(losses, asked, price)
    return {
        "stream": grid.name,
        "price": price,
        "rows": grid.rows - int(grid.points[0]),
        "never": oracle.cost_of(losses, (), price),
        "always": oracle.cost_of(losses, oracle.cadence(1, points), price),
        "best_cadence": {
            "every": None if best.every is None else best.every * STEP,
            "cost": best.cost,
            "updates": best.updates,
        },
        "cusum": oracle.cost_of(losses, drifts, price),
        "oracle": oracle.best_sequence(losses, price).cost,
        "informed": oracle.cost_of(losses, informed(grid, price), price),
        "cost_aware": cost,
        "ratio": round(cost / best.cost, 4) if best.cost else 1.0,
        "updates": len(asked),
        "cusum_updates": len(drifts),
    }


def summary(cases: list[dict[str, Any]]) -> dict[str, Any]:
    ratios = [one["ratio"] for one in cases]
    return {
        "cases": cases,
        "at_or_under": round(float(np.mean([ratio <= 1.0 for ratio in ratios])), 4) if ratios else None,
        "worst_ratio": max(ratios, default=None),
        "mean_ratio": round(float(np.mean(ratios)), 4) if ratios else None,
    }


def judge(streams: Iterable[Stream], options: argparse.Namespace, console: Console) -> dict[str, Any]:
    cases = []
    for stream in streams:
        points = len(grid_points(len(stream.y)))
        if points < 2:
            console.print(f"{stream.name}: {len(stream.y)} rows are too few for a delay of {DELAY}")
            continue
        with Progress(console=console, disable=not console.is_terminal) as progress:
            task = progress.add_task(stream.name, total=points)
            grid = grid_of(stream, options.seed, lambda task=task, on=progress: on.advance(task))
        cases += [case(grid, price) for price in options.prices]
        console.print(f"{stream.name}: played", style="dim")
    return summary(cases)


def real(options: argparse.Namespace) -> Iterator[Stream]:
    for stream in real_streams(options.data):
        yield stream.first(QUICK_ROWS if options.quick else None)


def others(options: argparse.Namespace) -> Iterator[Stream]:
    yield from () if options.quick else small_streams()
    yield from made_streams(options.seed, 2000 if options.quick else 12_000)


def show(result: dict[str, Any], console: Console) -> None:
    names = ("never", "always", "best_cadence", "cusum", "oracle", "informed", "cost_aware")
    table = Table("stream", "price", *names, "ratio", "updates", title="Total cost of update policies")
    for one in [*result["cases"], *result["others"]["cases"]]:
        costs = [one[name]["cost"] if name == "best_cadence" else one[name] for name in names]
        updates = f"{one['updates']} / {one['best_cadence']['updates']}"
        row = [f"{cost:,.0f}" for cost in costs]
        table.add_row(one["stream"], f"{one['price']:g}", *row, f"{one['ratio']:.3f}", updates)
    console.print(table)
    for name, part in (("data folder", result), ("others", result["others"])):
        if part["cases"]:
            console.print(
                f"{name}: at or under the best fixed cadence in {part['at_or_under']:.0%} of the cases, "
                f"worst ratio {part['worst_ratio']:.3f}, mean {part['mean_ratio']:.3f}"
            )


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=DATA, help="a folder of CSVs, last column the target")
    parser.add_argument("--prices", type=float, nargs="+", default=list(PRICES), help="[10 50 250]")
    parser.add_argument("--seed", type=int, default=0, help="of the learner and of the made streams [0]")
    parser.add_argument("--quick", action="store_true", help=f"the first {QUICK_ROWS:,} rows of each")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser.parse_args(arguments)


def main() -> int:
    options, console, started = parse(), Console(stderr=True), time.monotonic()
    result = judge(real(options), options, console)
    result["others"] = judge(others(options), options, console)
    result |= {"seed": options.seed, "quick": options.quick, "delay": DELAY, "step": STEP}
    result["seconds"] = round(time.monotonic() - started, 1)
    if options.json:
        print(json.dumps(result))
    else:
        show(result, Console())
    return 0


if __name__ == "__main__":
    sys.exit(main())
