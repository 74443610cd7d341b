"""Receivers on this machine that behave as the real ones do on a bad day."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from everlearn.adapters.alerts import Plan, read_plan

SECRET = "a-secret-that-signs-what-is-told"


@dataclass
class Fake:
    """One receiver. ``script`` holds what it does with the next requests: a status, a pair of a status and
    headers, an event that it waits for, or ``hang`` (no answer until the other side gives up); then 204."""

    port: int
    path: str
    script: list[Any] = field(default_factory=list)
    taken: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    """What it took: headers and body of each request that was answered with success."""
    asked: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{self.path}"

    @property
    def bodies(self) -> list[Any]:
        return [json.loads(body) for _, body in self.taken]


@pytest.fixture
def fakes() -> Iterator[Callable[[str], Fake]]:
    """Give a receiver by its path; all of them live in one server."""
    known: dict[str, Fake] = {}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            fake = known[self.path]
            fake.asked += 1
            step = fake.script.pop(0) if fake.script else 204
            if step == "hang":
                self.connection.settimeout(20)
                self.rfile.read(1)  # until the other side hangs up
                self.close_connection = True
                return
            if isinstance(step, threading.Event):
                step.wait(60)
                step = 204
            status, headers = step if isinstance(step, tuple) else (step, {})
            if 200 <= status < 300:
                fake.taken.append(({k.lower(): v for k, v in self.headers.items()}, body))
            self.send_response(status)
            for name, value in {"Content-Length": "0", **headers}.items():
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def make(path: str) -> Fake:
        known[path] = Fake(server.server_address[1], path)
        return known[path]

    yield make
    server.shutdown()
    server.server_close()


@pytest.fixture
def plan_of(tmp_path: Path) -> Callable[..., Plan]:
    """A plan from a file, as an operator would write it for receivers on this machine."""

    def make(receivers: list[dict[str, Any]], **more: Any) -> Plan:
        ports = {str(r["url"]).split("/")[2] for r in receivers if "url" in r}
        content = {
            "receivers": receivers,
            "allow": sorted(ports),
            "allow_networks": ["127.0.0.0/8"],
            **more,
        }
        file = tmp_path / "alerts.yaml"
        file.write_text(yaml.safe_dump(content))
        return read_plan(file)

    return make
