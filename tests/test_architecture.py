"""The direction of imports holds, and the check would notice if it did not."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CORE = ("types", "errors", "access", "spec", "ports", "learners", "features", "predictor", "loop")
OUTSIDE = (
    "alembic",
    "argon2",
    "celery",
    "fastapi",
    "httpx",
    "jwt",
    "loguru",
    "mlflow",
    "pydantic_settings",
    "rich",
    "sqlalchemy",
    "starlette",
    "typer",
    "uvicorn",
)

PLANTS = {
    "the core imports a web framework": ("errors.py", "import fastapi", "The core knows no framework"),
    "the core imports a database": ("spec.py", "from sqlalchemy import text", "The core knows no framework"),
    "a learner imports torch": ("learners/linear.py", "import torch", "The core knows no framework"),
    "the loop imports a log": ("loop/engine.py", "from loguru import logger", "The core knows no framework"),
    "the loop reads the clock": ("loop/engine.py", "from time import time", "The core reads no clock"),
    "access imports a token library": ("access/sessions.py", "import jwt", "The core knows no framework"),
    "access reads the clock": ("access/limits.py", "import time", "The core reads no clock"),
    "the loop imports an adapter": (
        "loop/engine.py",
        "from everlearn.adapters import memory",
        "Imports point one way",
    ),
    "a learner imports the loop": (
        "learners/majority.py",
        "from everlearn.loop import engine",
        "Imports point one way",
    ),
    "a feature imports a learner": (
        "features/schema.py",
        "from everlearn import learners",
        "Imports point one way",
    ),
    "an adapter imports the wiring": (
        "adapters/memory.py",
        "import everlearn.wiring",
        "Imports point one way",
    ),
    "a door reads settings": (
        "api/app.py",
        "from everlearn.config import Settings",
        "Only the wiring reads settings",
    ),
    "the client imports the core": (
        "client/__init__.py",
        "from everlearn.loop import engine",
        "The client and the demo know only HTTP",
    ),
    "the demo reaches into the database": (
        "demo/play.py",
        "from everlearn.wiring import Installation",
        "The client and the demo know only HTTP",
    ),
    "one door imports another": ("worker/jobs.py", "import everlearn.api.app", "Imports point one way"),
    "an import goes in a circle": (
        "learners/inputs.py",
        "from everlearn.learners.majority import Majority",
        "No import goes in a circle",
    ),
    "an adapter pickles": ("adapters/artifacts.py", "import pickle", "Nothing is pickled"),
    "an import hides in a function": (
        "learners/majority.py",
        "def later() -> None:\n    import mlflow",
        "The core knows no framework",
    ),
}


def lint_imports(root: Path, package: Path) -> subprocess.CompletedProcess[str]:
    """Run the repository's contracts over the copy of everlearn that lies in a folder."""
    return subprocess.run(
        [
            Path(sys.executable).with_name("lint-imports"),
            "--config",
            root / ".importlinter",
            "--no-cache",
            "--no-logo",
        ],
        cwd=package,
        env={**os.environ, "PYTHONPATH": str(package), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def tree(root: Path, tmp_path: Path) -> Path:
    """A copy of the package to plant things in."""
    shutil.copytree(
        root / "src" / "everlearn", tmp_path / "everlearn", ignore=shutil.ignore_patterns("__pycache__")
    )
    return tmp_path


def test_the_contracts_hold(root: Path) -> None:
    result = lint_imports(root, root / "src")
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.slow
@pytest.mark.parametrize("plant", PLANTS, ids=lambda name: name.replace(" ", "-"))
def test_a_planted_wrong_import_breaks_them(root: Path, tree: Path, plant: str) -> None:
    file, line, contract = PLANTS[plant]
    path = tree / "everlearn" / file
    path.write_text(f"{path.read_text()}\n\n{line}\n")

    result = lint_imports(root, tree)

    assert result.returncode == 1, result.stdout + result.stderr
    broken = [name for name in result.stdout.splitlines() if " BROKEN" in name]
    assert [name for name in broken if name.startswith(contract)], broken


def test_a_module_in_no_room_breaks_them(root: Path, tree: Path) -> None:
    (tree / "everlearn" / "utils.py").write_text('"""Odds and ends."""\n')
    result = lint_imports(root, tree)
    assert result.returncode == 1
    assert "utils" in result.stdout


def test_the_core_imports_where_no_framework_is_installed() -> None:
    program = f"""
import importlib, pkgutil, sys
for name in {OUTSIDE!r}:
    sys.modules[name] = None
for name in {CORE!r}:
    room = importlib.import_module("everlearn." + name)
    for module in pkgutil.walk_packages(getattr(room, "__path__", []), room.__name__ + "."):
        importlib.import_module(module.name)
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
