"""Measure the learners, beside those of River and CapyMOA.

    python bench/learners.py [streams] [drift] [memory] [latency] [regression] [ridge]
                             [--peers none|quick|all] [--quick] [--json]

Without a name all parts are run. ``--peers`` chooses the peers: ``quick`` (default) leaves out River's
SRP and leveraging bagging, which take ten minutes each on a large stream. Peers run in an environment of
their own, which is made on first use (``.bench-venv``; ``EVERLEARN_BENCH_PYTHON`` names another), and
what they reached is kept in ``bench/.cache`` by stream, version, delay, seed and machine (``--fresh``
measures again). Rates that are compared are measured in turns in the same run.

``--json`` prints one object; a part that was not run is null:

machine     cpu, cores, python
seed, seeds, peer_seeds, quick, peers     as asked
streams     {name: rows, features, classes, delay (the natural one), digest,
            results: [learner, kind (ours, river, capymoa), delay, seeds, accuracy % (late labels: from the
            first row on which one can be known), accuracy_spread (largest less smallest), accuracy_all %
            (of all rows), kappa_t %, log_loss, new_class_recall % (first 200 of each class that
            arrives), after_change % (1,000 rows after each), rows_per_second, peak_mb, state_kb, cached],
            skipped: [learner, reason]}
rates       [stream, learner, peer, ratio (median of stretches in turns on one core), rows_per_second,
            peer_rows_per_second, stretches, stretch_rows]
drift       [stream, rows, changes, trace_rows, results: [learner, kind, accuracy, after_change, trace],
            best_peer]
memory      [learner, rows, accuracy, marks: [rows, resident_mb, state_kb], growth_mb, state_growth_kb
            (after 200,000 rows), same_in_new_process (bit for bit: answers, and answers after learning
            more), same_if_asked_first (also if it was asked what it then learns, which a learner may
            remember outside its state), new_class_first_right (examples of it until then),
            new_class_recall % (first 200), new_class_recall_later (next 200)]; or learner, failed
latency     [learner, calls, predict_us, predict_p99_us, learn_us] of single rows of 8 features
regression  {name: rows, features, best_peer, results: [learner, kind, seeds, mae, mae_spread,
            rows_per_second, cached]}
ridge       {rows, columns, streaming: [order, from_batch, from_first_order], forgetting: [forgotten (half),
            gamma, from_batch, from_training_on_the_rest] (largest differences of answers, in their standard
            deviations), learned_per_second, forgotten_per_second, tested_then_trained_per_second}
goals       [goal, where, value, bar, met (null: this run cannot tell)]
figures     paths of what was drawn
seconds     of the whole run

The exit code is 1 if a goal was not met, and 0 otherwise; with ``--quick`` it is always 0.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console

import learners_drift
import learners_figures
import learners_goals
import learners_latency
import learners_memory
import learners_regression
import learners_ridge
import learners_streams
import learners_tables
from runs import Bench, machine
from streams import REAL

PARTS = ("streams", "drift", "memory", "latency", "regression", "ridge")
OUT = Path(__file__).resolve().parent / "out"


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)} [all]")
    parser.add_argument("--only", nargs="+", metavar="STREAM", choices=list(REAL), help="these streams only")
    parser.add_argument("--peers", choices=("none", "quick", "all"), default="quick", help="[quick]")
    parser.add_argument("--seed", type=int, default=0, help="the first seed [0]")
    parser.add_argument("--seeds", type=int, default=3, help="of ours [3]")
    parser.add_argument("--peer-seeds", type=int, default=1, help="of the peers [1]")
    parser.add_argument("--rows", type=int, default=1_000_000, help="of the memory part [1,000,000]")
    parser.add_argument("--fresh", action="store_true", help="measure the peers again")
    parser.add_argument("--figure", type=Path, default=OUT / "learners.png", help="accuracy over rate")
    parser.add_argument("--drift-figure", type=Path, default=OUT / "drift.png", help="accuracy over time")
    parser.add_argument("--quick", action="store_true", help="under a minute: first rows, few learners")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    for part in options.parts:
        if part not in PARTS:
            parser.error(f"{part!r} is no part: use {', '.join(PARTS)}")
    options.parts = options.parts or list(PARTS)
    if options.quick:
        options.seeds = options.peer_seeds = 1
    return options


def run(options: argparse.Namespace, bench: Bench) -> dict[str, Any]:
    started, parts = time.monotonic(), options.parts
    report: dict[str, Any] = {
        "machine": machine(),
        "seed": options.seed,
        "seeds": options.seeds,
        "peer_seeds": options.peer_seeds,
        "quick": options.quick,
        "peers": options.peers,
        "streams": learners_streams.run(bench, options) if "streams" in parts else None,
        "rates": learners_streams.rates(bench, options) if "streams" in parts else None,
        "drift": learners_drift.run(bench, options) if "drift" in parts else None,
        "memory": learners_memory.run(bench, options) if "memory" in parts else None,
        "latency": learners_latency.run(options) if "latency" in parts else None,
        "regression": learners_regression.run(bench, options) if "regression" in parts else None,
        "ridge": learners_ridge.run(bench, options) if "ridge" in parts else None,
    }
    report["goals"] = learners_goals.judge(report)
    report["figures"] = draw(report, options)
    report["seconds"] = round(time.monotonic() - started, 1)
    return report


def draw(report: dict[str, Any], options: argparse.Namespace) -> list[str]:
    drawn = []
    if report["streams"]:
        learners_figures.accuracy_over_rate(report["streams"], options.figure)
        drawn.append(str(options.figure))
    if report["drift"]:
        learners_figures.accuracy_over_time(report["drift"], options.drift_figure)
        drawn.append(str(options.drift_figure))
    return drawn


def main() -> int:
    options = parse()
    console = Console(stderr=True)
    with Bench(console, fresh=options.fresh, reuse=options.quick) as bench:
        report = run(options, bench)
    if options.json:
        print(json.dumps(report))
    else:
        learners_tables.show(report, Console())
        for path in report["figures"]:
            console.print(f"drawn: {path}")
    missed = [goal for goal in report["goals"] if goal["met"] is False]
    return 1 if missed and not options.quick else 0


if __name__ == "__main__":
    sys.exit(main())
