"""One logistic regression behind everlearn and behind other servers: requests a second, and latency.

    python bench/serving.py [--peers fastapi,litserve,...|none] [--processes 1,2] [--rounds N] [--seconds S]
                            [--seed N] [--quick] [--json]

A logistic regression of 8 features is fitted by everlearn from 2,000 made rows. everlearn serves it as it
does everything: key, validation, the prediction stored before it is answered, metrics, its loop reading
along. The peers serve the same numbers with no key, no log and no loop. One row a request, keep-alive, all
on this machine; ``wrk`` makes the load where it is installed, else a small client of ours (``load``).
Servers take turns in rounds, and figures are medians over the rounds. Peers but FastAPI get environments of
their own under ``bench/.cache/serving``, made on first use; what cannot be installed is skipped.

``--json`` prints one object:

load            what made the closed load: wrk or asyncio
servers         [{name, workers, does, does_not, connections: {"1"|"16"|"64": {rps, p50_ms, p99_ms, failed}},
                steady: {rps, p50_ms, p99_ms, failed}}]
                ``steady`` is 500 requests a second by the clock, latency counted from when each was due;
                ``workers`` are its processes
skipped         {name: why}
compared        the number of processes of what follows: the smallest that was measured
ratio_16        requests a second of everlearn over those of the fastest peer, 16 connections
p99_16_ms       p99 of everlearn there
peer_p99_16_ms  the lowest p99 of a peer there
steady_p99_ms   p99 of everlearn at 500 requests a second
same_answers    the largest difference of a probability between everlearn and the numbers the peers serve
goals           {three_times, lower_p99, steady_under_5_ms}
rounds, seconds_a_load, seed, quick, seconds
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

import serving_load
import serving_servers as servers
from serving_load import Load, Target

BENCH = Path(__file__).resolve().parent
CACHE = BENCH / ".cache" / "serving"
CONNECTIONS = (1, 16, 64)
RATE = 500.0
DOES = "checks a key and the row, stores each prediction before it answers ({durability}), metrics, the loop"
DOES_NOT = "no key, no log, no metrics, no loop"


@dataclass
class Entry:
    """One server with so many processes, and what was measured of it."""

    name: str
    workers: int
    start: Callable[[], Any]
    does: str = ""
    does_not: str = ""
    ours: bool = False
    loads: dict[str, list[Load]] = field(default_factory=dict)
    skipped: str | None = None

    def median(self, what: str) -> dict[str, float]:
        """The medians over the rounds."""
        found = self.loads[what]
        middle = {
            name: statistics.median(getattr(load, name) for load in found) for name in ("rps", "p50", "p99")
        }
        failed = sum(load.failed for load in found)
        return {
            "rps": round(middle["rps"], 1),
            "p50_ms": round(middle["p50"], 3),
            "p99_ms": round(middle["p99"], 3),
            "failed": failed,
        }

    def told(self) -> dict[str, Any]:
        """What ``--json`` says of it."""
        told: dict[str, Any] = {"name": self.name, "workers": self.workers, "does": self.does}
        told["does_not"] = self.does_not
        told["connections"] = {c: self.median(c) for c in self.loads if c != "steady"}
        if "steady" in self.loads:
            told["steady"] = self.median("steady")
        return told


def entries(
    options: argparse.Namespace, folder: Path, fitted: servers.Fitted, row: servers.Row
) -> list[Entry]:
    """The servers in the order in which they take turns."""
    made: list[Entry] = []
    for workers in options.processes:
        for durability in options.durability:
            does = DOES.format(durability=durability)
            start = _ours(folder, workers, {"durability": durability}, row)
            name = "everlearn" if durability == "group" else f"everlearn, {durability}"
            made.append(Entry(name, workers, start, does, ours=durability == "group"))
        for peer in options.peers:
            start = _theirs(servers.PEERS[peer], fitted, workers, row)
            known = servers.PEERS[peer]
            made.append(Entry(known.name, workers, start, known.note, DOES_NOT))
    return made


def _ours(folder: Path, workers: int, changes: Mapping[str, Any], row: servers.Row) -> Callable[[], Any]:
    @contextmanager
    def start() -> Iterator[Target]:
        with servers.everlearn(folder, workers, changes) as server:
            yield servers.everlearn_target(server, row)

    return start


def _theirs(peer: servers.Peer, fitted: servers.Fitted, workers: int, row: servers.Row) -> Callable[[], Any]:
    return lambda: servers.serving(peer, fitted, workers, CACHE, row)


def measure(entry: Entry, seconds: float, console: Console) -> None:
    """One turn of one server."""
    with entry.start() as target:
        serving_load.closed(target, 16, 2.0)  # warm: nobody measures a first request
        for connections in CONNECTIONS:
            load = serving_load.closed(target, connections, seconds)
            entry.loads.setdefault(str(connections), []).append(load)
            console.print(
                f"{entry.name} x{entry.workers}, {connections}: {load.rps:.0f}/s, p99 {load.p99:.1f} ms",
                style="dim",
            )
        entry.loads.setdefault("steady", []).append(serving_load.steady(target, RATE, seconds))


def run(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """All rounds."""
    begun = time.monotonic()
    rows, classes = servers.data(options.seed)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "data"
        console.print("teaching the model", style="dim")
        fitted = servers.teach(folder, rows, classes)
        apart = difference(folder, fitted, rows[:50])
        listed = entries(options, folder, fitted, rows[0])
        for turn in range(options.rounds):
            console.print(f"round {turn + 1} of {options.rounds}", style="dim")
            for entry in listed:
                if entry.skipped is not None:
                    continue
                try:
                    measure(entry, options.seconds, console)
                except servers.Unavailable as error:
                    entry.skipped = str(error)
                    console.print(f"{entry.name}: skipped: {error}", style="yellow")
    return result(listed, apart, options, time.monotonic() - begun)


def difference(folder: Path, fitted: servers.Fitted, rows: list[servers.Row]) -> float:
    """How far everlearn's probabilities are from those of the numbers that the peers serve."""
    with servers.everlearn(folder, 1, {}) as server, server.client() as client:
        answers = client.predict(servers.MODEL, rows)
    return max(abs(a.probabilities["yes"] - fitted.chance(r)) for a, r in zip(answers, rows, strict=True))


def result(listed: list[Entry], apart: float, options: argparse.Namespace, seconds: float) -> dict[str, Any]:
    """What was found, as ``--json`` prints it."""
    measured = [entry for entry in listed if entry.loads]
    fewest = min((entry.workers for entry in measured), default=None)
    alike = [entry for entry in measured if entry.workers == fewest]
    ours = next((entry for entry in alike if entry.ours), None)
    peers = [entry.median("16") for entry in alike if entry.does_not]
    mine = ours.median("16") if ours else None
    best = max((peer["rps"] for peer in peers), default=None)
    lowest = min((peer["p99_ms"] for peer in peers), default=None)
    calm = ours.median("steady")["p99_ms"] if ours else None
    ratio = mine["rps"] / best if mine and best else None
    return {
        "load": serving_load.tool(),
        "servers": [entry.told() for entry in listed if entry.loads],
        "skipped": {entry.name: entry.skipped for entry in listed if entry.skipped is not None},
        "compared": fewest,
        "ratio_16": None if ratio is None else round(ratio, 2),
        "p99_16_ms": mine and mine["p99_ms"],
        "peer_p99_16_ms": lowest,
        "steady_p99_ms": calm,
        "same_answers": apart,
        "goals": {
            "three_times": ratio is not None and ratio >= 3.0,
            "lower_p99": bool(mine and lowest and mine["p99_ms"] < lowest),
            "steady_under_5_ms": calm is not None and calm < 5.0,
        },
        "rounds": options.rounds,
        "seconds_a_load": options.seconds,
        "seed": options.seed,
        "quick": options.quick,
        "seconds": round(seconds, 1),
    }


def show(found: dict[str, Any], console: Console) -> None:
    """The table."""
    table = Table(title=f"one row a request, load by {found['load']}, medians of {found['rounds']} rounds")
    table.add_column("server")
    for title in (
        "processes",
        "1: req/s",
        "16: req/s",
        "p99 ms",
        "64: req/s",
        "p99 ms",
        "500/s: p50",
        "p99 ms",
    ):
        table.add_column(title, justify="right")
    for one in found["servers"]:
        c, calm = one["connections"], one.get("steady")
        table.add_row(
            one["name"],
            str(one["workers"]),
            f"{c['1']['rps']:.0f}",
            f"{c['16']['rps']:.0f}",
            f"{c['16']['p99_ms']:.1f}",
            f"{c['64']['rps']:.0f}",
            f"{c['64']['p99_ms']:.1f}",
            f"{calm['p50_ms']:.2f}" if calm else "",
            f"{calm['p99_ms']:.2f}" if calm else "",
        )
    console.print(table)
    for one in found["servers"]:
        failed = sum(load["failed"] for load in one["connections"].values())
        note = f"; {failed} requests failed" if failed else ""
        if one["workers"] == found["compared"] or note:
            console.print(f"{one['name']}: {'; '.join(filter(None, (one['does'], one['does_not'])))}{note}")
    for name, why in found["skipped"].items():
        console.print(f"{name}: skipped: {why}")
    console.print(
        f"16 connections, {found['compared']} processes each: {found['ratio_16']} times the fastest peer; "
        f"goals {found['goals']}"
    )


def options_of(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--peers", default=None, help=f"of {', '.join(servers.PEERS)}; none")
    parser.add_argument("--processes", default=None, help="of each server, such as 2, or 1,2 for both")
    parser.add_argument(
        "--durability", default="group", help="of sync, group, async: our settings to measure"
    )
    parser.add_argument("--rounds", type=int, default=None)
    parser.add_argument("--seconds", type=float, default=None, help="of each load")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="under a minute: FastAPI alone, one round")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    peers = options.peers or ("fastapi" if options.quick else ",".join(servers.PEERS))
    options.peers = [] if peers == "none" else peers.split(",")
    for name in options.peers:
        if name not in servers.PEERS:
            parser.error(f"--peers: {name!r} is not one of {', '.join(servers.PEERS)}")
    options.durability = options.durability.split(",")
    options.processes = [int(n) for n in (options.processes or ("1" if options.quick else "1,2")).split(",")]
    options.rounds = options.rounds or (1 if options.quick else 3)
    options.seconds = options.seconds or (3.0 if options.quick else 5.0)
    return options


def main() -> None:
    options = options_of()
    found = run(options, Console(stderr=True))
    if options.json:
        print(json.dumps(found))
    else:
        show(found, Console())


if __name__ == "__main__":
    main()
