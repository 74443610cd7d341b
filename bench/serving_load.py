"""Load for the serving benchmark: ``wrk`` for as many requests as go through, a clock for a fixed rate."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

_SCRIPT = """wrk.method = "POST"
wrk.body = [==[%s]==]
%s
done = function(summary, latency, requests)
  local e = summary.errors
  local failed = e.connect + e.read + e.write + e.timeout + e.status
  local told = 'RESULT {"requests": %%d, "failed": %%d, "microseconds": %%d, "p50": %%d, "p99": %%d}\\n'
  io.write(string.format(told,
    summary.requests, failed, summary.duration, latency:percentile(50), latency:percentile(99)))
end
"""


@dataclass(frozen=True)
class Target:
    """Where a request goes, and what it is."""

    url: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def request(self) -> bytes:
        """The request as it goes over the wire."""
        parts = urlsplit(self.url)
        lines = [f"POST {parts.path} HTTP/1.1", f"Host: {parts.netloc}", f"Content-Length: {len(self.body)}"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        return "\r\n".join([*lines, "", ""]).encode() + self.body


@dataclass(frozen=True)
class Load:
    """What came of a load: requests a second, and latencies in milliseconds. ``failed`` are not 200."""

    rps: float
    p50: float
    p99: float
    failed: int = 0


def tool() -> str:
    """What makes the closed load here."""
    return "wrk" if shutil.which("wrk") else "asyncio"


def closed(target: Target, connections: int, seconds: float) -> Load:
    """So many connections, each asking again as soon as it is answered."""
    if tool() == "wrk":
        return _wrk(target, connections, seconds)
    return asyncio.run(_closed(target, connections, seconds))


def _wrk(target: Target, connections: int, seconds: float) -> Load:
    headers = "\n".join(f'wrk.headers["{name}"] = "{value}"' for name, value in target.headers)
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "load.lua"
        script.write_text(_SCRIPT % (target.body.decode(), headers))
        command = ["wrk", "-t1", f"-c{connections}", f"-d{round(seconds)}s", "-s", str(script), target.url]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    told = next(line for line in done.stdout.splitlines() if line.startswith("RESULT "))
    found = json.loads(told.removeprefix("RESULT "))
    rate = found["requests"] / (found["microseconds"] / 1e6)
    return Load(rate, found["p50"] / 1e3, found["p99"] / 1e3, found["failed"])


class _Line(asyncio.Protocol):
    """One connection: sends a request, tells when its answer is whole."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[int] | None = None
        self._read = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._read += data
        head, found, body = self._read.partition(b"\r\n\r\n")
        if not found:
            return
        length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
        if len(body) >= int(length or 0):
            self._read = b""
            self._settle(int(head[9:12]))

    def connection_lost(self, _: Exception | None) -> None:
        self._settle(0)

    def _settle(self, status: int) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(status)

    async def ask(self, request: bytes) -> int:
        """The status of the answer; 0 where the connection was closed instead."""
        assert self.transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return await self._answer


async def _lines(target: Target, count: int) -> list[_Line]:
    loop, where = asyncio.get_running_loop(), urlsplit(target.url)
    made = [await loop.create_connection(_Line, where.hostname, where.port) for _ in range(count)]
    return [line for _, line in made]


async def _closed(target: Target, connections: int, seconds: float) -> Load:
    request, times, failed = target.request, [], 0
    until = time.perf_counter() + seconds

    async def ask(line: _Line) -> None:
        nonlocal failed
        while (started := time.perf_counter()) < until:
            status = await line.ask(request)  # on a line of its own: += would forget what others counted
            failed += status != 200
            times.append(time.perf_counter() - started)

    lines = await _lines(target, connections)
    await asyncio.gather(*map(ask, lines))
    _close(lines)
    return _load(times, seconds, failed)


def steady(target: Target, rate: float, seconds: float, connections: int = 64) -> Load:
    """Requests by the clock, ``rate`` a second, on free connections.

    Latency counts from the moment at which a request was due, so that a server that stalls is not let off
    the requests that it kept from being sent.
    """
    return asyncio.run(_steady(target, rate, seconds, connections))


async def _steady(target: Target, rate: float, seconds: float, connections: int) -> Load:
    request, times, failed = target.request, [], 0
    lines = await _lines(target, connections)
    free, late = deque(lines), deque()
    running: set[asyncio.Task[None]] = set()
    begun = time.perf_counter()

    async def ask(line: _Line, due: float) -> None:
        nonlocal failed
        status = await line.ask(request)  # on a line of its own: += would forget what others counted
        failed += status != 200
        times.append(time.perf_counter() - due)
        free.append(line)

    total = round(rate * seconds)
    sent = 0
    while sent < total or late or running:
        now = time.perf_counter()
        while sent < total and begun + sent / rate <= now:
            late.append(begun + sent / rate)
            sent += 1
        while late and free:
            task = asyncio.create_task(ask(free.pop(), late.popleft()))
            running.add(task)
            task.add_done_callback(running.discard)
        if now - begun > seconds + 30:
            break
        await asyncio.sleep(max(0.0, min(0.001, begun + sent / rate - time.perf_counter())))
    took = time.perf_counter() - begun
    _close(lines)
    return _load(times, took, failed + len(late) + len(running))


def _close(lines: Sequence[_Line]) -> None:
    for line in lines:
        if line.transport is not None:
            line.transport.close()


def _load(times: Sequence[float], seconds: float, failed: int) -> Load:
    ranked = sorted(times) or [0.0]
    p50, p99 = (1000.0 * ranked[min(len(ranked) - 1, int(share * len(ranked)))] for share in (0.5, 0.99))
    return Load(len(times) / seconds, p50, p99, failed)
