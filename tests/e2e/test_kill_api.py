"""``kill -9`` of the API under load, with ``durability: group``: what was acknowledged is there, once.

``EVERLEARN_KILLS=50`` kills it fifty times; by default it is three.
"""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

KILLS = int(os.environ.get("EVERLEARN_KILLS", "3"))
CALLERS = 8

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(120 + 15 * KILLS),
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
]


class Caller(threading.Thread):
    """Predicts single rows and labels each, one after the other, and notes what was acknowledged."""

    def __init__(self, number: int, server: Any, record: Any) -> None:
        super().__init__(daemon=True)
        self._number, self._server, self._record = number, server, record
        self.over = threading.Event()
        self.sent = 0
        self.error: BaseException | None = None

    def run(self) -> None:
        draw = random.Random(self._number)
        try:
            with self._server.client() as client:
                while not self.over.is_set():
                    key = f"{self._number}-{self.sent}"
                    row = {"price": draw.random(), "demand": draw.random()}
                    answer = client.predict_one("elec", row, id=key)
                    self._record.answers[answer.id] = answer
                    truth = "UP" if row["price"] > row["demand"] else "DOWN"
                    receipt = client.label("elec", {key: truth})
                    assert (receipt.conflict, receipt.parked) == ((), ())
                    self._record.labels[key] = truth
                    self.sent += 1
        except BaseException as error:
            self.error = error


def api_of(server: Any, live_server: ModuleType) -> int | None:
    """The process of the API, if it runs now."""
    for pid in live_server.family(server._process.pid)[1:]:
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except FileNotFoundError:
            continue
        if b"everlearn.api.serve" in command:
            return int(pid)
    return None


def test_nothing_acknowledged_is_lost_or_doubled_and_a_planted_loss_is_seen(
    serve: Callable[..., Any],
    live_server: ModuleType,
    live_record: ModuleType,
    spec: dict[str, Any],
    until: Callable[..., None],
) -> None:
    draw, record = random.Random(5), live_record.Record()
    server = serve(mlflow=False)
    with server.client() as client:
        client.create_model({**spec, "name": "elec", "durability": "group"})
    callers = [Caller(number, server, record) for number in range(CALLERS)]
    for caller in callers:
        caller.start()

    def on_their_way() -> bool:
        return all(caller.error or caller.sent > before[caller] for caller in callers)

    killed = set()
    for _ in range(KILLS):
        before = {caller: caller.sent for caller in callers}
        until(on_their_way, what="everybody's next answer")
        time.sleep(draw.uniform(0.0, 0.5))
        pid = api_of(server, live_server)
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        killed.add(pid)
        until(lambda: api_of(server, live_server) not in (None, *killed), what="a new API process")
    before = {caller: caller.sent for caller in callers}
    until(on_their_way, what="everybody's last answer")
    for caller in callers:
        caller.over.set()
    for caller in callers:
        caller.join(60)
        assert caller.error is None
    server.stop()

    assert len(killed) == KILLS
    assert len(record.answers) == len(record.labels) == sum(caller.sent for caller in callers)
    assert live_record.count_log(server.data, record) == (0, 0)
    lose_one(server.data, "3-0")
    assert live_record.count_log(server.data, record) == (1, 0)


def lose_one(data: Path, key: str) -> None:
    """Take an acknowledged label out of the log, as a crash would that broke the promise."""
    with sqlite3.connect(data / "everlearn.db") as database:
        database.execute("UPDATE events SET key = NULL, kind = 6 WHERE key = ? AND kind = 2", (key,))
    database.close()
