"""The documentation names all there is, its links lead somewhere, and its Python runs."""

from __future__ import annotations

import csv
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(DOCS.rglob("*.md"))]
NOT_RUN = "<!-- not run"


def text(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def page_id(path: Path) -> str:
    return str(path.relative_to(ROOT))


# -- all there is is named ---------------------------------------------------------------------------


def commands() -> Iterator[tuple[str, Any]]:
    """Every command of the command line with its full name, groups opened up."""
    import typer.main

    from everlearn.cli import app

    def walk(command: Any, name: str) -> Iterator[tuple[str, Any]]:
        for child_name, child in getattr(command, "commands", {}).items():
            yield from walk(child, f"{name} {child_name}")
        if not hasattr(command, "commands"):
            yield name, command

    yield from walk(typer.main.get_command(app), "everlearn")


def section(page: str, title: str) -> str:
    """What stands under a heading, up to the next one of any level."""
    match = re.search(rf"^#+ {re.escape(title)}$\n(.*?)(?=^#+ |\Z)", page, re.MULTILINE | re.DOTALL)
    return match[1] if match else ""


def test_every_command_and_option_is_documented() -> None:
    page = text("cli.md")
    shared = section(page, "Options of all commands")
    missing = []
    for name, command in commands():
        own = section(page, f"`{name}`")
        if not own:
            missing.append(name)
            continue
        for parameter in command.params:
            names = [n for n in getattr(parameter, "opts", []) if n.startswith("--") and n != "--help"]
            if names and not any(f"`{n}" in own or f"`{n}" in shared for n in names):
                missing.append(f"{name} {names[0]}")
    assert not missing


def test_no_command_or_option_is_made_up() -> None:
    page = text("cli.md")
    known = {
        name: {n for p in command.params for n in [*p.opts, *p.secondary_opts]}
        for name, command in commands()
    }
    titles = re.findall(r"^#+ `(everlearn [a-z -]+)`$", page, re.MULTILINE)
    assert set(titles) == set(known)
    for name in titles:
        named = set(re.findall(r"`(--[a-z-]+)", section(page, f"`{name}`")))
        assert named <= known[name], name


def test_every_setting_is_documented_with_its_default() -> None:
    from everlearn.config import describe

    page = text("configuration.md")
    for setting in describe():
        default = f"`{setting.default}`" if setting.default else "-"
        assert f"| `{setting.variable}` | {default} | {setting.description} |" in page


def routes() -> set[str]:
    """Every route of the API as ``METHOD /path`` with nameless parameters."""
    from everlearn.adapters.memory import ManualClock, MemoryStore
    from everlearn.api.app import create_app
    from everlearn.api.auth import ApiKey

    class Parts(MemoryStore):
        clock = ManualClock()

    paths = create_app(Parts(), authenticator=ApiKey("k" * 32)).openapi()["paths"]
    return {f"{method.upper()} {nameless(path)}" for path, item in paths.items() for method in item}


def nameless(path: str) -> str:
    return re.sub(r"\{[^}]*\}", "{}", path)


def test_the_documented_routes_are_those_of_the_api() -> None:
    found = re.findall(r"`(GET|POST|PATCH|PUT|DELETE) (/[^`\s?]*)`", text("http-api.md"))
    assert {f"{method} {nameless(path)}" for method, path in found} == routes()


def test_every_field_of_a_spec_is_documented() -> None:
    from everlearn import spec

    page = section(text("quickstart.md"), "The spec") + text("deciding.md")
    parts = {
        "policy": spec.PolicySpec,
        "gate": spec.GateSpec,
        "rollback": spec.RollbackSpec,
        "drift": spec.DriftSpec,
        "regimes": spec.RegimeSpec,
        "abstain": spec.AbstainSpec,
        "route": spec.RouteSpec,
        "feedback": spec.FeedbackSpec,
    }
    for name in set(spec.ModelSpec.model_fields) - set(parts):
        assert f"| `{name}`" in page
    for prefix, part in parts.items():
        for name in part.model_fields:
            assert f"| `{prefix}.{name}`" in page


def test_every_learner_is_documented() -> None:
    from everlearn import learners

    page, other = text("learners.md"), text("remembering.md")
    together = section(other, "Images, exactly: `image`") + section(other, "Networks")
    for name in learners._BUILT_IN:
        own = section(page, f"`{name}`") or together
        assert f"`{name}`" in page + other
        for parameter in learners.describe(name)["parameters"]:
            assert f"`{parameter}`" in own or parameter in ("task", "categorical", "seed"), (name, parameter)


def test_every_kind_of_decision_and_metric_is_documented() -> None:
    from everlearn.spec import CLASSIFICATION_METRICS, REGRESSION_METRICS
    from everlearn.types import DecisionKind

    page = text("concepts.md")
    for word in (*DecisionKind, *CLASSIFICATION_METRICS, *REGRESSION_METRICS):
        assert f"`{word}`" in page


def test_every_prometheus_metric_is_documented() -> None:
    from prometheus_client import CollectorRegistry, generate_latest

    from everlearn.adapters.memory import MemoryStore
    from everlearn.api.instruments import Instruments
    from everlearn.worker.counts import Counts

    workers = CollectorRegistry()
    Counts(workers)
    scraped = Instruments(MemoryStore()).page().decode() + generate_latest(workers).decode()
    names = [n for n in re.findall(r"^# HELP (\w+) ", scraped, re.MULTILINE) if not n.endswith("_created")]
    page = section(text("operations.md"), "Metrics")
    assert [name for name in names if f"`{name}" not in page] == []


MISSING = {
    "### `everlearn uptime-kuma sync`": (test_every_command_and_option_is_documented, "cli.md"),
    "| `--metrics-port PORT` |": (test_every_command_and_option_is_documented, "cli.md"),
    "| `EVERLEARN_HEARTBEAT_URL` |": (test_every_setting_is_documented_with_its_default, "configuration.md"),
    "| `everlearn_lease_losses_total` |": (test_every_prometheus_metric_is_documented, "operations.md"),
    "`GET /v1/models/{model}/fresh`": (test_the_documented_routes_are_those_of_the_api, "http-api.md"),
}
"""What is taken out of a page, and the test that must miss it."""


@pytest.mark.parametrize("named", MISSING)
def test_one_that_is_missing_is_found(named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    check, page = MISSING[named]
    whole = text(page)
    assert whole.count(named) == 1
    read = text
    monkeypatch.setitem(
        globals(), "text", lambda name: whole.replace(named, "") if name == page else read(name)
    )
    with pytest.raises(AssertionError) as missed:
        check()
    what = re.findall(r"uptime-kuma|--[a-z-]+|[A-Za-z_]{8,}|fresh", named)[-1]
    assert what in str(missed.value)


def test_every_make_target_that_is_named_exists() -> None:
    targets = set(
        re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    )
    for path in [*PAGES, ROOT / ".ci" / "run", ROOT / "constraints.txt"]:
        page = path.read_text(encoding="utf-8")
        named = re.findall(r"(?:^|`|\" )make ([a-z-]+)", page, re.MULTILINE)
        assert set(named) <= targets, page_id(path)


def test_every_dependency_has_a_pin() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = dict(project["optional-dependencies"])
    apart = [*project["dependencies"], *extras.pop("vision")]  # in an environment of their own
    wanted = [*project["dependencies"], *(name for extra in extras.values() for name in extra)]
    for file, listed in (("constraints.txt", wanted), ("constraints-vision.txt", apart)):
        names = {re.split(r"[\[><=; ]", name)[0] for name in listed} - {"everlearn"}
        pins = (ROOT / file).read_text(encoding="utf-8").lower().replace("_", "-")
        assert [name for name in names if f"\n{name.lower().replace('_', '-')}==" not in pins] == []


# -- links and code ----------------------------------------------------------------------------------


def anchors(page: str) -> set[str]:
    """The anchors that GitHub gives to headings."""
    titles = re.findall(
        r"^#+ (.+)$", re.sub(r"^```.*?^```", "", page, flags=re.MULTILINE | re.DOTALL), re.MULTILINE
    )
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("path", PAGES, ids=page_id)
def test_links_lead_somewhere(path: Path) -> None:
    page = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", page):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        other = (path.parent / file).resolve() if file else path
        assert other.exists(), f"{target} does not exist"
        if anchor:
            assert anchor in anchors(other.read_text(encoding="utf-8")), f"{target} is no heading"


@pytest.mark.parametrize("path", PAGES, ids=page_id)
def test_no_page_is_lost(path: Path) -> None:
    if path.parent == ROOT or path.name == "index.md":
        return
    index = path.parent / "index.md"
    assert f"({path.name})" in index.read_text(encoding="utf-8"), f"docs/index.md does not name {path.name}"


def python_blocks(path: Path) -> list[str]:
    """The Python blocks of a page, but those under a comment that says they are not run."""
    page = path.read_text(encoding="utf-8")
    if path.name == "mlflow.md":  # it speaks of an MLflow server; tests/adapters/test_mlflow has one
        return []
    found = re.finditer(r"^(?P<before>[^\n]*)\n+```python\n(?P<code>.*?)^```", page, re.MULTILINE | re.DOTALL)
    return [match["code"] for match in found if not match["before"].startswith(NOT_RUN)]


@pytest.mark.slow
@pytest.mark.parametrize("path", [p for p in PAGES if python_blocks(p)], ids=page_id)
def test_python_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "docs"}
    for code in python_blocks(path):
        exec(compile(code, str(path), "exec"), names)


# -- the quickstart, as written ------------------------------------------------------------------------


def test_the_quickstart_spec_is_valid() -> None:
    import yaml

    from everlearn.spec import parse_spec

    block = re.search(r"```yaml\n(.*?)```", text("quickstart.md"), re.DOTALL)
    assert block is not None
    assert parse_spec(yaml.safe_load(block[1])).name == "shop"


def blocks(page: str) -> Iterator[tuple[str, str]]:
    """The code blocks of a page in order, as language and code."""
    for match in re.finditer(r"^```(\w*)\n(.*?)^```", page, re.MULTILINE | re.DOTALL):
        yield match[1], match[2]


def write_shop(folder: Path) -> None:
    """The files that the quickstart speaks of: a shop in which the colour red sells."""
    with (
        (folder / "history.csv").open("w", newline="") as history,
        (folder / "today.csv").open("w", newline="") as day,
    ):
        past, present = csv.writer(history), csv.writer(day)
        columns = ["age", "colour", "member", "seen_at"]
        past.writerow([*columns, "bought"])
        present.writerow(columns)
        for i in range(600):
            colour = ("red", "green", "blue")[i % 3]
            row = [
                20 + i % 50,
                colour,
                ("true", "false")[i % 2],
                f"2025-01-{1 + i // 24:02d}T{i % 24:02d}:00:00Z",
            ]
            past.writerow([*row, "yes" if colour == "red" else "no"])
            if i < 5:
                present.writerow(row)


def write_truths(folder: Path) -> None:
    with (folder / "answers.csv").open() as answers, (folder / "truths.csv").open("w", newline="") as truths:
        writer = csv.writer(truths)
        writer.writerow(["id", "value"])
        writer.writerows([row["id"], "yes"] for row in csv.DictReader(answers))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[dict[str, str]]:
    """A server on the data folder that the documentation uses; gives the variables to reach it."""
    command = [sys.executable, "-m", "everlearn", "up", "--port", "0", "--no-mlflow"]
    with (
        (tmp_path / "up.log").open("w") as log,
        subprocess.Popen(command, cwd=tmp_path, stdout=log, stderr=log) as up,
    ):
        try:
            note = tmp_path / "everlearn-data" / "server.json"
            until = time.monotonic() + 60
            while not note.exists() and up.poll() is None and time.monotonic() < until:
                time.sleep(0.1)
            assert note.exists(), (tmp_path / "up.log").read_text()
            path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
            yield {**os.environ, "PATH": path}
        finally:
            up.terminate()


def run(command: list[str], folder: Path, environment: dict[str, str]) -> str:
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, f"{shlex.join(command)}\n{result.stdout}{result.stderr}"
    return result.stdout


@pytest.mark.slow
def test_the_quickstart_works_as_written(tmp_path: Path, server: dict[str, str]) -> None:
    import json

    write_shop(tmp_path)
    data = tmp_path / "everlearn-data"
    url = json.loads((data / "server.json").read_text())["url"]
    reach = {**server, "EVERLEARN_URL": url, "EVERLEARN_API_KEY": (data / "key").read_text().strip()}
    for language, code in blocks(text("quickstart.md")):
        if language == "python":
            run([sys.executable, "-c", code], tmp_path, reach)
        for line in code.splitlines():
            if not language and line.startswith("everlearn ") and line != "everlearn up":
                if line.startswith("everlearn label"):
                    write_truths(tmp_path)
                run(shlex.split(line), tmp_path, server)
    log = json.loads(run(["everlearn", "status", "shop", "--json"], tmp_path, server))["items"][0]["log"]
    assert (log["examples"], log["rows"], log["labels"]) == (600, 6, 6)
