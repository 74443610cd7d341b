"""Measure what the gate promotes: its error rates and its patience, beside a McNemar test looked at always.

    python bench/gate.py [--runs N] [--seed N] [--quick] [--json]

Every run is a stream of 20,000 labels of a champion and a candidate, judged by the product's own trial
every 100 labels at alpha 0.05 (the first candidate's share of it: 0.0304). Discordance is 10%. Promoted
shares of small size and medians near their bars would be decided by chance in 800 runs: the first two
lines are run four times as often.

``--json`` prints one object (shares are of runs, 0 to 1; medians are of the promoted runs, in labels):

equal               {promoted, median_labels}: 5% won, 5% lost
mcnemar_peeking     share of the same equal candidates that peeking McNemar (exact, one-sided, at 0.05 at
                    every look) promotes
plus_one, plus_two  {promoted, median_labels}: 5.5% won and 4.5% lost; 6% and 4%
alternating         share promoted of candidates +3 and −3 points in regimes of 1,000 rows in turns
alternating_overall the same by the overall bar alone, without the regimes
alternating_better  {promoted, median_labels}: +2 points in both regimes, with the regimes
late_positives      share promoted of candidates worse by 0.7 points whose positives' labels are late
                    (a tenth of rows, 2,000 rows and an exponential of 1,000 more late, 2% never), scored on
                    matured cohorts (label horizon of 5,000 rows)
late_naive          the same scored as labels arrive
hundred_nulls       share of sequences of 100 equal candidates (2,000 labels each, attempts 1 to 100) in
                    which any is promoted
hundred_peeking     the same by peeking McNemar
runs                {name: runs}
goals               [goal, value, bar, met]
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

from deciding import LOOK, by_look, covered, finish, losses, mcnemar, streams, summary, try_out
from everlearn.spec import GateSpec, parse_spec

GATE = GateSpec()
LABELS = 20_000
REGIME = 1_000
HORIZON = 5_000
ATTEMPTS = 100
ATTEMPT_LABELS = 2_000
OFTEN = 4


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=800, help="of each stream [800]")
    parser.add_argument("--seed", type=int, default=0, help="[0]")
    parser.add_argument("--quick", action="store_true", help="under a minute: an eighth of the runs")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    if options.quick:
        options.runs = max(1, options.runs // 8)
    return options


def figures(promoted: float, median: float | None) -> dict[str, float | None]:
    return {"promoted": promoted, "median_labels": median}


def equal(seed: int, runs: int) -> dict[str, Any]:
    ends, peeked = [], 0
    for rng in streams(seed, 0, runs, "equal"):
        old, new = losses(rng, LABELS, 0.05, 0.05)
        ends.append(try_out(old, new, GATE))
        peeked += mcnemar(old, new, GATE.alpha) is not None
    return {"equal": figures(*summary(ends)), "mcnemar_peeking": peeked / runs}


def better(seed: int, runs: int, points: int) -> dict[str, float | None]:
    half = points / 200.0
    rngs = streams(seed, points, runs, f"+{points} points")
    return figures(*summary(try_out(*losses(rng, LABELS, 0.05 + half, 0.05 - half), GATE) for rng in rngs))


def alternating(seed: int, runs: int) -> dict[str, Any]:
    second = np.arange(LABELS) // REGIME % 2 == 1
    groups = {"regime 1": ~second, "regime 2": second}
    turns, overall, good = [], [], []
    for rng in streams(seed, 3, runs, "alternating"):
        flip = rng.random() < 0.5
        wins = np.where(second ^ flip, 0.035, 0.065)
        old, new = losses(rng, LABELS, wins, 0.1 - wins)
        turns.append(try_out(old, new, GATE, groups=groups))
        overall.append(try_out(old, new, GATE))
        good.append(try_out(*losses(rng, LABELS, 0.06, 0.04), GATE, groups=groups))
    shares = {"alternating": summary(turns)[0], "alternating_overall": summary(overall)[0]}
    return {**shares, "alternating_better": figures(*summary(good))}


def late_stream(rng: np.random.Generator, rows: int) -> tuple[Any, Any, Any]:
    """Losses of both, and the look at which each label comes (infinite for never).

    The candidate answers *no* too readily: better on negatives, worse on positives, by 0.7 points in all.
    """
    positive = rng.random(rows) < 0.1
    old, new = losses(rng, rows, np.where(positive, 0.05, 0.035), np.where(positive, 0.255, 0.02))
    delay = np.where(positive, 2000.0 + rng.exponential(1000.0, rows), 0.0)
    delay[positive & (rng.random(rows) < 0.02)] = np.inf
    return old, new, np.ceil((np.arange(1, rows + 1) + delay) / LOOK)


def late_positives(seed: int, runs: int) -> dict[str, float]:
    rows = LABELS + HORIZON + 1_000
    spec = parse_spec(
        {"name": "late", "target": "y", "features": {"x": "numeric"}, "label_horizon": {"rows": HORIZON}}
    )
    mature, ripe, naive = covered(spec, rows), [], []
    for rng in streams(seed, 4, runs, "late positives"):
        old, new, arrives = late_stream(rng, rows)
        for ends, looks in ((ripe, np.maximum(mature, arrives)), (naive, arrives)):
            order, stops = by_look(looks)
            ends.append(try_out(old[order], new[order], GATE, stops=stops))
    return {"late_positives": summary(ripe)[0], "late_naive": summary(naive)[0]}


def hundred_nulls(seed: int, runs: int) -> dict[str, float]:
    """Sequences of equal candidates; a sequence ends at its first promotion, which is what counts."""
    ours = peeked = 0
    for rng in streams(seed, 5, runs, "a hundred equal candidates"):
        tries = [losses(rng, ATTEMPT_LABELS, 0.05, 0.05) for _ in range(ATTEMPTS)]
        ours += any(try_out(*pair, GATE, attempt=k)[0] == "promote" for k, pair in enumerate(tries, 1))
        peeked += any(mcnemar(*pair, GATE.alpha) is not None for pair in tries)
    return {"hundred_nulls": ours / runs, "hundred_peeking": peeked / runs}


def goals(report: dict[str, Any]) -> list[dict[str, Any]]:
    bars = (
        ("an equal candidate promoted", report["equal"]["promoted"], 0.025, -1),
        ("+1 point promoted", report["plus_one"]["promoted"], 0.94, 1),
        ("+1 point, median labels", report["plus_one"]["median_labels"], 6500, -1),
        ("+2 points, median labels", report["plus_two"]["median_labels"], 2300, -1),
        ("+3 / -3 in turns promoted", report["alternating"], 0.01, -1),
        ("worse, positives late, promoted", report["late_positives"], 0.01, -1),
        ("any of 100 equal ones promoted", report["hundred_nulls"], 0.05, -1),
    )
    return [
        {"goal": goal, "value": value, "bar": bar, "met": value is not None and value * sign >= bar * sign}
        for goal, value, bar, sign in bars
    ]


def run(options: argparse.Namespace) -> dict[str, Any]:
    started, seed, runs = time.monotonic(), options.seed, options.runs
    sequences = max(1, runs // 4)
    report: dict[str, Any] = {
        **equal(seed, OFTEN * runs),
        "plus_one": better(seed, OFTEN * runs, 1),
        "plus_two": better(seed, runs, 2),
        **alternating(seed, runs),
        **late_positives(seed, runs),
        **hundred_nulls(seed, sequences),
    }
    often = dict.fromkeys(("equal", "plus_one"), OFTEN * runs)
    rest = dict.fromkeys(("plus_two", "alternating", "late_positives"), runs)
    report["runs"] = {**often, **rest, "hundred_nulls": sequences}
    report["goals"] = goals(report)
    return {**report, "seed": seed, "quick": options.quick, "seconds": round(time.monotonic() - started, 1)}


def show(report: dict[str, Any], console: Console) -> None:
    table = Table(title=f"What the gate promotes, at alpha {GATE.alpha}, a look every {LOOK} labels")
    for name in ("candidate", "runs", "promoted", "median labels", "naive method", "promotes"):
        table.add_column(name, justify="left" if name in ("candidate", "naive method") else "right")
    peeks, times = "McNemar, peeked at", report["runs"]
    turns = report["alternating_better"]
    rows = (
        ("equal", "equal", report["equal"], peeks, report["mcnemar_peeking"]),
        ("+1 point", "plus_one", report["plus_one"], "", None),
        ("+2 points", "plus_two", report["plus_two"], "", None),
        ("+3 / -3 in turns", "alternating", report["alternating"], "ours, blind to the regimes",
         report["alternating_overall"]),
        ("+2 in both regimes", "alternating", turns, "", None),
        ("-0.7, positives late", "late_positives", report["late_positives"], "ours, as labels arrive",
         report["late_naive"]),
        ("100 equal ones, any", "hundred_nulls", report["hundred_nulls"], peeks, report["hundred_peeking"]),
    )  # fmt: skip
    for name, key, value, naive, theirs in rows:
        whole = value if isinstance(value, dict) else figures(value, None)
        labels = "" if whole["median_labels"] is None else f"{whole['median_labels']:,.0f}"
        other = "" if theirs is None else f"{theirs:.1%}"
        table.add_row(name, f"{times[key]:,}", f"{whole['promoted']:.2%}", labels, naive, other)
    console.print(table)
    for goal in report["goals"]:
        word = "kept" if goal["met"] else "MISSED"
        console.print(f"{word}: {goal['goal']} {goal['value']:,g} ({goal['bar']:,g})")


def main() -> int:
    return finish(parse(), run, show)


if __name__ == "__main__":
    sys.exit(main())
