"""A real Prometheus reads a running installation with two API processes: nothing is missing, and the counts
are those of the log.

Every expression of every Grafana panel and mark, and what every alert rule asks before it compares, must
return data there. What is empty while all is well is driven: drift without labels, a candidate on trial, a
promotion that is watched, a rollback. No expression is left out.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, Never

import httpx
import pytest
import yaml

from everlearn.client import Client
from everlearn.errors import ConflictError

pytestmark = [pytest.mark.slow, pytest.mark.timeout(420)]

SPEC: dict[str, Any] = {
    "name": "shop",
    "target": "y",
    "features": {"a": "numeric", "b": "numeric"},
    "learner": {"name": "window", "size": 400, "estimator": "logistic"},
    "label_horizon": {"rows": 5},
    "policy": {"first_rows": 60, "min_labels": 40, "window": 100, "cooldown": 40, "check_every": 10},
    "gate": {"holdout": 40, "min_rows": 20, "look_every": 20},
    "drift": {"rows": 50},
}
ROWS, SCORED, MOVED, TRIED = 240, 260, 120, 60
ALL = ROWS + SCORED + MOVED + TRIED
REFUSED, REFUSALS = 'everlearn_requests_total{route="/v1/models/{model}/predict",status="401"}', 3


@pytest.fixture
def live(root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    monkeypatch.syspath_prepend(root / "bench")
    module: ModuleType = import_module("live_server")
    server = module.LiveServer(tmp_path / "data", mlflow=False, workers=2)
    with server:
        yield server


@pytest.fixture
def clients(live: Any) -> Iterator[list[Client]]:
    """Six of them, each with a connection of its own."""
    with ExitStack() as stack:
        yield [stack.enter_context(Client(live.url, live.key)) for _ in range(6)]


@pytest.fixture
def prometheus(
    root: Path, live: Any, tmp_path: Path, miss: Callable[[str], Never]
) -> Iterator[Callable[..., list[dict[str, Any]]]]:
    """Prometheus with the rules of ``deploy``, which reads the installation each second; asks it a query.

    With ``ever``: over all the time since it was started.
    """
    program = shutil.which("prometheus")
    if program is None:
        miss("prometheus is not installed (Debian: apt-get install prometheus)")
    config = yaml.safe_load((root / "deploy" / "compose" / "prometheus.yml").read_text())
    scrape, _ = config["scrape_configs"]  # workers that `up` starts tell what they know by the API
    config["scrape_configs"] = [scrape]
    (tmp_path / "key").write_text(live.key)
    scrape["authorization"]["credentials_file"] = str(tmp_path / "key")
    scrape["static_configs"][0]["targets"] = [f"127.0.0.1:{live.port}"]
    config["global"]["scrape_interval"] = config["global"]["evaluation_interval"] = "1s"
    shutil.copy(root / "deploy" / "prometheus" / "rules.yml", tmp_path)
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    port = import_module("live_server").free_port()
    words = [
        "--config.file=prometheus.yml",
        "--storage.tsdb.path=tsdb",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (tmp_path / "prometheus.log").open("wb") as log:
        process = subprocess.Popen([program, *words], cwd=tmp_path, stdout=log, stderr=log)

    started = time.time()

    def ask(path: str, **asked: Any) -> list[dict[str, Any]]:
        answer = httpx.get(f"http://127.0.0.1:{port}/api/v1/{path}", params=asked, timeout=20)
        assert answer.status_code == 200, answer.text
        found: list[dict[str, Any]] = answer.json()["data"]["result"]
        return found

    def query(expression: str, *, ever: bool = False) -> list[dict[str, Any]]:
        if ever:
            return ask("query_range", query=expression, start=started, end=time.time(), step="1s")
        return ask("query", query=expression)

    try:
        until(lambda: httpx.get(f"http://127.0.0.1:{port}/-/ready", timeout=2).status_code == 200)
        yield query
    finally:
        process.terminate()
        process.wait(20)


def until(condition: Callable[[], Any], seconds: float = 90.0) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            if condition():
                return
        except httpx.HTTPError:
            pass
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.2)


def feed(client: Client, start: int, count: int, moved: float = 0.0) -> None:
    """Rows, one a request over both processes, and their labels."""
    for i in range(start, start + count):
        row = {"a": (i * 37 % 101) / 50 - 1, "b": (i * 13 % 7) / 7 + moved}
        client.predict("shop", [row], ids=[f"p{i}"])
        client.label("shop", {f"p{i}": "yes" if row["a"] > 0 else "no"})


def value(found: list[dict[str, Any]]) -> float:
    return sum(float(series["value"][1]) for series in found)


def compared(rule: str) -> list[str]:
    """What an alert rule asks, without what it compares the answers with.

    >>> compared("up == 0"), compared("rate(a[5m]) > 0 and sum by (x) (b) == 0")
    (['up'], ['rate(a[5m])', 'sum by (x) (b)'])
    """
    parts = [re.fullmatch(r"(.+?)\s*(?:[=!<>]=|[<>])\s*[\d.]+", part.strip()) for part in rule.split(" and ")]
    assert all(parts), rule
    return [part[1] for part in parts if part]


def jobs_that_were(query: Callable[..., list[dict[str, Any]]]) -> list[float]:
    """How many jobs have ended, and how many there are: what was done after the others may do one more."""
    return [value(query("sum(everlearn_job_seconds_count)")), value(query("sum(everlearn_jobs)"))]


def drive(clients: list[Client], query: Callable[..., list[dict[str, Any]]]) -> None:
    """Let a model go through all that the dashboards tell of."""
    clients[0].create_model(SPEC)
    clients[0].load("shop", [{"a": 0.1, "b": 0.2}], ["yes"])
    for i, client in enumerate(clients):
        feed(client, i * ROWS // 6, ROWS // 6)
    until(lambda: clients[0].model("shop")["champion"] > 0)
    feed(clients[0], ROWS, SCORED)  # what the champion is scored on, and the reference of what it is asked
    feed(clients[0], ROWS + SCORED, MOVED, moved=3.0)
    until(lambda: query("everlearn_alerts_total"))
    clients[0].retrain("shop", force=True)
    feed(clients[0], ROWS + SCORED + MOVED, TRIED)
    until(lambda: query("everlearn_candidate_version", ever=True))
    tried = query("everlearn_candidate_version", ever=True)[-1]["values"][-1][1]
    with suppress(ConflictError):  # it may have been promoted meanwhile
        clients[0].promote("shop", int(tried))
    until(lambda: query("everlearn_rollback_evidence_ratio", ever=True))
    clients[0].rollback("shop")
    # Some requests that are refused: each status is a series.
    for _ in range(REFUSALS):
        refused = {"Authorization": "Bearer wrong"}
        httpx.post(f"{clients[0].url}/v1/models/shop/predict", json={}, headers=refused)
    until(lambda: value(query("everlearn_log_predictions_total")) == ALL)
    until(lambda: value(query("everlearn_loop_lag_events")) == 0)
    until(lambda: value(query("everlearn_rollbacks_total")) == 1)
    until(lambda: value(query(REFUSED)) == REFUSALS)


def test_every_expression_finds_data_and_the_totals_are_those_of_the_log(
    root: Path,
    prometheus: Callable[..., list[dict[str, Any]]],
    expressions: list[tuple[str, str, str]],
    clients: list[Client],
) -> None:
    drive(clients, prometheus)

    assert value(prometheus("everlearn_log_labels_total")) == ALL
    assert value(prometheus("sum(everlearn_predictions_total)")) == ALL
    assert value(prometheus("everlearn_examples_total")) == 1
    assert value(prometheus('everlearn_labels_total{status="accepted"}')) == ALL
    good = 'everlearn_requests_total{route="/v1/models/{model}/predict",method="POST",status="200"}'
    assert value(prometheus(good)) == ALL
    assert value(prometheus(REFUSED)) == REFUSALS
    model = clients[0].model("shop")
    assert value(prometheus("everlearn_champion_version")) == model["champion"]
    assert value(prometheus("everlearn_matured_rows_total")) == model["scores"]["matured"]
    listed = [decision["kind"] for decision in clients[0].decisions("shop", limit=1000)]
    assert value(prometheus("sum(everlearn_decisions_total)")) == len(listed)
    assert value(prometheus("everlearn_updates_total")) == listed.count("update")
    assert value(prometheus("everlearn_promotions_total")) == sum(
        kind in ("promote", "rollback") for kind in listed
    )
    until(lambda: jobs_that_were(prometheus) == [len(list(clients[0].jobs("shop")))] * 2)
    stored = value(prometheus("everlearn_commit_events_sum"))
    assert stored == 2 * ALL + 3  # predictions, labels and commands; what the loop writes goes another way
    assert value(prometheus("everlearn_step_seconds_count")) > 10

    rules = yaml.safe_load((root / "deploy" / "prometheus" / "rules.yml").read_text())
    asked = [
        ("rules", rule.get("alert") or rule["record"], expr)
        for group in rules["groups"]
        for rule in group["rules"]
        for expr in (compared(rule["expr"]) if "alert" in rule else [rule["expr"]])
    ]
    keda = root / "deploy" / "kubernetes" / "components" / "keda" / "scaling.yaml"
    asked += [
        ("scaling", scaler["metadata"]["name"], trigger["metadata"]["query"])
        for scaler in yaml.safe_load_all(keda.read_text())
        for trigger in scaler["spec"]["triggers"]
    ]
    assert [one for one in [*asked, *expressions] if not prometheus(one[2], ever=True)] == []
    firing = {series["metric"]["alertname"] for series in prometheus('ALERTS{alertstate="firing"}')}
    assert firing == set()
