"""What a released Uptime Kuma asks of its callers, played by a Socket.IO server of our own.

It answers as the source of 2.0 does: ``add`` stores ``conditions`` and ``rabbitmqNodes``, which must be
there, a user may have a second factor, and calls may be refused. A real server stands in ``test_real.py``.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn

from everlearn.adapters.uptime_kuma import UptimeKuma
from everlearn.adapters.uptime_kuma_plan import changes, wanted
from everlearn.errors import ForbiddenError, InvalidError, UnavailableError


class Fake:
    """The state of the server: what it has, what it asks, and what it does badly."""

    def __init__(self) -> None:
        self.version, self.code, self.refuses = "2.0.2", "", ""
        self.monitors: dict[int, Any] = {}
        self.tags: dict[int, str] = {}
        self.url = ""

    def add(self, monitor: Any) -> Any:
        needed = {"accepted_statuscodes", "notificationIDList", "kafkaProducerBrokers"}
        if self.version.startswith("2") and "dev" not in self.version:
            needed |= {"conditions", "rabbitmqNodes"}
        missing = needed - monitor.keys()
        if missing:
            return {"ok": False, "msg": f"NOT NULL constraint failed: monitor.{sorted(missing)[0]}"}
        number = len(self.monitors) + 1
        self.monitors[number] = {**monitor, "id": number, "tags": []}
        return {"ok": True, "monitorID": number}

    def get_tags(self) -> Any:
        return {"ok": True, "tags": [{"id": key, "name": name} for key, name in self.tags.items()]}

    def delete(self, number: int) -> Any:
        del self.monitors[number]
        return {"ok": True}

    def tag(self, tag: int, monitor: int, value: str) -> Any:
        if self.refuses == "addMonitorTag":
            return {"ok": False, "msg": "the disk is full"}
        self.monitors[monitor]["tags"].append({"name": self.tags[tag], "value": value})
        return {"ok": True}

    def add_tag(self, tag: Any) -> Any:
        self.tags[len(self.tags) + 1] = tag["name"]
        return {"ok": True, "tag": {"id": len(self.tags), **tag}}


def attach(sio: Any, state: Fake) -> None:
    """Let a Socket.IO server answer for it."""

    async def login(sid: str, data: Any) -> Any:
        if data["password"] != "right":
            return {"ok": False, "msg": "Incorrect username or password."}
        if state.code and not data["token"]:
            return {"tokenRequired": True}
        await sio.emit("monitorList", {str(key): one for key, one in state.monitors.items()}, to=sid)
        await sio.emit("info", {"version": state.version}, to=sid)
        return {"ok": True, "token": "jwt"}

    def plain(answer: Any) -> Any:
        async def handler(sid: str, *given: Any) -> Any:
            return answer(*given)

        return handler

    sio.on("login", login)
    calls = {
        "add": state.add, "addMonitorTag": state.tag, "addTag": state.add_tag,
        "getTags": state.get_tags, "deleteMonitor": state.delete,
    }  # fmt: skip
    for event, answer in calls.items():
        sio.on(event, plain(answer))


@pytest.fixture
def fake() -> Iterator[Fake]:
    """The server, listening."""
    import socketio

    state = Fake()
    sio = socketio.AsyncServer(async_mode="asgi")
    attach(sio, state)
    server = uvicorn.Server(uvicorn.Config(socketio.ASGIApp(sio), port=0, log_config=None, lifespan="off"))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()), daemon=True)
    thread.start()
    while not server.started:
        pass
    state.url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    yield state
    server.should_exit = server.force_exit = True
    thread.join(20)


def sync(fake: Fake, *models: str) -> list[int | None]:
    plan = wanted("http://api:8000", models, prefix="everlearn", interval=60, key="k" * 20, beat=20)
    with UptimeKuma(fake.url) as kuma:
        kuma.log_in("ann", "right")
        return [
            kuma.apply(change, "everlearn")
            for change in changes(kuma.monitors, plan, "everlearn", prune=True)
        ]


@pytest.mark.parametrize("version", ["2.0.2", "1.23.16", "2.0.0-dev.0"])
def test_a_new_monitor_has_what_the_server_asks_of_it(fake: Fake, version: str) -> None:
    fake.version = version
    assert sync(fake, "shop") == [1, 2, 3, 4]
    assert ("conditions" in fake.monitors[1]) == (version == "2.0.2")
    assert [one["tags"][0]["value"] for one in fake.monitors.values()] == [
        "health",
        "ready",
        "model:shop",
        "worker",
    ]
    assert len(fake.tags) == 1
    sync(fake, "shop")
    assert len(fake.monitors) == 4


def test_a_monitor_that_gets_no_tag_is_taken_back(fake: Fake) -> None:
    fake.refuses = "addMonitorTag"
    with pytest.raises(InvalidError, match="refuses addMonitorTag: the disk is full"):
        sync(fake)
    assert fake.monitors == {}


def test_a_refused_log_in_says_why(fake: Fake) -> None:
    with UptimeKuma(fake.url) as kuma, pytest.raises(ForbiddenError, match="Incorrect username"):
        kuma.log_in("ann", "wrong")
    fake.code = "123456"
    with UptimeKuma(fake.url) as kuma, pytest.raises(ForbiddenError, match="give --code"):
        kuma.log_in("ann", "right")
    with UptimeKuma(fake.url) as kuma:
        kuma.log_in("ann", "right", "123456")


def test_one_that_is_not_there_or_does_not_answer_is_said_so(fake: Fake) -> None:
    with pytest.raises(UnavailableError, match="does not answer at"), UptimeKuma("http://127.0.0.1:9"):
        pass
    with pytest.raises(InvalidError, match="--url"):
        UptimeKuma("kuma:3001")
    with UptimeKuma(fake.url, seconds=0.2) as kuma, pytest.raises(UnavailableError, match="getMonitorList"):
        kuma._do("getMonitorList")
