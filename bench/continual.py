"""Measure how much networks and the image learner remember, in the settings of the DER table.

    python bench/continual.py [--settings NAME ...] [--methods NAME ...] [--seeds N]
                              [--fresh] [--quick] [--json]

Split MNIST, class-incremental: five tasks of two digits. Permuted MNIST, domain-incremental: twenty tasks,
each with the pixels in an order of its own. One pass, a network of two layers of 100, batches of 10 and of
128. The accuracy is the mean over tasks at the end; for Split MNIST it is that among all ten digits. What was
measured is kept in ``bench/.cache/continual`` by setting, method, buffer, parameters, seed, code and machine,
so that a run goes on where another was stopped (``--fresh`` measures again).

``--json`` prints one object:

machine, commit, seed, seeds, quick     of the run
results     {setting: {method: {buffer ("0" for none): accuracy % (mean over seeds), std, seconds (of
            training, mean), cpu_seconds (the same of all cores, for where others share them), published (or
            null), seeds (how many), accuracies}}}
goals       [setting, method, buffer, accuracy, bar, std, met]: met if accuracy + std reaches the bar
seconds     of the whole run

``--settings split_cifar10`` measures the image learner on the full CIFAR-10 (some ten minutes of two cores).
With ``--quick`` it is two short tasks of few methods; the figures mean nothing then.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from continual_cifar import Cifar
from continual_mnist import METHODS, PUBLISHED, Mnist
from everlearn import learners
from runs import CACHE, machine

SOURCES = Path(learners.__file__).parent
BASES = {
    "cls_er": ("er",), "der_pp": ("der",), "oewc": ("importance",), "si": ("importance",),
    "gdumb": ("refitting",),
}  # fmt: skip
QUICK = {"split_mnist": ("fine_tuning", "er", "image"), "permuted_mnist": ("fine_tuning", "der_pp")}


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    every = sorted({method for methods in METHODS.values() for method in methods})
    parser.add_argument("--settings", nargs="+", choices=list(METHODS), default=list(QUICK))
    parser.add_argument("--methods", nargs="+", choices=every, default=every, metavar="NAME")
    parser.add_argument("--buffers", nargs="+", metavar="ROWS", help="only these sizes")
    parser.add_argument("--seed", type=int, default=0, help="the first seed [0]")
    parser.add_argument("--seeds", type=int, default=3, help="how many [3]")
    parser.add_argument("--data", type=Path, help="another mnist.npz")
    parser.add_argument("--fresh", action="store_true", help="measure again what is known")
    parser.add_argument("--quick", action="store_true", help="under a minute; the figures mean nothing")
    parser.add_argument("--json", action="store_true", dest="as_json")
    return parser.parse_args(arguments)


def measure(data: Mnist | Cifar, method: str, buffer: str, parameters: dict[str, Any]) -> dict[str, float]:
    """Teach a learner every task once; the accuracy on all of them at the end, and seconds of teaching."""
    size = {} if buffer == "0" else {"size": int(buffer)}
    learner: Any = learners.build(method, seed=data.seed, **size, **parameters)
    taken = np.zeros(2)
    for task in range(len(data)):
        for X, y in data.train(task):
            taken += timed(learner.learn, X, y)
        if hasattr(learner, "end_task"):
            taken += timed(learner.end_task)
    taken += timed(learner.predict, data.test(0)[0][:1])  # some fit, or solve, when they are asked
    found = []
    for task in range(len(data)):
        X, y = data.test(task)
        said = np.array(learner.classes)[learner.predict(X).argmax(axis=1)]
        found.append(float((said == y).mean()))
    seconds, cpu = taken.tolist()
    return {"accuracy": 100.0 * float(np.mean(found)), "seconds": seconds, "cpu_seconds": cpu}


def timed(work: Callable[..., Any], *given: Any) -> Any:
    """Seconds of the clock and of all cores."""
    started = np.array([time.perf_counter(), time.process_time()])
    work(*given)
    return np.array([time.perf_counter(), time.process_time()]) - started


def code(method: str) -> str:
    """A digest of what a method's result depends on."""
    folder = SOURCES / ("images" if method == "image" else "networks")
    shared = ("network", "tools", "settings", "columns", "modules", "chain", "buffers", method)
    names = (*shared, *BASES.get(method, ()))
    files = sorted(folder.glob("*.py")) if method == "image" else [folder / f"{name}.py" for name in names]
    made = sha256()
    for file in files:
        made.update(file.read_bytes())
    return made.hexdigest()


def known(key: list[Any]) -> Path:
    """Where a result is kept."""
    return CACHE / "continual" / f"{sha256(json.dumps(key).encode()).hexdigest()[:24]}.json"


def result(data: Mnist | Cifar, method: str, buffer: str, *, fresh: bool, log: Console) -> dict[str, float]:
    """A measured result, from the cache if it is known."""
    parameters = METHODS[data.setting][method][buffer]
    place = known(
        [data.setting, data.rows, data.tasks, method, buffer, parameters, data.seed, code(method), machine()]
    )
    if place.exists() and not fresh:
        found: dict[str, float] = json.loads(place.read_text())
        return found
    found = measure(data, method, buffer, parameters)
    reached = f"{found['accuracy']:.2f} % in {found['seconds']:.1f} s"
    log.print(f"{data.setting} {method} {buffer}, seed {data.seed}: {reached}", style="dim")
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(json.dumps(found))
    return found


def mean(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Of some seeds."""
    accuracies = [run["accuracy"] for run in runs]
    return {
        "accuracy": float(np.mean(accuracies)),
        "std": float(np.std(accuracies, ddof=1)) if len(runs) > 1 else 0.0,
        "seconds": float(np.mean([run["seconds"] for run in runs])),
        "cpu_seconds": float(np.mean([run["cpu_seconds"] for run in runs])),
        "accuracies": accuracies,
    }


def run(options: argparse.Namespace, log: Console) -> dict[str, Any]:
    started = time.perf_counter()
    seeds = range(options.seed, options.seed + (1 if options.quick else options.seeds))
    results: dict[str, Any] = {}
    for setting in options.settings:
        wanted = QUICK.get(setting, ()) if options.quick else options.methods
        for method in [name for name in METHODS[setting] if name in wanted]:
            for buffer in METHODS[setting][method]:
                if options.buffers and buffer not in options.buffers:
                    continue
                data = [stream(options, setting, seed) for seed in seeds]
                runs = [result(one, method, buffer, fresh=options.fresh, log=log) for one in data]
                goal = PUBLISHED[setting].get(method, {}).get(buffer)
                results.setdefault(setting, {}).setdefault(method, {})[buffer] = {
                    **mean(runs),
                    "published": goal,
                    "seeds": len(runs),
                }
    return {
        "machine": machine(),
        "commit": commit(),
        "seed": options.seed,
        "seeds": len(seeds),
        "quick": options.quick,
        "results": results,
        "goals": [] if options.quick else goals(results),
        "seconds": time.perf_counter() - started,
    }


def stream(options: argparse.Namespace, setting: str, seed: int) -> Mnist | Cifar:
    if setting == "split_cifar10":
        return Cifar(setting, seed)
    more: dict[str, Any] = {"rows": 2_500, "tasks": 2} if options.quick else {}
    return Mnist(setting, seed, **({"path": options.data} if options.data else {}), **more)


def commit() -> str:
    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=Path(__file__).parent
    )
    return done.stdout.strip()


def goals(results: dict[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for setting, methods in results.items():
        for method, buffers in methods.items():
            for buffer, found in buffers.items():
                if found["published"] is not None:
                    rows.append({
                        "setting": setting, "method": method, "buffer": buffer, "accuracy": found["accuracy"],
                        "bar": found["published"], "std": found["std"],
                        "met": found["accuracy"] + found["std"] >= found["published"],
                    })  # fmt: skip
    return rows


def show(found: dict[str, Any], console: Console) -> None:
    from rich.table import Table

    for setting, methods in found["results"].items():
        table = Table(
            "method", "buffer", "accuracy %", "std", "published", "seconds", "cpu s", "seeds", title=setting
        )
        for method, buffers in methods.items():
            for buffer, one in buffers.items():
                bar = "" if one["published"] is None else f"{one['published']:.2f}"
                cells = (f"{one['accuracy']:.2f}", f"{one['std']:.2f}", bar, f"{one['seconds']:.1f}")
                table.add_row(method, buffer, *cells, f"{one['cpu_seconds']:.1f}", str(one["seeds"]))
        console.print(table)


def main() -> int:
    options = parse()
    found = run(options, Console(stderr=True))
    if options.as_json:
        print(json.dumps(found, indent=2))
    else:
        show(found, Console())
    return 0 if all(goal["met"] for goal in found["goals"]) else 1


if __name__ == "__main__":
    sys.exit(main())
