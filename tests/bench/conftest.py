"""The scripts of ``bench/`` import each other as scripts do: from their own folder."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def bench(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the benchmarks, importable during the test."""
    monkeypatch.syspath_prepend(root / "bench")
    return root / "bench"
