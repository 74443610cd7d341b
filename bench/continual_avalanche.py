"""Measure our continual learners beside Avalanche's: what they remember, and how long they learn.

    python bench/continual_avalanche.py [--methods NAME ...] [--seeds N] [--seed N] [--quick] [--json]

Split MNIST, class-incremental, the full data: five tasks of two digits, one pass, batches of 10, a network of
784-100-100-10 and plain gradient descent. Each library has a process of its own with one thread and the same
PyTorch; they take turns, seed by seed, in the same run, and whoever is first changes. The methods:

fine_tuning   nothing against forgetting (Avalanche's Naive)
oewc          online EWC (Avalanche's EWC, online mode), the same rate and weight of the penalty
er            a reservoir of 200 or 500 rows (Avalanche's ReplayPlugin with ReservoirSamplingBuffer), ten rows
              of it a step, the same rate; on both sides of tasks that have ended alone (ours: offer="task")
er_balanced   the same with a balanced buffer (Avalanche's Replay as it comes: equal parts for the tasks;
              ours: for the classes)

Rates and weights are those of the DER table (``continual_mnist.py``). Avalanche is installed into
``bench/.cache/avalanche`` on first use; ``EVERLEARN_BENCH_AVALANCHE`` names another interpreter that has it.

``--json`` prints one object:

machine, commit, seed, seeds, quick     of the run
versions    {ours: {package: version}, avalanche: {package: version} or null}
load        [load average of the last minute when it began, and when it ended]
threads     of each library
results     {method: {buffer ("0" for none): {ours: {accuracy % (mean over tasks at the end, then over seeds),
            std, seconds (of training, mean), cpu_seconds, accuracies}, avalanche: the same or null,
            ratio (its seconds over ours) or null, cpu_ratio}}}
goals       [goal, method, buffer, value, bar, met (null: this run cannot tell)]: at least its accuracy
            (met if ours + std reaches it), and at least twice its speed
unavailable why there is no Avalanche, or null
seconds     of the whole run

The exit code is 1 if a goal was not met or Avalanche is not there, and 0 otherwise; with ``--quick``, two
short tasks, it is always 0 and the figures mean nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from continual import commit, mean
from continual_mnist import METHODS, Mnist
from runs import BENCH, CACHE, Failed, Runner, machine

PEER_PINS = BENCH / "peers" / "avalanche.txt"
SPEED = 2.0
"""How many times as fast as Avalanche ours must be."""
TOLD = {"fine_tuning": ("rate",), "oewc": ("rate", "hold"), "er": ("rate",), "er_balanced": ("rate",)}
BUFFERS = {"fine_tuning": (0,), "oewc": (0,), "er": (200, 500), "er_balanced": (200, 500)}
SIDES = ("ours", "avalanche")

Runs = dict[str, dict[str, dict[str, list[dict[str, Any]]]]]


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--methods", nargs="+", choices=list(BUFFERS), default=list(BUFFERS), metavar="NAME")
    parser.add_argument("--seed", type=int, default=0, help="the first seed [0]")
    parser.add_argument("--seeds", type=int, default=3, help="how many [3]")
    parser.add_argument("--data", type=Path, help="another mnist.npz")
    parser.add_argument("--quick", action="store_true", help="under a minute; the figures mean nothing")
    parser.add_argument("--json", action="store_true", dest="as_json")
    return parser.parse_args(arguments)


def python(log: Console) -> Path:
    """The interpreter that has Avalanche; its environment is made on first use. Raises Failed."""
    named = os.environ.get("EVERLEARN_BENCH_AVALANCHE")
    if named:
        if not Path(named).exists():
            raise Failed(f"EVERLEARN_BENCH_AVALANCHE names {named}, which is not there")
        return Path(named)
    venv = CACHE / "avalanche"
    mark, wanted, made = venv / "installed", PEER_PINS.read_text(), venv / "bin" / "python"
    if not mark.exists() or mark.read_text() != wanted:
        log.print(f"installing Avalanche in {venv} (a minute or more, only once)")
        steps = [
            [sys.executable, "-m", "venv", "--clear", str(venv)],
            [str(made), "-m", "pip", "install", "--quiet", "--requirement", str(PEER_PINS)],
        ]
        for step in steps:
            done = subprocess.run(step, capture_output=True, text=True)
            if done.returncode:
                raise Failed(f"Avalanche cannot be installed: {done.stderr.strip()[-300:]}")
        mark.write_text(wanted)
    return made


def stream(data: Mnist, tasks: int, place: Path) -> Path:
    """The rows of a seed in their order, as runners read them."""
    parts: dict[str, list[Any]] = {}
    for task in range(tasks):
        told = [(X.astype(np.uint8), y) for X, y in data.train(task)]
        rows = {"": tuple(np.concatenate(both) for both in zip(*told, strict=True)), "test_": data.test(task)}
        for name, (X, y) in rows.items():
            parts.setdefault(f"{name}x", []).append(X.astype(np.uint8))
            parts.setdefault(f"{name}y", []).append(y)
            parts.setdefault(f"{name}task", []).append(np.full(len(y), task))
    np.savez(place, **{name: np.concatenate(part) for name, part in parts.items()})
    return place


def job(method: str, buffer: int, file: Path, seed: int) -> dict[str, Any]:
    """What a runner is asked."""
    name = method.removesuffix("_balanced")
    given = METHODS["split_mnist"][name][str(buffer)]
    parameters = {key: given[key] for key in TOLD[method]} | {"batch": 10}
    if buffer:
        parameters["replay"] = 10
    return {"method": method, "data": str(file), "size": buffer, "parameters": parameters, "seed": seed}


def run(options: argparse.Namespace, log: Console) -> dict[str, Any]:
    started, before = time.perf_counter(), os.getloadavg()[0]
    seeds = range(options.seed, options.seed + (1 if options.quick else options.seeds))
    pythons, unavailable = {"ours": Path(sys.executable)}, None
    try:
        pythons["avalanche"] = python(log)
    except Failed as error:
        unavailable = str(error)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        scripts = {"ours": BENCH / "continual_ours.py", "avalanche": BENCH / "peers" / "avalanche_runner.py"}
        runners = {side: stack.enter_context(Runner(path, scripts[side])) for side, path in pythons.items()}
        runs: Runs = {}
        for seed in seeds:
            measured(options, seed, folder, runners, runs, log)
    results = {
        method: {buffer: summary(sides) for buffer, sides in buffers.items()}
        for method, buffers in runs.items()
    }
    last = {
        side: one[0] for buffers in runs.values() for sides in buffers.values() for side, one in sides.items()
    }
    return {
        "machine": machine(),
        "commit": commit(),
        "seed": options.seed,
        "seeds": len(seeds),
        "quick": options.quick,
        "versions": {side: last[side]["versions"] if side in last else None for side in SIDES},
        "load": [before, os.getloadavg()[0]],
        "threads": {side: last[side]["threads"] if side in last else None for side in SIDES},
        "results": results,
        "goals": goals(results, whole=not options.quick),
        "unavailable": unavailable,
        "seconds": time.perf_counter() - started,
    }


def measured(
    options: argparse.Namespace, seed: int, folder: Path, runners: dict[str, Runner], runs: Runs, log: Console
) -> None:
    """Measure every method with a seed, on both sides in turns."""
    data = Mnist(
        "split_mnist", seed, **({"path": options.data} if options.data else {}),
        **({"rows": 500} if options.quick else {}),
    )  # fmt: skip
    file = stream(data, 2 if options.quick else len(data), folder / "stream.npz")
    for turn, (method, buffer) in enumerate((m, b) for m in options.methods for b in BUFFERS[m]):
        order = SIDES if (seed + turn) % 2 else SIDES[::-1]
        for side in [side for side in order if side in runners]:
            found = runners[side].ask(job(method, buffer, file, seed))
            reached = f"{found['accuracy']:.2f} % in {found['seconds']:.1f} s"
            log.print(f"{method} {buffer}, seed {seed}, {side}: {reached}", style="dim")
            runs.setdefault(method, {}).setdefault(str(buffer), {}).setdefault(side, []).append(found)


def summary(sides: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Both sides of a method, and how many times as fast ours is."""
    found: dict[str, Any] = {side: mean(sides[side]) if side in sides else None for side in SIDES}
    ours, peer = found["ours"], found["avalanche"]
    for name, key in (("ratio", "seconds"), ("cpu_ratio", "cpu_seconds")):
        found[name] = None if peer is None else peer[key] / ours[key]
    return found


def goals(results: dict[str, Any], *, whole: bool) -> list[dict[str, Any]]:
    """Accuracy and speed of every method beside Avalanche's."""
    found = []
    for method, buffers in results.items():
        for buffer, one in buffers.items():
            ours, peer = one["ours"], one["avalanche"] if whole else None
            of = {"method": method, "buffer": buffer}
            bar = None if peer is None else peer["accuracy"]
            met = None if peer is None else ours["accuracy"] + ours["std"] >= bar
            found.append({"goal": "accuracy", **of, "value": ours["accuracy"], "bar": bar, "met": met})
            met = None if peer is None else one["ratio"] >= SPEED
            found.append({"goal": "times as fast", **of, "value": one["ratio"], "bar": SPEED, "met": met})
    return found


def show(found: dict[str, Any], console: Console) -> None:
    from rich.table import Table

    table = Table("method", "buffer", "ours %", "Avalanche %", "ours s", "Avalanche s", "times as fast")
    for method, buffers in found["results"].items():
        for buffer, one in buffers.items():
            texts = [
                ("-", "-") if part is None
                else (f"{part['accuracy']:.2f} ± {part['std']:.2f}", f"{part['seconds']:.1f}")
                for part in (one["ours"], one["avalanche"])
            ]  # fmt: skip
            accuracies, seconds = zip(*texts, strict=True)
            ratio = "-" if one["ratio"] is None else f"{one['ratio']:.1f}"
            table.add_row(method, buffer, *accuracies, *seconds, ratio)
    console.print(table)
    versions = found["versions"]["avalanche"] or {}
    console.print(", ".join(f"{name} {number}" for name, number in versions.items()), style="dim")
    if found["unavailable"]:
        console.print(f"no Avalanche: {found['unavailable']}")


def main() -> int:
    options = parse()
    found = run(options, Console(stderr=True))
    if options.as_json:
        print(json.dumps(found, indent=2))
    else:
        show(found, Console())
    missed = found["unavailable"] is not None or any(goal["met"] is False for goal in found["goals"])
    return int(missed and not options.quick)


if __name__ == "__main__":
    sys.exit(main())
