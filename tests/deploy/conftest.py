"""The deployment's files as their own tools read them, and what the product has that they may name."""

from __future__ import annotations

import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

HERE = Path(__file__).parent
Object = dict[str, Any]
OLDEST_KUBECTL = 21

collect_ignore = ["policies.py", "sites.py"]  # they hold no tests, and import others of this folder


def load(name: str) -> ModuleType:
    """A module of this folder."""
    sys.path.insert(0, str(HERE))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(HERE))


@pytest.fixture(scope="session", name="load")
def loader() -> Callable[[str], ModuleType]:
    """Gives a module of this folder."""
    return load


@pytest.fixture(scope="session")
def stated() -> ModuleType:
    """Reads processes from what is stated."""
    return load("stated")


@pytest.fixture(scope="session")
def policies() -> ModuleType:
    """What must hold of the objects."""
    return load("policies")


@pytest.fixture(scope="session")
def deploy(root: Path) -> Path:
    """The folder of the deployment."""
    return root / "deploy"


VARIABLES = {"$__rate_interval": "1m", "$__interval": "1m", "$__range": "15m", "$model": "shop"}
"""What stands in the place of the dashboards' variables."""


@pytest.fixture(scope="session")
def expressions(deploy: Path) -> list[tuple[str, str, str]]:
    """Every expression of the Grafana dashboards as Prometheus gets it: dashboard, panel, expression."""
    found = []
    for path in sorted((deploy / "grafana" / "dashboards").glob("*.json")):
        board = json.loads(path.read_text())
        asked = [
            (panel["title"], target["expr"])
            for panel in board["panels"]
            for target in panel.get("targets", [])
        ]
        asked += [(mark["name"], mark["expr"]) for mark in board.get("annotations", {}).get("list", [])]
        for title, expr in asked:
            for name, value in VARIABLES.items():
                expr = expr.replace(name, value)
            found.append((path.stem, title, expr))
    assert len(found) > 50
    return found


@pytest.fixture(scope="session")
def told() -> Callable[[], set[str]]:
    """The names of all series that everlearn tells Prometheus of, those of histograms and summaries too."""

    def names() -> set[str]:
        from prometheus_client import CollectorRegistry, generate_latest

        from everlearn.adapters.memory import MemoryStore
        from everlearn.api.instruments import Instruments
        from everlearn.worker.counts import Counts

        workers = CollectorRegistry()
        Counts(workers)
        page = (Instruments(MemoryStore()).page() + generate_latest(workers)).decode()
        types = dict(re.findall(r"^# TYPE (\w+) (\w+)$", page, re.MULTILINE))
        parts = {"histogram": ("_bucket", "_sum", "_count"), "summary": ("", "_sum", "_count")}
        return {f"{name}{end}" for name, kind in types.items() for end in parts.get(kind, ("",))}

    return names


@pytest.fixture(scope="session")
def images(root: Path, stated: ModuleType) -> Any:
    """The stages of the Dockerfile."""
    return stated.stages((root / "Dockerfile").read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def tool(miss: Callable[[str], Any]) -> Callable[[str, str], str]:
    """Where a tool is."""

    def find(name: str, package: str) -> str:
        beside = Path(sys.executable).parent / name
        found = str(beside) if beside.exists() else shutil.which(name)
        return found or miss(f"{name} is not installed ({package})")

    return find


@pytest.fixture(scope="session")
def kubectl(tool: Callable[[str, str], str], miss: Callable[[str], Any]) -> str:
    """A kubectl that knows components."""
    path = tool("kubectl", "Debian: kubernetes-client")
    said = subprocess.run([path, "version", "--client", "-o", "json"], capture_output=True, check=True)
    minor = int(json.loads(said.stdout)["clientVersion"]["minor"].rstrip("+"))
    if minor < OLDEST_KUBECTL:
        miss(f"{path} is version 1.{minor}: its kustomize is older than components (1.{OLDEST_KUBECTL})")
    return path


@pytest.fixture(scope="session")
def rendered(kubectl: str, deploy: Path) -> Callable[[str], list[Object]]:
    """The objects of an overlay, as kustomize renders them."""
    known: dict[str, str] = {}

    def render(overlay: str) -> list[Object]:
        if overlay not in known:
            folder = deploy / "kubernetes" / "overlays" / overlay
            done = subprocess.run([kubectl, "kustomize", folder], capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            assert not done.stderr, done.stderr  # what is deprecated
            known[overlay] = done.stdout
        return list(yaml.safe_load_all(known[overlay]))

    return render


@pytest.fixture(scope="session")
def composed(tool: Callable[[str, str], str], deploy: Path) -> Callable[[], Object]:
    """The compose file, as docker-compose understands it with the example's variables."""
    path = tool("docker-compose", "Debian: docker-compose")
    folder = deploy / "compose"
    command = [
        path,
        "--file",
        str(folder / "compose.yaml"),
        "--env-file",
        str(folder / ".env.example"),
        "config",
    ]
    environment = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME")}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return lambda: yaml.safe_load(done.stdout)


@pytest.fixture(scope="session")
def secret_keys(deploy: Path) -> dict[str, dict[str, str]]:
    """The example's secrets: their names, keys and placeholders."""
    page = (deploy / "kubernetes" / "secret.example.yaml").read_text(encoding="utf-8")
    return {one["metadata"]["name"]: one["stringData"] for one in yaml.safe_load_all(page)}


@pytest.fixture(scope="session")
def routes() -> set[str]:
    """The paths that the API answers to GET."""
    from everlearn.adapters.memory import ManualClock, MemoryStore
    from everlearn.api.app import create_app
    from everlearn.api.auth import ApiKey

    class Parts(MemoryStore):
        clock = ManualClock()

    paths = create_app(Parts(), authenticator=ApiKey("k" * 32)).openapi()["paths"]
    return {path for path, item in paths.items() if "get" in item}


@pytest.fixture(scope="session")
def settings() -> set[str]:
    """The variables that the product reads, and those that are its libraries'."""
    from everlearn.config import describe

    libraries = {"NUMBA_CACHE_DIR", "NUMBA_CPU_NAME", "HOME", "PATH", "PYTHONDONTWRITEBYTECODE"}
    libraries |= {"AWS_REGION", "AWS_ENDPOINT_URL_S3"}
    entrypoint = {"PGPASSWORD_FILE"}
    return {one.variable for one in describe()} | libraries | entrypoint | {"PYTHONUNBUFFERED"}
