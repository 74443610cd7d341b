"""The serving benchmark: its load, its bodies, its sums, and (slow) a small run."""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

KEYS = {
    "load", "servers", "skipped", "compared", "ratio_16", "p99_16_ms", "peer_p99_16_ms", "steady_p99_ms",
    "same_answers", "goals", "rounds", "seconds_a_load", "seed", "quick", "seconds",
}  # fmt: skip


@pytest.fixture
def load(bench: Path) -> ModuleType:
    return import_module("serving_load")


class Answers(BaseHTTPRequestHandler):
    """Takes 5 ms an answer, and refuses every tenth request."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # an answer leaves in one piece
    seen: list[tuple[str, str, bytes]]
    lock = threading.Lock()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with self.lock:
            self.seen.append((self.path, self.headers.get("X-Key", ""), body))
            status = 503 if len(self.seen) % 10 == 0 else 200
        time.sleep(0.005)
        self.send_response(status)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def echo() -> Iterator[tuple[str, list[tuple[str, str, bytes]]]]:
    """A server's URL, and what it was sent: path, key and body."""
    handler = type("Handler", (Answers,), {"seen": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/x", handler.seen
        server.shutdown()
        thread.join()


def test_the_steady_load_keeps_its_rate_and_counts_what_failed(
    load: ModuleType, echo: tuple[str, list[Any]]
) -> None:
    url, seen = echo
    target = load.Target(url, b'{"a": 1}', (("X-Key", "k"),))
    found = load.steady(target, 100.0, 1.0, connections=8)

    assert len(seen) == 100
    assert set(seen) == {("/x", "k", b'{"a": 1}')}
    assert found.failed == 10
    assert found.p50 >= 5.0


def test_latency_counts_from_when_a_request_was_due(load: ModuleType, echo: tuple[str, list[Any]]) -> None:
    url, _ = echo
    crowded = load.steady(load.Target(url, b"{}"), 400.0, 0.5, connections=1)  # one line takes 200 at most
    assert crowded.p99 > 100.0


def test_the_closed_load_of_our_own(load: ModuleType, echo: tuple[str, list[Any]]) -> None:
    url, seen = echo
    found = asyncio.run(load._closed(load.Target(url, b"{}"), 4, 0.5))
    assert found.rps * 0.5 == pytest.approx(len(seen))
    assert found.failed == len(seen) // 10


@pytest.mark.parametrize("name", ["fastapi", "litserve", "bentoml", "mlserver", "mlflow"])
def test_every_peer_is_asked_for_the_same_row(bench: Path, name: str) -> None:
    servers = import_module("serving_servers")
    row = {f"x{i}": i / 8 for i in range(8)}
    peer = servers.PEERS[name]
    assert [
        text for text in map(str, row.values()) if text not in json.dumps(servers.body_of(peer.body, row))
    ] == []


def test_sums(bench: Path) -> None:
    serving, load = import_module("serving"), import_module("serving_load")

    def entry(name: str, rates: list[float], p99: float, **more: object) -> object:
        made = serving.Entry(name, 1, lambda: None, **more)
        made.loads = {
            "16": [load.Load(rate, 1.0, p99) for rate in rates],
            "steady": [load.Load(500.0, 1.0, 2.0)],
        }
        return made

    listed = [
        entry("everlearn", [900.0, 3000.0, 3100.0], 4.0, ours=True),
        entry("slow", [100.0] * 3, 9.0, does_not="log"),
        entry("quick", [1000.0] * 3, 8.0, does_not="log"),
    ]
    options = argparse.Namespace(rounds=3, seconds=1.0, seed=0, quick=True)
    found = serving.result(listed, 0.0, options, 1.0)
    assert (found["ratio_16"], found["p99_16_ms"], found["peer_p99_16_ms"]) == (3.0, 4.0, 8.0)
    assert found["goals"] == {"three_times": True, "lower_p99": True, "steady_under_5_ms": True}
    assert (found.keys(), found["compared"]) == (KEYS, 1)


def test_servers_are_compared_with_as_many_processes(bench: Path) -> None:
    serving, load = import_module("serving"), import_module("serving_load")
    listed = []
    for workers, ours, theirs in ((2, 3000.0, 1500.0), (4, 9000.0, 1000.0)):
        for name, rate in (("everlearn", ours), ("peer", theirs)):
            known = {"ours": True} if name == "everlearn" else {"does_not": "log"}
            listed.append(serving.Entry(name, workers, lambda: None, **known))
            listed[-1].loads = {"16": [load.Load(rate, 1.0, 4.0)], "steady": [load.Load(500.0, 1.0, 2.0)]}
    options = serving.options_of(["--processes", "2,4", "--quick"])
    assert options.processes == [2, 4]
    found = serving.result(listed, 0.0, options, 1.0)
    assert (found["compared"], found["ratio_16"], found["steady_p99_ms"]) == (2, 2.0, 2.0)
    assert [one["workers"] for one in found["servers"]] == [2, 2, 4, 4]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_small_run(bench: Path) -> None:
    command = [sys.executable, str(bench / "serving.py"), "--quick", "--json", "--seconds", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found.keys() == KEYS
    assert {one["name"] for one in found["servers"]} == {"everlearn", "FastAPI + scikit-learn"}
    assert found["same_answers"] < 1e-9
    assert all(load["failed"] == 0 for one in found["servers"] for load in one["connections"].values())
