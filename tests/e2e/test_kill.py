"""``kill -9`` at random moments of a stream: nothing acknowledged is lost or doubled."""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from everlearn.processes import pid_lives

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(400),
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
]

BATCH, DELAY = 20, 3
PAUSE = 0.02
"""Seconds between two batches: without, the stream outruns the loop, which learns of the drift too late."""


class Stream(threading.Thread):
    """A client that predicts batch after batch and labels each a few batches later, until told to end."""

    def __init__(self, client: Any, market: Any, record: Any) -> None:
        super().__init__(daemon=True)
        self._client, self._market, self._record = client, market, record
        self.over = threading.Event()
        self.sent = 0
        self.error: BaseException | None = None

    def run(self) -> None:
        late: list[dict[str, str]] = []
        try:
            while not self.over.is_set() or late:
                if not self.over.is_set():
                    late.append(self._predict())
                if len(late) > DELAY or self.over.is_set():
                    self._label(late.pop(0))
                self.over.wait(PAUSE)
        except BaseException as error:
            self.error = error

    def _predict(self) -> dict[str, str]:
        rows, truths = self._market.rows(BATCH)
        ids = [f"elec-{self.sent + i}" for i in range(BATCH)]
        served = self._client.predict("elec", rows, ids=ids)
        self._record.answers.update((answer.id, answer) for answer in served)
        self.sent += BATCH
        return dict(zip(ids, truths, strict=True))

    def _label(self, labels: dict[str, str]) -> None:
        receipt = self._client.label("elec", labels)
        assert (receipt.conflict, receipt.parked) == ((), ())
        self._record.labels.update(labels)


@pytest.fixture
def spec_of_record(spec: dict[str, Any], live_record: ModuleType) -> dict[str, Any]:
    return {**spec, "name": live_record.MODEL}


def test_nothing_acknowledged_is_lost_or_doubled(
    serve: Callable[..., Any],
    modules: Callable[[Any], dict[int, str]],
    live_record: ModuleType,
    market: Any,
    spec_of_record: dict[str, Any],
    until: Callable[..., None],
) -> None:
    draw, record = random.Random(20), live_record.Record()
    server = serve(mlflow=False)
    with server.client() as client:
        client.create_model(spec_of_record)
        stream = Stream(client, market, record)
        stream.start()

        def goes_on() -> None:
            before = stream.sent
            until(lambda: stream.error or stream.sent > before + DELAY * BATCH, what="the stream's going on")
            assert stream.error is None

        goes_on()
        for kill in range(3):
            time.sleep(draw.uniform(0.3, 1.5))
            before = modules(server)
            server.kill()
            until(lambda: not any(map(pid_lives, before)), what="the end of all")  # noqa: B023
            server.start()
            goes_on()
            if kill == 0:
                market.turn()  # so that something is learned while the others come
        for module in ("everlearn.worker", "everlearn.api.serve", "everlearn.scheduler"):
            time.sleep(draw.uniform(0.1, 1.0))
            pid = next(pid for pid, name in modules(server).items() if name == module)
            os.kill(pid, signal.SIGKILL)
            until(lambda: module in modules(server).values(), what=f"a new {module}")  # noqa: B023
            goes_on()
        until(lambda: stream.error or len(promotions(client)) > 1, 150, what="the promotion after the drift")
        stream.over.set()
        stream.join(60)
        assert stream.error is None
        until(lambda: settled(client.model(live_record.MODEL)), what="the end of the log")
        assert len(record.answers) == len(record.labels) == stream.sent
        head = client.model(live_record.MODEL)["log"]
        assert (head["rows"], head["labels"], head["parked"]) == (stream.sent, stream.sent, 0)
    assert live_record.count_log(server.data, record) == (0, 0)
    assert live_record.verdict(server.data) == "identical"


def promotions(client: Any) -> list[Any]:
    return list(client.decisions("elec", kind="promote"))


def settled(model: dict[str, Any]) -> bool:
    return bool(model["cursor"] == model["log"]["seq"] and model["state"] != "updating")
