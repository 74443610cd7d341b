"""The Grafana dashboards: what the code makes, complete, about metrics that there are, and provisioned."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, Never

import pytest
import yaml

ROWS = ("row",)


@pytest.fixture
def grafana(deploy: Path) -> Path:
    return deploy / "grafana"


@pytest.fixture
def build(grafana: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The program that makes them."""
    monkeypatch.syspath_prepend(grafana)
    return import_module("build")


@pytest.fixture
def dashboards(grafana: Path) -> dict[str, Any]:
    return {
        path.stem: json.loads(path.read_text()) for path in sorted((grafana / "dashboards").glob("*.json"))
    }


def panels(dashboard: Any) -> list[Any]:
    return [panel for panel in dashboard["panels"] if panel["type"] not in ROWS]


def test_the_files_are_what_the_code_makes(build: Any, tmp_path: Path) -> None:
    assert build.main(["--check"]) == 0
    for path in build.FOLDER.glob("*.json"):
        shutil.copy(path, tmp_path)
    assert build.stale(tmp_path) == []
    (tmp_path / "model.json").write_text((tmp_path / "model.json").read_text().replace("Margin", "Edge"))
    (tmp_path / "fleet.json").unlink()
    (tmp_path / "by-hand.json").write_text("{}")
    assert build.stale(tmp_path) == ["by-hand.json", "fleet.json", "model.json"]


def test_every_panel_says_what_it_shows(dashboards: dict[str, Any]) -> None:
    assert set(dashboards) == {"fleet", "model", "operations"}
    for name, dashboard in dashboards.items():
        assert dashboard["uid"] == f"everlearn-{name}"
        assert {variable["name"] for variable in dashboard["templating"]["list"]} >= {
            "datasource",
            "everlearn",
        }
        assert {link.get("url") for link in dashboard["links"]} >= {"${everlearn}", "${api}/docs"}
        titles = [panel["title"] for panel in panels(dashboard)]
        assert len(set(titles)) == len(titles)
        for panel in panels(dashboard):
            assert panel["description"].endswith("."), panel["title"]
            assert panel["targets"], panel["title"]
            if panel["type"] != "table":
                assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
                assert panel["fieldConfig"]["defaults"]["thresholds"]["steps"], panel["title"]


def test_no_two_panels_overlap(dashboards: dict[str, Any]) -> None:
    for dashboard in dashboards.values():
        taken: set[tuple[int, int]] = set()
        for panel in dashboard["panels"]:
            place = panel["gridPos"]
            cells = {
                (x, y)
                for x in range(place["x"], place["x"] + place["w"])
                for y in range(place["y"], place["y"] + place["h"])
            }
            assert not taken & cells, panel["title"]
            assert max(x for x, _ in cells) < 24
            taken |= cells


def test_every_metric_in_a_panel_is_one_that_there_is(
    expressions: list[tuple[str, str, str]], told: Callable[[], set[str]], deploy: Path
) -> None:
    rules = yaml.safe_load((deploy / "prometheus" / "rules.yml").read_text())
    recorded = {rule["record"] for group in rules["groups"] for rule in group["rules"] if "record" in rule}
    known = told() | recorded
    for board, title, expr in expressions:
        used = set(re.findall(r"\beverlearn[_:][a-z0-9_:]+", re.sub(r'"[^"]*"', "", expr)))
        assert used or "up{" in expr or "ALERTS" in expr, (board, title)
        assert used <= known, (board, title, used - known)


def test_every_expression_is_sound(
    expressions: list[tuple[str, str, str]], tmp_path: Path, miss: Callable[[str], Never]
) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        miss("promtool is not installed (Debian: apt-get install prometheus)")

    def check(exprs: list[str]) -> int:
        rules = [{"record": f"panel:{place}", "expr": expr} for place, expr in enumerate(exprs)]
        (tmp_path / "panels.yml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
        command = [promtool, "check", "rules", "panels.yml"]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode

    exprs = [expr for _, _, expr in expressions]
    assert check(exprs) == 0
    assert check([*exprs, "sum by (le (everlearn_score)"]) != 0


def test_marks_are_told_of_by_the_model_they_are_about(dashboards: dict[str, Any]) -> None:
    marks = dashboards["model"]["annotations"]["list"]
    assert [mark["name"] for mark in marks] == ["Promotions", "Rollbacks"]
    assert all("{{model}}" in mark["titleFormat"] and '"$model"' in mark["expr"] for mark in marks)


def test_compose_provisions_them(
    composed: Callable[[], Any], grafana: Path, dashboards: dict[str, Any]
) -> None:
    service = composed()["services"]["grafana"]
    bound = [volume.split(":") for volume in service["volumes"] if volume.startswith("/")]
    mounts = {Path(inside): Path(outside) for outside, inside, mode in bound if mode == "ro"}
    assert mounts[Path("/etc/grafana/provisioning")] == grafana / "provisioning"
    provider = yaml.safe_load((grafana / "provisioning" / "dashboards" / "everlearn.yaml").read_text())
    (place,) = (one["options"]["path"] for one in provider["providers"])
    assert mounts[Path(place)] == grafana / "dashboards"
    (source,) = yaml.safe_load((grafana / "provisioning" / "datasources" / "prometheus.yaml").read_text())[
        "datasources"
    ]
    assert source["type"] == "prometheus"
    assert source["url"] == "http://prometheus:9090"
    for dashboard in dashboards.values():
        (variable,) = (one for one in dashboard["templating"]["list"] if one["name"] == "datasource")
        assert variable["query"] == source["type"]
