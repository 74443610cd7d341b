"""A new MLflow store is made whole or not at all, by one process at a time."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("mlflow")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

MAKE = """
import sys
from everlearn.adapters.mlflow_connection import connect, reached
with reached(sys.argv[1]):
    connect(sys.argv[1]).search_registered_models(max_results=1)
"""


def make(folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "ignore", "-c", MAKE, f"sqlite:///{folder / 'mlflow.db'}"]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def test_a_kill_half_way_does_no_harm(tmp_path: Path) -> None:
    first = make(tmp_path)
    while not any(file.stat().st_size > 50_000 for file in tmp_path.glob("*.draft")):
        assert first.poll() is None
        time.sleep(0.005)
    first.kill()
    first.communicate()
    assert not (tmp_path / "mlflow.db").exists()
    second = make(tmp_path)
    assert second.communicate()[1] == ""
    assert second.returncode == 0
    assert (tmp_path / "mlflow.db").exists()
    assert not list(tmp_path.glob("*.draft*"))


def test_two_at_once_do_not_collide(tmp_path: Path) -> None:
    both = [make(tmp_path), make(tmp_path)]
    assert [each.communicate()[1] for each in both] == ["", ""]
    assert [each.returncode for each in both] == [0, 0]
