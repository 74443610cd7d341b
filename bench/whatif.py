"""Play a long recorded log under ten policies: how many events a second, where answers can be reused.

    python bench/whatif.py [--events N] [--database sqlite|memory] [--seed N] [--quick] [--json]

It writes a synthetic record (two features, a line that turns three times, a tenth of the labels wrong,
labels 100 rows late) into the store of a temporary installation, reads it back as ``everlearn what-if``
does, and plays it under ten policies with the product's own driver. Every policy is played twice: first
it works its trainings and answers out (``cold_seconds``), then it takes them from the library
(``seconds``), which is what the fold itself costs. One process, one thread.

``--json`` prints one object:

events          events in the record that are played: a prediction or a label each
policies        how many policies
seconds         of playing all policies once, with trainings and answers reused (wall time)
cpu_seconds     the same in time of the processor
cold_seconds    of playing them with nothing to reuse but what the policies before had made
load_seconds    of reading the record from the store and putting it in order
store_seconds   of writing it there
events_per_second_per_policy      events * policies / seconds
events_per_cpu_second_per_policy  the same by cpu_seconds
floor_events_per_cpu_second       what the driver does with a loop that decides nothing
per_policy      [{name, seconds, cpu_seconds, cold_seconds, events_per_second, trained, updates, reused}]
                ``reused``: the share of answers in the second run that came from the library
"""

from __future__ import annotations

import argparse
import gc
import json
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from everlearn.loop.defaults import with_defaults
from everlearn.loop.training import silent
from everlearn.loop.whatif_driver import Player
from everlearn.loop.whatif_library import Library
from everlearn.loop.whatif_record import Recording, of_log, read_log
from everlearn.loop.whatif_settings import Setting, crossed, lean
from everlearn.spec import ModelSpec, parse_spec
from everlearn.types import EventKind, NewEvent
from everlearn.wiring import Installation

MODEL = "recorded"
EVENTS = 1_000_000
QUICK_EVENTS = 40_000
DELAY = 100
BATCH = 10_000
POLICIES: tuple[dict[str, Any], ...] = (
    {"name": "never"},
    {"name": "every", "every": 50_000},
    {"name": "every", "every": 150_000},
    {"name": "threshold"},
    {"name": "threshold", "act_on": "proof"},
    {"name": "threshold", "window": 2000},
    {"name": "on_drift"},
    {"name": "on_drift", "cooldown": 5000},
    {"name": "cost_aware", "price": 25.0},
    {"name": "cost_aware", "price": 250.0},
)


def make_spec(seed: int) -> ModelSpec:
    given = {"name": MODEL, "target": "y", "features": {"a": "numeric", "b": "numeric"}, "seed": seed}
    learner = {"name": "window", "size": 1000, "estimator": "logistic"}
    spec = {**given, "learner": learner, "label_horizon": {"rows": DELAY}, "threshold": 0.8}
    return with_defaults(parse_spec(spec))


def make_events(rows: int, seed: int) -> Iterator[NewEvent]:
    """Predictions by a rule that was right at first, and their labels, late."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, 2))
    turned = (np.arange(rows) * 4 // rows) % 2 == 1
    truth = ((x.sum(axis=1) > 0) != turned) != (rng.random(rows) < 0.1)
    chance = 1.0 / (1.0 + np.exp(-4.0 * x.sum(axis=1)))
    values = zip(x.tolist(), chance.tolist(), truth.tolist(), strict=True)
    labels: list[str] = []
    for i, ((a, b), p, y) in enumerate(values):
        output = {"value": "yes" if p > 0.5 else "no", "probabilities": {"no": 1.0 - p, "yes": p}}
        body = {"features": {"a": a, "b": b}, **output, "version": 0}
        yield NewEvent(EventKind.PREDICTION, float(i), f"p{i}", body)
        labels.append("yes" if y else "no")
        if i >= DELAY:
            yield NewEvent(EventKind.LABEL, float(i), f"p{i - DELAY}", {"value": labels[i - DELAY]})


def write(log: Any, events: Iterator[NewEvent], total: int, told: Any) -> float:
    """Append the record; the seconds it took."""
    began, done = time.perf_counter(), 0
    while batch := list(islice(events, BATCH)):
        log.append(MODEL, batch)
        done += len(batch)
        told(done / total)
    return time.perf_counter() - began


def record(
    events: int, seed: int, database: str, folder: Path, told: Any
) -> tuple[Recording, ModelSpec, Any]:
    """The recording with the seconds of writing and of reading it."""
    spec, made = make_spec(seed), make_events(events // 2 + DELAY // 2, seed)
    if database == "memory":
        from everlearn.adapters.memory import MemoryStore

        store: Any = MemoryStore()
    else:
        store = Installation.load(data=folder)
        store.prepare()
        store.migrate()
    store.models.create(spec, 0.0)
    stored = write(store.log, made, events, told)
    began = time.perf_counter()
    recording, spec = of_log(read_log(store.log, MODEL))
    loaded = time.perf_counter() - began
    if database != "memory":
        store.close()
    return recording, spec, (stored, loaded)


def timed(player: Player) -> tuple[float, float]:
    """Play it; the seconds on the wall, and of the processor."""
    wall, cpu = time.perf_counter(), time.process_time()
    player.run(silent)
    return time.perf_counter() - wall, time.process_time() - cpu


def play(setting: Setting, recording: Recording, library: Library) -> dict[str, Any]:
    """One policy, cold and then with all that the library holds."""
    spec = lean(setting.spec)
    cold, _ = timed(Player(spec, recording, library))
    made, reused = library.made, library.reused
    player = Player(spec, recording, library)
    seconds, cpu = timed(player)
    made, reused = library.made - made, library.reused - reused
    kinds = [str(decision.kind) for decision in player.decisions]
    return {
        "name": setting.name,
        "seconds": seconds,
        "cpu_seconds": cpu,
        "cold_seconds": cold,
        "events_per_second": len(recording.steps) / seconds,
        "trained": kinds.count("update"),
        "updates": kinds.count("promote") + kinds.count("rollback"),
        "reused": reused / max(1, made + reused),
    }


def floor(setting: Setting, recording: Recording) -> float:
    player, cpu = Player(setting.spec, recording, Library()), time.process_time()
    for _ in player.moments(silent):
        pass
    return len(recording.steps) / (time.process_time() - cpu)


def measure(events: int, seed: int, database: str, told: Any) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        recording, spec, (stored, loaded) = record(events, seed, database, Path(folder), told)
    told(0.0)
    gc.freeze()  # as the command does
    settings = crossed(spec, POLICIES)
    lines, library = [], Library(time.perf_counter)
    for setting in settings:
        lines.append(play(setting, recording, library))
        told(len(lines) / len(settings))
    seconds, cpu = sum(line["seconds"] for line in lines), sum(line["cpu_seconds"] for line in lines)
    played = len(recording.steps) * len(lines)
    return {
        "events": len(recording.steps),
        "policies": len(lines),
        "seconds": seconds,
        "cpu_seconds": cpu,
        "cold_seconds": sum(line["cold_seconds"] for line in lines),
        "load_seconds": loaded,
        "store_seconds": stored,
        "events_per_second_per_policy": played / seconds,
        "events_per_cpu_second_per_policy": played / cpu,
        "floor_events_per_cpu_second": floor(settings[0], recording),
        "per_policy": lines,
    }


def show(found: dict[str, Any]) -> None:
    table = Table("policy", "seconds", "cpu s", "cold s", "events/s", "trained", "updates", "reused")
    for line in found["per_policy"]:
        times = [f"{line[key]:.1f}" for key in ("seconds", "cpu_seconds", "cold_seconds")]
        counts = [f"{line['events_per_second']:,.0f}", str(line["trained"]), str(line["updates"])]
        table.add_row(line["name"], *times, *counts, f"{line['reused']:.1%}")
    console = Console()
    console.print(table)
    console.print(
        f"{found['events']:,} events, {found['policies']} policies: "
        f"{found['events_per_second_per_policy']:,.0f} events a second a policy "
        f"({found['events_per_cpu_second_per_policy']:,.0f} by processor time; the driver alone "
        f"{found['floor_events_per_cpu_second']:,.0f}); read in {found['load_seconds']:.1f} s"
    )


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--events", type=int)
    parser.add_argument("--database", choices=("sqlite", "memory"), default="sqlite")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(arguments)
    events = given.events or (QUICK_EVENTS if given.quick else EVENTS)
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("what-if", total=1.0)
        found = measure(events, given.seed, given.database, lambda share: bar.update(task, completed=share))
    if given.json:
        print(json.dumps(found, indent=2))
    else:
        show(found)


if __name__ == "__main__":
    main()
