"""Digits come to a live server class by class, their labels late: what is served must not forget.

    python bench/digits.py [--rows N] [--delay ROWS] [--seed N] [--quick] [--plot PNG] [--json]

Needs ``everlearn[torch]`` and MNIST (``--data FILE``). ``everlearn up`` is started in a folder of its own.
The digits 0 and 1 come mixed, then 2, 3, … 9 one after another, each image once, over HTTP; each label comes
``--delay`` rows later. Four models are given the same stream:

image        the exact learner of images
er           a network with a buffer of old rows
fine_tuning  a network that goes on learning what comes
ungated      the same network with ``gate: open`` and no watch after it: every version goes live

All but the last protect every regime (``regimes: {protect: all}``), so the gate asks of each version whether
it has forgotten a class. After each promotion the old and the new champion are asked about the same test
images of all classes that have come so far. These images are never sent while the stream runs: they are
answered by the stored artifact of the version, and answers that were served are compared with those of the
artifact. At the end they are sent, and what is served is scored.

``--json`` prints one object:

models       {name: {"promotions", "rollbacks", "refused" (candidates), "refused_forgetful" (because they had
             forgotten), "worst_fall" (points of accuracy on all classes so far by which a promotion made it
             fall, at most), "best" (accuracy % that a promotion led to), "final" (that on all ten),
             "final_served" (the same, asked over HTTP), "compared" and "different" (answers served beside
             those of the artifact), "verify" (verdict of ``everlearn replay --recorded``), "changes" (each
             promotion), "refusals" [row, version, reason],
             "course" [row, accuracy % of the champion on all classes so far]}}
goals        [goal, value, bar, met]
rows, classes, delay, publish_every, test (images), seed, quick, machine, commit, seconds

The exit code is 1 if a goal was not met. ``--quick`` sends 80 rows a digit, too few to be sure that all are.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from continual import commit
from digits_world import UNGATED, Change, Digits, Pupil, class_by_class, spec_of, teach
from everlearn.wiring import Installation
from live_record import verdict
from live_server import LiveServer
from runs import machine

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "mnist.npz"
FALL = 2.0
"""Points of accuracy on all classes so far that a promotion may cost."""

COLLAPSED = 30.0
"""Accuracy % on all ten digits at which fine-tuning has lost most of them."""

GATED = ("image", "er", "fine_tuning")
COLOURS = {"image": "#1b7837", "er": "#2166ac", "fine_tuning": "#b2182b", "ungated": "#888888"}


def load(options: argparse.Namespace) -> Digits:
    """The stream and the test images, none of them in both, from the training part of MNIST."""
    if not options.data.is_file():
        raise SystemExit(f"{options.data} is not there: give MNIST with --data FILE")
    with np.load(options.data) as stored:
        X, y = stored["x_train"], stored["y_train"]
    shape = (1, 28, 28)
    return class_by_class(X, y, shape, 255.0, rows=options.rows, test=options.test, seed=options.seed)


def specs(digits: Digits, options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """The four models."""
    network = {"outputs": 10}
    image = {"name": "image", "shape": list(digits.shape), "filters": 150, "first": options.publish_every}
    learners: dict[str, dict[str, Any]] = {
        "image": image,
        "er": {"name": "er", "size": 2000, "replay": 100, **network},
        "fine_tuning": {"name": "fine_tuning", **network},
        "ungated": {"name": "fine_tuning", **network},
    }
    how = {
        "delay": options.delay,
        "publish_every": options.publish_every,
        "first_rows": 3 * options.publish_every,
        "seed": options.seed,
    }
    return {
        name: spec_of(name, digits, learner, **how, **(UNGATED if name == "ungated" else {}))
        for name, learner in learners.items()
    }


def run(options: argparse.Namespace, folder: Path, console: Console) -> dict[str, Any]:
    started, digits = time.monotonic(), load(options)
    data = folder / "data"
    with LiveServer(data, mlflow=False) as server, server.client() as client:
        installation = Installation.load(data=data)
        pupils = []
        for name, spec in specs(digits, options).items():
            client.create_model(spec)
            pupils.append(Pupil(name, digits, client, installation))
        with Progress(console=console, disable=not console.is_terminal) as progress:
            task = progress.add_task("streaming", total=len(digits.X))
            teach(
                pupils,
                digits,
                delay=options.delay,
                batch=options.batch,
                told=lambda pupil, change: tell(console, pupil.name, change, time.monotonic() - started),
                progress=lambda row: progress.update(task, completed=row),
            )
        for pupil in pupils:
            pupil.prove()
        models = {pupil.name: pupil.report() for pupil in pupils}
        installation.close()
    for name, found in models.items():
        found["verify"] = verdict(data, name)
    return {
        "models": models,
        "goals": goals(models),
        "rows": len(digits.X),
        "classes": {str(digit): begins for digit, begins in digits.begins.items()},
        "delay": options.delay,
        "publish_every": options.publish_every,
        "test": len(digits.test_truths),
        "seed": options.seed,
        "quick": options.quick,
        "machine": machine(),
        "commit": commit(),
        "seconds": time.monotonic() - started,
    }


def tell(console: Console, name: str, change: Change, seconds: float) -> None:
    words = f"{change.before:5.1f} → {change.after:5.1f} % of {len(change.classes)} classes"
    moved = f"{change.kind} {change.replaces} → {change.version}"
    console.print(
        f"{seconds:6.1f} s  row {change.row:5}  {name:12} {moved:18} {words}", style="dim", soft_wrap=True
    )


def goals(models: Mapping[str, Mapping[str, Any]]) -> list[list[Any]]:
    """What must hold: [goal, value, bar, met]."""
    free, held = models["ungated"], models["fine_tuning"]
    checks = [
        [
            f"{name}: worst fall",
            models[name]["worst_fall"],
            f"<= {FALL:g}",
            models[name]["worst_fall"] <= FALL,
        ]
        for name in GATED
    ]
    checks += [
        ["ungated: worst fall", free["worst_fall"], f"> {FALL:g}", free["worst_fall"] > FALL],
        ["ungated: in the end", free["final"], f"< {COLLAPSED:g}", free["final"] < COLLAPSED],
        ["fine_tuning: refused", held["refused_forgetful"], ">= 1", held["refused_forgetful"] >= 1],
        ["image: in the end", models["image"]["final"], ">= 90", models["image"]["final"] >= 90],
    ]
    for name, found in models.items():
        checks.append([f"{name}: served otherwise", found["different"], "0", found["different"] == 0])
        told = abs(found["final"] - found["final_served"])
        checks.append([f"{name}: test images over HTTP", told, "0", told < 1e-9])
        checks.append([f"{name}: verify", found["verify"], "identical", found["verify"] == "identical"])
    return checks


def show(found: Mapping[str, Any], console: Console) -> None:
    for name, model in found["models"].items():
        table = Table("row", "change", "classes", "before %", "after %", title=name)
        for one in model["changes"]:
            moved = f"{one['kind']} {one['replaces']} → {one['version']}"
            numbers = (f"{one['before']:.1f}", f"{one['after']:.1f}")
            table.add_row(f"{one['row']:,}", moved, str(len(one["classes"])), *numbers)
        console.print(table)
    end = Table("model", "promotions", "refused", "worst fall", "in the end %", "verify", title="in all")
    for name, model in found["models"].items():
        refused = f"{model['refused']} ({model['refused_forgetful']} forgetful)"
        numbers = (f"{model['worst_fall']:.1f}", f"{model['final_served']:.1f}")
        end.add_row(name, str(model["promotions"]), refused, *numbers, str(model["verify"]))
    console.print(end)
    for goal, value, bar, met in found["goals"]:
        shown = f"{value:.2f}" if isinstance(value, float) else value
        console.print(f"{'met   ' if met else 'MISSED'} {goal}: {shown} ({bar})")
    console.print(
        f"{found['rows']:,} rows to each of {len(found['models'])} models in {found['seconds']:.0f} s"
    )


def draw(found: Mapping[str, Any], path: Path) -> None:
    """The champions' accuracy on all classes so far over the rows, with what the gate refused."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 5), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for name, model in found["models"].items():
        rows, accuracy = zip(*model["course"], strict=True)
        label = f"{name}: {model['final']:.0f}% in the end, {model['refused_forgetful']} versions refused"
        axes.step(rows, accuracy, where="post", color=COLOURS[name], label=label, linewidth=1.8)
        refused = [row for row, _, reason in model["refusals"] if "forgotten" in reason]
        at = np.searchsorted(rows, refused, side="right") - 1
        axes.plot(refused, np.array(accuracy)[at], "x", color=COLOURS[name], markersize=5)
    for begins in sorted(set(found["classes"].values())):
        coming = ", ".join(digit for digit, first in found["classes"].items() if first == begins)
        axes.axvline(begins, color="#cccccc", linewidth=0.6, zorder=0)
        axes.text(begins, 103, f" {coming}", fontsize="small", color="#666666")
    axes.set(ylim=(0, 102), xlim=(0, found["rows"]), xlabel="rows sent (a digit comes at each line)")
    axes.set_ylabel("accuracy of what is served, on all digits so far, %")
    figure.legend(loc="outside lower center", ncols=2, fontsize="small")
    figure.savefig(path, format="png")


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=DATA, help="MNIST as an .npz file")
    parser.add_argument("--rows", type=int, help="images of each digit [500]")
    parser.add_argument("--test", type=int, default=200, help="images of each digit to be tested on [200]")
    parser.add_argument("--delay", type=int, help="rows after which a label comes [half of --rows]")
    parser.add_argument("--seed", type=int, default=0, help="[0]")
    parser.add_argument("--quick", action="store_true", help="80 rows a digit")
    parser.add_argument("--plot", type=Path, metavar="PNG", help="draw accuracy over the rows")
    parser.add_argument("--keep", type=Path, help="folder to keep the installation in [a temporary one]")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    options.rows = options.rows or (80 if options.quick else 500)
    options.delay = options.rows // 2 if options.delay is None else options.delay
    options.batch = max(10, options.rows // 10)
    options.publish_every = max(20, options.rows // (2 if options.quick else 4))
    return options


def main() -> int:
    options, console = parse(), Console(stderr=True)
    if options.keep is not None:
        options.keep.mkdir(parents=True)
        found = run(options, options.keep, console)
    else:
        with tempfile.TemporaryDirectory(prefix="everlearn-bench-", ignore_cleanup_errors=True) as folder:
            found = run(options, Path(folder), console)
    if options.plot is not None:
        draw(found, options.plot)
    if options.json:
        print(json.dumps(found))
    else:
        show(found, Console())
    return 0 if all(met for *_, met in found["goals"]) else 1


if __name__ == "__main__":
    sys.exit(main())
