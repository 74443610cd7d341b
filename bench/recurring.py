"""Measure how many labels pass until a concept that comes back is served well again, with and without reuse.

    python bench/recurring.py [--only NAME] [--policy on_drift] [--learner window] [--delay ROWS]
                              [--seeds N] [--seed N] [--quick] [--json]

Concepts take turns (A B A B ..., or A B C A B C ...) in stretches of 3,000 rows. ``everlearn.replay``
plays each stream twice, under the same policy and the default gate: once it may only retrain, once it
may also reuse archived versions. Streams: hyperplanes (8 features, 5% noise) with two and three
concepts, Agrawal's functions 0 and 8, SEA with thresholds 8 and 9.5 (10% noise), and the real streams
``elec`` (labels exchanged in every other stretch) and ``insects`` (classes moved on by one), whose own
drift goes on underneath.

A *return* is a stretch of a concept that was there before, if what was served on its first 250 rows
was under the concept's level: the accuracy over the last third of its first stretch, of the policy that
reached less. Returns on which only one of the policies lost anything are left out. *Labels to recovery*:
how many labels of the stretch were known when the accuracy over the 250 rows that follow was back within
2 points of the level. A return that never recovered counts with all labels of its stretch, so a ratio
over one is too small where only retraining failed, and is ``null`` where half of the returns with reuse
did.

``--json`` prints one object:

streams             {name: {reuse_labels, retrain_labels (medians), ratio, archived, returns,
                    reuse_never, retrain_never, reuse_accuracy, retrain_accuracy, reuse_updates,
                    retrain_updates, new, new_reused}}: archived is the share of recoveries with reuse in
                    which an archived version answered most of the 250 rows that showed it; at_once, in
                    which one answered the first of them already; never,
                    how many returns did not recover; accuracy is of all rows served; updates, how many
                    candidates were trained; new, stretches after the first whose concept was there for
                    the first time, and new_reused, in how many of them an archived version came back
ratio               the median of the streams' ratios
pooled              {reuse_labels, retrain_labels, ratio} over the returns of all streams
archived            share of all recoveries with reuse in which an archived version answered most of the rows
                    that showed it, and at_once the first of them already
reuse_never, retrain_never, returns, new, new_reused
skipped             {name: why} of streams whose data are not there
goals               [goal, value, bar, met]: ratio at least 5, archived at least 0.9
policy, learner, delay, seeds, seed, quick, seconds

The exit code is 1 if a goal was not met, and 0 otherwise; with ``--quick`` it is always 0.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

import everlearn
import streams
from everlearn.loop.replay import ReplayReport
from everlearn.loop.transfer import recovery_time
from everlearn.types import DecisionKind

STRETCH, TURNS = 3000, 8
QUICK_STRETCH, QUICK_TURNS = 1200, 5
QUICK_STREAMS = ("hyperplane", "agrawal", "elec")
WINDOW = 250
TOLERANCE = 0.02
GOALS = (("ratio", 5.0), ("archived", 0.9))


# -- streams -------------------------------------------------------------------------------------------


def hyperplanes(name: str, concepts: int, stretch: int, turns: int, seed: int) -> streams.Stream:
    """Planes in 8 dimensions, each at right angles to the others; 5% of the labels are wrong."""
    draw = np.random.default_rng(seed)
    planes = np.linalg.qr(draw.standard_normal((8, 8)))[0][:concepts]
    X = draw.standard_normal((stretch * turns, 8))
    side = (X * planes[np.arange(stretch * turns) // stretch % concepts]).sum(axis=1) > 0
    y = side != (draw.random(len(X)) < 0.05)
    return streams.make(name, X, y.astype(int), 0, changes=_changes(stretch, turns))


def made(kind: str, version: int, stretch: int, turns: int, seed: int) -> streams.Stream:
    """A made kind of concept whose versions 0 and ``version`` take turns."""
    plan = [(i * stretch, (i % 2) * version) for i in range(turns)]
    return streams.join(kind, kind, plan, stretch * turns, 0, seed)


def permuted(name: str, stretch: int, turns: int, seed: int) -> streams.Stream:
    """A stretch of a real stream, from a row that the seed draws, with its classes moved on by one in
    every other turn."""
    real = streams.from_csv(name)
    size = min(stretch * turns, len(real.y) // stretch * stretch)
    start = int(np.random.default_rng(seed).integers(0, len(real.y) - size + 1))
    X, y = real.X[start : start + size], real.y[start : start + size].copy()
    other = np.arange(size) // stretch % 2 == 1
    y[other] = (y[other] + 1) % real.classes
    X = X[:, 1:] if name == "elec" else X  # its first column is the date
    return streams.make(name, X, y, 0, changes=_changes(stretch, size // stretch))


def _changes(stretch: int, turns: int) -> tuple[int, ...]:
    return tuple(i * stretch for i in range(1, turns))


STREAMS: dict[str, tuple[int, Callable[[int, int, int], streams.Stream]]] = {
    "hyperplane": (2, lambda *how: hyperplanes("hyperplane", 2, *how)),
    "hyperplane3": (3, lambda *how: hyperplanes("hyperplane3", 3, *how)),
    "agrawal": (2, lambda *how: made("agrawal", 2, *how)),
    "sea": (2, lambda *how: made("sea", 1, *how)),
    "elec": (2, lambda *how: permuted("elec", *how)),
    "insects": (2, lambda *how: permuted("insects", *how)),
}
"""By name: how many concepts take turns, and the stream for a stretch, a number of turns, and a seed."""


# -- measuring -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Return:
    """A concept's return in one run: labels to recovery, whether that is one, and who answered then.

    ``archived``: an archived version answered most of the rows that showed it, ``at_once`` the first of them.
    """

    labels: int
    recovered: bool
    archived: bool
    at_once: bool = False


@dataclass(frozen=True)
class Run:
    """A policy's replay of a stream: 0/1 losses row by row, and its promotions (row, reused)."""

    losses: Any
    promotions: Sequence[tuple[int, bool]]
    trained: int


def play(stream: streams.Stream, reuse: bool, options: argparse.Namespace, seed: int) -> Run:
    """One replay by the product."""
    import pandas as pd

    frame = pd.DataFrame(stream.X, columns=[f"x{i}" for i in range(stream.X.shape[1])])
    frame["y"] = [f"class {label}" for label in stream.y]
    report = everlearn.replay(
        frame,
        target="y",
        label_delay=options.delay,
        learner=options.learner,
        update="triggered",
        policy={"name": options.policy, "reuse": reuse},
        baselines=False,
        seed=seed,
    )
    return run_of(report)


def run_of(report: ReplayReport) -> Run:
    """What the bench needs of a report."""
    moves = [
        (row, bool(decision.evidence.get("reused")) or decision.kind is DecisionKind.ROLLBACK)
        for decision, row in zip(report.decisions, report.decision_rows, strict=True)
        if decision.kind in (DecisionKind.PROMOTE, DecisionKind.ROLLBACK)
    ]
    return Run(np.array(report.curves["served"]), moves, report.count(DecisionKind.UPDATE))


def levels(runs: Sequence[Run], bounds: Sequence[int], concepts: int) -> list[float]:
    """Each concept's steady loss: that of the last third of its first stretch, of the run that lost more."""
    thirds = [slice(end - (end - start) // 3, end) for start, end in pairwise(bounds[: concepts + 1])]
    return [max(float(run.losses[third].mean()) for run in runs) for third in thirds]


def returns(run: Run, bounds: Sequence[int], level: Sequence[float], delay: int) -> list[Return | None]:
    """What each return took; ``None`` where nothing was lost."""
    found: list[Return | None] = []
    for turn in range(len(level), len(bounds) - 1):
        start, end = bounds[turn], bounds[turn + 1]
        steady = level[turn % len(level)]
        if run.losses[start : start + WINDOW].mean() <= steady + TOLERANCE:
            found.append(None)
            continue
        rows = recovery_time(run.losses[start:end], steady, TOLERANCE, WINDOW)
        if rows is None:
            found.append(Return(end - start, False, False))
        else:
            share = archived(run, start, start + rows)
            found.append(Return(max(1, rows - delay), True, bool(share.mean() > 0.5), bool(share[0])))
    return found


def archived(run: Run, start: int, row: int) -> Any:
    """Which of ``WINDOW`` rows from ``row`` on an archived version answers that came back since ``start``."""
    answers = np.zeros(WINDOW, dtype=bool)
    for moved, reused in run.promotions:
        if moved > start:
            answers[max(moved - row, 0) :] = reused
    return answers


def came_back(run: Run, start: int, end: int) -> bool:
    """Whether an archived version came back between two rows."""
    return any(reused and start < moved <= end for moved, reused in run.promotions)


def measure(name: str, stretch: int, turns: int, options: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Both policies on one stream: their returns side by side, accuracies and updates."""
    concepts, build = STREAMS[name]
    stream = build(stretch, turns, seed)
    bounds = [0, *stream.changes, len(stream.y)]
    runs = {reuse: play(stream, reuse, options, seed) for reuse in (True, False)}
    level = levels(list(runs.values()), bounds, concepts)
    pairs = zip(*(returns(runs[r], bounds, level, options.delay) for r in (True, False)), strict=True)
    kept = [pair for pair in pairs if None not in pair]
    figures = {"pairs": kept, "new": [came_back(runs[True], *s) for s in pairwise(bounds[1 : concepts + 1])]}
    for word, reuse in (("reuse", True), ("retrain", False)):
        figures[f"{word}_accuracy"] = 1.0 - float(runs[reuse].losses.mean())
        figures[f"{word}_updates"] = runs[reuse].trained
    return figures


# -- figures -------------------------------------------------------------------------------------------


def summed(pairs: Sequence[tuple[Return, Return]]) -> dict[str, Any]:
    """Medians and shares over pairs of returns (with reuse, retraining only)."""
    reuse, retrain = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    never = {"reuse_never": _never(reuse), "retrain_never": _never(retrain), "returns": len(pairs)}
    if not pairs:
        unknown = ("reuse_labels", "retrain_labels", "ratio", "archived", "at_once")
        return {**dict.fromkeys(unknown), **never}
    ours, theirs = (float(np.median([r.labels for r in side])) for side in (reuse, retrain))
    recovered = [r for r in reuse if r.recovered]
    known = 2 * never["reuse_never"] < len(pairs)
    return {
        "reuse_labels": ours,
        "retrain_labels": theirs,
        "ratio": round(theirs / ours, 2) if known else None,
        **{
            name: round(float(np.mean([getattr(r, name) for r in recovered])), 3) if recovered else None
            for name in ("archived", "at_once")
        },
        **never,
    }


def _never(side: Sequence[Return]) -> int:
    return sum(not one.recovered for one in side)


def of_stream(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A stream's line over its seeds."""
    names = ("reuse_accuracy", "retrain_accuracy", "reuse_updates", "retrain_updates")
    means = {name: round(float(np.mean([one[name] for one in found])), 4) for name in names}
    return {**summed([pair for one in found for pair in one["pairs"]]), **means, **_new(found)}


def _new(found: Sequence[dict[str, Any]]) -> dict[str, int]:
    stretches = [reused for one in found for reused in one["new"]]
    return {"new": len(stretches), "new_reused": sum(stretches)}


def judged(result: dict[str, Any]) -> list[list[Any]]:
    """The goals: name, value, bar, met."""
    return [
        [name, result[name], bar, result[name] is not None and result[name] >= bar] for name, bar in GOALS
    ]


def run(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """All streams and seeds."""
    started = time.monotonic()
    size = (QUICK_STRETCH, QUICK_TURNS) if options.quick else (STRETCH, TURNS)
    found: dict[str, list[dict[str, Any]]] = {}
    skipped: dict[str, str] = {}
    with Progress(console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("replaying", total=len(options.only) * options.seeds)
        for name in options.only:
            for seed in range(options.seed, options.seed + options.seeds):
                try:
                    found.setdefault(name, []).append(measure(name, *size, options, seed))
                except streams.Missing as missing:
                    skipped[name] = str(missing)
                    found.pop(name)
                    break
                progress.update(task, advance=1, description=name)
    return {**figures(found), "skipped": skipped, **settings(options, time.monotonic() - started)}


def figures(found: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """All that the streams say, and whether it is enough."""
    lines = {name: of_stream(runs) for name, runs in found.items()}
    ratios = [line["ratio"] for line in lines.values() if line["ratio"] is not None]
    pooled = summed([pair for runs in found.values() for one in runs for pair in one["pairs"]])
    result = {
        "streams": lines,
        "ratio": round(float(np.median(ratios)), 2) if ratios else None,
        "pooled": {name: pooled[name] for name in ("reuse_labels", "retrain_labels", "ratio")},
        **{name: pooled[name] for name in ("archived", "at_once", "reuse_never", "retrain_never", "returns")},
        **_new([one for runs in found.values() for one in runs]),
    }
    return {**result, "goals": judged(result)}


def settings(options: argparse.Namespace, seconds: float) -> dict[str, Any]:
    names = ("policy", "learner", "delay", "seeds", "seed", "quick")
    return {**{name: getattr(options, name) for name in names}, "seconds": round(seconds, 1)}


def show(result: dict[str, Any]) -> None:
    title = "Labels until a concept that comes back is served well again (medians)"
    table = Table("stream", "returns", "reuse", "retrain", "ratio", "archived", "never", "new", title=title)
    for name, line in {**result["streams"], "all": {**result, **result["pooled"]}}.items():
        never = f"{line['reuse_never']} / {line['retrain_never']}"
        cells = [line[key] for key in ("returns", "reuse_labels", "retrain_labels", "ratio", "archived")]
        new = f"{line['new_reused']} / {line['new']}"
        table.add_row(name, *("-" if c is None else f"{c:,g}" for c in cells), never, new)
    console = Console()
    console.print(table)
    for goal, value, bar, met in result["goals"]:
        console.print(f"{'met' if met else 'MISSED'}: {goal} {value} (at least {bar:g})")
    for name, why in result["skipped"].items():
        console.print(f"skipped {name}: {why}")


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", action="append", choices=sorted(STREAMS), help="these streams [all]")
    parser.add_argument("--policy", default="on_drift", help="of both runs [on_drift]")
    parser.add_argument("--learner", default="window", help="[window]")
    parser.add_argument("--delay", type=int, default=0, help="how many rows late labels are [0]")
    parser.add_argument("--seeds", type=int, default=3, help="how many, from --seed on [3]")
    parser.add_argument("--seed", type=int, default=0, help="[0]")
    parser.add_argument(
        "--quick", action="store_true", help="under a minute: one seed, three streams, short turns"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    options.only = options.only or list(QUICK_STREAMS if options.quick else STREAMS)
    options.seeds = 1 if options.quick else options.seeds
    return options


def main() -> int:
    options = parse()
    result = run(options, Console(stderr=True))
    if options.json:
        print(json.dumps(result))
    else:
        show(result)
    return 0 if options.quick or all(met for *_, met in result["goals"]) else 1


if __name__ == "__main__":
    sys.exit(main())
