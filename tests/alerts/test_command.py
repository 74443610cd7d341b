"""``everlearn alerts`` and the doctor, on a data folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from everlearn.cli import app
from everlearn.config import Settings
from everlearn.doctor import check_alerts
from everlearn.wiring import Installation


@pytest.fixture
def data(tmp_path: Path) -> Path:
    installation = Installation(Settings(data=tmp_path / "data", api_key="a-key-for-these-tests-4711"))
    installation.prepare()
    installation.migrate()
    installation.close()
    return tmp_path / "data"


@pytest.fixture
def run(data: Path) -> Callable[..., Any]:
    return lambda *words: CliRunner().invoke(app, ["alerts", *words, "--data", str(data)])


def write(data: Path, *receivers: dict[str, Any], allow: list[str]) -> None:
    plan = {"receivers": list(receivers), "allow": allow, "allow_networks": ["127.0.0.0/8"]}
    (data / "alerts.yaml").write_text(yaml.safe_dump(plan))


def test_without_a_file_nobody_is_told(run: Callable[..., Any], data: Path) -> None:
    listed, tested = run("list"), run("test")
    assert listed.exit_code == 0
    assert "alerts.yaml" in listed.output
    assert tested.exit_code != 0
    assert check_alerts(Installation(Settings(data=data))).state == "ok"


def test_a_test_reaches_every_receiver_or_says_which_it_does_not(
    run: Callable[..., Any], data: Path, fakes: Callable[..., Any]
) -> None:
    good, bad = fakes("/good"), fakes("/bad")
    bad.script = [404]
    write(
        data,
        {"name": "good", "kind": "discord", "url": good.url},
        {"name": "bad", "kind": "slack", "url": bad.url},
        allow=[f"127.0.0.1:{good.port}"],
    )
    everyone, one = run("test", "--json"), run("test", "good")
    assert everyone.exit_code == 1
    errors = {item["name"]: item["error"] for item in json.loads(everyone.stdout)["items"]}
    assert errors["good"] is None
    assert "404" in errors["bad"]
    assert one.exit_code == 0
    assert "good: told" in one.output
    assert [body["embeds"][0]["title"] for body in good.bodies] == [
        "🔴 test: a test",
        "🟢 test: a test, over",
    ] * 2
    assert run("test", "nobody").exit_code != 0


def test_what_waits_is_listed_and_found_by_the_doctor(
    run: Callable[..., Any], data: Path, fakes: Callable[..., Any]
) -> None:
    fake = fakes("/x")
    write(data, {"name": "desk", "kind": "slack", "url": fake.url}, allow=[f"127.0.0.1:{fake.port}"])
    installation = Installation(Settings(data=data))
    from everlearn.spec import parse_spec

    spec = {"name": "m", "target": "y", "features": {"x": "numeric"}, "learner": "majority"}
    installation.models.create(parse_spec(spec), 1.0)
    for _ in range(25):
        installation.outbox.put("alerts:desk", "m", {"kind": "drift"})
    items = json.loads(run("list", "--json").stdout)["items"]
    assert [(item["name"], item["waiting"]) for item in items] == [("desk", 25)]
    found = check_alerts(installation)
    installation.close()
    assert (found.state, found.mend) == ("warn", "everlearn alerts test")
    (data / "alerts.yaml").write_text("cooldown: soon")
    assert run("list").exit_code != 0
