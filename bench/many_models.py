"""A thousand models in one installation: memory within its setting, latency, and nobody starved.

    python bench/many_models.py [--models N] [--seconds S] [--cache-mb M] [--rate R] [--learner NAME]
                                [--data FOLDER] [--seed N] [--quick] [--json]

Each model learns a task of its own and publishes a version. Then ``everlearn up`` is started on them and
asked for predictions at a fixed rate, of models drawn by Zipf's law, each with its label soon after.
Meanwhile the memory of the API process is read, and how long the log of each model waits for the loop.

``--json`` prints one object:

models, learner, cache_mb, rate, zipf
weight_mb      what all of them would take in memory, by the API's own measure of the first twenty
at_version_0   models whose first version has not passed the gate before the measurement
ready_seconds  from the start of ``everlearn up`` until it is ready
rss            {base_mb, start_mb, max_mb, over_base_mb}: ``base`` is the process with one model in
               memory, after predictions, labels and a look at its metrics
predict        {count, failed, p50_ms, p99_ms, worst_ms, late, cpu_ms}: ``late`` were sent over 50 ms after
               their time, ``cpu_ms`` is the API process' processor time for a prediction and its label, loads
               included, which a busy machine does not stretch
cache          {hits, misses, evictions, hit_rate}
loop           {labels, models_labelled, never_advanced, longest_wait_s, starved, drained_s}
               a model waits while its log has events that the loop has not read and its loop does not move;
               ``starved`` waited over 30 s
list_seconds   ``everlearn models list --json``
goals          {memory_bounded, nothing_failed, nobody_starved, ready_under_10_s}
seed, quick, seconds
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table

from live_server import LiveServer, family
from models_made import draw_row, make_models, name_of, weigh_models

ZIPF = 1.1
CONNECTIONS = 32
PATIENCE = 30.0
SLACK_MB = 64.0
"""What the process may take beside the models that it keeps: requests, logs, the fragments of its memory."""


def api_process(pid: int) -> int:
    """The API process among those that a supervisor has started."""
    for member in family(pid):
        command = Path(f"/proc/{member}/cmdline").read_bytes()
        if b"everlearn.api.serve" in command:
            return member
    raise RuntimeError("there is no API process")


def cpu_seconds(pid: int) -> float:
    """The processor time that a process has used (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mb(pid: int) -> float:
    """The resident memory of a process (Linux)."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


@dataclass
class Watch:
    """Reads, until told to stop, the memory of the API process and how long each log waits for the loop."""

    pid: int
    database: Path
    every: float = 0.25
    most_mb: float = 0.0
    longest: float = 0.0
    starved: set[str] = field(default_factory=set)
    _since: dict[str, tuple[int, float]] = field(default_factory=dict)
    _over: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Watch while the block runs."""
        thread = threading.Thread(target=self._run, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()

    def _run(self) -> None:
        connection = sqlite3.connect(f"file:{self.database}?mode=ro", uri=True)
        while not self._over.wait(self.every):
            self.most_mb = max(self.most_mb, resident_mb(self.pid))
            self._look(behind(connection))
        connection.close()

    def _look(self, waiting: Mapping[str, int]) -> None:
        now = time.monotonic()
        for model in [model for model in self._since if model not in waiting]:
            del self._since[model]
        for model, cursor in waiting.items():
            known = self._since.get(model)
            if known is None or known[0] != cursor:
                self._since[model] = (cursor, now)
                continue
            waited = now - known[1]
            self.longest = max(self.longest, waited)
            if waited > PATIENCE:
                self.starved.add(model)


def behind(connection: sqlite3.Connection) -> dict[str, int]:
    """The models whose loop has not read all of their log, with how far it has."""
    found = connection.execute("SELECT name, cursor FROM models WHERE last_seq > cursor")
    return dict(found.fetchall())


def cursors(connection: sqlite3.Connection) -> dict[str, int]:
    """How far every loop has read."""
    return dict(connection.execute("SELECT name, cursor FROM models").fetchall())


@dataclass
class Traffic:
    """Predictions at a fixed rate, each followed by its label."""

    url: str
    key: str
    models: int
    rate: float
    seconds: float
    seed: int
    latencies: list[float] = field(default_factory=list)
    labelled: dict[str, int] = field(default_factory=dict)
    failed: int = 0
    late: int = 0

    async def run(self) -> None:
        """Send all of it."""
        rng = random.Random(self.seed)
        weights = [1.0 / (rank + 1) ** ZIPF for rank in range(self.models)]
        chosen = rng.choices(range(self.models), weights, k=int(self.rate * self.seconds))
        limits = httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS)
        headers = {"Authorization": f"Bearer {self.key}"}
        async with httpx.AsyncClient(base_url=self.url, headers=headers, limits=limits, timeout=60) as client:
            started, tasks = time.monotonic(), set()
            for i, model in enumerate(chosen):
                due = started + i / self.rate
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                self.late += time.monotonic() - due > 0.05
                task = asyncio.create_task(self._one(client, model, *draw_row(model, rng)))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            await asyncio.gather(*tasks)

    async def _one(self, client: httpx.AsyncClient, model: int, row: dict[str, float], label: str) -> None:
        name, began = name_of(model), time.perf_counter()
        try:
            answer = await client.post(f"/v1/models/{name}/predict", json={"row": row})
            self.latencies.append(1000.0 * (time.perf_counter() - began))
            answer.raise_for_status()
            labels = [{"id": answer.json()["predictions"][0]["id"], "value": label}]
            told = await client.post(f"/v1/models/{name}/labels", json={"labels": labels})
            told.raise_for_status()
            self.labelled[name] = self.labelled.get(name, 0) + 1
        except httpx.HTTPError:
            self.failed += 1


def counters(server: LiveServer) -> dict[str, float]:
    """What the API has counted."""
    page = httpx.get(
        f"{server.url}/metrics", headers={"Authorization": f"Bearer {server.key}"}, timeout=60
    ).text
    found = {}
    for line in page.splitlines():
        if line.startswith(("everlearn_cold_loads_total", "everlearn_evictions_total")):
            name, value = line.rsplit(" ", 1)
            found[name] = float(value)
    return found


def base_mb(data: Path) -> float:
    """The memory of an API process that has room for one model, and has done each thing once."""
    os.environ["EVERLEARN_CACHE_MB"] = "1"
    with LiveServer(data, mlflow=False) as server:
        traffic = Traffic(server.url, server.key, 1, 20.0, 2.0, 0)
        asyncio.run(traffic.run())
        counters(server)
        assert server._process is not None
        return resident_mb(api_process(server._process.pid))


def measure(arguments: argparse.Namespace, console: Console) -> dict[str, Any]:
    """All figures."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        kept = arguments.data or data
        if not kept.exists():
            make_models(kept, arguments.models, arguments.learner, arguments.seed, console)
        if kept != data:
            shutil.copytree(kept, data)
        arguments.models, weight, unconvinced = weigh_models(data)
        console.print(f"{arguments.models} models of {weight:.0f} MB in all", style="dim")
        base = base_mb(data)
        os.environ["EVERLEARN_CACHE_MB"] = str(arguments.cache_mb)
        started = time.monotonic()
        with LiveServer(data, mlflow=False) as server:
            ready = time.monotonic() - started
            found = _loaded(server, data, arguments, console)
    found["rss"] = {"base_mb": base, **found["rss"], "over_base_mb": found["rss"]["max_mb"] - base}
    return {
        "models": arguments.models,
        "learner": arguments.learner,
        "cache_mb": arguments.cache_mb,
        "rate": arguments.rate,
        "zipf": ZIPF,
        "weight_mb": weight,
        "at_version_0": unconvinced,
        "ready_seconds": ready,
        **found,
        "goals": {
            "memory_bounded": found["rss"]["over_base_mb"] <= arguments.cache_mb + SLACK_MB,
            "nothing_failed": found["predict"]["failed"] == 0,
            "nobody_starved": not found["loop"]["starved"] and not found["loop"]["never_advanced"],
            "ready_under_10_s": ready < 10.0,
        },
        "seed": arguments.seed,
        "quick": arguments.quick,
        "seconds": time.monotonic() - began,
    }


def _loaded(
    server: LiveServer, data: Path, arguments: argparse.Namespace, console: Console
) -> dict[str, Any]:
    assert server._process is not None
    pid = api_process(server._process.pid)
    database = data / "everlearn.db"
    start_mb, watch = resident_mb(pid), Watch(pid, database)
    traffic = Traffic(
        server.url, server.key, arguments.models, arguments.rate, arguments.seconds, arguments.seed + 1
    )
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    first, before, cpu = cursors(connection), counters(server), cpu_seconds(pid)
    with watch.running():
        console.print(f"{arguments.seconds:.0f} s of {arguments.rate:.0f} predictions a second", style="dim")
        asyncio.run(traffic.run())
        drained = time.monotonic()
        while behind(connection) and time.monotonic() - drained < 2 * PATIENCE:
            time.sleep(0.1)
        drained = time.monotonic() - drained
        cpu = cpu_seconds(pid) - cpu
    after, last = counters(server), cursors(connection)
    connection.close()
    changes = {name: after[name] - before.get(name, 0.0) for name in after}
    misses = int(changes["everlearn_cold_loads_total"])
    count = len(traffic.latencies)
    ordered = sorted(traffic.latencies) or [float("nan")]
    return {
        "rss": {"start_mb": start_mb, "max_mb": watch.most_mb},
        "predict": {
            "count": count,
            "failed": traffic.failed,
            "p50_ms": ordered[len(ordered) // 2],
            "p99_ms": ordered[int(0.99 * (len(ordered) - 1))],
            "worst_ms": ordered[-1],
            "late": traffic.late,
            "cpu_ms": 1000.0 * cpu / max(1, count),
        },
        "cache": {
            "hits": count - misses,
            "misses": misses,
            "evictions": int(changes["everlearn_evictions_total"]),
            "hit_rate": (count - misses) / max(1, count),
        },
        "loop": {
            "labels": sum(traffic.labelled.values()),
            "models_labelled": len(traffic.labelled),
            "never_advanced": sum(last[name] == first[name] for name in traffic.labelled),
            "longest_wait_s": watch.longest,
            "starved": len(watch.starved),
            "drained_s": drained,
        },
        "list_seconds": _list_seconds(server),
    }


def _list_seconds(server: LiveServer) -> float:
    command = [sys.executable, "-m", "everlearn", "models", "list", "--url", server.url, "--json"]
    environment = {**os.environ, "EVERLEARN_API_KEY": server.key}
    started = time.monotonic()
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - started


def show(told: Mapping[str, Any]) -> None:
    """The figures as a table."""
    table = Table(title=f"{told['models']} models of the learner {told['learner']}")
    table.add_column("")
    table.add_column("", justify="right")
    for name in ("rss", "predict", "cache", "loop"):
        for key, value in told[name].items():
            table.add_row(f"{name}: {key}", f"{value:.3f}" if isinstance(value, float) else str(value))
    for key in ("weight_mb", "cache_mb", "rate", "ready_seconds", "list_seconds", "seconds"):
        table.add_row(key, f"{told[key]:.1f}")
    for goal, met in told["goals"].items():
        table.add_row(goal, "yes" if met else "NO")
    Console().print(table)


def parse(given: list[str] | None = None) -> argparse.Namespace:
    """The arguments; ``--quick`` is fifty models for ten seconds."""
    parser = argparse.ArgumentParser(description="Many models in one installation.")
    parser.add_argument("--models", type=int)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--cache-mb", type=int)
    parser.add_argument("--rate", type=float, default=60.0, help="predictions a second")
    parser.add_argument("--learner", default="blend")
    parser.add_argument(
        "--data", type=Path, help="models that an earlier call made; made and kept if not there"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args(given)
    quick = arguments.quick
    for name, usual, short in (("models", 1000, 50), ("seconds", 120.0, 10.0), ("cache_mb", 128, 8)):
        if getattr(arguments, name) is None:
            setattr(arguments, name, short if quick else usual)
    return arguments


def main() -> None:
    """Measure, and print."""
    arguments = parse()
    told = measure(arguments, Console(stderr=True))
    if arguments.json:
        print(json.dumps(told))
    else:
        show(told)


if __name__ == "__main__":
    main()
