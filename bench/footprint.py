"""How soon an API process is ready, how much memory it holds, and which heavy libraries are in it.

    python bench/footprint.py [--rounds N] [--seed N] [--quick] [--json]

Each model is taught once in an installation of its own. Then the API process is started on it, as
``everlearn up`` starts it, until ``/v1/health/ready`` says that it can serve; it answers a row, and a moment
later its resident memory is read (Linux), and it tells itself what it has imported.
Figures are medians over the rounds. ``up`` is the whole of ``everlearn up`` on the last of the installations.

``--json`` prints one object:

models   [{name, ready_seconds, cpu_seconds, rss_mb, imported}]
         ``cpu_seconds`` is the processor's time until then, which a busy machine does not stretch;
         ``imported``: which of mlflow, pandas, sklearn
up       {ready_seconds}
goals    {ready_under_3_s, under_200_mb, nothing_needless}
rounds, seed, quick, seconds
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table

import serving_servers as servers
from live_server import LiveServer, free_port

WATCHED = ("mlflow", "pandas", "sklearn")
MODELS: dict[str, tuple[dict[str, Any] | None, frozenset[str]]] = {
    "none": (None, frozenset()),
    "linear": ({"name": "linear"}, frozenset()),
    "scikit-learn logistic": (
        {"name": "window", "estimator": "logistic", "size": 2000},
        frozenset({"sklearn"}),
    ),
}
"""Learners, and the libraries that each of them needs."""

CODE = """
import json, os, signal, sys

def tell(*_):
    path = os.environ["MODULES"]
    with open(path + ".draft", "w") as file:
        json.dump(sorted(sys.modules), file)
    os.replace(path + ".draft", path)

signal.signal(signal.SIGUSR1, tell)
from everlearn.api.serve import main
main()
"""
SETTLED = 1.0
"""Seconds after the first answer until memory is read: what is done in the background is done."""


@dataclass
class Found:
    """What was measured of one model, a value a round."""

    name: str
    needs: frozenset[str]
    ready: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    rss: list[float] = field(default_factory=list)
    imported: set[str] = field(default_factory=set)

    def told(self) -> dict[str, Any]:
        """What ``--json`` says of it."""
        return {
            "name": self.name,
            "ready_seconds": round(statistics.median(self.ready), 2),
            "cpu_seconds": round(statistics.median(self.cpu), 2),
            "rss_mb": round(statistics.median(self.rss), 1),
            "imported": sorted(self.imported),
        }


def teach(folder: Path, learner: dict[str, Any] | None, seed: int) -> str:
    """Make an installation where a model of the learner answers (or none); returns its key."""
    with LiveServer(folder, mlflow=False) as server, server.client() as client:
        if learner is not None:
            rows, classes = servers.data(seed)
            client.create_model({**servers.SPEC, "learner": learner, "update": "triggered"})
            client.load(servers.MODEL, rows, classes)
            deadline = time.monotonic() + servers.START_SECONDS
            while client.model(servers.MODEL)["serving"] == 0:
                if time.monotonic() > deadline:
                    raise RuntimeError(f"the model was not trained:\n{server.tail()}")
                time.sleep(0.1)
        return server.key


def measure(found: Found, folder: Path, key: str, row: servers.Row | None) -> None:
    """One round: start, ask, weigh, stop."""
    port, modules = free_port(), folder.with_suffix(".modules")
    environment = {
        **os.environ,
        "EVERLEARN_DATA": str(folder),
        "EVERLEARN_API_KEY": key,
        "EVERLEARN_PORT": str(port),
        "MODULES": str(modules),
    }
    began = time.monotonic()
    with folder.with_suffix(".api.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", CODE], env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL
        )
    try:
        _await_ready(f"http://127.0.0.1:{port}/v1/health/ready", process)
        found.ready.append(time.monotonic() - began)
        found.cpu.append(_processor(process.pid))
        if row is not None:
            url = f"http://127.0.0.1:{port}/v1/models/{servers.MODEL}/predict"
            headers = {"Authorization": f"Bearer {key}"}
            answer = httpx.post(url, json={"row": row}, headers=headers, trust_env=False).raise_for_status()
            assert answer.json()["predictions"][0]["version"] > 0
        time.sleep(SETTLED)
        found.rss.append(_resident(process.pid))
        found.imported |= _imported(process, modules) & set(WATCHED)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


def _imported(process: subprocess.Popen[bytes], told: Path) -> set[str]:
    """The packages that a process has imported, as it tells itself."""
    told.unlink(missing_ok=True)
    process.send_signal(signal.SIGUSR1)
    deadline = time.monotonic() + 10
    while not told.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    return {name.partition(".")[0] for name in json.loads(told.read_text())}


def _await_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        try:
            if httpx.get(url, timeout=2, trust_env=False).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.02)
    raise RuntimeError("the API process did not get ready")


def _processor(pid: int) -> float:
    """Seconds of the processor that a process has had."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _resident(pid: int) -> float:
    """Resident memory in MB (10^6 bytes)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise RuntimeError("there is no VmRSS")


def whole(folder: Path) -> float:
    """Seconds from the start of ``everlearn up`` to its readiness."""
    began = time.monotonic()
    with LiveServer(folder, mlflow=False):
        return time.monotonic() - began


def run(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """All models, all rounds."""
    begun = time.monotonic()
    row = servers.data(options.seed)[0][0]
    every: list[Found] = []
    with tempfile.TemporaryDirectory() as place:
        for i, (name, (learner, needs)) in enumerate(MODELS.items()):
            folder = Path(place) / f"data-{i}"
            key = teach(folder, learner, options.seed)
            found = Found(name, needs)
            every.append(found)
            for _ in range(options.rounds):
                measure(found, folder, key, None if learner is None else row)
                console.print(f"{name}: {found.ready[-1]:.2f} s, {found.rss[-1]:.0f} MB", style="dim")
        up = [whole(folder) for _ in range(options.rounds)]
    return result(every, up, options, time.monotonic() - begun)


def result(
    every: Sequence[Found], up: Sequence[float], options: argparse.Namespace, seconds: float
) -> dict[str, Any]:
    """What was found, as ``--json`` prints it."""
    models = [found.told() for found in every]
    ready = [*(model["ready_seconds"] for model in models), round(statistics.median(up), 2)]
    return {
        "models": models,
        "up": {"ready_seconds": ready[-1]},
        "goals": {
            "ready_under_3_s": max(ready) < 3.0,
            "under_200_mb": all(model["rss_mb"] < 200.0 for model in models),
            "nothing_needless": all(found.imported <= found.needs for found in every),
        },
        "rounds": options.rounds,
        "seed": options.seed,
        "quick": options.quick,
        "seconds": round(seconds, 1),
    }


def show(found: dict[str, Any], console: Console) -> None:
    """The table."""
    table = Table(title=f"one API process with one model, medians of {found['rounds']}")
    for title in ("model", "ready s", "of it CPU s", "RSS MB", "imported"):
        table.add_column(title)
    for model in found["models"]:
        imported = ", ".join(model["imported"]) or "-"
        numbers = [f"{model['ready_seconds']:.2f}", f"{model['cpu_seconds']:.2f}", f"{model['rss_mb']:.0f}"]
        table.add_row(model["name"], *numbers, imported)
    console.print(table)
    console.print(f"everlearn up is ready in {found['up']['ready_seconds']:.2f} s; goals {found['goals']}")


def options_of(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=None)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="under a minute: one round")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    options.rounds = options.rounds or (1 if options.quick else 5)
    return options


def main() -> None:
    """Measure and tell."""
    options = options_of()
    found = run(options, Console(stderr=True))
    if options.json:
        print(json.dumps(found))
    else:
        show(found, Console())


if __name__ == "__main__":
    main()
