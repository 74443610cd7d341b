"""Measure the reverse shadow: what it rolls back, how soon, and what it rolls back by mistake.

    python bench/rollback.py [--runs N] [--seed N] [--quick] [--json]

Every run is a promotion and its bake under the default settings (5,000 labels, up to twice as many while
the evidence leans to the old version; alpha 0.01), by the product's own bake, looked at every 100 labels.
Discordance is 10%. The naive method beside it is an exact one-sided McNemar test at 0.01 on all rows since
the promotion, looked at as often and as long as a bake may last.

``--json`` prints one object (shares are of runs, 0 to 1; labels are counted from the turn):

caught            share rolled back of versions as good as the old one that turn 3 points worse at a random
                  row of the first half of the bake
median_labels     of those, from the turn
caught_at_once    share rolled back of versions worse by 3 points from the start
median_at_once    of those
mistaken          share rolled back of versions exactly as good as the old one
mistaken_better   share rolled back of versions better by 2 points
early             share of turned versions that were rolled back before their turn (not counted as caught)
bake_labels       mean length of the bakes of equal versions
naive             {caught, median_labels, mistaken, early}
runs              of each
goals             [goal, value, bar, met]
seed, quick, seconds

The exit code is 1 if a goal was not met, and 0 otherwise; with ``--quick`` it is always 0.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from deciding import LOOK, finish, losses, mcnemar, streams
from everlearn.loop import bake
from everlearn.loop.pairs import Columns
from everlearn.spec import RollbackSpec

SPEC = RollbackSpec()
LONGEST = bake.EXTENSION * SPEC.bake


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=1600, help="of each kind [1,600]")
    parser.add_argument("--seed", type=int, default=0, help="[0]")
    parser.add_argument("--quick", action="store_true", help="under a minute: a quarter of the runs")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    if options.quick:
        options.runs = max(1, options.runs // 4)
    return options


def watch(old: Any, new: Any) -> tuple[bool, int]:
    """Whether a bake over the losses ends in a rollback, and after how many rows it ends."""
    on = bake.open_bake(1, 2, 0, SPEC, True)
    for start in range(0, len(old), LOOK):
        bake.take(on, Columns(old[start : start + LOOK], new[start : start + LOOK]))
        end = bake.verdict(on, SPEC).end
        if end is not None:
            return end == "rollback", on.rows
    return False, on.rows


def turning(rng: np.random.Generator, turn: int, before: float = 0.05) -> tuple[Any, Any]:
    """Losses of the old and the served version, which wins ``before`` of 10% discordant rows, then 3.5%."""
    wins = np.where(np.arange(LONGEST) < turn, before, 0.035)
    return losses(rng, LONGEST, wins, 0.1 - wins)


def count(ends: list[tuple[bool, int, int]], runs: int) -> dict[str, Any]:
    """Shares caught after the turn and rolled back before it, and the median rows from the turn."""
    waits = [rows - turn for back, rows, turn in ends if back and rows > turn]
    early = sum(back and rows <= turn for back, rows, turn in ends)
    middle = float(np.median(waits)) if waits else None
    return {"caught": len(waits) / runs, "median_labels": middle, "early": early / runs}


def turned(seed: int, runs: int) -> dict[str, Any]:
    ours, naive = [], []
    for rng in streams(seed, 10, runs, "turns worse"):
        turn = int(rng.integers(0, SPEC.bake // 2))
        old, new = turning(rng, turn)
        ours.append((*watch(old, new), turn))
        peeked = mcnemar(new, old, SPEC.alpha)
        naive.append((peeked is not None, peeked or 0, turn))
    return {**count(ours, runs), "naive": count(naive, runs)}


def at_once(seed: int, runs: int) -> dict[str, Any]:
    rngs = streams(seed, 11, runs, "worse from the start")
    found = count([(*watch(*turning(rng, 0)), 0) for rng in rngs], runs)
    return {"caught_at_once": found["caught"], "median_at_once": found["median_labels"]}


def good(seed: int, runs: int) -> tuple[dict[str, Any], float]:
    equal, better, naive = [], 0, 0
    for rng in streams(seed, 12, runs, "as good, or better"):
        old, new = turning(rng, LONGEST)
        equal.append(watch(old, new))
        naive += mcnemar(new, old, SPEC.alpha) is not None
        better += watch(*turning(rng, LONGEST, 0.06))[0]
    mistaken = sum(back for back, _ in equal) / runs
    length = sum(rows for _, rows in equal) / runs
    return {"mistaken": mistaken, "mistaken_better": better / runs, "bake_labels": length}, naive / runs


def run(options: argparse.Namespace) -> dict[str, Any]:
    started, seed, runs = time.monotonic(), options.seed, options.runs
    report, (right, naive) = turned(seed, runs), good(seed, runs)
    report |= {**at_once(seed, runs), **right, "runs": runs}
    report["naive"]["mistaken"] = naive
    report["goals"] = [
        {"goal": "turned 3 points worse: caught", "value": report["caught"], "bar": 0.99,
         "met": report["caught"] >= 0.99},
        {"goal": "as good: rolled back by mistake", "value": report["mistaken"], "bar": 0.01,
         "met": report["mistaken"] <= 0.01},
    ]  # fmt: skip
    return {**report, "seed": seed, "quick": options.quick, "seconds": round(time.monotonic() - started, 1)}


def show(report: dict[str, Any], console: Console) -> None:
    table = Table(title=f"Rollback: alpha {SPEC.alpha}, bake {SPEC.bake:,}, {report['runs']:,} runs each")
    for name in (
        "served version",
        "rolled back",
        "median labels",
        "McNemar, peeked at",
        "median",
    ):
        table.add_column(name, justify="left" if name == "served version" else "right")
    naive = report["naive"]

    def labels(value: float | None) -> str:
        return "" if value is None else f"{value:,.0f}"

    table.add_row(
        "turns 3 points worse", f"{report['caught']:.2%}", labels(report["median_labels"]),
        f"{naive['caught']:.2%}", labels(naive["median_labels"]),
    )  # fmt: skip
    table.add_row("  before its turn", f"{report['early']:.2%}", "", f"{naive['early']:.2%}", "")
    at_start = report["caught_at_once"], labels(report["median_at_once"])
    table.add_row("3 points worse from the start", f"{at_start[0]:.2%}", at_start[1], "", "")
    table.add_row("as good", f"{report['mistaken']:.2%}", "", f"{naive['mistaken']:.2%}", "")
    table.add_row("2 points better", f"{report['mistaken_better']:.2%}", "", "", "")
    console.print(table)
    console.print(f"mean bake of an equal version: {report['bake_labels']:,.0f} labels")


def main() -> int:
    return finish(parse(), run, show)


if __name__ == "__main__":
    sys.exit(main())
