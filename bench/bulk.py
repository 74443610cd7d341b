"""Rows a second for bodies of 10,000 rows: everlearn in five formats, FastAPI and scikit-learn in JSON.

    python bench/bulk.py [--rows N] [--rounds N] [--seconds S] [--seed N] [--quick] [--json]

A logistic regression of 8 features is fitted by everlearn from 2,000 made rows. everlearn serves it as it
does everything: key, validation, every prediction stored before it is answered (SQLite), metrics, its loop
reading along. FastAPI serves the same numbers with no key, no log and no loop, in two forms: rows as objects
of a pydantic model, and rows as bare lists. One process each, one connection, one body after the other, all
on this machine. The servers take turns in rounds, and figures are medians over the rounds. Labels are sent
for the rows that were answered before, 10,000 a body.

``--json`` prints one object:

rows            rows of a body
everlearn       {"json"|"ndjson"|"csv"|"arrow"|"parquet": rows a second}
peers           {"fastapi_objects"|"fastapi_lists": rows a second}
labels          {"csv"|"arrow": labels a second}
ratio_json      everlearn with JSON over the fastest peer
ratio_arrow     everlearn with Arrow over the fastest peer
same_answers    the largest difference of a probability between everlearn and the peers
stored          rows in the log, and ``acknowledged``, those that were answered: the same
goals           {json_as_fast, arrow_five_times, labels_20000}
rounds, seconds_a_turn, load (of the machine, over a minute, as it began), seed, quick, seconds
"""

from __future__ import annotations

import argparse
import http.client
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from rich.console import Console
from rich.table import Table

from live_server import LiveServer, free_port

BENCH = Path(__file__).resolve().parent
MODEL = "scores"
NAMES = tuple(f"x{i}" for i in range(8))
SPEC: dict[str, Any] = {
    "name": MODEL,
    "target": "y",
    "features": dict.fromkeys(NAMES, "numeric"),
    "learner": {"name": "window", "estimator": "logistic", "size": 2000},
    "threshold": 0.5,
    "policy": {"name": "never", "first_rows": 1000},
    "gate": {"name": "open"},
}
MEDIA = {
    "json": "application/json",
    "ndjson": "application/x-ndjson",
    "csv": "text/csv",
    "arrow": "application/vnd.apache.arrow.stream",
    "parquet": "application/vnd.apache.parquet",
}
PATIENCE = 120.0


@dataclass
class Caller:
    """One connection that is kept, and what goes over it."""

    url: str
    key: str = ""
    connection: http.client.HTTPConnection = field(init=False)

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        self.connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=PATIENCE)

    def renew(self) -> None:
        """Connect anew: servers close what has been idle while the others had their turns."""
        self.connection.close()

    def post(self, path: str, kind: str, body: bytes) -> bytes:
        """Send a body; the answer's. Raises RuntimeError for any answer but 200."""
        headers = {"Content-Type": kind, "Authorization": f"Bearer {self.key}"}
        self.connection.request("POST", path, body, headers)
        answer = self.connection.getresponse()
        told = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{path} answers {answer.status}: {told[:300]!r}")
        return told


def encoded(table: np.ndarray) -> dict[str, bytes]:
    """The rows in every format, as ours takes them."""
    rows = [dict(zip(NAMES, row, strict=True)) for row in table.tolist()]
    columns = pa.table({name: table[:, i] for i, name in enumerate(NAMES)})
    stream, file, text = io.BytesIO(), io.BytesIO(), io.BytesIO()
    with pa.ipc.new_stream(stream, columns.schema) as writer:
        writer.write_table(columns)
    pa.parquet.write_table(columns, file)
    pa.csv.write_csv(columns, text)
    return {
        "json": json.dumps({"rows": rows}).encode(),
        "ndjson": "".join(json.dumps(row) + "\n" for row in rows).encode(),
        "csv": text.getvalue(),
        "arrow": stream.getvalue(),
        "parquet": file.getvalue(),
    }


def teach(server: LiveServer, seed: int) -> dict[str, Any]:
    """Make the model, wait until it answers, and read its numbers from answers, whose log-odds are linear."""
    draw = np.random.default_rng(seed)
    table, weights = draw.normal(size=(2000, 8)).round(4), draw.normal(size=8)
    said = np.where(table @ weights + draw.logistic(size=2000) > 0, "yes", "no").tolist()
    points = [dict.fromkeys(NAMES, 0.0), *({**dict.fromkeys(NAMES, 0.0), name: 1.0} for name in NAMES)]
    with server.client() as client:
        client.create_model(SPEC)
        client.load(MODEL, [dict(zip(NAMES, row, strict=True)) for row in table.tolist()], said)
        deadline = time.monotonic() + PATIENCE
        while (answers := client.predict(MODEL, points))[0].version == 0:
            if time.monotonic() > deadline:
                raise RuntimeError(f"the model was not trained in {PATIENCE:.0f} s:\n{server.tail()}")
            time.sleep(0.1)
    odds = [np.log(p["yes"] / p["no"]) for p in (answer.probabilities or {} for answer in answers)]
    return {"classes": ["no", "yes"], "coef": [o - odds[0] for o in odds[1:]], "intercept": odds[0]}


@contextmanager
def fastapi(folder: Path, numbers: dict[str, Any]) -> Iterator[Caller]:
    """The peer, ready to answer."""
    file, port = folder / "model.json", free_port()
    file.write_text(json.dumps(numbers))
    command = [sys.executable, "-m", "uvicorn", "bulk_fastapi:app", "--port", str(port), "--no-access-log"]
    environment = {**os.environ, "MODEL_FILE": str(file), "OMP_NUM_THREADS": "1"}
    with (folder / "fastapi.log").open("w") as log:
        process = subprocess.Popen(command, cwd=BENCH, env=environment, stdout=log, stderr=log)
    try:
        caller, deadline = Caller(f"http://127.0.0.1:{port}"), time.monotonic() + PATIENCE
        while True:
            try:
                caller.post("/matrix", MEDIA["json"], b'{"rows": [[0, 0, 0, 0, 0, 0, 0, 0]]}')
                break
            except OSError:
                caller.connection.close()
                if process.poll() is not None or time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
        yield caller
    finally:
        process.terminate()
        process.wait(20)


def turn(send: Callable[[], int], seconds: float) -> float:
    """Rows a second of sending for so long; at least two bodies."""
    began, sent, count = time.perf_counter(), 0, 0
    while count < 2 or time.perf_counter() - began < seconds:
        sent += send()
        count += 1
    return sent / (time.perf_counter() - began)


class Bench:
    """The servers, and what is sent to them."""

    def __init__(self, server: LiveServer, peer: Caller, rows: int, seed: int) -> None:
        self.ours = Caller(server.url, server.key)
        self.peer = peer
        self.rows = rows
        self.table = np.random.default_rng(seed + 1).normal(size=(rows, 8)).round(4)
        self.bodies = encoded(self.table)
        self.lists = json.dumps({"rows": self.table.tolist()}).encode()
        self.answered: list[pa.Array] = []
        self.acknowledged = 0
        self.labelled = 0

    def ask(self, form: str) -> int:
        """Send a body to ours; how many rows it had."""
        told = self.ours.post(f"/v1/models/{MODEL}/predict", MEDIA[form], self.bodies[form])
        if form == "arrow":
            ids = pa.ipc.open_stream(told).read_all().column("id")
            assert len(ids) == self.rows
            self.answered.append(ids)
        self.acknowledged += self.rows
        return self.rows

    def ask_peer(self, path: str, body: bytes) -> int:
        """Send a body to the peer."""
        self.peer.post(path, MEDIA["json"], body)
        return self.rows

    def label(self, form: str) -> int:
        """Label 10,000 rows that were answered, with what was made before the clock began."""
        body = self.made.pop()
        told = json.loads(self.ours.post(f"/v1/models/{MODEL}/labels", MEDIA[form], body))
        if told["accepted"] != self.rows:
            raise RuntimeError(f"{told['accepted']} of {self.rows} labels were accepted")
        self.labelled += self.rows
        return self.rows

    def labels(self, form: str, bodies: int) -> float:
        """Labels a second, over so many bodies."""
        while len(self.answered) < bodies:
            self.ask("arrow")
        self.made = [self._labels(form, self.answered.pop()) for _ in range(bodies)]
        began = time.perf_counter()
        sent = sum(self.label(form) for _ in range(bodies))
        return sent / (time.perf_counter() - began)

    @staticmethod
    def _labels(form: str, ids: pa.ChunkedArray) -> bytes:
        data, out = pa.table({"id": ids, "value": ["yes", "no"] * (len(ids) // 2)}), io.BytesIO()
        if form == "csv":
            pa.csv.write_csv(data, out)
        else:
            with pa.ipc.new_stream(out, data.schema) as writer:
                writer.write_table(data)
        return out.getvalue()

    def difference(self) -> float:
        """The largest difference of a probability between ours and the peer's."""
        told = self.ours.post(f"/v1/models/{MODEL}/predict", MEDIA["arrow"], self.bodies["arrow"])
        self.acknowledged += self.rows
        mine = pa.ipc.open_stream(told).read_all().column("probabilities.yes").to_numpy()
        theirs = json.loads(self.peer.post("/matrix", MEDIA["json"], self.lists))["predictions"]
        return float(np.abs(mine - [answer["probabilities"]["yes"] for answer in theirs]).max())


def measured(bench: Bench, rounds: int, seconds: float) -> dict[str, dict[str, float]]:
    """Medians of rows a second, by who and how."""
    turns: dict[tuple[str, str], Callable[[], float]] = {}
    for form in MEDIA:
        turns["everlearn", form] = lambda form=form: turn(lambda: bench.ask(form), seconds)
    for name, path, body in (
        ("fastapi_objects", "/named", bench.bodies["json"]),
        ("fastapi_lists", "/matrix", bench.lists),
    ):
        turns["peers", name] = lambda path=path, body=body: turn(lambda: bench.ask_peer(path, body), seconds)
    for form in ("csv", "arrow"):
        turns["labels", form] = lambda form=form: bench.labels(form, 3)
    found: dict[tuple[str, str], list[float]] = {name: [] for name in turns}
    for i in range(rounds + 1):  # the first only warms up
        for name, run in turns.items():
            bench.ours.renew()
            bench.peer.renew()
            rate = run()
            if i:
                found[name].append(rate)
            print(f"round {i} of {rounds}: {' '.join(name)} {rate:,.0f} rows/s", file=sys.stderr)
    groups: dict[str, dict[str, float]] = {"everlearn": {}, "peers": {}, "labels": {}}
    for (group, name), rates in found.items():
        groups[group][name] = round(statistics.median(rates), 1)
    return groups


def stored(server: LiveServer) -> int:
    """How many predictions the log holds."""
    with server.client() as client:
        return int(client.model(MODEL)["log"]["rows"])


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure all of it."""
    began, load = time.perf_counter(), os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        with LiveServer(folder / "data", mlflow=False) as server:
            numbers = teach(server, arguments.seed)
            with fastapi(folder, numbers) as peer:
                before = stored(server)
                bench = Bench(server, peer, arguments.rows, arguments.seed)
                groups = measured(bench, arguments.rounds, arguments.seconds)
                difference = bench.difference()
                held = stored(server) - before
    fastest = max(groups["peers"].values())
    ratios = {form: groups["everlearn"][form] / fastest for form in ("json", "arrow")}
    return {
        "rows": arguments.rows,
        **groups,
        "ratio_json": round(ratios["json"], 2),
        "ratio_arrow": round(ratios["arrow"], 2),
        "same_answers": difference,
        "stored": held,
        "acknowledged": bench.acknowledged,
        "goals": {
            "json_as_fast": ratios["json"] >= 1,
            "arrow_five_times": ratios["arrow"] >= 5,
            "labels_20000": min(groups["labels"].values()) >= 20_000,
        },
        "rounds": arguments.rounds,
        "seconds_a_turn": arguments.seconds,
        "load": round(load, 2),
        "seed": arguments.seed,
        "quick": arguments.quick,
        "seconds": round(time.perf_counter() - began, 1),
    }


def show(found: dict[str, Any]) -> None:
    """The table that people read."""
    table = Table(title=f"Rows a second, {found['rows']:,} a body", title_justify="left")
    for name in ("", "rows/s", "over the fastest peer", "stored before it is answered"):
        table.add_column(name, justify="left" if not name else "right")
    fastest = max(found["peers"].values())
    for group, named in (
        ("everlearn", "everlearn, {}"),
        ("peers", "{}"),
        ("labels", "everlearn, labels, {}"),
    ):
        for form, rate in found[group].items():
            ratio = "" if group == "labels" else f"{rate / fastest:.2f}"
            yes = "no" if group == "peers" else "yes"
            table.add_row(named.format(form.replace("_", ", ")), f"{rate:,.0f}", ratio, yes)
    Console().print(table)
    print(f"answered {found['acknowledged']:,}, in the log {found['stored']:,}; load {found['load']}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=None)
    parser.add_argument("--seconds", type=float, default=None)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    arguments.rounds = arguments.rounds or (2 if arguments.quick else 5)
    arguments.seconds = arguments.seconds or (0.7 if arguments.quick else 3.0)
    found = run(arguments)
    print(json.dumps(found)) if arguments.json else show(found)
    return 0 if found["stored"] == found["acknowledged"] else 1


if __name__ == "__main__":
    sys.exit(main())
