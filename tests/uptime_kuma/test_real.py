"""``everlearn uptime-kuma sync`` against a real Uptime Kuma: 2.0.0-dev.0, the one that npm has.

It is a build of the development of 2.0. What released servers ask more of a new monitor is held in
``test_protocol.py``.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from everlearn.adapters.uptime_kuma import UptimeKuma
from everlearn.adapters.uptime_kuma_plan import key_of
from everlearn.api.serve import server
from everlearn.client import Client
from everlearn.config import Settings
from everlearn.wiring import Installation

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SPEC = {"name": "shop", "target": "y", "features": {"a": "numeric"}, "learner": "majority"}


@dataclass
class Live:
    """An API that answers on this machine, with no worker beside it."""

    url: str
    key: str


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Live]:
    key = "a-key-for-these-tests-4711"
    installation = Installation(Settings(data=tmp_path / "data", api_key=key, mlflow_tracking_uri="off"))
    installation.prepare()
    installation.migrate()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = server(installation)
        thread = threading.Thread(target=serving.run, args=([listener],), daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        until(lambda: serving.started)
        yield Live(url, key)
        serving.should_exit = True
        thread.join(20)
    installation.close()


@pytest.fixture
def sync(live: Any, kuma: Any, tmp_path: Path) -> Callable[..., Any]:
    """Runs the command as an operator does; the JSON that it prints."""
    (tmp_path / "password").write_text(kuma.password + "\n")
    environment = {
        **os.environ,
        "EVERLEARN_URL": live.url,
        "EVERLEARN_API_KEY": live.key,
        "EVERLEARN_UPTIME_KUMA_URL": kuma.url,
        "EVERLEARN_UPTIME_KUMA_USER": kuma.user,
        "EVERLEARN_UPTIME_KUMA_PASSWORD_FILE": str(tmp_path / "password"),
        "EVERLEARN_UPTIME_KUMA_KEY": live.key,
    }

    def run(*words: str, **more: str) -> Any:
        command = [
            sys.executable,
            "-m",
            "everlearn",
            "uptime-kuma",
            "sync",
            "--json",
            "--interval",
            "20",
            *words,
        ]
        done = subprocess.run(
            command, env={**environment, **more}, capture_output=True, text=True, check=False
        )
        return json.loads(done.stdout) if done.returncode == 0 else done.stderr

    return run


def monitors(kuma: Any) -> dict[str, Any]:
    """What Uptime Kuma has, by our keys."""
    with UptimeKuma(kuma.url) as connection:
        connection.log_in(kuma.user, kuma.password)
        return {str(key_of(one, "everlearn")): one for one in connection.monitors}


def status_of(kuma: Any) -> dict[str, str]:
    """What its own metrics say of each monitor: 1 is up."""
    page = httpx.get(f"{kuma.url}/metrics", auth=(kuma.user, kuma.password)).text
    found = {}
    for line in page.splitlines():
        if line.startswith("monitor_status{"):
            found[line.split('monitor_name="')[1].split('"')[0]] = line.rpartition(" ")[2]
    return found


def until(condition: Callable[[], Any], seconds: float = 90.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.5)


def actions(told: Any) -> dict[str, str]:
    return {item["key"]: item["action"] for item in told["items"]}


def test_its_monitors_are_made_once_kept_mended_and_see_what_there_is(
    live: Any, kuma: Any, sync: Callable[..., Any]
) -> None:
    client = Client(live.url, live.key)
    client.create_model(SPEC)
    client.create_model({**SPEC, "name": "other"})

    assert set(actions(sync("--dry-run")).values()) == {"create"}
    assert monitors(kuma) == {}
    made = sync()
    assert set(actions(made).values()) == {"create"}
    assert set(monitors(kuma)) == {"health", "ready", "model:shop", "model:other", "worker"}
    again = sync()
    assert set(actions(again).values()) == {"keep"}
    assert again["heartbeat_url"] == made["heartbeat_url"]

    # They look, and find it well; the worker's waits for a push, which is taken.
    httpx.get(made["heartbeat_url"], params={"status": "up", "msg": "OK", "ping": ""}).raise_for_status()
    names = ("health", "ready", "model shop is fresh", "model other is fresh", "worker")
    until(lambda: status_of(kuma) == {f"everlearn: {name}": "1" for name in names})

    # What somebody changed is changed back, and a key that is taken away is seen.
    with UptimeKuma(kuma.url) as connection:
        connection.log_in(kuma.user, kuma.password)
        ready = next(one for one in connection.monitors if key_of(one, "everlearn") == "ready")
        connection._do("editMonitor", {**ready, "url": "http://127.0.0.1:1/", "name": "is it ready?"})
        connection._do("add", {**_bare(ready), "name": "not ours"})
    mended = sync("--dry-run")
    assert actions(mended)["ready"] == "update"
    assert actions(sync())["ready"] == "update"
    assert monitors(kuma)["ready"]["url"] == f"{live.url}/v1/health/ready"
    assert monitors(kuma)["ready"]["name"] == "is it ready?"
    sync(EVERLEARN_UPTIME_KUMA_KEY="a-key-that-nobody-knows")
    until(lambda: status_of(kuma)["everlearn: model shop is fresh"] != "1")

    # A model that is gone: its monitor goes only when that is asked for, and nothing else does.
    client.delete_model("other")
    assert actions(sync())["model:other"] == "leave"
    assert actions(sync("--prune"))["model:other"] == "delete"
    left = monitors(kuma)
    assert set(left) == {"health", "ready", "model:shop", "worker", "None"}
    assert left["None"]["name"] == "not ours"
    client.close()


def _bare(monitor: Any) -> dict[str, Any]:
    names = ("type", "url", "method", "interval", "retryInterval", "maxretries", "accepted_statuscodes")
    more = {"notificationIDList": {}, "kafkaProducerBrokers": [], "kafkaProducerSaslOptions": {}}
    return {**{name: monitor[name] for name in names}, **more}


def test_a_wrong_password_is_said(kuma: Any, sync: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "password").write_text("wrong")
    assert "Uptime Kuma refuses the log-in" in sync()
    assert "Uptime Kuma does not answer at" in sync("--url", "http://127.0.0.1:9")


def test_a_worker_pushes_while_it_works(kuma: Any, sync: Callable[..., Any]) -> None:
    from everlearn.worker.pulse import Pulse

    url = sync()["heartbeat_url"]
    trouble: list[Exception] = []

    def well() -> None:
        if trouble:
            raise trouble[0]

    assert status_of(kuma).get("everlearn: worker") != "1"
    assert Pulse(url, well).beat()
    until(lambda: status_of(kuma).get("everlearn: worker") == "1")
    trouble.append(OSError("the database is gone"))
    assert not Pulse(url, well).beat()
