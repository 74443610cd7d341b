"""A worker's heart-beat: pushed while it works, silent when it does not, and never in its way."""

from __future__ import annotations

import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from loguru import logger

from everlearn.adapters.heartbeats import check_address, push
from everlearn.adapters.memory import ManualClock, MemoryStore
from everlearn.errors import InvalidError, UnavailableError
from everlearn.worker import Worker
from everlearn.worker.pulse import Pulse


class Parts(MemoryStore):
    clock = ManualClock(1.0)


def test_it_is_silent_while_something_is_wrong_and_says_so_once() -> None:
    sent: list[str] = []
    trouble: list[Exception] = []
    said: list[str] = []

    def well() -> None:
        if trouble:
            raise trouble[0]

    sink = logger.add(said.append, format="{message}", level="INFO")
    pulse = Pulse("http://monitor/api/push/secret-token", well, send=sent.append)
    assert pulse.beat()
    trouble.append(UnavailableError("The database does not answer"))
    assert [pulse.beat() for _ in range(3)] == [False] * 3
    trouble.clear()
    assert pulse.beat()
    logger.remove(sink)
    assert len(sent) == 2
    assert said == [
        "no heart-beat is pushed: The database does not answer\n",
        "heart-beats are pushed again\n",
    ]


def test_a_monitor_that_hangs_holds_up_nothing() -> None:
    over, stop = threading.Event(), threading.Event()
    pulse = Pulse("http://monitor", lambda: None, seconds=0.001, send=lambda _: over.wait(30))  # type: ignore[func-returns-value]
    thread = pulse.start(stop)
    worker = Worker(Parts())
    began = time.perf_counter()
    for _ in range(100):
        worker.advancer.run_once()
    assert time.perf_counter() - began < 5.0
    worker.well()
    stop.set()
    over.set()
    thread.join(10)


def test_a_worker_that_looks_at_no_loop_is_not_well(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = Worker(Parts())
    worker.well()
    monkeypatch.setattr(worker, "_looked", time.monotonic() - 1000.0)
    with pytest.raises(UnavailableError, match="no loop was looked at"):
        worker.well()
    trainer = Worker(Parts(), queues=["train"])
    monkeypatch.setattr(trainer, "_looked", time.monotonic() - 1000.0)
    trainer.well()  # it looks after no loops


def test_a_push_says_that_all_is_well_and_what_is_refused_is_an_error() -> None:
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(404 if "gone" in self.path else 200)
            self.end_headers()

        def log_message(self, *_: Any) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}/api/push"
    push(f"{url}/token")
    assert asked == ["/api/push/token?status=up&msg=OK&ping="]
    with pytest.raises(UnavailableError, match="it answered 404") as refused:
        push(f"{url}/gone-token")
    assert "gone-token" not in str(refused.value)
    server.shutdown()
    server.server_close()
    with pytest.raises(UnavailableError):
        push(f"{url}/token")
    with pytest.raises(InvalidError) as wrong:
        check_address("ftp://secret-token")
    assert "secret" not in str(wrong.value)
