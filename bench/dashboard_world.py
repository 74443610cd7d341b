"""An installation with something to see: real streams through ``everlearn up``, with its dashboard.

The electricity market (``shared/data/elec.csv`` beside the repository) goes through the model ``elec`` until
versions were promoted; parts of it go through others, so that there are several states to look at.
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx

from everlearn.client import Client, Retries
from everlearn.errors import EverlearnError
from live_elec import load_rows
from live_server import family, free_port

PROGRAM = [sys.executable, "-m", "everlearn"]
PASSWORD = "wander-copper-lantern-42"
DELAY = 48
STEP = 1800.0
"""Seconds between two rows of the stream."""
START_SECONDS = 420.0
"""The very first start compiles the learners."""

ELEC: dict[str, Any] = {
    "task": "classification",
    "target": "class",
    "learner": {"name": "window"},
    "metric": "accuracy",
    "threshold": 0.75,
    "label_horizon": {"rows": DELAY},
}


class DashboardWorld:
    """``everlearn up`` with a dashboard, in a folder. Use as a context manager; it stops at the end."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.key = secrets.token_urlsafe(32)
        self.url, self.dashboard = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
        self.log = data.with_suffix(".log")
        self._process: subprocess.Popen[bytes] | None = None

    def client(self, key: str | None = None) -> Client:
        """A client with the installation's key, or another."""
        return Client(self.url, key or self.key, retries=Retries(attempts=20, base=0.1, longest=0.5))

    def start(self) -> None:
        """Start it, and wait until API and dashboard answer."""
        ports = [url.rpartition(":")[2] for url in (self.url, self.dashboard)]
        command = [*PROGRAM, "up", "--port", ports[0], "--dashboard-port", ports[1]]
        command += ["--data", str(self.data), "--no-mlflow"]
        environment = {name: v for name, v in os.environ.items() if not name.startswith("EVERLEARN_")}
        environment |= {"EVERLEARN_API_KEY": self.key, "EVERLEARN_ADMIN_PASSWORD": PASSWORD}
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
        self._await(f"{self.url}/v1/health/ready")
        self._await(f"{self.dashboard}/login")

    def _await(self, url: str) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._process is not None and self._process.poll() is None:
            try:
                if httpx.get(url, timeout=5).status_code == 200:
                    return
            except httpx.HTTPError:
                time.sleep(0.2)
        raise RuntimeError(f"{url} does not answer:\n{self.log.read_text()[-3000:]}")

    def member(self, module: str) -> int:
        """The process of it that runs a module."""
        assert self._process is not None
        for pid in family(self._process.pid)[1:]:
            command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if module.encode() in command:
                return pid
        raise LookupError(f"nothing runs {module}")

    def stop(self) -> None:
        """Stop it cleanly."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(20)

    def __enter__(self) -> DashboardWorld:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def play(client: Client, model: str, rows: Sequence[Any], truths: Sequence[Any], batch: int = DELAY) -> None:
    """Send rows as they came, each labelled ``DELAY`` rows later, the newest just now."""
    begin = time.time() - len(rows) * STEP
    ids = [f"{model}-{i}" for i in range(len(rows))]
    for start in range(0, len(rows), batch):
        part = range(start, min(start + batch, len(rows)))
        client.predict(
            model, [rows[i] for i in part], [ids[i] for i in part], [begin + i * STEP for i in part]
        )
        ripe = [
            {"id": ids[i], "value": truths[i], "at": begin + (i + DELAY) * STEP}
            for i in range(max(0, start - DELAY), start)
        ]
        if ripe:
            client.label(model, ripe)
        settle(client, model)


def settle(client: Client, model: str, seconds: float = 120.0) -> dict[str, Any]:
    """Wait until the loop has read the whole log and no training is at work; the model then."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = client.model(model)
        if found["cursor"] == found["log"]["seq"] and found["state"] != "updating":
            return found
        time.sleep(0.1)
    raise RuntimeError(f"{model} did not settle within {seconds:.0f} s")


def make_elec(client: Client, file: Path, rows: int, name: str = "elec", **changes: Any) -> None:
    """A model of the electricity market, with so many rows of the stream played through it."""
    table, truths = load_rows(file, rows)
    features = dict.fromkeys(table[0], "numeric")
    client.create_model({**ELEC, "name": name, "features": features, **changes})
    play(client, name, table, truths)


def make_demand(client: Client, file: Path, rows: int) -> None:
    """A regression on the same stream: the demand of half an hour from the prices and the one before."""
    table, ways = load_rows(file, rows + 1)
    truths = [row["nswdemand"] for row in table[1:]]
    inputs = [
        {
            "day": row["day"],
            "period": row["period"],
            "price": row["nswprice"],
            "transfer": row["transfer"],
            "way": way,
            "weekend": row["day"] in (1, 7),
        }
        for row, way in zip(table, ways, strict=True)
    ][:rows]
    features = dict.fromkeys(inputs[0], "numeric") | {"way": "categorical", "weekend": "boolean"}
    spec = {"name": "demand", "task": "regression", "target": "demand", "features": features}
    spec |= {
        "learner": {"name": "blend"},
        "metric": "mae",
        "threshold": 0.1,
        "label_horizon": {"rows": DELAY},
    }
    client.create_model(spec)
    play(client, "demand", inputs, truths)


def add_users(client: Client) -> dict[str, str]:
    """A viewer and an operator beside the administrator; their names by role."""
    for name in ("viewer", "operator"):
        try:
            made = client.add_user(name, role=name)
        except EverlearnError:
            continue
        client.accept_invite(name, made["invite"], PASSWORD)
    return {"viewer": "viewer", "operator": "operator", "admin": "admin"}
