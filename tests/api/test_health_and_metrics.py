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


async def test_a_request_that_is_refused_counts_for_its_route(api: httpx.AsyncClient) -> None:
    wrong = {"Authorization": "Bearer wrong"}
    await api.post("/v1/models/toy/predict", json={}, headers=wrong)
    await api.get("/v1/models/toy", headers=wrong)
    await api.get("/nowhere", headers=wrong)
    page = (await api.get("/metrics")).text
    for line in (
        'everlearn_requests_total{method="POST",route="/v1/models/{model}/predict",status="401"} 1.0',
        'everlearn_requests_total{method="GET",route="/v1/models/{model}",status="401"} 1.0',
        'everlearn_requests_total{method="GET",route="unmatched",status="401"} 1.0',
    ):
        assert line in page, line


async def answer(api: httpx.AsyncClient, place: Any, count: int = 40) -> None:
    """Let the model answer so many rows, and its loop hear what came true of them."""
    rows = [{"a": i % 5 - 2.0} for i in range(count)]
    asked = await api.post("/v1/models/toy/predict", json={"rows": rows})
    ids = [one["id"] for one in asked.json()["predictions"]]
    truths = [
        {"id": key, "value": "yes" if row["a"] > 0 else "no"} for key, row in zip(ids, rows, strict=True)
    ]
    await api.post("/v1/models/toy/labels", json={"labels": truths})
    place.advance()


async def test_what_the_loop_knows_is_told(trained: httpx.AsyncClient, place: Any) -> None:
    from everlearn.api.gauges import STATES
    from everlearn.loop import card
    from everlearn.loop.summary import summary

    await answer(trained, place)
    page = (await trained.get("/metrics")).text
    state = summary(place.store.ledger.checkpoint("toy").state)
    (standing,) = place.store.scores.standings()
    shown = card.read_card(standing.card)
    for line in (
        f'everlearn_matured_rows_total{{model="toy"}} {float(state["matured"])}',
        f'everlearn_score_upper{{model="toy"}} {state["champion"]["upper"]}',
        f'everlearn_state{{model="toy",state="{shown.state}"}} 1.0',
        f'everlearn_margin{{model="toy"}} {shown.margin}',
        'everlearn_state{model="toy",state="frozen"} 0.0',
        'everlearn_promotions_total{model="toy"} 1.0',
        'everlearn_rollbacks_total{model="toy"} 0.0',
        "everlearn_models 1.0",
    ):
        assert line in page, line
    assert 'everlearn_label_lag_seconds_count{model="toy"}' in page
    assert page.count('everlearn_state{model="toy"') == len(STATES)
    assert STATES == card.STATES
    counts = place.store.ledger.counts("toy")
    for kind, count in counts.items():
        assert f'everlearn_decisions_total{{kind="{kind}",model="toy"}} {float(count)}' in page


async def test_a_state_is_read_once_however_often_it_is_asked_for(
    trained: httpx.AsyncClient, place: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await answer(trained, place)
    first = (await trained.get("/metrics")).text
    read: list[str] = []
    checkpoint = place.store.ledger.checkpoint
    monkeypatch.setattr(
        place.store.ledger, "checkpoint", lambda model: read.append(model) or checkpoint(model)
    )
    again = (await trained.get("/metrics")).text
    assert read == []
    kept = [line for line in first.splitlines() if line.startswith("everlearn_score")]
    assert kept
    assert kept == [line for line in again.splitlines() if line.startswith("everlearn_score")]
    await trained.post("/v1/models/toy/predict", json={"rows": [{"a": 1}]})
    place.advance()
    read.clear()
    await trained.get("/metrics")
    assert read == ["toy"]


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
