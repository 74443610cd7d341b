"""The ratios of two runs: what got worse is marked, and what is missing is named."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any


def test_ratios(bench: Path, tmp_path: Path) -> None:
    ratios: Any = import_module("ratios")
    for side, p50, rps in (("base", 2.0, 100.0), ("head", 3.0, 300.0)):
        (tmp_path / side).mkdir()
        told = {
            "seed": len(side),
            "predict": {"p50_ms": p50, "rps": rps, "failed": 0},
            "goals": {"met": True},
        }
        (tmp_path / side / "serving.json").write_text(json.dumps(told))
    (tmp_path / "head" / "new.json").write_text("{}")
    (tmp_path / "head" / "broken.json").write_text("")
    page = ratios.report(tmp_path / "base", tmp_path / "head")
    assert "| predict.p50_ms | 2 | 3 | 1.50 | worse |" in page
    assert "| predict.rps | 100 | 300 | 3.00 |  |" in page
    assert "| predict.failed | 0 | 0 | 1.00 |  |" in page
    assert page.count("There is nothing to compare it with.") == 2
    assert "seed" not in page


def test_the_same_figures_say_nothing(bench: Path) -> None:
    ratios: Any = import_module("ratios")
    for name in ("a_ms", "b_mb", "c_seconds", "rps", "rate"):
        assert not ratios.worse(name, 1.0)
    assert ratios.worse("a_ms", 1.2)
    assert ratios.worse("rps", 0.8)
