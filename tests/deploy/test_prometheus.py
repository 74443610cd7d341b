"""The rules for Prometheus: sound, tested, about metrics that there are, and documented."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, Never

import pytest
import yaml

RECORDED = re.compile(r"everlearn:[a-z0-9_:]+")


@pytest.fixture
def rules(root: Path) -> Path:
    return root / "deploy" / "prometheus"


@pytest.fixture
def promtool(miss: Callable[[str], Never]) -> Callable[..., subprocess.CompletedProcess[str]]:
    program = shutil.which("promtool")
    if program is None:
        miss("promtool is not installed (Debian: apt-get install prometheus)")
    return lambda *words, cwd, page=None: subprocess.run(
        [program, *words],
        cwd=cwd,
        input=None if page is None else page.read_text(),
        capture_output=True,
        text=True,
        check=False,
    )


def groups(rules: Path) -> list[dict[str, Any]]:
    content = yaml.safe_load((rules / "rules.yml").read_text())
    return [rule for group in content["groups"] for rule in group["rules"]]


def test_the_rules_are_sound_and_pass_their_tests(rules: Path, promtool: Callable[..., Any]) -> None:
    for words in (("check", "rules", "rules.yml"), ("test", "rules", "rules_test.yml")):
        done = promtool(*words, cwd=rules)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("there", "planted"),
    [
        ("everlearn:failed:ratio5m > 0.01", "everlearn:failed:ratio5m > 0.1"),
        ("everlearn_margin_upper < 0", "everlearn_margin_upper > 0"),
        ("for: 2m", "for: 2 minutes"),
        ("sum by (queue) (everlearn_jobs", "sum by (queue (everlearn_jobs"),
    ],
)
def test_a_planted_mistake_is_found(
    there: str, planted: str, rules: Path, promtool: Callable[..., Any], tmp_path: Path
) -> None:
    text = (rules / "rules.yml").read_text()
    assert there in text
    (tmp_path / "rules.yml").write_text(text.replace(there, planted, 1))
    shutil.copy(rules / "rules_test.yml", tmp_path)
    assert promtool("test", "rules", "rules_test.yml", cwd=tmp_path).returncode != 0


def test_every_metric_in_a_rule_is_one_that_everlearn_tells(
    rules: Path, told: Callable[[], set[str]]
) -> None:
    recorded = {rule["record"] for rule in groups(rules) if "record" in rule}
    for rule in groups(rules):
        used = set(re.findall(r"\beverlearn_\w+", rule["expr"])) | set(RECORDED.findall(rule["expr"]))
        assert used <= told() | recorded, used - told() - recorded


def undocumented(rules: Path, page: str) -> list[str]:
    alerts = [rule for rule in groups(rules) if "alert" in rule]
    rows = {rule["alert"]: f"| `{rule['alert']}` | {rule['labels']['severity']} |" for rule in alerts}
    return [name for name, row in rows.items() if row not in page]


def test_every_alert_has_words_a_test_and_a_place_in_the_documentation(root: Path, rules: Path) -> None:
    tested = (rules / "rules_test.yml").read_text()
    page = (root / "docs" / "operations.md").read_text()
    for rule in groups(rules):
        if "alert" not in rule:
            continue
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert {"summary", "description"} <= rule["annotations"].keys()
        assert re.search(rf"alertname: {rule['alert']}\n\s+exp_alerts", tested), rule["alert"]
    assert undocumented(rules, page) == []
    assert undocumented(rules, page.replace("`EverlearnLeasesLost`", "")) == ["EverlearnLeasesLost"]


def test_the_configuration_is_sound(promtool: Callable[..., Any], deploy: Path, tmp_path: Path) -> None:
    shutil.copy(deploy / "compose" / "prometheus.yml", tmp_path)
    shutil.copy(deploy / "prometheus" / "rules.yml", tmp_path)
    done = promtool("check", "config", "--syntax-only", "prometheus.yml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_the_metrics_are_named_by_convention(promtool: Callable[..., Any], tmp_path: Path) -> None:
    from prometheus_client import CollectorRegistry, generate_latest

    from everlearn.api.instruments import Instruments
    from everlearn.worker.counts import Counts

    workers = CollectorRegistry()
    Counts(workers)
    page = Instruments(driven()).page() + generate_latest(workers)
    assert b'everlearn_label_lag_seconds{model="m",quantile="0.5"}' in page
    (tmp_path / "page").write_bytes(page)
    done = promtool("check", "metrics", cwd=tmp_path, page=tmp_path / "page")
    assert done.returncode == 0, done.stdout + done.stderr
    (tmp_path / "page").write_bytes(page.replace(b"everlearn_swaps_total", b"everlearn_swaps"))
    assert promtool("check", "metrics", cwd=tmp_path, page=tmp_path / "page").returncode != 0


def driven() -> Any:
    """A store with a model whose loop knows how late labels come."""
    from everlearn.adapters.memory import ManualClock, MemoryStore
    from everlearn.loop.drive import advance_model
    from everlearn.spec import parse_spec
    from everlearn.types import EventKind, NewEvent

    class Store(MemoryStore):
        clock = ManualClock(5000.0)

    store = Store()
    spec = {"name": "m", "target": "y", "features": {"x": "numeric"}, "learner": "majority"}
    store.models.create(parse_spec(spec), 1.0)
    for i in range(200):
        asked = {"features": {"x": 1.0}, "version": 0, "value": "a", "probabilities": None}
        store.log.append("m", [NewEvent(EventKind.PREDICTION, 10.0 * i, f"p{i}", asked)])
        store.log.append("m", [NewEvent(EventKind.LABEL, 10.0 * i + 4.0, f"p{i}", {"value": "a"})])
    while advance_model("m", store.log, store.ledger):
        pass
    return store
