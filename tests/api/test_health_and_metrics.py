"""Health, readiness and metrics, also of several processes."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from everlearn import __version__
from everlearn.errors import UnavailableError


async def test_health(api: httpx.AsyncClient) -> None:
    answer = await api.get("/health")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok", "version": __version__})


async def ready(api: httpx.AsyncClient) -> None:
    """Wait until the champions are loaded."""
    for _ in range(200):
        if (await api.get("/v1/health/ready")).status_code == 200:
            return
        await asyncio.sleep(0.01)


async def test_a_process_that_loads_its_champions_is_not_ready_yet(
    api: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("everlearn.api.runtime.Runtime.loading", True)
    answer = await api.get("/v1/health/ready")
    assert (answer.status_code, answer.json()["checks"]["champions"]) == (503, "are being loaded")


async def test_readiness_follows_the_store(
    api: httpx.AsyncClient, place: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ready(api)
    assert (await api.get("/v1/health/ready")).json() == {
        "status": "ready",
        "checks": {"store": "ok", "champions": "ok"},
    }

    def down() -> Any:
        raise UnavailableError("password in here")

    monkeypatch.setattr(place.store.versions, "champions", down)
    answer = await api.get("/v1/health/ready")
    assert (answer.status_code, answer.json()["status"]) == (503, "unavailable")
    assert "password" not in answer.text
    assert (await api.get("/health")).status_code == 200
    assert (await api.get("/metrics")).status_code == 200


async def test_what_is_counted(trained: httpx.AsyncClient, place: Any) -> None:
    before = place.store.log.head("toy").rows
    await trained.post("/v1/models/toy/predict", json={"rows": [{"a": 1}] * 5})
    await trained.post("/v1/models/toy/predict", json={"rows": []})
    await trained.post("/v1/models/toy/labels", content="{", headers={"Content-Type": "application/json"})
    answer = await trained.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    page = answer.text
    for line in (
        'everlearn_requests_total{method="POST",route="/v1/models/{model}/predict",status="422"} 1.0',
        'everlearn_requests_total{method="POST",route="/v1/models/{model}/labels",status="422"} 1.0',
        f'everlearn_predictions_total{{role="champion"}} {before + 5.0}',
        "everlearn_examples_total 150.0",
        'everlearn_champion_version{model="toy"} 1.0',
        f'everlearn_log_seq{{model="toy"}} {float(place.store.log.head("toy").seq)}',
        "everlearn_failed_loads_total 0.0",
    ):
        assert line in page, line
    assert 'everlearn_loop_lag_events{model="toy"}' in page
    assert "everlearn_swaps_total 2.0" in page


async def test_paths_that_are_not_there_do_not_make_new_series(api: httpx.AsyncClient) -> None:
    for i in range(20):
        await api.get(f"/nowhere/{i}")
        await api.request(f"ODD{i}", "/health")
    page = (await api.get("/metrics")).text
    assert 'route="unmatched",status="404"} 20.0' in page
    assert "nowhere" not in page
    assert "ODD" not in page


PROCESS = """
from everlearn.adapters.memory import MemoryStore
from everlearn.api.instruments import Instruments
instruments = Instruments(MemoryStore())
instruments.loaded(21)
print(instruments.page().decode())
"""


@pytest.mark.slow
def test_several_processes_are_added_up(tmp_path: Path) -> None:
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    pages = [
        subprocess.run(
            [sys.executable, "-c", PROCESS], env=environment, capture_output=True, text=True, check=True
        ).stdout
        for _ in range(2)
    ]
    assert "everlearn_examples_total 21.0" in pages[0]
    assert "everlearn_examples_total 42.0" in pages[1]
