"""Two API processes on one port: one count, one champion, one way to say that it is too much, and one that
dies without the other's callers noticing."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(180),
    pytest.mark.xdist_group("workers"),
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
]

LINES = 12
SPEC: dict[str, Any] = {
    "target": "y",
    "features": {"a": "numeric"},
    "learner": {"name": "linear"},
    "update": "triggered",
    "threshold": 0.5,
    "policy": {"name": "never", "first_rows": 60},
    "gate": {"name": "open"},
}


@pytest.fixture(scope="module")
def bench(root: Path) -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(root / "bench")
        yield import_module("live_server")


@pytest.fixture(scope="module")
def server(
    bench: ModuleType, tmp_path_factory: pytest.TempPathFactory, module_database: None
) -> Iterator[Any]:
    """``everlearn up --workers 2``."""
    with bench.LiveServer(tmp_path_factory.mktemp("two") / "data", mlflow=False, workers=2) as started:
        yield started


class Line:
    """One connection, which stays with the process that took it; it may be made again."""

    def __init__(self, server: Any, bench: ModuleType) -> None:
        self._server, self._bench = server, bench
        self.http = HTTPConnection("127.0.0.1", server.port, timeout=60)
        assert self.ask("GET", "/health")[0] == 200  # until then nobody has taken it

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, dict[str, str], Any]:
        """Status, headers, and the body, read as JSON where it is."""
        headers = {"Authorization": f"Bearer {self._server.key}", "Content-Type": "application/json"}
        self.http.request(method, path, None if body is None else json.dumps(body), headers)
        answer = self.http.getresponse()
        told, named = answer.read(), {name.lower(): value for name, value in answer.getheaders()}
        return answer.status, named, json.loads(told) if "json" in named["content-type"] else told.decode()

    def predict(self, model: str, rows: int = 1) -> tuple[int, dict[str, str], Any]:
        return self.ask("POST", f"/v1/models/{model}/predict", {"rows": [{"a": i / 10} for i in range(rows)]})

    def owner(self) -> int:
        """The process at the other end."""
        assert self.http.sock is not None
        ends = f":{self._server.port:04X}", f":{self.http.sock.getsockname()[1]:04X}"
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            fields = line.split()
            if (fields[1][-5:], fields[2][-5:]) == ends:
                return next(pid for pid in apis(self._server, self._bench) if holds(pid, fields[9]))
        raise AssertionError("the connection is gone")


def holds(pid: int, inode: str) -> bool:
    """Whether a process holds a socket."""
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            if entry.readlink() == Path(f"socket:[{inode}]"):
                return True
        except FileNotFoundError:
            continue
    return False


def apis(server: Any, bench: ModuleType) -> list[int]:
    """The API processes that run now."""
    found = []
    for pid in bench.family(server._process.pid)[1:]:
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except FileNotFoundError:
            continue
        if b"everlearn.api.serve" in command:
            found.append(pid)
    return found


@contextmanager
def lines_of(server: Any, bench: ModuleType) -> Iterator[dict[int, list[Line]]]:
    """Connections to both processes, by the process."""
    by_owner: dict[int, list[Line]] = {}
    made: list[Line] = []
    while len(by_owner) < 2 or len(made) < LINES:
        made.append(Line(server, bench))
        by_owner.setdefault(made[-1].owner(), []).append(made[-1])
        assert len(made) < 300, "one process takes all connections"
    yield by_owner
    for line in made:
        line.http.close()


@pytest.fixture
def lines(server: Any, bench: ModuleType) -> Iterator[dict[int, list[Line]]]:
    with lines_of(server, bench) as made:
        yield made


def until(condition: Callable[[], object], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def create(server: Any, name: str, **changes: Any) -> None:
    with server.client() as client:
        client.create_model({**SPEC, "name": name, **changes})


def counted(line: Line, pattern: str) -> float:
    """A number of the metrics page."""
    found = re.search(rf"^{pattern} (\S+)$", line.ask("GET", "/metrics")[2], re.MULTILINE)
    return float(found[1]) if found else 0.0


PREDICTED = r'everlearn_requests_total\{method="POST",route="/v1/models/\{model\}/predict",status="200"\}'
ANSWERED = r'everlearn_predictions_total\{role="champion"\}'


def test_whoever_is_asked_tells_the_counts_of_both(server: Any, lines: dict[int, list[Line]]) -> None:
    create(server, "counted")
    every = [line for some in lines.values() for line in some]
    before = counted(every[0], PREDICTED), counted(every[0], ANSWERED)
    sent = dict.fromkeys(lines, 0)
    for _ in range(5):
        for pid, some in lines.items():
            for line in some:
                assert line.predict("counted", 3)[0] == 200
                sent[pid] += 1
    total = sum(sent.values())
    assert all(0 < count < total for count in sent.values())
    for some in lines.values():
        until(lambda: counted(some[0], PREDICTED) - before[0] >= total)  # noqa: B023 (counted after it is sent)
        assert counted(some[0], PREDICTED) - before[0] == total
        assert counted(some[0], ANSWERED) - before[1] == 3 * total


def test_a_swap_reaches_both(server: Any, lines: dict[int, list[Line]]) -> None:
    create(server, "swapped")
    with server.client() as client:
        rows = [{"a": i / 100} for i in range(100)]
        client.load("swapped", rows, ["yes" if row["a"] > 0.5 else "no" for row in rows])

        def all_answer(version: int) -> bool:
            told = [line.predict("swapped")[2] for some in lines.values() for line in some]
            return {one["predictions"][0]["version"] for one in told} == {version}

        until(lambda: all_answer(1), 60)
        for version in (0, 1, 0, 1):
            client.promote("swapped", version)
            until(lambda: all_answer(version), 5)  # noqa: B023


@pytest.mark.sqlite  # whose write lock it holds
def test_too_much_is_refused_with_503_and_what_was_taken_is_stored(
    server: Any, lines: dict[int, list[Line]]
) -> None:
    create(server, "busy", durability="async")
    first = [some[0] for some in lines.values()]
    for line in first:
        assert line.predict("busy")[0] == 200
    with server.client() as client:
        until(lambda: client.model("busy")["log"]["rows"] == 2)
        with sqlite3.connect(server.data / "everlearn.db", isolation_level=None) as holder:
            holder.execute("BEGIN IMMEDIATE")  # now nobody can write
            with ThreadPoolExecutor(2) as both:
                accepted = sum(both.map(fill, first))
            assert [line.ask("GET", "/health")[0] for line in first] == [200, 200]
            holder.execute("ROLLBACK")
        holder.close()
        until(lambda: client.model("busy")["log"]["rows"] >= 2 + accepted, 90)
        assert client.model("busy")["log"]["rows"] == 2 + accepted
    assert accepted > 50_000
    assert [line.predict("busy")[0] for line in first] == [200, 200]


def fill(line: Line, rows: int = 250) -> int:
    """Ask until it is too much; how many rows were taken."""
    taken = 0
    for _ in range(400):
        status, headers, told = line.predict("busy", rows)
        if status == 503:
            assert int(headers["retry-after"]) >= 1
            assert headers["content-type"] == "application/problem+json"
            assert "wait to be written" in told["detail"]
            return taken
        assert status == 200
        taken += rows
    raise AssertionError("it was never too much")


def test_one_that_is_killed_comes_back_and_the_other_drops_nothing(
    server: Any, bench: ModuleType, lines: dict[int, list[Line]]
) -> None:
    create(server, "killed")
    victim, survivor = sorted(lines)
    over = threading.Event()
    failed: dict[int, list[str]] = {pid: [] for pid in lines}
    answered: dict[int, int] = dict.fromkeys(lines, 0)

    def keep_asking(pid: int, line: Line) -> None:
        while not over.is_set():
            try:
                status, _, told = line.predict("killed")
                if status != 200:
                    failed[pid].append(f"{status}: {told}")
            except (OSError, HTTPException) as error:
                failed[pid].append(f"{type(error).__name__}: {error}")
                line.http.close()  # the next request connects anew
            else:
                answered[pid] += 1
            time.sleep(0.01)

    callers = [
        threading.Thread(target=keep_asking, args=(pid, line), daemon=True)
        for pid, some in lines.items()
        for line in some
    ]
    for caller in callers:
        caller.start()
    until(lambda: min(answered.values()) > 20)
    os.kill(victim, signal.SIGKILL)
    before = dict(answered)
    until(lambda: len(set(apis(server, bench)) - {victim}) == 2)
    until(lambda: all(answered[pid] > before[pid] + 20 for pid in lines))
    new = next(pid for pid in apis(server, bench) if pid not in (victim, survivor))
    until(lambda: takes_part(server, bench, new))
    over.set()
    for caller in callers:
        caller.join(60)
    assert failed[survivor] == []
    # What the dead process was asked at that moment is lost, a request a connection, and nothing after.
    assert len(failed[victim]) <= len(lines[victim])
    survivors = lines[survivor][0]
    assert counted(survivors, PREDICTED) >= sum(answered.values()) - len(lines[victim])


def takes_part(server: Any, bench: ModuleType, pid: int) -> bool:
    """Whether a process takes connections."""
    line = Line(server, bench)
    try:
        return line.owner() == pid
    finally:
        line.http.close()
