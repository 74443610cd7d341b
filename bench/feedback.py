"""Measure the guard over feedback: how often it names an honest source, and how soon a poisoned one.

    python bench/feedback.py [--runs N] [--seed N] [--quick] [--json]

Every run is a stream of labels of four sources in random order, put through the loop itself (the fold of the
product, at its default alpha and margin). The answers are right for 90% of the cases, and give the class that
they name 90%.

``--json`` prints one object (shares are of runs, 0 to 1; labels are the poisoned source's own):

honest      {named}: four honest sources whose shares of the positive class differ: 20, 40, 60 and 80%
turned      {named}: the same, but after half of the stream the answers are right for only 10%
flipped     {found, wrong, median_labels, p90_labels}: one of them flips half of its labels. ``wrong``: an
            honest source was named, then or before
later       the same, but it begins after 1,000 honest labels of its own; labels are counted from there
constant    the same as ``flipped`` by one that answers the positive class to everything
flood       {named}: from the middle of 12,000 labels on, one source gives three quarters of them, and before
            that a quarter
goals       [{goal, value, bar, met}]
labels, runs, seed, quick, seconds

The exit code is 1 if a goal was not met, and 0 otherwise; with ``--quick`` it is always 0.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from deciding import finish, streams
from everlearn.loop.defaults import with_defaults
from everlearn.loop.engine import Engine
from everlearn.loop.state import LoopState
from everlearn.spec import parse_spec
from everlearn.types import Command, Decision, DecisionKind, Event, Label, Output, Prediction

LABELS = 6_000
AFTER = 1_000
SOURCES = ("key:a", "key:b", "key:c", "key:d")
POSITIVE = (0.2, 0.4, 0.6, 0.8)
POISONED = 1
RIGHT = 0.9

Poison = Callable[[np.random.Generator, str, int], str]
"""The label that the poisoned source gives: from the truth and how many it gave before."""


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=200, help="of each stream [200]")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="a few runs only")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser.parse_args(arguments)


def events(
    rng: np.random.Generator, poison: Poison | None, labels: int, *, turns: bool = False, flood: bool = False
) -> Iterator[Event]:
    """A model's log: a prediction and its label by turns."""
    spec = {"name": "m", "target": "y", "features": {"x": "numeric"}, "policy": {"name": "never"}}
    fixed = {**spec, "regimes": {"anchor_every": 0}, "drift": {"features": False}}
    yield Command(1, 0.0, "configure", {"spec": with_defaults(parse_spec(fixed)).to_dict()})
    given = 0
    for i in range(labels):
        late = i >= labels // 2
        chances = [1 / 12, 3 / 4, 1 / 12, 1 / 12] if flood and late else [0.25] * 4
        who = int(rng.choice(4, p=chances))
        truth = "yes" if rng.random() < POSITIVE[who] else "no"
        right = rng.random() < (0.1 if turns and late else RIGHT)
        answer = truth if right else ("no" if truth == "yes" else "yes")
        chance = 0.9 if answer == "yes" else 0.1
        output = Output(answer, {"no": 1.0 - chance, "yes": chance})
        asked = Prediction(2 * i + 2, float(i), str(i), i + 1, 0, {"x": 0.0}, output)
        yield asked
        if who == POISONED:
            value, given = poison(rng, truth, given) if poison else truth, given + 1
        else:
            value = truth
        yield Label(2 * i + 3, float(i), asked.id, value, prediction=asked, source=SOURCES[who])


def play(rng: np.random.Generator, poison: Poison | None, labels: int, **how: Any) -> dict[str, int]:
    """Which sources are named, and after how many labels of their own."""
    engine, named = Engine(LoopState(), reports=False), dict[str, int]()
    for event in events(rng, poison, labels, **how):
        engine.step(event)
        for decision in engine.take().decisions:
            if is_named(decision):
                name = str(decision.evidence["source"])
                named[name] = engine.state.feedback.sources[name].labels
        if poison and SOURCES[POISONED] in named:
            break
    return named


def is_named(decision: Decision) -> bool:
    return decision.kind is DecisionKind.WARN and "source" in decision.evidence


def flips(rng: np.random.Generator, truth: str, given: int) -> str:
    del given
    return truth if rng.random() < 0.5 else ("no" if truth == "yes" else "yes")


def later(rng: np.random.Generator, truth: str, given: int) -> str:
    return truth if given < AFTER else flips(rng, truth, given)


def constant(rng: np.random.Generator, truth: str, given: int) -> str:
    del rng, truth, given
    return "yes"


def found(runs: list[dict[str, int]], since: int = 0) -> dict[str, float | None]:
    """What the runs with a poisoned source came to."""
    key = SOURCES[POISONED]
    took = [named[key] - since for named in runs if named.get(key, 0) > since]
    wrong = sum(
        any(name != key for name in named) or 0 < named.get(key, since + 1) <= since for named in runs
    )
    return {
        "found": len(took) / len(runs),
        "wrong": wrong / len(runs),
        "median_labels": float(np.median(took)) if took else None,
        "p90_labels": float(np.quantile(took, 0.9)) if took else None,
    }


def run(options: argparse.Namespace) -> dict[str, Any]:
    started = time.perf_counter()
    runs = 3 if options.quick else options.runs
    scenario = count()

    def plays(
        name: str, poison: Poison | None = None, labels: int = LABELS, **how: Any
    ) -> list[dict[str, int]]:
        return [play(rng, poison, labels, **how) for rng in streams(options.seed, next(scenario), runs, name)]

    def share(named: list[dict[str, int]]) -> dict[str, float]:
        return {"named": sum(map(bool, named)) / runs}

    result: dict[str, Any] = {
        "honest": share(plays("honest")),
        "turned": share(plays("turned", turns=True)),
        "flipped": found(plays("flipped", flips)),
        "later": found(plays("later", later, 2 * LABELS), AFTER),
        "constant": found(plays("constant", constant)),
        "flood": share(plays("flood", None, 2 * LABELS, flood=True)),
    }
    result["goals"] = goals(result)
    result |= {"labels": LABELS, "runs": runs, "seed": options.seed, "quick": options.quick}
    return {**result, "seconds": time.perf_counter() - started}


def goals(result: dict[str, Any]) -> list[dict[str, Any]]:
    """What the guard has to keep."""
    kept = (
        ("an honest source named", result["honest"]["named"], 0.01, -1),
        ("an honest source named as the world turns", result["turned"]["named"], 0.01, -1),
        ("the flipping source found", result["flipped"]["found"], 0.99, 1),
        ("labels until it is, the median", result["flipped"]["median_labels"], 500, -1),
    )
    return [
        {"goal": goal, "value": value, "bar": bar, "met": value is not None and value * sign >= bar * sign}
        for goal, value, bar, sign in kept
    ]


def show(result: dict[str, Any], console: Console) -> None:
    table = Table(title=f"The guard over feedback, {result['runs']} runs of each stream")
    for column in ("stream", "named", "wrongly", "median labels", "nine in ten"):
        table.add_column(column, justify="left" if column == "stream" else "right")
    for name in ("honest", "turned", "flood"):
        table.add_row(name, f"{result[name]['named']:.3f}", "", "", "")
    for name in ("flipped", "later", "constant"):
        of = result[name]
        numbers = ["" if of[key] is None else f"{of[key]:.0f}" for key in ("median_labels", "p90_labels")]
        table.add_row(name, f"{of['found']:.3f}", f"{of['wrong']:.3f}", *numbers)
    console.print(table)
    for goal in result["goals"]:
        word = "kept" if goal["met"] else "MISSED"
        console.print(f"{word}: {goal['goal']}: {goal['value']} (bar {goal['bar']})")


def main() -> int:
    return finish(parse(), run, show)


if __name__ == "__main__":
    sys.exit(main())
