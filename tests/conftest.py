"""What every test may ask for: the repository, the shared data, and services, skipped or (in CI) failed."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Never

import hypothesis
import pytest

ROOT = Path(__file__).resolve().parent.parent
SETTINGS = ("PERFORMANCE_THRESHOLD", "MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI")


def pytest_configure() -> None:
    """Keep the developer's own settings out of the tests, and slow machines from failing hypothesis."""
    for name in list(os.environ):
        if name.startswith("EVERLEARN_") or name in SETTINGS:
            del os.environ[name]
    in_ci = os.environ.get("CI") == "true"
    hypothesis.settings.register_profile("everlearn", deadline=None, derandomize=in_ci)
    hypothesis.settings.load_profile("everlearn")


def _miss(reason: str) -> Never:
    """Skip the test; under ``CI=true`` nothing may be missing, so fail it."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{reason} (CI=true: nothing may be missing)", pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def miss() -> Callable[[str], Never]:
    """Call it with the reason when something a test needs is not there."""
    return _miss


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Callable[[str], Path]:
    """Give the path of a data file that lies beside the repository and is never part of it."""

    def find(name: str) -> Path:
        places = [ROOT.parent / "shared" / "data" / name, ROOT / "shared" / "data" / name]
        for place in places:
            if place.exists():
                return place
        _miss(f"shared/data/{name} is missing beside the repository")

    return find


@pytest.fixture(scope="session")
def service() -> Callable[[str, int], tuple[str, int]]:
    """Give the address of a service on this machine that answers on its port."""

    def find(name: str, port: int) -> tuple[str, int]:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=2).close()
        except OSError:
            _miss(f"{name} does not answer on 127.0.0.1:{port}")
        return "127.0.0.1", port

    return find
