"""``kill -9`` of the API under load, with ``durability: group``: what was acknowledged is there, once.

``KILLS=50`` kills it fifty times; by default it is three. The supervisor waits longer after each death, so
fifty take half an hour.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from sqlalchemy import text

from everlearn.wiring import Installation

KILLS = int(os.environ.get("KILLS", "3"))
CALLERS = 8

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(120 + 45 * KILLS),
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
]


class Caller:
    """Predicts single rows and labels each, one after the other, and notes what was acknowledged."""

    def __init__(self, number: int, client: Any, record: Any) -> None:
        self._number, self._client, self._record = number, client, record
        self._draw = random.Random(number)
        self.sent = 0

    def __call__(self) -> None:
        key = f"{self._number}-{self.sent}"
        row = {"price": self._draw.random(), "demand": self._draw.random()}
        answer = self._client.predict_one("elec", row, id=key)
        self._record.answers[answer.id] = answer
        truth = "UP" if row["price"] > row["demand"] else "DOWN"
        receipt = self._client.label("elec", {key: truth})
        assert (receipt.conflict, receipt.parked) == ((), ())
        self._record.labels[key] = truth
        self.sent += 1


def test_nothing_acknowledged_is_lost_or_doubled_and_a_planted_loss_is_seen(
    serve: Callable[..., Any],
    repeat: Callable[..., Any],
    modules: Callable[[Any], dict[int, str]],
    live_record: ModuleType,
    spec: dict[str, Any],
    until: Callable[..., None],
) -> None:
    draw, record = random.Random(5), live_record.Record()
    server = serve(mlflow=False)
    with server.client() as client:
        client.create_model({**spec, "name": "elec", "durability": "group"})
    clients = [server.client() for _ in range(CALLERS)]
    callers = [repeat(Caller(number, client, record)) for number, client in enumerate(clients)]

    def api() -> int | None:
        """The process of the API, if it runs now."""
        return next((pid for pid, name in modules(server).items() if name == "everlearn.api.serve"), None)

    def on_their_way() -> bool:
        return all(caller.error or caller.times > before[caller] for caller in callers)

    killed = set()
    for _ in range(KILLS):
        before = {caller: caller.times for caller in callers}
        until(on_their_way, what="everybody's next answer")
        time.sleep(draw.uniform(0.0, 0.5))
        pid = api()
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        killed.add(pid)
        until(lambda: api() not in (None, *killed), what="a new API process")
    before = {caller: caller.times for caller in callers}
    until(on_their_way, what="everybody's last answer")
    for caller in callers:
        caller.over.set()
    for caller, client in zip(callers, clients, strict=True):
        caller.end()
        client.close()
    server.stop()

    assert len(killed) == KILLS
    assert len(record.answers) == len(record.labels) == sum(caller.times for caller in callers)
    assert live_record.count_log(server.data, record) == (0, 0)
    lose_one(server.data, "3-0")
    assert live_record.count_log(server.data, record) == (1, 0)


def lose_one(data: Path, key: str) -> None:
    """Take an acknowledged label out of the log, as a crash would that broke the promise."""
    installation = Installation.load(data=data)
    statement = text("UPDATE events SET key = NULL, kind = 6 WHERE key = :key AND kind = 2")
    with installation.store._database.write() as connection:
        connection.execute(statement, {"key": key})
    installation.close()
