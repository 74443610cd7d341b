"""Slow and endless requests: the server lets go of whoever keeps it waiting, and of nobody else.

Guards: :mod:`everlearn.api.patience` (all of it), ``BodyLimit`` (sizes).
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from everlearn.api.patience import MAX_HEAD

PATIENCE = 0.4
HEAD = b"Host: x\r\nAuthorization: Bearer a-key-for-the-tests\r\n"
GET = b"GET /v1/models HTTP/1.1\r\n" + HEAD
POST = b"POST /v1/models/toy/predict HTTP/1.1\r\nContent-Type: application/json\r\n" + HEAD


@pytest.fixture
def wire(make_app: Callable[..., FastAPI], host: Callable[..., Any]) -> Iterator[Any]:
    with host(make_app(max_body=100_000), PATIENCE) as wire:
        yield wire


@pytest.fixture
def patient_wire(make_app: Callable[..., FastAPI], host: Callable[..., Any]) -> Iterator[Any]:
    """A server that waits: what it refuses is refused for its size, however slow the machine is."""
    with host(make_app(max_body=100_000), 60.0) as wire:
        yield wire


def status_of(answer: bytes) -> int:
    """The status, and a check that the rest is a problem and that the connection was closed."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert not body.endswith(b"..."), "the connection is still open"
    status = int(head.split()[1])
    if status >= 400:
        assert b"application/problem+json" in head
        assert json.loads(body)["status"] == status
    return status


@pytest.mark.parametrize(
    "begun",
    [b"", b"GET", b"GET /health HTTP/1.1\r\nHost: x\r\n", b"GET /health HTTP/1.1\r\nX-Long: aaaa", b"\r\n"],
    ids=["nothing", "a method", "headers", "half a header", "an empty line"],
)
def test_a_head_that_does_not_come_is_not_waited_for(wire: Any, begun: bytes) -> None:
    """Slowloris. Guard: ``Patient._look``."""
    started = time.monotonic()
    assert status_of(wire.ask(begun)) == 408
    assert PATIENCE / 2 < time.monotonic() - started < 10


def test_a_head_that_comes_drop_by_drop_is_not_waited_for(wire: Any) -> None:
    """Each byte restarts nothing. Guard: ``Patient._enter`` alone sets the waiting back."""
    drops = [GET, *(b"X-%d: a\r\n" % i for i in range(30))]
    assert status_of(wire.ask(*drops, pause=PATIENCE / 8)) == 408


def test_a_second_head_is_not_waited_for_either(wire: Any) -> None:
    """A good request first, then half a head, which stops uvicorn's own clock for idle connections."""
    answer = wire.ask(GET + b"\r\n", b"GET /v1/models HT", pause=PATIENCE / 4)
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"HTTP/1.1 408" in answer
    assert not answer.endswith(b"...")


def test_empty_lines_do_not_keep_a_connection(wire: Any) -> None:
    """uvicorn stops its clock for idle connections at any byte. Guard: ``Patient._waits``."""
    answer = wire.ask(GET + b"\r\n", *[b"\r\n"] * 20, pause=PATIENCE / 8)
    assert b"HTTP/1.1 408" in answer
    assert not answer.endswith(b"...")


@pytest.mark.parametrize(
    "path", [b"/v1/models/toy/predict", b"/v1/models", b"/v2/models/toy/infer", b"/v1/auth/login"]
)
def test_a_body_that_does_not_come_is_not_waited_for(wire: Any, path: bytes, lines: list[str]) -> None:
    """R-U-Dead-Yet. Guard: ``Patient._look``; and nothing fails over it in the app."""
    head = b"POST " + path + b" HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 900\r\n" + HEAD
    assert status_of(wire.ask(head + b"\r\n{", b" ", pause=PATIENCE / 3)) == 408
    assert not [line for line in lines if "failed unexpectedly" in line]


def test_a_slow_but_steady_body_is_taken(wire: Any) -> None:
    """More than 500 bytes a second may take as long as they need: three times the patience here."""
    body = json.dumps({"row": {"a": 1, "b": 2}}).encode() + b" " * 6_000
    parts = [body[i : i + 500] for i in range(0, len(body), 500)]
    head = POST + b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(body)
    answer = wire.ask(head, *parts, pause=PATIENCE / 4)
    assert answer.startswith(b"HTTP/1.1 ")
    assert b" 408 " not in answer[:20]


def test_an_answer_that_nobody_reads_is_dropped(wire: Any, store: Any) -> None:
    """Slow read. Guard: the stalled write buffer in ``Patient._look``; the connection is reset."""
    with wire.connect() as connection:
        connection.sendall((GET.replace(b"/v1/models", b"/openapi.json") + b"\r\n") * 400)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:  # the peer's reset is seen by writing
            try:
                connection.sendall(b"\r\n")
            except OSError:
                return
            time.sleep(PATIENCE / 4)
    pytest.fail("the connection is still open")


def test_an_idle_connection_in_use_is_kept(wire: Any) -> None:
    """Between two requests a caller may think for longer than the patience: that is keep-alive."""
    with wire.connect() as connection:
        for _ in range(2):
            connection.sendall(GET + b"\r\n")
            assert connection.recv(1 << 16).startswith(b"HTTP/1.1 200")
            time.sleep(PATIENCE * 2.5)


@pytest.mark.parametrize("piece", [8192, 10**7], ids=["in parts", "at once"])
@pytest.mark.parametrize(
    "line",
    [
        b"X-Long: " + b"a" * 70_000,
        b"\r\n".join(b"X-%d: a" % i for i in range(9_000)),
        b"Cookie: " + b"a" * 10**6,
    ],
    ids=["one", "many", "a huge one"],
)
def test_a_head_without_end_is_refused(patient_wire: Any, line: bytes, piece: int) -> None:
    """Memory by headers: uvicorn takes any. Guard: ``Patient.data_received`` (431)."""
    parts = [line[i : i + piece] for i in range(0, len(line), piece)]
    if len(parts) == 1:
        patient_wire.stall(0.3)
    answer = patient_wire.ask(b"GET /health HTTP/1.1\r\n", *parts)
    assert answer == b"" or status_of(answer) == 431  # a reset may come before it is read
    assert len(line) > MAX_HEAD


def test_trailers_without_end_are_refused(patient_wire: Any) -> None:
    """Memory by trailers, past the limit of bodies. Guard: ``MAX_FRAMING`` in ``Patient.data_received``."""
    head = POST + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n"
    answer = patient_wire.ask(head, *[b"X-Trailer: " + b"a" * 8000 + b"\r\n"] * 40)
    assert answer == b"" or status_of(answer) == 400


def test_a_body_in_chunks_of_one_byte_is_taken(patient_wire: Any) -> None:
    """What is unusual is not refused with what is hostile: six bytes come for each of the body here."""
    body = json.dumps({"row": {"a": 1, "b": 2}}).encode() + b" " * 30_000
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
    answer = patient_wire.ask(POST + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks)
    assert answer.startswith((b"HTTP/1.1 200", b"HTTP/1.1 404"))


@pytest.mark.slow
def test_the_setting_reaches_the_server(tmp_path: Path) -> None:
    """``EVERLEARN_CLIENT_TIMEOUT`` in a whole installation, with processes of its own."""
    environment = {**os.environ, "EVERLEARN_CLIENT_TIMEOUT": "1", "MLFLOW_TRACKING_URI": "off"}
    command = [sys.executable, "-m", "everlearn", "up", "--port", "0", "--data", str(tmp_path / "data")]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as up:
        try:
            note = tmp_path / "data" / "server.json"
            deadline = time.monotonic() + 60
            while not note.exists():
                assert time.monotonic() < deadline
                time.sleep(0.1)
            port = int(json.loads(note.read_text())["url"].rpartition(":")[2])
            with socket.create_connection(("127.0.0.1", port), timeout=15) as connection:
                connection.sendall(b"GET /health HT")
                started = time.monotonic()
                assert connection.recv(1 << 16).startswith(b"HTTP/1.1 408")
                assert time.monotonic() - started < 10
        finally:
            up.terminate()
